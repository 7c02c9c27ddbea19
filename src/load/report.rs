//! What came of the load: the words and numbers that people and programs read. Pure data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The way in which a request was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossKind {
    /// Nobody listens there.
    ConnectRefused,
    /// The connection did not open in time.
    ConnectTimeout,
    /// The connection did not open for another reason; the detail says which.
    ConnectFailed,
    /// This machine has no free port or file descriptor left: the client's limit, not the server's fault, but not an answer either.
    ClientLimit,
    /// A kept connection ended or was reset after the request was written and before a byte of the answer: what a browser
    /// hides by sending a GET again, and cannot hide for a POST.
    Stale,
    /// A new connection ended without a byte of an answer.
    Empty,
    /// The connection was reset.
    Reset,
    /// The connection ended in the middle of the answer.
    Truncated,
    /// No whole answer in time.
    Timeout,
    /// A 5xx answer.
    ServerError,
    /// Any other answer outside 2xx and 3xx.
    WrongStatus,
    /// A good status with a body that is not the expected one, or the answer to another request.
    WrongBody,
    /// What came is not HTTP/1.
    Malformed,
}

/// One lost request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Its `X-Request-Id`.
    pub id: String,
    /// When it was lost: milliseconds after the load's start.
    pub at_ms: u64,
    /// How long it had taken until then, in milliseconds.
    pub after_ms: u64,
    /// The client group that sent it.
    pub group: String,
    /// How it was lost.
    pub kind: LossKind,
    /// What exactly happened, in words.
    pub detail: String,
}

/// Time from the first byte written (or the connection's opening, for a new one) to the last byte of good answers.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Latency {
    /// Median, in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile, in milliseconds.
    pub p99_ms: f64,
    /// The slowest, in milliseconds.
    pub max_ms: f64,
}

/// What was counted over some stretch of time.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// The stretch's length, in seconds.
    pub seconds: f64,
    /// Good answers.
    pub ok: u64,
    /// Lost requests: the sum of `failed_by_kind`.
    pub failed: u64,
    /// Lost requests by kind.
    pub failed_by_kind: BTreeMap<LossKind, u64>,
    /// Kept connections that the server closed before the next request was written; no request was lost by that.
    pub closed_idle: u64,
    /// Connections opened.
    pub connections: u64,
    /// Good answers by member; answers that name no member are left out.
    pub members: BTreeMap<String, u64>,
    /// Latency of good answers.
    pub latency: Latency,
    /// The longest time from one good answer to the next, in milliseconds.
    pub longest_gap_ms: f64,
}

/// The counts between two marks, by the moment at which requests ended.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PhaseCounts {
    /// The mark's name; `start` before the first one.
    pub name: String,
    /// What was counted.
    #[serde(flatten)]
    pub counts: Counts,
}

/// The counts of one client group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GroupCounts {
    /// Its name.
    pub name: String,
    /// Good answers.
    pub ok: u64,
    /// Lost requests.
    pub failed: u64,
}

/// The load at one moment, all numbers of the same instant: `sent == total.ok + total.failed + in_flight`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadSnapshot {
    /// Clients that are still at work.
    pub clients: usize,
    /// Requests begun.
    pub sent: u64,
    /// Requests begun and not ended.
    pub in_flight: u64,
    /// Ended requests a second, over the last seconds.
    pub requests_per_second: f64,
    /// Each member's share of good answers over the last seconds, 0 to 1.
    pub recent_shares: BTreeMap<String, f64>,
    /// Since the start.
    pub total: Counts,
    /// Since the last mark.
    pub phase: PhaseCounts,
}

/// Whether anything was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every request got its answer.
    NothingLost,
    /// At least one did not.
    Lost,
    /// No request was sent, so nothing is shown.
    NothingSent,
}

/// The whole load, when it is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// What the request ids of this load start with.
    pub run: String,
    /// The address that was loaded.
    pub target: String,
    /// Whether anything was lost.
    pub verdict: Verdict,
    /// Requests begun: `total.ok + total.failed + unaccounted`.
    pub sent: u64,
    /// Requests without an outcome; not 0 only if a client of ours broke down. They count as lost.
    pub unaccounted: u64,
    /// Since the start.
    pub total: Counts,
    /// Between the marks, in their order.
    pub phases: Vec<PhaseCounts>,
    /// By client group, in the order of their start.
    pub groups: Vec<GroupCounts>,
    /// The first lost requests, at most [`LoadReport::KEPT_LOSSES`].
    pub first_losses: Vec<Loss>,
}

impl LoadReport {
    /// How many lost requests are kept with their detail.
    pub const KEPT_LOSSES: usize = 20;
}
