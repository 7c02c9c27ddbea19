//! Images, and snapshots of ours among them.

use serde::Deserialize;
use serde_json::json;
use tokio::time::{Duration, sleep};
use uuid::Uuid;

use super::{
    Cloud,
    call::{Answer, Call, Service::Compute, Service::Image as Glance},
    error::{CloudError, or_none},
};
use crate::core::{
    cloud::FailureKind,
    ids::{PoolName, ServerId},
};

/// An image's status until its data are there.
const UNDER_WAY: [&str; 3] = ["queued", "saving", "importing"];

/// How often a snapshot that is being made is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// An image.
#[derive(Debug, Clone, Deserialize)]
pub struct Image {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: Option<String>,
    /// `queued`, `saving`, `active`, `killed`, …
    pub status: String,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// The server that it is a snapshot of.
    #[serde(rename = "instance_uuid")]
    pub of: Option<ServerId>,
    pub(super) owner: Option<String>,
    /// Our mark.
    lbsidecar_pool: Option<String>,
    /// The image's name, again: properties are handed down from an image to snapshots of the servers that were booted from it, and
    /// names are not. An operator's own snapshot of a clone carries our mark, but not its own name.
    lbsidecar_name: Option<String>,
}

impl Image {
    /// Whether it is a snapshot that we made for this pool.
    fn is_snapshot_of(&self, pool: &PoolName) -> bool {
        self.lbsidecar_pool.as_deref() == Some(pool.as_str())
            && self.lbsidecar_name.is_some()
            && self.lbsidecar_name == self.name
    }
}

impl Cloud {
    /// The snapshots that we made of the pool's members, the newest first, in every status.
    ///
    /// # Errors
    /// When Glance does not answer well.
    pub async fn snapshots(&self, pool: &PoolName) -> Result<Vec<Image>, CloudError> {
        let call =
            Call::get(Glance, "list snapshots of pool", pool, &["images"]).with("lbsidecar_pool", pool);
        let mut images: Vec<Image> = self.client.list(call, "images").await?;
        images.retain(|image| image.is_snapshot_of(pool));
        images.sort_by_key(|image| std::cmp::Reverse(image.created_at));
        Ok(images)
    }

    /// The snapshots of ours that nobody needs when the newest `keep` active ones stay: older ones and broken ones. What is being
    /// made counts as neither.
    ///
    /// # Errors
    /// When Glance does not answer well.
    pub async fn surplus_snapshots(&self, pool: &PoolName, keep: usize) -> Result<Vec<Image>, CloudError> {
        let mut active = 0_usize;
        let mut surplus = self.snapshots(pool).await?;
        surplus.retain(|image| match image.status.as_str() {
            "active" => {
                active += 1;
                active > keep
            }
            status => !UNDER_WAY.contains(&status),
        });
        Ok(surplus)
    }

    /// One image; `None` when it is gone.
    ///
    /// # Errors
    /// When Glance does not answer well.
    pub async fn image(&self, id: Uuid) -> Result<Option<Image>, CloudError> {
        let call = Call::get(Glance, "look at image", id, &["images", &id.to_string()]);
        or_none(self.client.json(&call).await)
    }

    /// Deletes an image. One that is gone already is fine.
    ///
    /// # Errors
    /// When Glance refuses (it is protected, or in use), or does not answer well.
    pub async fn delete_image(&self, id: Uuid) -> Result<(), CloudError> {
        let call = Call::delete(Glance, "delete image", id, &["images", &id.to_string()]);
        or_none(self.client.send(&call).await).map(drop)
    }

    /// Makes a snapshot of a member and waits until it is active and the server is free again; put a deadline around it. A snapshot
    /// of ours that is just being made is waited for instead of making another.
    ///
    /// # Errors
    /// When the server is gone or busy, the snapshot fails, or a service does not answer well.
    pub async fn snapshot(&self, id: ServerId, pool: &PoolName) -> Result<Uuid, CloudError> {
        let under_way = self
            .snapshots(pool)
            .await?
            .into_iter()
            .find(|image| image.of == Some(id) && UNDER_WAY.contains(&image.status.as_str()));
        let image = match under_way {
            Some(image) => image.id,
            None => self.create_image(id, pool).await?,
        };
        self.await_snapshot(id, image).await?;
        Ok(image)
    }

    async fn create_image(&self, id: ServerId, pool: &PoolName) -> Result<Uuid, CloudError> {
        const SNAPSHOT: &str = "snapshot server";
        let gone = || CloudError::new(FailureKind::NotFound, SNAPSHOT, id.to_string(), "it is gone");
        let server = self.server(id).await?.ok_or_else(gone)?;
        let name = format!("{}-{}", server.name, jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ"));
        let marks = json!({"lbsidecar_pool": pool.as_str(), "lbsidecar_name": name});
        let body = json!({"createImage": {"name": name, "metadata": marks}});
        let call = Call::post(Compute, SNAPSHOT, id, &["servers", &id.to_string(), "action"], body);
        let answer = self.client.send(&call).await?;
        created_image(&answer)
            .ok_or_else(|| CloudError::unreadable(&call, answer.request_id(), "it does not name the image"))
    }

    async fn await_snapshot(&self, id: ServerId, image: Uuid) -> Result<(), CloudError> {
        let failed = |why: &str| {
            let object = format!("{image} of server {id}");
            Err(CloudError::new(FailureKind::Permanent, "make snapshot", object, why))
        };
        loop {
            match self.image(image).await?.map(|image| image.status).as_deref() {
                Some("active") => {
                    let busy = self.server(id).await?.is_some_and(|server| server.task_state.is_some());
                    if !busy {
                        return Ok(());
                    }
                }
                Some(status) if UNDER_WAY.contains(&status) => {}
                // Nova deletes the image when the compute host could not make it.
                None => return failed("Nova gave it up; its log says why"),
                Some(status) => return failed(&format!("Glance says that it is {status}")),
            }
            sleep(LOOK).await;
        }
    }
}

/// The new image's id: until 2.44 only in `Location`, which may have doubled slashes; from 2.45 in the body.
fn created_image(answer: &Answer) -> Option<Uuid> {
    #[derive(Deserialize)]
    struct Created {
        image_id: Uuid,
    }
    if let Ok(Created { image_id }) = serde_json::from_slice(&answer.body) {
        return Some(image_id);
    }
    let location = answer.headers.get("location")?.to_str().ok()?;
    location.rsplit('/').find_map(|segment| segment.parse().ok())
}
