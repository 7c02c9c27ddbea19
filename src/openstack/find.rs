//! Things that an operator names: by id, or by a name that must be the only one of its kind.

use serde::{Deserialize, de::DeserializeOwned};
use uuid::Uuid;

use super::{
    Cloud,
    call::{
        Call,
        Service::{self, Compute, Image as Glance, Network as Neutron},
    },
    error::CloudError,
    glance::Image,
    neutron::Network,
};
use crate::core::cloud::FailureKind;

/// Something with an id and a name.
pub(super) trait Named: DeserializeOwned {
    fn id(&self) -> String;
    fn name(&self) -> &str;
    /// The project that it belongs to, where the API says so.
    fn project(&self) -> Option<&str> {
        None
    }
}

/// A flavor.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Flavor {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) vcpus: u64,
    /// MiB.
    pub(super) ram: u64,
}

/// A security group.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct SecurityGroup {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) project_id: Option<String>,
}

impl Named for Flavor {
    fn id(&self) -> String {
        self.id.clone()
    }
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for SecurityGroup {
    fn id(&self) -> String {
        self.id.clone()
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn project(&self) -> Option<&str> {
        self.project_id.as_deref()
    }
}

impl Named for Image {
    fn id(&self) -> String {
        self.id.to_string()
    }
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }
    fn project(&self) -> Option<&str> {
        self.owner.as_deref()
    }
}

impl Named for Network {
    fn id(&self) -> String {
        self.id.to_string()
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn project(&self) -> Option<&str> {
        self.project_id.as_deref()
    }
}

impl Cloud {
    pub(super) async fn find_flavor(&self, text: &str) -> Result<Flavor, CloudError> {
        let call = Call::get(Compute, "find flavor", text, &["flavors", "detail"]);
        self.find(call, "flavors", text).await
    }

    pub(super) async fn find_image(&self, text: &str) -> Result<Image, CloudError> {
        self.find(filtered(Glance, "find image", "images", text), "images", text).await
    }

    pub(super) async fn find_network(&self, text: &str) -> Result<Network, CloudError> {
        self.find(filtered(Neutron, "find network", "networks", text), "networks", text).await
    }

    pub(super) async fn find_security_group(&self, text: &str) -> Result<SecurityGroup, CloudError> {
        let call = filtered(Neutron, "find security group", "security-groups", text);
        self.find(call, "security_groups", text).await
    }

    /// The one thing in the list whose id, or else whose name, is `text`. Where an administrator sees several projects' things, ours
    /// go before theirs.
    async fn find<T: Named>(&self, call: Call, key: &str, text: &str) -> Result<T, CloudError> {
        let fail = |kind, why: String| Err(CloudError::new(kind, call.operation, call.object.as_str(), why));
        let mut all: Vec<T> = self.client.list(call.clone(), key).await?;
        if let Some(at) = all.iter().position(|one| one.id() == text) {
            return Ok(all.swap_remove(at));
        }
        let mut seen: Vec<String> = all.iter().map(|one| one.name().to_owned()).collect();
        all.retain(|one| one.name() == text);
        if all.len() > 1 {
            let ours = self.client.session().await?.identity.project_id.clone();
            if all.iter().any(|one| one.project() == Some(&ours)) {
                all.retain(|one| one.project() == Some(&ours));
            }
        }
        match (all.pop(), all.as_slice()) {
            (Some(one), []) => Ok(one),
            (Some(one), others) => {
                let ids: Vec<String> = others.iter().chain([&one]).map(Named::id).collect();
                fail(
                    FailureKind::Permanent,
                    format!("several have this name ({}): give the id", ids.join(", ")),
                )
            }
            (None, _) => {
                seen.truncate(10);
                let others =
                    if seen.is_empty() { String::new() } else { format!("; there are {}", seen.join(", ")) };
                fail(FailureKind::Permanent, format!("there is none of this name or id{others}"))
            }
        }
    }
}

/// A list of those whose id or name is `text`.
fn filtered(service: Service, operation: &'static str, path: &str, text: &str) -> Call {
    let filter = if Uuid::parse_str(text).is_ok() { "id" } else { "name" };
    Call::get(service, operation, text, &[path]).with(filter, text)
}
