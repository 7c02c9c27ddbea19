//! What the loop shows of itself: the status for `lbsidecar status`, the decisions for `explain`, the metrics, one line for systemd.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::address::ServiceAddress;
use crate::{
    admin::{Published, Surroundings, explain::DecisionView, view::StatusView},
    core::{machine::Machine, time::Timestamp},
    telemetry::Metrics,
};

/// The status is made anew at most so often, since events come in bursts.
const PACE: Duration = Duration::from_millis(100);

/// Makes and hands on what is shown.
pub(super) struct Publisher {
    pub(super) address: Arc<ServiceAddress>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) around: Surroundings,
    pub(super) to: watch::Sender<Option<Arc<Published>>>,
    decisions: Arc<Vec<DecisionView>>,
    last_decision: Option<Timestamp>,
    made: Option<Instant>,
    line: String,
}

impl Publisher {
    pub(super) fn new(
        address: Arc<ServiceAddress>,
        metrics: Arc<Metrics>,
        around: Surroundings,
        to: watch::Sender<Option<Arc<Published>>>,
    ) -> Self {
        Self {
            address,
            metrics,
            around,
            to,
            decisions: Arc::default(),
            last_decision: None,
            made: None,
            line: String::new(),
        }
    }

    /// When the daemon started.
    pub(super) fn started(&self) -> Timestamp {
        self.around.started
    }

    /// Notes that the state was written.
    pub(super) fn saved(&mut self, now: Timestamp) {
        self.around.state_saved = Some(now);
        self.around.state_problem = None;
    }

    /// Notes that it could not be.
    pub(super) fn unsaved(&mut self, why: &str) {
        self.metrics.state_unsaved();
        self.around.state_problem = Some(why.to_owned());
    }

    /// Shows the machine; the answer is the line for systemd. `urgent`: something began or ended, so that it is not put off.
    pub(super) fn publish(&mut self, machine: &Machine, now: Timestamp, urgent: bool) -> &str {
        if !urgent && self.made.is_some_and(|made| made.elapsed() < PACE) {
            return &self.line;
        }
        self.made = Some(Instant::now());
        let newest = machine.view.decisions.back().map(|decision| decision.at);
        if newest != self.last_decision {
            self.last_decision = newest;
            self.decisions = Arc::new(machine.view.decisions.iter().map(DecisionView::of).collect());
        }
        self.around.vip_address = self.address.address().map(IpAddr::V4);
        let status = StatusView::of(machine, now, &self.around);
        self.metrics.show(machine, now);
        self.line = line(&status);
        let published = Published { status, decisions: Arc::clone(&self.decisions), turned: Instant::now() };
        self.to.send_replace(Some(Arc::new(published)));
        &self.line
    }
}

/// `balanced: vm-test, vm-test-clone; handover: draining`.
fn line(status: &StatusView) -> String {
    let names: Vec<&str> = status.members.iter().map(|m| m.name.as_str()).collect();
    let mut line = format!("{}: {}", status.phase.as_str(), names.join(", "));
    if let Some(transition) = &status.transition {
        line.push_str(&format!("; {}: {}", transition.kind, transition.stage));
    }
    if let Some(alarm) = status.alarms.first() {
        line.push_str(&format!("; {alarm}"));
    }
    line
}
