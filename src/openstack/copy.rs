//! A clone is a copy of the base: what Nova and Neutron say of the base goes into the request for the clone, except what the
//! operator set.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tracing::warn;

use super::{
    Cloud,
    call::{Call, Service::Compute},
    error::CloudError,
    neutron::Port,
    server::{Server, mark_metadata},
};
use crate::core::{
    cloud::{BlueprintText, FailureKind, Mark},
    ids::ServerId,
    settings::{CloneSettings, CloneSource},
};

/// A clone that is wanted.
#[derive(Debug, Clone)]
pub struct CopyRequest {
    /// The server to copy.
    pub base: ServerId,
    /// The clone's name.
    pub name: String,
    /// Goes into its metadata.
    pub mark: Mark,
    /// What the operator set.
    pub settings: CloneSettings,
}

impl Cloud {
    /// Asks Nova for a copy of a server. The answer comes at once; the server is then being built.
    ///
    /// # Errors
    /// Of kind `Unknown` when the server may have been made all the same: [`Cloud::find_intent`] tells. Else nothing was made.
    pub async fn create_copy(&self, request: &CopyRequest) -> Result<ServerId, CloudError> {
        let body = self.describe_copy(request).await?;
        self.post_server(request, body).await
    }

    /// Asks Nova for a copy of a server that is gone, from what [`Cloud::study`] wrote down of it.
    ///
    /// # Errors
    /// As [`Cloud::create_copy`].
    pub async fn create_again(
        &self,
        request: &CopyRequest,
        blueprint: &BlueprintText,
    ) -> Result<ServerId, CloudError> {
        let body = self.describe_again(request, blueprint).await?;
        self.post_server(request, body).await
    }

    async fn post_server(&self, request: &CopyRequest, body: Value) -> Result<ServerId, CloudError> {
        #[derive(Deserialize)]
        struct Body {
            server: Created,
        }
        #[derive(Deserialize)]
        struct Created {
            id: ServerId,
        }
        let call = Call::post(Compute, "create server", &request.name, &["servers"], json!({"server": body}));
        match self.client.json::<Body>(&call).await {
            Ok(body) => Ok(body.server.id),
            Err(error) if error.message().contains("find requested image") => Err(error
                .advise("the base's image is gone: give one with --image, or use --clone-source snapshot")),
            Err(error) if error.message().contains("key_name") => {
                Err(error.advise("a key pair belongs to one user: give one of ours with --key-name"))
            }
            Err(error) => Err(error),
        }
    }

    /// Writes down what a copy of a server needs, for the time when it is gone.
    ///
    /// # Errors
    /// As [`Cloud::create_copy`]; nothing is made.
    pub async fn study(&self, request: &CopyRequest) -> Result<BlueprintText, CloudError> {
        Ok(BlueprintText(self.describe_copy(request).await?.to_string()))
    }

    /// The `server` object for a copy of a server that is gone, from what was written down.
    async fn describe_again(
        &self,
        request: &CopyRequest,
        blueprint: &BlueprintText,
    ) -> Result<Value, CloudError> {
        let mut fields = read_blueprint(request.base, blueprint)?;
        fields.insert("name".into(), json!(request.name));
        fields.insert("metadata".into(), mark_metadata(&request.mark));
        // An image may have been deleted or given meanwhile, and snapshots go on being made.
        if let Some(wanted) = &request.settings.image {
            fields.insert("imageRef".into(), json!(self.find_image(wanted).await?.id));
        } else if request.settings.source == CloneSource::Snapshot {
            let snapshots = self.snapshots(&request.mark.pool).await?;
            if let Some(newest) = snapshots.iter().find(|image| image.status == "active") {
                fields.insert("imageRef".into(), json!(newest.id));
            }
        }
        Ok(fields.into())
    }

    /// The `server` object of `POST /servers`.
    async fn describe_copy(&self, request: &CopyRequest) -> Result<Value, CloudError> {
        let CopyRequest { base: id, name, mark, settings } = request;
        let (base, ports) = tokio::try_join!(self.server(*id), self.ports_of(*id))?;
        let base = base.ok_or_else(|| {
            CloudError::new(FailureKind::NotFound, "copy server", id.to_string(), "it is gone")
        })?;
        let ports = in_order_of_cards(ports, &base);

        let mut copy = json!({
            "name": name,
            "flavorRef": self.flavor_id(&base, settings).await?,
            "imageRef": self.boot_image(&base, request).await?,
            "networks": self.networks(&base, &ports, settings).await?,
            "metadata": mark_metadata(mark),
        });
        let groups = self.security_groups(&ports, settings).await?;
        let key_name = settings.key_name.as_ref().or(base.key_name.as_ref());
        let zone = base.availability_zone.as_ref().filter(|zone| !zone.is_empty());
        if let Some(fields) = copy.as_object_mut() {
            if !groups.is_empty() {
                let groups: Vec<Value> = groups.iter().map(|id| json!({"name": id})).collect();
                fields.insert("security_groups".into(), groups.into());
            }
            if let Some(key_name) = key_name {
                fields.insert("key_name".into(), json!(key_name));
            }
            if let Some(zone) = zone {
                fields.insert("availability_zone".into(), json!(zone));
            }
            if !base.config_drive.is_empty() {
                fields.insert("config_drive".into(), json!(true));
            }
            if let Some(user_data) = user_data(&base, settings).await? {
                fields.insert("user_data".into(), json!(user_data));
            }
        }
        Ok(copy)
    }

    /// The id of the flavor: the operator's, or the base's.
    pub(super) async fn flavor_id(
        &self,
        base: &Server,
        settings: &CloneSettings,
    ) -> Result<String, CloudError> {
        let name = match (&settings.flavor, &base.flavor.id, &base.flavor.original_name) {
            (Some(wanted), _, _) => wanted,
            (None, Some(id), _) => return Ok(id.clone()),
            (None, None, Some(name)) => name,
            (None, None, None) => {
                return Err(refused(base, "Nova does not say which flavor it has: give one with --flavor"));
            }
        };
        Ok(self.find_flavor(name).await?.id)
    }

    /// What the clone boots from.
    async fn boot_image(&self, base: &Server, request: &CopyRequest) -> Result<String, CloudError> {
        let CopyRequest { settings, mark, .. } = request;
        match (&settings.image, settings.source) {
            (Some(wanted), _) => Ok(self.find_image(wanted).await?.id.to_string()),
            (None, CloneSource::Snapshot) => {
                let snapshots = self.snapshots(&mark.pool).await?;
                let newest = snapshots.iter().find(|image| image.status == "active");
                let newest = newest.ok_or_else(|| {
                    refused(base, "pool has no active snapshot of ours: make one with `lbsidecar snapshot`, or use --clone-source image")
                })?;
                Ok(newest.id.to_string())
            }
            (None, CloneSource::Image) => match base.image.get("id").and_then(Value::as_str) {
                Some(id) => Ok(id.to_owned()),
                None => Err(refused(
                    base,
                    "it boots from a volume and so has no image: give one with --image, or make a snapshot of it and use \
                     --clone-source snapshot",
                )),
            },
        }
    }

    async fn networks(
        &self,
        base: &Server,
        ports: &[Port],
        settings: &CloneSettings,
    ) -> Result<Vec<Value>, CloudError> {
        if let Some(wanted) = &settings.network {
            return Ok(vec![json!({"uuid": self.find_network(wanted).await?.id})]);
        }
        if ports.is_empty() {
            return Err(refused(base, "it has no port in any network: give a network with --net"));
        }
        Ok(ports.iter().map(|port| json!({"uuid": port.network})).collect())
    }

    /// Ids of the security groups: the operator's, or those of the base's ports.
    async fn security_groups(
        &self,
        ports: &[Port],
        settings: &CloneSettings,
    ) -> Result<Vec<String>, CloudError> {
        let mut ids = Vec::new();
        match &settings.security_groups {
            Some(wanted) => {
                for group in wanted {
                    ids.push(self.find_security_group(group).await?.id);
                }
            }
            None => {
                for id in ports.iter().flat_map(|port| &port.security_groups) {
                    if !ids.contains(id) {
                        ids.push(id.clone());
                    }
                }
            }
        }
        Ok(ids)
    }
}

/// What [`Cloud::study`] wrote down of a server.
pub(super) fn read_blueprint(
    base: ServerId,
    blueprint: &BlueprintText,
) -> Result<Map<String, Value>, CloudError> {
    serde_json::from_str(&blueprint.0).map_err(|why| {
        let why = format!("what was written down of it cannot be read: {why}");
        CloudError::new(FailureKind::Permanent, "copy server", base.to_string(), why)
    })
}

fn refused(base: &Server, why: &str) -> CloudError {
    CloudError::new(FailureKind::Permanent, "copy server", format!("{} ({})", base.name, base.id), why)
}

/// Neutron lists a server's ports in no order; Nova's addresses are in the order of the network cards.
pub(super) fn in_order_of_cards(mut ports: Vec<Port>, server: &Server) -> Vec<Port> {
    let macs: Vec<&str> = server
        .addresses
        .0
        .iter()
        .flat_map(|(_, addresses)| addresses.iter().map(|a| a.mac.as_str()))
        .collect();
    ports.sort_by_key(|port| macs.iter().position(|mac| *mac == port.mac).unwrap_or(usize::MAX));
    ports
}

/// Base64, as Nova takes it.
async fn user_data(base: &Server, settings: &CloneSettings) -> Result<Option<String>, CloudError> {
    if let Some(file) = &settings.user_data {
        let bytes = tokio::fs::read(file).await.map_err(|why| {
            CloudError::new(
                FailureKind::Permanent,
                "read user data",
                file.display().to_string(),
                why.to_string(),
            )
        })?;
        return Ok(Some(BASE64_STANDARD.encode(bytes)));
    }
    if base.user_data.is_none() {
        warn!(
            server = %base.id,
            "Nova does not show the base's user data to us: if it has some, the clone lacks it; give it with --user-data"
        );
    }
    Ok(base.user_data.clone().flatten())
}
