//! What we see: everything that can be observed again and therefore need not survive a restart.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    boot::Boot,
    cloud::{ServerFacts, ServerStatus},
    event::{Ticket, VipSeen},
    ids::{BackendName, ServerId},
    lb::{LbModel, LbSeen, LbServerSeen},
    sampler::{Reading, Sampler},
    time::Timestamp,
};

/// How many decisions are kept for `explain`.
const DECISIONS: usize = 200;

/// The world as last seen, and the questions in flight.
#[derive(Debug, Default)]
pub struct View {
    /// Samples per member.
    pub samplers: BTreeMap<ServerId, Sampler>,
    /// Why libvirt did not answer, and since when.
    pub guests_missing: Option<(Timestamp, String)>,
    /// Votes in a row.
    pub runs: Runs,
    /// When the next vote is due.
    pub next_vote: Timestamp,
    /// When the last vote was.
    pub last_vote: Option<Timestamp>,
    /// Decisions, newest last.
    pub decisions: VecDeque<Decision>,
    /// HAProxy as last seen.
    pub lb: Option<(Timestamp, LbSeen)>,
    /// Why HAProxy did not answer, and since when.
    pub lb_missing: Option<(Timestamp, String)>,
    /// What HAProxy was brought to last; `None` when that must be done (again).
    pub applied: Option<LbModel>,
    /// The next apply may overwrite a file edited by hand.
    pub force_apply: bool,
    /// Apply once more when the apply in flight has ended, over edits made by hand if told so.
    pub reload: Option<bool>,
    /// Since when HAProxy gets no answer from a member.
    pub down_since: BTreeMap<ServerId, Timestamp>,
    /// Members that have just started.
    pub boots: BTreeMap<ServerId, Boot>,
    /// Members whose loss was told.
    pub lost: BTreeSet<ServerId>,
    /// Failed applies in a row, and the last one's text.
    pub apply_failed: Option<(u32, String)>,
    /// Not before this moment is an apply tried again.
    pub apply_not_before: Timestamp,
    /// Our servers at Nova, as last seen.
    pub cloud: BTreeMap<ServerId, ServerFacts>,
    /// When Nova answered last.
    pub cloud_at: Option<Timestamp>,
    /// Why Nova did not answer, and since when.
    pub cloud_missing: Option<(Timestamp, String)>,
    /// Where the service address is.
    pub vip: Option<VipSeen>,
    /// Since when that is not known.
    pub vip_unknown: Option<Timestamp>,
    /// The one effect in flight, and what it is for.
    pub pending: Option<Pending>,
    /// The last ticket given out.
    pub last_ticket: u64,
    /// Not before this moment is a repair outside of transitions tried again.
    pub repair_not_before: Timestamp,
    /// Observations in a row, since answers end their connections, in which no older worker was left with kept ones.
    pub none_kept: u32,
    /// Not before this moment is a blueprint taken again.
    pub study_not_before: Timestamp,
    /// What a repair outside of transitions failed of.
    pub repair_failed: Option<String>,
    /// When HAProxy's check was last counted as a proof.
    pub proof_at: Timestamp,
    /// Counters of the ramping member and of the base at the beginning of the step.
    pub ramp_base: Option<RampBase>,
}

/// The one effect in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Its number.
    pub ticket: Ticket,
    /// What its outcome is for.
    pub purpose: Purpose,
}

/// What an outcome is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// The stage of the transition in flight.
    Stage,
    /// HAProxy is brought to this model.
    Apply(LbModel),
    /// The service address is taken (again), outside of a transition.
    TakeVip,
    /// The service address is given back to a VM.
    GiveVip,
    /// What a copy of this member needs is written down.
    Study(ServerId),
}

/// Votes in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Runs {
    /// High ones.
    pub up: u32,
    /// Low ones.
    pub down: u32,
}

/// Counters at the beginning of a ramp step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RampBase {
    /// The worker that counted them.
    pub worker_pid: u32,
    /// Requests to the ramping member.
    pub requests: u64,
    /// Its errors and retries.
    pub errors: u64,
    /// Requests to the others.
    pub other_requests: u64,
    /// The others' errors and retries.
    pub other_errors: u64,
}

/// One vote and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// The pool's value: the mean over its serving members; `None` when one is not known.
    pub value: Option<f64>,
    /// What it was made of.
    pub readings: Vec<(String, Reading)>,
    /// The vote.
    pub vote: Vote,
    /// High votes in a row, this one included.
    pub up_run: u32,
    /// Low votes in a row, this one included.
    pub down_run: u32,
    /// What came of it.
    pub action: Action,
    /// Why, in plain words; also when nothing came of it.
    pub reason: String,
}

/// One vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vote {
    /// At or above the high threshold.
    High,
    /// Every member at or below the low threshold.
    Low,
    /// Neither.
    Between,
    /// Not known.
    Unknown,
}

/// What came of a vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// A scale-out began.
    ScaleOut,
    /// A handover began.
    Handover,
    /// A handover was called off.
    Abort,
}

impl View {
    /// A fresh view; the first vote is due after one interval.
    #[must_use]
    pub fn new(next_vote: Timestamp) -> Self {
        Self { next_vote, ..Self::default() }
    }

    /// HAProxy's word about one server.
    #[must_use]
    pub fn lb_server(&self, name: &BackendName) -> Option<&LbServerSeen> {
        self.lb.as_ref().and_then(|(_, seen)| seen.servers.get(name))
    }

    /// Whether HAProxy takes this server for up after a check that really ran.
    #[must_use]
    pub fn is_up(&self, name: &BackendName) -> bool {
        self.lb_missing.is_none() && self.lb_server(name).is_some_and(|s| s.listed && s.up && s.check_ok)
    }

    /// Whether HAProxy answers and does not take this server for up. A server that was not checked yet since a reload is up.
    #[must_use]
    pub fn is_down(&self, name: &BackendName) -> bool {
        self.lb_missing.is_none()
            && self.lb.is_some()
            && !self.lb_server(name).is_some_and(|server| server.listed && server.up)
    }

    /// Old HAProxy workers as last seen; `None` when HAProxy does not answer.
    #[must_use]
    pub fn old_workers(&self) -> Option<usize> {
        if self.lb_missing.is_some() {
            return None;
        }
        self.lb.as_ref().map(|(_, seen)| seen.old_workers.len())
    }

    /// Nova's word about one server.
    #[must_use]
    pub fn status(&self, id: ServerId) -> Option<ServerStatus> {
        self.cloud.get(&id).map(|facts| facts.status)
    }

    /// Keeps a decision.
    pub fn decide(&mut self, decision: Decision) {
        if self.decisions.len() >= DECISIONS {
            self.decisions.pop_front();
        }
        self.decisions.push_back(decision);
    }
}
