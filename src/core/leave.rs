//! The way out: from full weight to gone.

use std::time::Duration;

use super::{
    call_off::Doubt,
    cloud::{FailureKind, ServerStatus},
    event::{Effect, Outcome},
    ids::{BackendName, ServerId},
    lb::LbAdmin,
    machine::{Machine, Turn},
    settings::DrainPolicy,
    state::Place,
    time::Timestamp,
    transition::{Kind, Stage, Transition},
    view::Purpose,
};

/// Observations without a session, in a row, before a member counts as empty.
const ZEROS: u32 = 2;
/// How long it may take until cut sessions are seen to be gone.
const CUT_PAUSE: Duration = Duration::from_secs(1);
/// Failed snapshots before the handover is called off.
const SNAPSHOT_TRIES: u32 = 3;

/// For how long the sessions of a member that is gone are cut before it leaves HAProxy all the same.
const CUTTING: Duration = Duration::from_secs(5);

impl Machine {
    pub(super) fn turn_out(&mut self, now: Timestamp, transition: &Transition) -> Turn {
        let Some(id) = transition.server else {
            debug_assert!(false, "{:?} without a server", transition.stage);
            return Turn::Wait;
        };
        match self.doubt(now, transition) {
            None => {}
            Some(Doubt::Wait(why)) => return self.waits_for(why),
            Some(Doubt::CallOff(why)) if self.call_off(now, &why) => return Turn::Again,
            // It cannot be called off any more.
            Some(Doubt::CallOff(_)) => {}
        }
        let in_stage = now.since(transition.stage_since);
        match &transition.stage {
            // Nobody answers there: nothing is to be drained, nor to be deleted. What waits for its answer would keep an old worker.
            Stage::Settling if self.state.member(id).is_some_and(|m| m.gone) => {
                match self.dead_sessions(id) {
                    // Not for ever: whoever has its address now may be asked again and again.
                    Some(name) if in_stage < CUTTING => Turn::Do(Effect::CutSessions(name), Purpose::Stage),
                    _ => {
                        self.place(id, Place::Unlisted);
                        self.enter(now, Stage::Releasing, "it is gone: out of HAProxy");
                        Turn::Again
                    }
                }
            }
            Stage::Settling => match self.view.old_workers() {
                None => self.waits_for("HAProxy does not answer"),
                Some(0) => {
                    if self.state.member(id).is_none_or(|m| m.place == Place::Unlisted) {
                        self.enter(
                            now,
                            Stage::Recounting { zeros: 0 },
                            "it is not in HAProxy: counting on every worker",
                        );
                        return Turn::Again;
                    }
                    self.place(id, Place::Draining);
                    self.enter(now, Stage::Draining, "no old HAProxy worker is left: draining");
                    Turn::Again
                }
                Some(n) => match self.dead_sessions(id) {
                    Some(name) => Turn::Do(Effect::CutSessions(name), Purpose::Stage),
                    None => self.waits_for(format!("waiting for {n} old HAProxy worker(s) to end")),
                },
            },
            // Only reached when HAProxy drains it.
            Stage::Draining => {
                self.enter(
                    now,
                    Stage::Emptying { zeros: 0, forced: false },
                    "waiting for its sessions to end",
                );
                Turn::Again
            }
            Stage::Emptying { zeros, .. } if *zeros >= ZEROS => {
                self.place(id, Place::Unlisted);
                self.enter(now, Stage::Unlisting, "no session on any worker: out of HAProxy");
                Turn::Again
            }
            Stage::Emptying { forced, .. } => self.emptying(now, transition, id, *forced),
            // Only reached when HAProxy no longer lists it.
            Stage::Unlisting => {
                self.enter(now, Stage::Recounting { zeros: 0 }, "counting once more on every worker");
                Turn::Again
            }
            Stage::Recounting { zeros } if *zeros >= ZEROS => {
                let next = match transition.kind {
                    Kind::Handover => Stage::Stopping { asked: false },
                    // One that failed is the operator's to look into.
                    Kind::Evict { .. } if self.is_the_operators(id) => Stage::Releasing,
                    Kind::Adopt
                    | Kind::ScaleOut { .. }
                    | Kind::RollBack { .. }
                    | Kind::Evict { .. }
                    | Kind::Rejoin { .. } => Stage::Deleting { sent: false },
                };
                self.enter(now, next, "no worker can reach it any more");
                Turn::Again
            }
            Stage::Recounting { .. } => Turn::Wait,
            Stage::Stopping { asked } => {
                let status = self.view.status(id);
                let runs = status.is_none_or(|status| status == ServerStatus::Active);
                if !runs || in_stage > self.settings.transition.stop_deadline {
                    let next = if self.settings.transition.snapshot_before_delete {
                        Stage::Snapshotting
                    } else {
                        Stage::Deleting { sent: false }
                    };
                    self.enter(now, next, if runs { "it does not shut down" } else { "it is off" });
                    return Turn::Again;
                }
                if *asked {
                    self.waits_for("waiting for it to shut down")
                } else {
                    Turn::Do(Effect::Stop(id), Purpose::Stage)
                }
            }
            Stage::Snapshotting => {
                let keep = self.settings.transition.snapshot_retain;
                Turn::Do(Effect::Snapshot { server: id, keep }, Purpose::Stage)
            }
            Stage::Deleting { .. } => {
                // The one point of no return. On disk before the call goes out.
                self.enter(now, Stage::Deleting { sent: true }, "asking Nova to delete it");
                Turn::Do(Effect::Delete(id), Purpose::Stage)
            }
            Stage::Vanishing => match self.view.status(id) {
                Some(ServerStatus::Deleted) => {
                    self.enter(now, Stage::Releasing, "Nova says that it is gone");
                    Turn::Again
                }
                // A deletion under way has a task; this one ended, and not well.
                Some(ServerStatus::Error) if !self.has_task(id) => {
                    Turn::Do(Effect::Delete(id), Purpose::Stage)
                }
                _ => self.waits_for("waiting for Nova to say that it is gone"),
            },
            Stage::Releasing => match self.state.member(id).and_then(|m| m.floating_ip) {
                Some(floating_ip) => Turn::Do(Effect::ReleaseAddress(floating_ip), Purpose::Stage),
                None => self.left(now, transition, id),
            },
            stage => {
                debug_assert!(false, "{stage:?} is not a stage of the way out");
                Turn::Wait
            }
        }
    }

    pub(super) fn done_out(&mut self, now: Timestamp, transition: &Transition, outcome: Outcome) {
        match (&transition.stage, outcome) {
            (Stage::Settling, Outcome::Done) => {
                if let Some(transition) = &mut self.state.transition {
                    // Until it is seen.
                    transition.not_before = now.plus(CUT_PAUSE);
                    transition.note = "the VM is off: its sessions were cut".to_owned();
                }
            }
            (Stage::Emptying { zeros, .. }, Outcome::Done) => {
                self.enter(
                    now,
                    Stage::Emptying { zeros: *zeros, forced: true },
                    "remaining sessions were cut",
                );
            }
            (Stage::Stopping { .. }, Outcome::Done) => {
                self.enter(now, Stage::Stopping { asked: true }, "asked to shut down");
            }
            (Stage::Snapshotting, Outcome::Done) => {
                self.enter(now, Stage::Deleting { sent: false }, "snapshot made");
            }
            (Stage::Snapshotting, Outcome::Failed { why, .. }) => {
                if self.again_later(now, format!("snapshot: {why}")) >= SNAPSHOT_TRIES {
                    self.call_off(now, &format!("the snapshot failed: {why}"));
                }
            }
            (Stage::Deleting { .. }, Outcome::Done) => {
                // What was seen before the DELETE says nothing about after it.
                if let Some(id) = transition.server {
                    self.view.cloud.remove(&id);
                }
                self.enter(now, Stage::Vanishing, "Nova deletes it");
            }
            (Stage::Vanishing, Outcome::Done) => {
                if let Some(id) = transition.server {
                    self.view.cloud.remove(&id);
                }
                self.again_later(now, "Nova failed to delete it: asked again");
            }
            (Stage::Releasing, Outcome::Done) => {
                if let Some(member) = transition.server.and_then(|id| self.state.member_mut(id)) {
                    member.floating_ip = None;
                }
            }
            (Stage::Deleting { .. }, Outcome::Failed { kind, why }) => {
                // A refusal is no deletion: the handover may still be called off.
                let sent = !matches!(
                    kind,
                    FailureKind::Conflict
                        | FailureKind::Capacity
                        | FailureKind::Unauthorized
                        | FailureKind::Permanent
                );
                self.enter(now, Stage::Deleting { sent }, why.clone());
                self.again_later(now, why);
            }
            (_, Outcome::Failed { why, .. }) => {
                self.again_later(now, why);
            }
            (stage, outcome) => {
                debug_assert!(false, "{outcome:?} does not answer {stage:?}");
            }
        }
    }

    /// HAProxy's word, once per observation.
    pub(super) fn count_out(&mut self, now: Timestamp) {
        let Some(transition) = &self.state.transition else { return };
        let Some(name) = transition.server.and_then(|id| self.backend_name_of(id)) else { return };
        // Only what was seen of the configuration that counts is counted. With no member in it none is applied, and what HAProxy lists
        // is counted as it is.
        let model = self.state.lb_model();
        if !model.servers.is_empty() && self.view.applied.as_ref() != Some(&model) {
            return;
        }
        let seen = self.view.lb_server(&name).cloned().unwrap_or_default();
        let busy = seen.sessions + seen.queued;
        let next = match transition.stage {
            Stage::Emptying { zeros, forced } => {
                let empty =
                    busy == 0 && seen.listed && seen.admin == LbAdmin::Drain && !seen.usable_by_old_worker;
                Stage::Emptying { zeros: if empty { zeros + 1 } else { 0 }, forced }
            }
            Stage::Recounting { zeros } => {
                let empty = busy == 0 && !seen.listed && !seen.usable_by_old_worker;
                Stage::Recounting { zeros: if empty { zeros + 1 } else { 0 } }
            }
            _ => return,
        };
        let note = if busy > 0 {
            format!("{busy} session(s) still open")
        } else if seen.usable_by_old_worker {
            "an old HAProxy worker can still reach it".to_owned()
        } else {
            "no session".to_owned()
        };
        self.enter(now, next, note);
    }

    /// Whether HAProxy still lists a VM that is to be deleted, and that was the last one.
    pub(super) fn last_is_listed(&self) -> bool {
        let recounted = |t: &&Transition| matches!(t.stage, Stage::Recounting { .. });
        let leaving = self.state.transition.as_ref().filter(recounted).and_then(|t| t.server);
        let name = leaving.and_then(|id| self.backend_name_of(id));
        name.is_some_and(|name| self.view.lb_server(&name).is_some_and(|server| server.listed))
    }

    /// Its name in HAProxy, member or not.
    fn backend_name_of(&self, id: ServerId) -> Option<BackendName> {
        match self.state.member(id) {
            Some(member) => Some(member.backend_name()),
            None => self.view.cloud.get(&id).map(|facts| BackendName::of(&facts.name, id)),
        }
    }

    fn emptying(&mut self, now: Timestamp, transition: &Transition, id: ServerId, forced: bool) -> Turn {
        let settings = &self.settings.transition;
        if !forced && let Some(name) = self.dead_sessions(id) {
            return Turn::Do(Effect::CutSessions(name), Purpose::Stage);
        }
        if now.since(transition.stage_since) < settings.drain_deadline {
            return Turn::Wait;
        }
        let handover = transition.kind == Kind::Handover;
        match settings.drain_policy {
            DrainPolicy::Abort if handover => {
                let why =
                    format!("not drained after {} s: {}", settings.drain_deadline.as_secs(), transition.note);
                if self.call_off(now, &why) { Turn::Again } else { Turn::Wait }
            }
            DrainPolicy::Force if !forced => match self.state.member(id) {
                Some(member) => Turn::Do(Effect::CutSessions(member.backend_name()), Purpose::Stage),
                None => Turn::Wait,
            },
            DrainPolicy::Force | DrainPolicy::Wait | DrainPolicy::Abort => Turn::Wait,
        }
    }

    /// The server whose sessions only wait for HAProxy's timeout, and their clients with them: its VM is off and answers nobody.
    fn dead_sessions(&self, id: ServerId) -> Option<BackendName> {
        let off = matches!(self.view.status(id), Some(ServerStatus::Shutoff | ServerStatus::Deleted));
        let name = self.state.member(id).filter(|_| off)?.backend_name();
        let seen = self.view.lb_server(&name)?;
        (seen.sessions + seen.queued > 0).then_some(name)
    }

    /// Whether Nova is at work on it.
    fn has_task(&self, id: ServerId) -> bool {
        self.view.cloud.get(&id).is_some_and(|facts| facts.task_state.is_some())
    }

    /// Whether it is a VM that the operator named and that still exists.
    fn is_the_operators(&self, id: ServerId) -> bool {
        self.state.member(id).is_some_and(|m| m.mark.is_none() && !m.gone)
    }

    /// It is gone.
    fn left(&mut self, now: Timestamp, transition: &Transition, id: ServerId) -> Turn {
        let name = self.state.member(id).map_or_else(|| id.to_string(), |m| m.name.clone());
        let was_member = self.state.member(id).is_some();
        self.state.members.retain(|m| m.id != id);
        self.view.samplers.remove(&id);
        match &transition.kind {
            Kind::Handover => {
                let primary = self.state.base().map_or_else(|| "nobody".to_owned(), |m| m.name.clone());
                self.end(now, "handed over", format!("{name} is deleted, {primary} is the primary"), true);
            }
            Kind::RollBack { why, counts } => {
                if *counts {
                    self.creation_failed(now, why);
                }
                self.end(now, "rolled back", format!("{name} is deleted: {why}"), false);
            }
            Kind::Evict { why } => self.end(now, "evicted", format!("{name}: {why}"), was_member),
            Kind::Adopt | Kind::ScaleOut { .. } | Kind::Rejoin { .. } => {
                debug_assert!(false, "{:?} does not lead out", transition.kind);
                self.end(now, "gone", name, was_member);
            }
        }
        Turn::Again
    }
}
