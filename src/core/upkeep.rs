//! What wants repair while no transition is in flight, and what operators ask for.

use std::time::Duration;

use super::{
    cloud::ServerStatus,
    condition::SILENCE,
    event::{Command, Effect, VipSeen},
    ids::ServerId,
    lb::LbSeen,
    machine::{Machine, REFUSALS, Turn},
    state::{Breaker, Hold},
    time::Timestamp,
    transition::{Kind, Stage, Transition},
    view::Purpose,
    votes::Wish,
};

/// How old a server with our mark must be before it counts as an orphan.
const ORPHAN_AGE: Duration = Duration::from_secs(30);
/// How often in a row HAProxy must be seen without kept connections: the first look may have begun before its reload.
const NONE_KEPT: u32 = 2;

impl Machine {
    pub(super) fn upkeep(&mut self, now: Timestamp) -> Turn {
        if let Some(turn) = self.give_back(now) {
            return turn;
        }
        if self.state.hold.is_some() && !self.state.members.iter().any(|m| m.address.is_none()) {
            return Turn::Wait;
        }
        if let Some(turn) = self.heal(now) {
            return turn;
        }
        if now < self.view.repair_not_before {
            return Turn::Wait;
        }
        if let Some((id, name)) = self.unlisted_member(now).map(|m| (m.id, m.name.clone())) {
            let fresh = !self.state.vip_taken && self.state.serving().next().is_none();
            let kind = if fresh { Kind::Adopt } else { Kind::Rejoin { why: "it is not in HAProxy".into() } };
            let stage = if fresh { Stage::Addressing } else { Stage::Starting };
            if !fresh && self.view.status(id).is_none() {
                return Turn::Wait;
            }
            self.begin(
                now,
                Transition::begin(kind, Some(id), stage, now),
                format!("bringing {name} into HAProxy"),
            );
            return Turn::Again;
        }
        if let Some((id, failed)) = self.orphan(now) {
            let why = "it carries our mark, but it is no member: left over from an interrupted creation";
            // The next one would fail as it did, whoever asked for it.
            let kind = if failed {
                Kind::RollBack { why: why.into(), counts: true }
            } else {
                Kind::Evict { why: why.into() }
            };
            // When the state was lost, HAProxy may have known it: it is counted on every worker first.
            self.begin(now, Transition::begin(kind, Some(id), Stage::Settling, now), format!("{id}: {why}"));
            return Turn::Again;
        }
        if let Some(turn) = self.take_back(now) {
            return turn;
        }
        if !self.state.vip_taken && !self.state.released && self.state.serving().next().is_some() {
            return Turn::Do(Effect::TakeVip { members: self.state.addresses() }, Purpose::TakeVip);
        }
        if self.state.vip_taken
            && let Some(id) = self.unstudied(now)
        {
            return Turn::Do(Effect::Study(id), Purpose::Study(id));
        }
        Turn::Wait
    }

    /// The service address that we had is with nobody: it is taken again.
    pub(super) fn take_back(&self, now: Timestamp) -> Option<Turn> {
        let lost = self.state.vip_taken && !self.state.released && self.view.vip == Some(VipSeen::Free);
        let served = self.state.serving().next().is_some();
        (lost && served && now >= self.view.repair_not_before)
            .then(|| Turn::Do(Effect::TakeVip { members: self.state.addresses() }, Purpose::TakeVip))
    }

    /// The service address goes back to the primary when the operator wants that, on hold too: once no client keeps a connection that
    /// could not follow it, or at once when HAProxy cannot see to that.
    pub(super) fn give_back(&self, now: Timestamp) -> Option<Turn> {
        if !self.state.released || !self.state.vip_taken || now < self.view.repair_not_before {
            return None;
        }
        let primary =
            self.state.serving().filter(|m| self.answers(m)).last().or(self.state.serving().last())?;
        let silent = self.view.lb_missing.as_ref().is_some_and(|(since, _)| now.since(*since) >= SILENCE);
        let refused = self.view.apply_failed.as_ref().is_some_and(|(failures, _)| *failures >= REFUSALS);
        let ready = self.view.none_kept >= NONE_KEPT || silent || refused;
        ready.then_some(Turn::Do(Effect::GiveVip(primary.id), Purpose::GiveVip))
    }

    /// What the service address waits for before it goes back, in plain words.
    #[must_use]
    pub fn leaving(&self) -> Option<String> {
        (self.state.released && self.state.vip_taken).then(|| match self.view.old_workers() {
            Some(n) if n > 0 => format!(
                "the service address goes back to the primary when no client keeps a connection: {n} older HAProxy worker(s) left"
            ),
            _ => "the service address goes back to the primary now".to_owned(),
        })
    }

    /// Kept connections are all with old workers since answers end theirs: they end with the next answer, or by HAProxy's timeouts.
    pub(super) fn count_kept(&mut self, seen: &LbSeen) {
        let closing = self.view.applied.as_ref().is_some_and(|model| model.closing);
        let none = closing && seen.old_workers.is_empty();
        self.view.none_kept = if none { self.view.none_kept.saturating_add(1) } else { 0 };
    }

    /// A server that carries our mark, belongs to nothing and is old enough not to be just on its way; and whether it failed.
    fn orphan(&self, now: Timestamp) -> Option<(ServerId, bool)> {
        let somebody = self.state.base().is_some();
        // While nobody serves, one that runs may be all that is left of the pool.
        let of_use = |status| !somebody && !matches!(status, ServerStatus::Build | ServerStatus::Error);
        self.view
            .cloud
            .values()
            .find(|facts| {
                facts.mark.as_ref().is_some_and(|mark| mark.pool == self.state.pool)
                    && self.state.member(facts.id).is_none()
                    && facts.status != ServerStatus::Deleted
                    && !of_use(facts.status)
                    && facts.task_state.as_deref() != Some("deleting")
                    && now.since(facts.created) > ORPHAN_AGE
            })
            .map(|facts| (facts.id, facts.status == ServerStatus::Error))
    }

    pub(super) fn obey(&mut self, now: Timestamp, command: &Command) -> Result<String, String> {
        match command {
            Command::Hold { why } => {
                self.state.hold = Some(Hold { why: why.clone(), since: now });
                self.state.note(now, "hold", why.clone());
                Ok(match &self.state.transition {
                    Some(t) => format!("on hold; the {} under way is finished first", t.kind.name()),
                    None => "on hold: nothing new is begun".to_owned(),
                })
            }
            Command::Resume => {
                let elsewhere = matches!(self.view.vip, Some(VipSeen::Elsewhere(_)));
                let comes_back = self.state.released || (elsewhere && self.state.vip_taken);
                let was = (self.state.hold.take().is_some(), self.state.breaker.open, comes_back);
                self.state.breaker = Breaker::default();
                self.state.released = false;
                if elsewhere {
                    // The operator wants it with us again; from a stranger it is still not taken.
                    self.state.vip_taken = false;
                }
                self.view.repair_not_before = now;
                self.new_runs();
                self.state.note(now, "resume", "deciding again");
                Ok(match was {
                    (_, _, true) => {
                        "deciding again; the service address is taken back, unless a stranger has it"
                            .to_owned()
                    }
                    (_, true, _) => "deciding again; the breaker is closed".to_owned(),
                    (true, false, false) => "deciding again".to_owned(),
                    (false, false, false) => "nothing was on hold".to_owned(),
                })
            }
            Command::ScaleOut => {
                if let Some(why) = self.scale_out_barred(now, Wish::Operator) {
                    return Err(format!("no scale-out: {why}"));
                }
                self.begin_scale_out(now, "asked for by the operator");
                Ok("scaling out; watch it with `lbsidecar status --watch`".to_owned())
            }
            Command::Handover => {
                if let Some(why) = self.handover_barred(now, None) {
                    return Err(format!("no handover: {why}"));
                }
                self.begin_handover(now, "asked for by the operator");
                Ok("handing over; watch it with `lbsidecar status --watch`".to_owned())
            }
            Command::Abort => self.abort(now),
            Command::Release => {
                if let Some(t) = &self.state.transition {
                    return Err(format!(
                        "{} is under way: wait for its end or `lbsidecar abort` it",
                        t.kind.name()
                    ));
                }
                if self.state.base().is_none() {
                    return Err("no member serves that could take the service address".to_owned());
                }
                self.state.released = true;
                self.state.note(now, "release", "the service address goes back to the primary");
                Ok("giving the service address back to the primary, as soon as no client keeps a connection to HAProxy"
                    .to_owned())
            }
            Command::Reload { force } => {
                self.reload(now, *force);
                Ok("rendering and applying HAProxy's configuration again".to_owned())
            }
        }
    }

    fn abort(&mut self, now: Timestamp) -> Result<String, String> {
        let Some(transition) = &mut self.state.transition else {
            return Err("nothing is under way".to_owned());
        };
        let name = transition.kind.name();
        let policy = &self.settings.policy;
        // Else the same votes would begin it anew at once.
        match (&transition.kind, &transition.stage) {
            (Kind::ScaleOut { .. }, _) => self.state.no_scale_out_before = now.plus(policy.cooldown_up),
            (Kind::Handover, stage) if super::call_off::can_be_called_off(stage) => {
                self.state.no_handover_before = now.plus(policy.cooldown_down);
            }
            (Kind::Handover, _) => {
                return Err("the DELETE was sent: the handover cannot be called off any more".to_owned());
            }
            (Kind::Adopt | Kind::RollBack { .. } | Kind::Evict { .. } | Kind::Rejoin { .. }, _) => {
                return Err(format!("a {name} cannot be called off"));
            }
        }
        transition.cancel = Some("the operator called it off".to_owned());
        self.state.note(now, "abort", format!("the {name} shall be called off"));
        Ok(format!(
            "calling the {name} off; `lbsidecar hold` keeps the next one from beginning after the cooldown"
        ))
    }
}
