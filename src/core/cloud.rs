//! The cloud as the core sees it: servers with our marks, and kinds of failure.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{
    ids::{FloatingIpId, IntentId, PoolName, ServerId},
    time::Timestamp,
};

/// A Nova server, as far as the core cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// Its id.
    pub id: ServerId,
    /// Its name at the API.
    pub name: String,
    /// Its status.
    pub status: ServerStatus,
    /// What Nova is doing with it right now (`OS-EXT-STS:task_state`).
    pub task_state: Option<String>,
    /// Nova's sentence about why it is in ERROR.
    pub fault: Option<String>,
    /// The address members are reached at: fixed or floating by VIP mode; `None` until it has one.
    pub address: Option<IpAddr>,
    /// The floating IP of its own that we gave it (`host` mode).
    pub floating_ip: Option<FloatingIpId>,
    /// Our mark, if it carries one.
    pub mark: Option<Mark>,
    /// Whether it is locked against changes.
    pub locked: bool,
    /// When Nova made it.
    pub created: Timestamp,
}

impl ServerFacts {
    /// A server that Nova does not know any more.
    #[must_use]
    pub fn gone(id: ServerId) -> Self {
        Self {
            id,
            name: String::new(),
            status: ServerStatus::Deleted,
            task_state: None,
            fault: None,
            address: None,
            floating_ip: None,
            mark: None,
            locked: false,
            created: Timestamp::default(),
        }
    }
}

/// What we write into a server's metadata (`lbsidecar:pool`, `lbsidecar:intent`, `lbsidecar:generation`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The pool it belongs to.
    pub pool: PoolName,
    /// The intention that made it.
    pub intent: IntentId,
    /// How many handovers and scale-outs away from the first base it is; the first base is 0.
    pub generation: u32,
}

/// What a copy of a server needs, in the cloud's own words; nothing of it is looked at here. It holds the server's user data, in which
/// people keep passwords, so that it is shown to nobody.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BlueprintText(pub String);

impl fmt::Debug for BlueprintText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlueprintText({} bytes)", self.0.len())
    }
}

/// A server's status, as far as it makes a difference to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerStatus {
    /// Being built.
    Build,
    /// Running.
    Active,
    /// Off.
    Shutoff,
    /// Failed.
    Error,
    /// Paused, suspended, rescued, resized, …: not ours to touch now.
    Other,
    /// Gone, or 404.
    Deleted,
}

/// The kind of a failed call: all that the core needs to know about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// It may work later, and it surely was not done.
    Transient,
    /// No answer, or one that leaves open whether it was done: look before you repeat.
    Unknown,
    /// The credentials were refused.
    Unauthorized,
    /// A quota or a lack of room.
    Capacity,
    /// The object is busy, locked or not in the right state.
    Conflict,
    /// It is not there.
    NotFound,
    /// It will never work like this.
    Permanent,
}
