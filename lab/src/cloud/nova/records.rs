//! What Nova remembers: servers, flavors, key pairs, quotas.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use jiff::Timestamp;
use serde_json::{Map, Value};
use uuid::Uuid;

/// Nova's records.
#[derive(Debug, Default)]
pub(in super::super) struct Compute {
    pub(in super::super) servers: BTreeMap<Uuid, Server>,
    pub(in super::super) flavors: Vec<Flavor>,
    pub(in super::super) keypairs: Vec<KeyPair>,
    /// Limits that differ from the default, by project and resource.
    pub(super) quotas: BTreeMap<Uuid, BTreeMap<String, i64>>,
    /// How many servers were ever placed on the host: the number in `instance-0000000a`.
    pub(super) placed: u32,
}

/// A flavor.
#[derive(Debug, Clone)]
pub(in super::super) struct Flavor {
    pub(in super::super) id: String,
    pub(in super::super) name: String,
    pub(in super::super) vcpus: u32,
    pub(in super::super) memory_mib: u32,
    pub(in super::super) disk_gib: u32,
}

/// A key pair; its private half is never kept.
#[derive(Debug, Clone)]
pub(in super::super) struct KeyPair {
    pub(in super::super) number: u32,
    pub(in super::super) user: Uuid,
    pub(in super::super) name: String,
    pub(in super::super) public_key: String,
    pub(in super::super) fingerprint: String,
    pub(in super::super) created: Timestamp,
}

/// Nova's `vm_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VmState {
    Building,
    Active,
    Stopped,
    Error,
    Deleted,
}

impl VmState {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Active => "active",
            Self::Stopped => "stopped",
            Self::Error => "error",
            Self::Deleted => "deleted",
        }
    }
}

/// Where a network card comes from.
#[derive(Debug, Clone)]
pub(super) enum Attachment {
    /// A port that Nova makes on this network, perhaps with a wanted address; it goes with the server.
    Network(Uuid, Option<Ipv4Addr>),
    /// A port of the client's; it outlives the server.
    Port(Uuid),
}

/// Why a server is in ERROR.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) created: Timestamp,
}

/// An entry of `os-instance-actions`.
#[derive(Debug, Clone)]
pub(super) struct Action {
    pub(super) name: &'static str,
    pub(super) request_id: String,
    pub(super) user: Uuid,
    pub(super) started: Timestamp,
}

/// A server.
#[derive(Debug, Clone)]
pub(in super::super) struct Server {
    pub(super) id: Uuid,
    pub(super) name: String,
    pub(super) host_name: String,
    pub(super) description: Option<String>,
    pub(super) project: Uuid,
    pub(super) user: Uuid,
    pub(super) created: Timestamp,
    pub(super) updated: Timestamp,
    pub(super) launched: Option<Timestamp>,
    pub(super) terminated: Option<Timestamp>,
    pub(super) vm: VmState,
    /// Nova's `task_state`: what is being done with it.
    pub(super) task: Option<&'static str>,
    /// Nova's `power_state`: 0 unknown, 1 running, 4 off.
    pub(super) power: u8,
    pub(super) image: Uuid,
    /// `kernel_id` and `ramdisk_id` of the image.
    pub(super) boot_files: (String, String),
    pub(super) flavor: Flavor,
    pub(super) key_name: Option<String>,
    pub(super) metadata: Map<String, Value>,
    /// Base64, as it was sent.
    pub(super) user_data: Option<String>,
    pub(super) config_drive: bool,
    pub(super) tags: Vec<String>,
    /// Its number on the host; `None` until it is scheduled.
    pub(super) number: Option<u32>,
    pub(super) reservation: String,
    pub(super) attachments: Vec<Attachment>,
    pub(super) groups: Vec<Uuid>,
    /// The ports that Nova made for it.
    pub(super) made_ports: Vec<Uuid>,
    pub(super) fault: Option<Fault>,
    pub(super) locked: bool,
    pub(super) locked_reason: Option<String>,
    pub(super) actions: Vec<Action>,
    /// Held by whoever works on the guest: one at a time.
    pub(super) gate: Arc<tokio::sync::Mutex<()>>,
}

impl Server {
    /// The status of the API, which is a function of state and task.
    pub(super) fn status(&self) -> &'static str {
        match (self.vm, self.task) {
            (VmState::Active, Some("rebooting" | "reboot_pending" | "reboot_started")) => "REBOOT",
            (VmState::Active, Some("rebooting_hard" | "reboot_started_hard")) => "HARD_REBOOT",
            (VmState::Active, _) => "ACTIVE",
            (VmState::Building, _) => "BUILD",
            (VmState::Stopped, _) => "SHUTOFF",
            (VmState::Error, _) => "ERROR",
            (VmState::Deleted, _) => "DELETED",
        }
    }

    /// The ports that Nova made for it.
    pub(in super::super) fn made_ports(&self) -> Vec<Uuid> {
        self.made_ports.clone()
    }

    /// Whether it counts against quotas and for the host's memory.
    pub(super) fn counts(&self) -> bool {
        self.vm != VmState::Deleted
    }
}

impl Compute {
    pub(super) fn flavor(&self, id: &str) -> Option<&Flavor> {
        self.flavors.iter().find(|flavor| flavor.id == id)
    }

    /// The memory of all servers on the host.
    pub(super) fn memory_in_use(&self) -> u32 {
        let placed = self.servers.values().filter(|server| server.number.is_some() && server.counts());
        placed.map(|server| server.flavor.memory_mib).sum()
    }
}
