//! A server made from scratch: not a copy of another, but of an image, a flavor and what the operator said.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::{
    Cloud,
    call::{Call, Service::Compute},
    error::CloudError,
    server::POOL,
};
use crate::core::{
    cloud::FailureKind,
    ids::{PoolName, ServerId},
};

/// A server that is wanted.
#[derive(Debug, Clone)]
pub struct BootRequest {
    /// Its name.
    pub name: String,
    /// The pool that it is made for. It is no clone: it carries the pool's name, and neither intent nor generation.
    pub pool: PoolName,
    /// From [`Cloud::boot_sources`].
    pub sources: BootSources,
    /// The network of its only card.
    pub network: Uuid,
    /// Ids of its security groups.
    pub security_groups: Vec<Uuid>,
    /// Its key pair.
    pub key_name: String,
    /// What cloud-init is given.
    pub user_data: Option<Vec<u8>>,
}

/// Ids of an image and a flavor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootSources {
    image: Uuid,
    flavor: String,
}

impl Cloud {
    /// Finds image and flavor by name or id.
    ///
    /// # Errors
    /// When there is none of that name, or several; the image is not active; or a service does not answer well.
    pub async fn boot_sources(&self, image: &str, flavor: &str) -> Result<BootSources, CloudError> {
        let (image, flavor) = tokio::try_join!(self.find_image(image), self.find_flavor(flavor))?;
        if image.status != "active" {
            let object = format!("{} ({})", image.name.unwrap_or_default(), image.id);
            let why = format!("it is {} and not active", image.status);
            return Err(CloudError::new(FailureKind::Conflict, "boot from image", object, why));
        }
        Ok(BootSources { image: image.id, flavor: flavor.id })
    }

    /// Asks Nova for a server. The answer comes at once; the server is then being built.
    ///
    /// # Errors
    /// Of kind `Unknown` when it may have been made all the same. Else nothing was made.
    pub async fn boot(&self, request: &BootRequest) -> Result<ServerId, CloudError> {
        #[derive(Deserialize)]
        struct Body {
            server: Created,
        }
        #[derive(Deserialize)]
        struct Created {
            id: ServerId,
        }
        let groups: Vec<_> = request.security_groups.iter().map(|id| json!({"name": id})).collect();
        let mut server = json!({
            "name": request.name,
            "imageRef": request.sources.image,
            "flavorRef": request.sources.flavor,
            "networks": [{"uuid": request.network}],
            "security_groups": groups,
            "key_name": request.key_name,
            "metadata": {POOL: request.pool.as_str()},
        });
        if let Some(user_data) = &request.user_data {
            server["user_data"] = json!(BASE64_STANDARD.encode(user_data));
        }
        let call =
            Call::post(Compute, "create server", &request.name, &["servers"], json!({"server": server}));
        Ok(self.client.json::<Body>(&call).await?.server.id)
    }
}
