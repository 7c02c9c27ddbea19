//! What `status` shows: the whole pool at one moment, as plain data that can be written as JSON and read back.
//!
//! Only types live here. Every number that grows old has its age beside it, in milliseconds at the moment
//! [`StatusView::at`]; moments are RFC 3339 in UTC; percentages go from 0 to 100.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::core::{
    cloud::ServerStatus,
    condition::Phase,
    ids::{BackendName, PoolName, ServerId},
    settings::{Metric, Signal},
    transition::StageName,
};

/// The pool at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// [`super::SCHEMA`].
    pub schema: u32,
    /// The moment.
    pub at: Timestamp,
    /// How long ago that was when it was asked for; all other ages are those at the moment itself.
    pub age_ms: u64,
    /// The pool.
    pub pool: PoolName,
    /// The pool in one word.
    pub phase: Phase,
    /// What a person should look at, worst first.
    pub alarms: Vec<String>,
    /// The service address.
    pub vip: VipView,
    /// The members, oldest first.
    pub members: Vec<MemberView>,
    /// The last vote, and the rules it was made by.
    pub decision: DecisionNow,
    /// HAProxy.
    pub haproxy: HaproxyView,
    /// The transition in flight.
    pub transition: Option<TransitionView>,
    /// What must pass before the next change.
    pub cooldowns: Cooldowns,
    /// The operator's word that nothing shall change.
    pub hold: Option<HoldView>,
    /// How fresh is what we know.
    pub sources: Sources,
    /// What happened, newest last.
    pub history: Vec<HistoryView>,
    /// The daemon itself.
    pub daemon: DaemonView,
}

/// The service address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VipView {
    /// The address, once it is known.
    pub address: Option<IpAddr>,
    /// How it reaches HAProxy: `port`, `host` or `static`.
    pub mode: String,
    /// Where it is.
    #[serde(rename = "where")]
    pub place: VipPlace,
    /// Who has it instead, why that is not known, or what it waits for before it leaves us.
    pub detail: Option<String>,
    /// Whether the operator gave it back to a VM; `where` says whether it is there.
    pub released: bool,
}

/// Where the service address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VipPlace {
    /// With us.
    Ours,
    /// With nobody.
    Free,
    /// With somebody else.
    Elsewhere,
    /// Not known.
    Unknown,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemberView {
    /// The VM's name.
    pub name: String,
    /// Its id, at Nova and at libvirt.
    pub server_id: ServerId,
    /// Its name in HAProxy.
    pub backend: BackendName,
    /// What it does for the pool.
    pub state: MemberState,
    /// What Nova says of it.
    pub nova: Option<ServerStatus>,
    /// 0 for the first base, one more for each clone.
    pub generation: u32,
    /// Where HAProxy reaches it.
    pub address: Option<SocketAddr>,
    /// The weight that it has in HAProxy's file, 0 when it is not there.
    pub weight: u16,
    /// Its part of the requests at this moment; `None` when there are none.
    pub share_percent: Option<f64>,
    /// Time on a host CPU.
    pub cpu_percent: Option<f64>,
    /// Used plus stolen: what votes.
    pub demand_percent: Option<f64>,
    /// Time waiting for a host CPU.
    pub steal_percent: Option<f64>,
    /// Memory in use, when the guest tells it.
    pub memory_percent: Option<f64>,
    /// Age of these four.
    pub sample_age_ms: Option<u64>,
    /// Sessions open to it, over all HAProxy workers.
    pub sessions: Option<u64>,
    /// Requests queued for it, over all HAProxy workers.
    pub queued: Option<u64>,
    /// Requests a second from the current worker.
    pub requests_per_second: Option<u64>,
    /// Requests that it got from the current worker.
    pub requests: Option<u64>,
    /// HAProxy's check: `L7OK`, `L4CON`, `INI`, …
    pub check: Option<String>,
    /// Whether HAProxy takes it for up; nothing before its first check, when HAProxy takes everybody for up.
    pub up: Option<bool>,
    /// For how long it has served with full weight.
    pub serving_seconds: Option<u64>,
}

/// What a member does for the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberState {
    /// It exists, HAProxy does not know it yet.
    Joining,
    /// In HAProxy with weight 0: it must show that it is well.
    Proving,
    /// It takes a rising part of the traffic.
    Ramping,
    /// It takes its full part.
    Serving,
    /// It finishes what it has and gets nothing new.
    Draining,
    /// Out of HAProxy, on its way to be deleted.
    Leaving,
    /// Out of HAProxy, and nothing is under way.
    Out,
}

impl MemberState {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            MemberState::Joining => "joining",
            MemberState::Proving => "proving",
            MemberState::Ramping => "ramping",
            MemberState::Serving => "serving",
            MemberState::Draining => "draining",
            MemberState::Leaving => "leaving",
            MemberState::Out => "out",
        }
    }
}

/// The last vote, and the rules it was made by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecisionNow {
    /// What is measured.
    pub signal: Signal,
    /// How an interval's samples become one value.
    pub metric: Metric,
    /// The pool's value; `None` before the first vote and when it is not known.
    pub value: Option<f64>,
    /// At or above it the vote is high.
    pub high: f64,
    /// Every member at or below it: the vote is low.
    pub low: f64,
    /// High votes in a row.
    pub up_run: u32,
    /// How many of them scale out.
    pub min_up: u32,
    /// Low votes in a row.
    pub down_run: u32,
    /// How many of them hand over.
    pub min_down: u32,
    /// `high`, `low`, `between`, `unknown`; `none` before the first vote.
    pub vote: String,
    /// Why what was done was done, or nothing.
    pub reason: String,
    /// Age of the vote.
    pub age_ms: Option<u64>,
}

/// HAProxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaproxyView {
    /// Whether it answers.
    pub answers: bool,
    /// Why it does not answer, or why it does not take a configuration.
    pub problem: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// The configuration that runs.
    pub generation: Option<u64>,
    /// The current worker.
    pub worker_pid: Option<u32>,
    /// Workers of former configurations that still serve sessions.
    pub old_workers: Vec<u32>,
    /// Whether its file is not the one that we wrote.
    pub file_edited: bool,
    /// Client sessions open, over all workers.
    pub sessions: Option<u64>,
    /// Requests taken by the current worker.
    pub requests: Option<u64>,
    /// Requests a second at the current worker.
    pub request_rate: Option<u64>,
    /// Age of all this.
    pub age_ms: Option<u64>,
}

/// A member on its way in or out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransitionView {
    /// `adopt`, `scale-out`, `handover`, `roll-back`, `evict`, `rejoin`.
    pub kind: String,
    /// How far it is.
    pub stage: StageName,
    /// The stages of such a transition when it meets no trouble; empty for those that are trouble themselves.
    pub path: Vec<StageName>,
    /// The id of the VM that moves, once it has one.
    pub server_id: Option<ServerId>,
    /// Its name, once it has one.
    pub server: Option<String>,
    /// What it waits for, or what went wrong last.
    pub note: String,
    /// Failed tries within this stage.
    pub tries: u32,
    /// Why it shall be called off, if it shall.
    pub cancel: Option<String>,
    /// When it began.
    pub since: Timestamp,
    /// How long ago that was.
    pub age_ms: u64,
    /// How long this stage has lasted.
    pub stage_age_ms: u64,
}

/// What must pass before the next change. Zero: nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cooldowns {
    /// Until a scale-out may begin.
    pub scale_out_seconds_left: u64,
    /// Until a handover may begin.
    pub handover_seconds_left: u64,
    /// Until a creation is tried again after one that failed or was refused.
    pub backoff_seconds_left: u64,
    /// Failed creations in a row.
    pub failed_creations: u32,
    /// Whether no creation is tried until an operator says `resume`.
    pub breaker_open: bool,
    /// What the last creation failed of, or why it was refused.
    pub last_failure: Option<String>,
}

/// The operator's word that nothing shall change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldView {
    /// Why.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
    /// How long ago that was.
    pub age_ms: u64,
}

/// How fresh is what we know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// CPU and memory of the guests.
    pub libvirt: SourceView,
    /// The servers.
    pub nova: SourceView,
    /// The traffic.
    pub haproxy: SourceView,
}

/// How fresh is what one of them said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceView {
    /// Age of its last good answer; `None`: there was none yet.
    pub age_ms: Option<u64>,
    /// Why it does not answer now.
    pub error: Option<String>,
    /// For how long it has not.
    pub error_age_ms: Option<u64>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryView {
    /// When.
    pub at: Timestamp,
    /// How long ago that was.
    pub age_ms: u64,
    /// What: a short, stable word.
    pub what: String,
    /// Details and reason in plain words.
    pub why: String,
}

/// The daemon itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonView {
    /// Its version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// How long it has run.
    pub uptime_seconds: u64,
    /// How long ago the state was written to disk; `None`: not yet in this life.
    pub state_age_ms: Option<u64>,
    /// Why the state cannot be written, if so.
    pub state_problem: Option<String>,
}
