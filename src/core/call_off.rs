//! The way back: what calls a transition off, and how it is undone, until the DELETE is sent.

use super::{
    machine::Machine,
    state::{Member, Place, State},
    time::Timestamp,
    transition::{Kind, Stage, Transition},
    units::Weight,
};

impl Machine {
    /// Why a member under way out must stay, if so: it is not lost any more; or the others do not carry the service, or it is not known
    /// whether they do.
    pub(super) fn doubt(&self, now: Timestamp, transition: &Transition) -> Option<Doubt> {
        if matches!(transition.kind, Kind::Evict { .. }) && self.answers_again(transition) {
            return Some(Doubt::CallOff("it answers again".to_owned()));
        }
        if matches!(transition.kind, Kind::Evict { .. } | Kind::RollBack { .. }) {
            return self.last_hope(now, transition);
        }
        if transition.kind != Kind::Handover || !can_be_called_off(&transition.stage) {
            return None;
        }
        if self.view.lb_missing.is_some() {
            return Some(Doubt::Wait("HAProxy does not answer".to_owned()));
        }
        if let Some(why) = self.without_address() {
            return Some(Doubt::CallOff(why));
        }
        if let Some(why) = self.address_unknown() {
            return Some(Doubt::Wait(why));
        }
        let survivors: Vec<&Member> =
            self.state.serving().filter(|m| Some(m.id) != transition.server).collect();
        if survivors.is_empty() {
            return Some(Doubt::CallOff("nobody else would serve".to_owned()));
        }
        if let Some(down) = survivors.iter().find(|m| m.gone || self.view.is_down(&m.backend_name())) {
            return Some(Doubt::CallOff(format!("{} is not healthy", down.name)));
        }
        // Somebody reloaded HAProxy, and the new worker has not checked it yet.
        survivors
            .iter()
            .find(|m| !self.view.is_up(&m.backend_name()))
            .map(|m| Doubt::Wait(format!("waiting for the next health check of {}", m.name)))
    }

    /// Whether a member that was to be removed, since it was lost, is not: as long as HAProxy checks it, that can be seen.
    fn answers_again(&self, transition: &Transition) -> bool {
        let checked = is_listed(&transition.stage);
        let member = transition.server.and_then(|id| self.state.member(id)).filter(|_| checked);
        // One that has no weight any more would have to be proven first.
        member.is_some_and(|m| m.place != (Place::Listed { weight: Weight::ZERO }) && self.answers(m))
    }

    /// Whether a member that was given up is needed: nobody else serves any more, and it may.
    fn last_hope(&self, now: Timestamp, transition: &Transition) -> Option<Doubt> {
        // Without an address HAProxy never listed it, and it is not known to be of any use.
        let member = self.state.member(transition.server?).filter(|m| m.address.is_some())?;
        if !can_be_called_off(&transition.stage) || self.others_carry(member.id) {
            return None;
        }
        if self.view.lb_missing.is_some() {
            return Some(Doubt::Wait("HAProxy does not answer".to_owned()));
        }
        let unchecked = |m: &Member| !m.gone && !self.view.is_down(&m.backend_name());
        if let Some(other) = self.state.serving().find(|m| m.id != member.id && unchecked(m)) {
            return Some(Doubt::Wait(format!("waiting for the next health check of {}", other.name)));
        }
        let may_serve = if is_listed(&transition.stage) {
            matches!(transition.kind, Kind::RollBack { .. }) && self.answers(member)
        } else {
            let down = now.since(*self.view.down_since.get(&member.id).unwrap_or(&now));
            down < self.settings.transition.healthy_deadline && self.loss(now, member).is_none()
        };
        may_serve.then(|| Doubt::CallOff("nobody else serves".to_owned()))
    }

    /// Calls a transition off where that is still possible; whether anything changed.
    pub(super) fn call_off(&mut self, now: Timestamp, why: &str) -> bool {
        let Some(transition) = self.state.transition.clone() else { return false };
        let Some(undo) = undo(&transition) else { return false };
        // A newcomer that carries the service alone must stay.
        if undo == Undo::Leave && !transition.server.is_some_and(|id| self.others_carry(id)) {
            return false;
        }
        if undo == Undo::Nothing {
            self.end(now, "called off", why, false);
            return true;
        }
        let Some(id) = transition.server else { return false };
        self.state.note(now, "called off", why);
        let clone = self.state.member(id).filter(|_| matches!(transition.kind, Kind::RollBack { .. }));
        let back = match clone.and_then(|m| Some((m.mark.as_ref()?, m.name.clone()))) {
            // The scale-out goes on, and may still fail as one.
            Some((mark, name)) => Kind::ScaleOut { intent: mark.intent, name, generation: mark.generation },
            None => Kind::Rejoin { why: why.into() },
        };
        let set_kind = |kind: Kind, state: &mut State| {
            if let Some(transition) = &mut state.transition {
                transition.kind = kind;
            }
        };
        match undo {
            Undo::Nothing => {}
            Undo::Delete => {
                set_kind(Kind::RollBack { why: why.into(), counts: false }, &mut self.state);
                self.enter(now, Stage::Deleting { sent: false }, why);
            }
            Undo::Leave => {
                set_kind(Kind::RollBack { why: why.into(), counts: false }, &mut self.state);
                self.place(id, Place::Listed { weight: Weight::ZERO });
                self.enter(now, Stage::Settling, why);
            }
            Undo::Restore => {
                self.place(id, Place::Listed { weight: Weight::FULL });
                self.enter(now, Stage::Restoring, why);
            }
            Undo::List => {
                set_kind(back, &mut self.state);
                self.place(id, Place::Listed { weight: Weight::ZERO });
                self.enter(now, Stage::Listing, why);
            }
            Undo::Start => {
                set_kind(back, &mut self.state);
                self.enter(now, Stage::Starting, why);
            }
        }
        true
    }
}

/// Why a member must not leave now.
#[derive(Debug)]
pub(super) enum Doubt {
    /// It may go on when this is over.
    Wait(String),
    /// It must be called off.
    CallOff(String),
}

/// How a transition is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Undo {
    /// Nothing was done yet.
    Nothing,
    /// Delete what was built.
    Delete,
    /// Take it out of HAProxy again, then delete it.
    Leave,
    /// Give it its weight back.
    Restore,
    /// Put it into HAProxy again.
    List,
    /// Start it, then put it into HAProxy again.
    Start,
}

/// How a transition can be undone now; `None` when it cannot, or not yet.
fn undo(transition: &Transition) -> Option<Undo> {
    match (&transition.kind, &transition.stage) {
        (Kind::ScaleOut { .. }, Stage::Admitting | Stage::Creating { asked: false }) => Some(Undo::Nothing),
        (Kind::ScaleOut { .. }, Stage::Building | Stage::Addressing) => Some(Undo::Delete),
        (Kind::ScaleOut { .. }, Stage::Listing | Stage::Proving { .. } | Stage::Ramping { .. }) => {
            Some(Undo::Leave)
        }
        (Kind::Handover | Kind::Evict { .. }, Stage::Settling) => Some(Undo::Nothing),
        (Kind::Handover | Kind::Evict { .. }, Stage::Draining | Stage::Emptying { .. }) => {
            Some(Undo::Restore)
        }
        // One that was given up must be proven again.
        (Kind::RollBack { .. }, stage) if is_listed(stage) => Some(Undo::List),
        (
            Kind::Handover | Kind::Evict { .. } | Kind::RollBack { .. },
            Stage::Unlisting | Stage::Recounting { .. },
        ) => Some(Undo::List),
        (
            Kind::Handover | Kind::Evict { .. } | Kind::RollBack { .. },
            Stage::Stopping { .. } | Stage::Snapshotting | Stage::Deleting { sent: false },
        ) => Some(Undo::Start),
        _ => None,
    }
}

/// Whether HAProxy still lists, and so checks, a member in this stage of the way out.
fn is_listed(stage: &Stage) -> bool {
    matches!(stage, Stage::Settling | Stage::Draining | Stage::Emptying { .. })
}

/// Whether a handover, or the removal of a member, in this stage can still be called off.
pub(super) fn can_be_called_off(stage: &Stage) -> bool {
    matches!(
        stage,
        Stage::Settling
            | Stage::Draining
            | Stage::Emptying { .. }
            | Stage::Unlisting
            | Stage::Recounting { .. }
            | Stage::Stopping { .. }
            | Stage::Snapshotting
            | Stage::Deleting { sent: false }
    )
}
