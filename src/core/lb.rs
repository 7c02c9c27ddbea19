//! The load balancer as the core sees it: what HAProxy shall be, and what it says it is.

use std::{collections::BTreeMap, net::SocketAddr};

use serde::{Deserialize, Serialize};

use super::{ids::BackendName, units::Weight};

/// What the pool's backend shall look like. The rendered file and the run-time state both follow from it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LbModel {
    /// The servers, oldest member first.
    pub servers: Vec<LbServer>,
    /// Every answer ends its connection: none may outlive a move of the service address (`http` mode).
    #[serde(default)]
    pub closing: bool,
}

/// One server of the backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LbServer {
    /// The name of its line.
    pub name: BackendName,
    /// Where it answers.
    pub address: SocketAddr,
    /// Its share; 0 for one that is new, unknown or drained.
    pub weight: Weight,
    /// Whether it may take new sessions.
    pub mode: LbMode,
}

/// The administrative state that we want for a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LbMode {
    /// In rotation by its weight.
    Ready,
    /// Rendered as weight 0 and drained at run time: checked, but no new session.
    Drain,
}

/// What HAProxy says of itself, summed over every worker, the current one and the old ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LbSeen {
    /// The generation in the running configuration's `description`; `None` when it is not a configuration of ours.
    pub generation: Option<u64>,
    /// The current worker.
    pub worker_pid: u32,
    /// Workers of former configurations that still serve sessions.
    pub old_workers: Vec<u32>,
    /// The servers of our backend, over all workers.
    pub servers: BTreeMap<BackendName, LbServerSeen>,
    /// Client sessions open on the frontend, over all workers.
    pub sessions: u64,
    /// Requests taken by the frontend of the current worker since it started.
    pub requests: u64,
    /// Requests a second on the frontend of the current worker.
    pub request_rate: u64,
    /// Whether the configuration file is not the one that we wrote last.
    pub file_edited: bool,
}

/// What HAProxy says of one server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LbServerSeen {
    /// Whether the current worker lists it at all.
    pub listed: bool,
    /// Where the current worker sends its traffic.
    pub address: Option<SocketAddr>,
    /// Whether the current worker takes it for up.
    pub up: bool,
    /// Whether its last health check really ran and was good (`L4OK`, `L6OK`, `L7OK`), not merely assumed at start.
    pub check_ok: bool,
    /// The check's code, for people: `L7OK`, `L4CON`, `INI`, …
    pub check: String,
    /// Its weight in the current worker.
    pub weight: u16,
    /// Its administrative state in the current worker.
    pub admin: LbAdmin,
    /// Sessions open to it, over all workers.
    pub sessions: u64,
    /// Requests queued for it, over all workers.
    pub queued: u64,
    /// Whether an *old* worker may still send it new requests.
    pub usable_by_old_worker: bool,
    /// Requests it got from the current worker.
    pub requests: u64,
    /// Requests a second from the current worker.
    pub request_rate: u64,
    /// Good answers (2xx, 3xx) to the current worker.
    pub answers_ok: u64,
    /// Server errors, failed connects and failed answers, of the current worker.
    pub errors: u64,
    /// Retries and redispatches of the current worker.
    pub retries: u64,
}

impl LbServerSeen {
    /// Whether this worker has ever checked it: until then it is up because nothing else is known.
    #[must_use]
    pub fn is_checked(&self) -> bool {
        !matches!(self.check.as_str(), "" | "INI")
    }
}

/// A server's administrative state at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LbAdmin {
    /// In rotation.
    #[default]
    Ready,
    /// Draining.
    Drain,
    /// In maintenance: no traffic, no checks.
    Maint,
}
