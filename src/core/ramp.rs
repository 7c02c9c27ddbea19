//! The ramp: weight rises step by step, and falls at once when the newcomer fails more often than the others.

use super::{
    ids::ServerId,
    machine::{Machine, Turn},
    state::{Member, Place},
    time::Timestamp,
    transition::{Stage, Transition},
    units::Weight,
    view::RampBase,
};

/// Errors of a ramping member that are too few to judge it by.
const FEW_ERRORS: u64 = 3;

impl Machine {
    pub(super) fn ramping(
        &mut self,
        now: Timestamp,
        t: &Transition,
        id: ServerId,
        step: usize,
        applied: bool,
    ) -> Turn {
        let Some(name) = self.state.member(id).map(Member::backend_name) else {
            return self.give_up(now, "the member is gone");
        };
        let ramp = &self.settings.transition.ramp;
        let percent = ramp.get(step).copied().unwrap_or(100);
        let weight = Weight::clamped(percent.saturating_mul(Weight::FULL.get()) / 100);
        if !applied {
            self.view.ramp_base = self.ramp_counters(id);
            self.place(id, Place::Listed { weight });
            self.enter(now, Stage::Ramping { step, applied: true }, format!("weight {weight}"));
            if let Some(transition) = &mut self.state.transition {
                transition.not_before = now;
                transition.stage_since = now;
            }
            return Turn::Again;
        }
        if let Some(why) = self.ramp_breach(id) {
            self.fail_listed(now, id, why);
            return Turn::Again;
        }
        if self.view.lb_missing.is_some() {
            return self.waits_for("HAProxy does not answer");
        }
        if self.view.is_down(&name) {
            self.fail_listed(now, id, format!("HAProxy took it for down at weight {weight}"));
            return Turn::Again;
        }
        if !self.view.is_up(&name) {
            // Somebody reloaded HAProxy, and the new worker has not checked it yet.
            return self.waits_for("waiting for the next health check");
        }
        if step + 1 < ramp.len() {
            if now.since(t.stage_since) < self.settings.transition.ramp_step {
                return Turn::Wait;
            }
            self.enter(now, Stage::Ramping { step: step + 1, applied: false }, "next weight");
            return Turn::Again;
        }
        self.joined(now, t, id)
    }

    fn ramp_counters(&self, id: ServerId) -> Option<RampBase> {
        let (_, seen) = self.view.lb.as_ref()?;
        let mut base = RampBase {
            worker_pid: seen.worker_pid,
            requests: 0,
            errors: 0,
            other_requests: 0,
            other_errors: 0,
        };
        for member in &self.state.members {
            let Some(server) = seen.servers.get(&member.backend_name()) else { continue };
            let errors = server.errors.saturating_add(server.retries);
            if member.id == id {
                base.requests = server.requests;
                base.errors = errors;
            } else {
                base.other_requests += server.requests;
                base.other_errors += errors;
            }
        }
        Some(base)
    }

    /// Whether the ramping member fails clearly more often than the others since the step began.
    fn ramp_breach(&self, id: ServerId) -> Option<String> {
        let (before, after) = (self.view.ramp_base.as_ref()?, self.ramp_counters(id)?);
        if before.worker_pid != after.worker_pid {
            // Another worker counts from zero.
            return None;
        }
        let errors = after.errors.saturating_sub(before.errors);
        let requests = after.requests.saturating_sub(before.requests).max(errors).max(1);
        let other_errors = after.other_errors.saturating_sub(before.other_errors);
        let other_requests = after.other_requests.saturating_sub(before.other_requests).max(1);
        let rate = errors as f64 / requests as f64;
        let other_rate = other_errors as f64 / other_requests as f64;
        (errors >= FEW_ERRORS && rate > 2.0 * other_rate + 0.01).then(|| {
            format!("{errors} of {requests} requests to it failed or were retried, against {other_errors} of {other_requests} elsewhere")
        })
    }
}
