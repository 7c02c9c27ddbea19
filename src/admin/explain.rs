//! What `explain` shows: the last decisions, each from its readings to what came of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::core::{
    ids::PoolName,
    view::{Action, Decision, Vote},
};

/// The last decisions, and the rules they were made by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplainView {
    /// [`super::SCHEMA`].
    pub schema: u32,
    /// The moment of asking.
    pub at: Timestamp,
    /// The pool.
    pub pool: PoolName,
    /// At or above it a vote is high.
    pub high: f64,
    /// Every member at or below it: a vote is low.
    pub low: f64,
    /// High votes in a row that scale out.
    pub min_up: u32,
    /// Low votes in a row that hand over.
    pub min_down: u32,
    /// The decisions, newest last.
    pub decisions: Vec<DecisionView>,
}

/// One decision: readings → value → vote → runs → action, and the reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecisionView {
    /// When.
    pub at: Timestamp,
    /// What each member brought.
    pub readings: Vec<ReadingView>,
    /// The pool's value: the mean over its serving members; `None` when one is not known.
    pub value: Option<f64>,
    /// `high`, `low`, `between` or `unknown`.
    pub vote: String,
    /// High votes in a row, this one included.
    pub up_run: u32,
    /// Low votes in a row, this one included.
    pub down_run: u32,
    /// `none`, `scale-out`, `handover` or `abort`.
    pub action: String,
    /// Why, in plain words.
    pub reason: String,
}

/// What one member brought to a vote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadingView {
    /// Its name.
    pub member: String,
    /// Its value; `None` when it is not known.
    pub value: Option<f64>,
    /// Mean time on a host CPU over the interval, percent.
    pub used_percent: f64,
    /// Mean time waiting for a host CPU over the interval, percent.
    pub steal_percent: f64,
    /// Samples in the interval.
    pub samples: usize,
    /// Why the value is not known.
    pub problem: Option<String>,
}

impl DecisionView {
    /// A decision of the machine.
    #[must_use]
    pub fn of(decision: &Decision) -> Self {
        Self {
            at: super::build::moment(decision.at),
            readings: decision
                .readings
                .iter()
                .map(|(member, reading)| ReadingView {
                    member: member.clone(),
                    value: reading.value,
                    used_percent: reading.used,
                    steal_percent: reading.steal,
                    samples: reading.samples,
                    problem: reading.problem.clone(),
                })
                .collect(),
            value: decision.value,
            vote: vote_word(decision.vote).to_owned(),
            up_run: decision.up_run,
            down_run: decision.down_run,
            action: match decision.action {
                Action::None => "none",
                Action::ScaleOut => "scale-out",
                Action::Handover => "handover",
                Action::Abort => "abort",
            }
            .to_owned(),
            reason: decision.reason.clone(),
        }
    }
}

pub(super) fn vote_word(vote: Vote) -> &'static str {
    match vote {
        Vote::High => "high",
        Vote::Low => "low",
        Vote::Between => "between",
        Vote::Unknown => "unknown",
    }
}
