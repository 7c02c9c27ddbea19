//! What Glance remembers: images and snapshots.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// Glance's records.
#[derive(Debug, Default)]
pub(in super::super) struct Images {
    pub(super) images: BTreeMap<Uuid, Image>,
}

/// An image.
#[derive(Debug, Clone)]
pub(in super::super) struct Image {
    pub(in super::super) id: Uuid,
    pub(in super::super) name: String,
    pub(in super::super) status: &'static str,
    pub(in super::super) owner: Uuid,
    pub(in super::super) public: bool,
    pub(super) protected: bool,
    pub(super) min_disk_gib: u32,
    /// Texts that anybody may have put there.
    pub(in super::super) properties: Map<String, Value>,
    pub(super) tags: Vec<String>,
    /// File and disk size; `None` until it is uploaded.
    pub(super) size: Option<(u64, u64)>,
    pub(super) created: Timestamp,
    pub(super) updated: Timestamp,
}

/// Who takes a snapshot: user and project.
type Owner = (Uuid, Uuid);

impl Images {
    pub(in super::super) fn get(&self, id: Uuid) -> Option<&Image> {
        self.images.get(&id)
    }

    /// Adds a public image, as the seed needs.
    pub(in super::super) fn seed(&mut self, owner: Uuid, name: &str, now: Timestamp) {
        let text = |value: &str| json!(value);
        let properties = Map::from_iter([
            ("hw_machine_type".to_owned(), text("pc")),
            ("hw_rng_model".to_owned(), text("virtio")),
            ("os_distro".to_owned(), text(name.split('-').next().unwrap_or(name))),
            ("kernel_id".to_owned(), text(&Uuid::new_v4().to_string())),
            ("ramdisk_id".to_owned(), text(&Uuid::new_v4().to_string())),
        ]);
        let image = Image {
            id: Uuid::new_v4(),
            name: name.to_owned(),
            status: "active",
            owner,
            public: true,
            protected: false,
            min_disk_gib: 0,
            properties,
            tags: Vec::new(),
            size: Some((524_288, 8_388_608)),
            created: now,
            updated: now,
        };
        self.images.insert(image.id, image);
    }

    /// Begins a snapshot of a server, with the properties that Nova gives it; answers its id.
    #[expect(clippy::too_many_arguments, reason = "one call, whose arguments have nothing in common")]
    pub(in super::super) fn snapshot(
        &mut self,
        name: &str,
        base: Uuid,
        server: Uuid,
        owner: Owner,
        names: (&str, &str),
        disk_gib: u32,
        given: Map<String, Value>,
        now: Timestamp,
    ) -> Uuid {
        let mut properties = self.images.get(&base).map(|base| base.properties.clone()).unwrap_or_default();
        for (name, value) in [
            ("base_image_ref", base.to_string()),
            ("owner_user_name", names.0.to_owned()),
            ("owner_project_name", names.1.to_owned()),
            ("boot_roles", "member,reader,admin".to_owned()),
            ("hw_cdrom_bus", "ide".to_owned()),
            ("hw_disk_bus", "virtio".to_owned()),
            ("hw_input_bus", "usb".to_owned()),
            ("hw_pointer_model", "usbtablet".to_owned()),
            ("hw_video_model", "virtio".to_owned()),
            ("hw_vif_model", "virtio".to_owned()),
            ("instance_uuid", server.to_string()),
            ("user_id", owner.0.simple().to_string()),
            ("image_type", "snapshot".to_owned()),
        ] {
            properties.insert(name.to_owned(), json!(value));
        }
        properties.extend(given);
        let image = Image {
            id: Uuid::new_v4(),
            name: name.to_owned(),
            status: "queued",
            owner: owner.1,
            public: false,
            protected: false,
            min_disk_gib: disk_gib,
            properties,
            tags: Vec::new(),
            size: None,
            created: now,
            updated: now,
        };
        let id = image.id;
        self.images.insert(id, image);
        id
    }

    /// The upload of a snapshot has begun, or is done.
    pub(in super::super) fn upload(&mut self, id: Uuid, done: bool, now: Timestamp) {
        let Some(image) = self.images.get_mut(&id) else { return };
        image.status = if done { "active" } else { "saving" };
        image.updated = now;
        if done {
            let disk = u64::from(image.min_disk_gib) << 30;
            image.size = Some((589_824, disk));
            for (name, value) in [("image_location", "snapshot"), ("image_state", "available")] {
                image.properties.insert(name.to_owned(), json!(value));
            }
            let owner = json!(image.owner.simple());
            image.properties.insert("owner_id".to_owned(), owner);
        }
    }

    pub(in super::super) fn remove(&mut self, id: Uuid) {
        self.images.remove(&id);
    }
}
