//! The way in: from "is there room?" to full weight.

use std::net::SocketAddr;

use super::{
    cloud::{FailureKind, ServerStatus},
    event::{Effect, Outcome},
    ids::{FloatingIpId, ServerId},
    machine::{Machine, Turn},
    state::{Member, Place},
    time::Timestamp,
    transition::{Kind, Stage, Transition},
    units::Weight,
    view::Purpose,
};

/// Times that we look for a server whose creation was not answered, before we believe that it was not made. Nova's list may
/// lag behind its own creations.
const LOOKS: u32 = 5;
/// The pause between them.
const LOOK_PAUSE: std::time::Duration = std::time::Duration::from_secs(2);
/// How long a refusal (no quota, no memory) stands before it is asked again.
const REFUSED_PAUSE: std::time::Duration = std::time::Duration::from_secs(60);
/// Tries of a creation that surely was not made, before the scale-out is given up.
const CREATE_TRIES: u32 = 3;
/// How long a server just created may be unknown to Nova's own reads.
pub(super) const READ_LAG: std::time::Duration = std::time::Duration::from_secs(15);
/// How long a member that could not be brought back is left alone.
pub(super) const REJOIN_PAUSE: std::time::Duration = std::time::Duration::from_secs(300);

impl Machine {
    pub(super) fn turn_in(&mut self, now: Timestamp, transition: &Transition) -> Turn {
        if let Some(id) = transition.server
            && self.lost_on_its_way(now, transition, id)
        {
            return Turn::Again;
        }
        match (&transition.stage, transition.server) {
            (Stage::Admitting, _) => match (&transition.kind, self.state.pattern()) {
                (Kind::ScaleOut { name, .. }, Some(base)) => Turn::Do(
                    Effect::Admit {
                        base: base.id,
                        name: name.clone(),
                        blueprint: self.blueprint_of(base.id),
                    },
                    Purpose::Stage,
                ),
                _ => self.give_up(now, "there is no member that could be copied"),
            },
            (Stage::Creating { asked: false }, _) if self.view.cloud_missing.is_some() => {
                self.waits_for("Nova does not answer")
            }
            (Stage::Creating { asked: false }, _) => {
                let (Kind::ScaleOut { intent, name, generation }, Some(base)) =
                    (&transition.kind, self.state.pattern())
                else {
                    return self.give_up(now, "there is no member that could be copied");
                };
                let create = Effect::Create {
                    intent: *intent,
                    name: name.clone(),
                    generation: *generation,
                    base: base.id,
                    blueprint: self.blueprint_of(base.id),
                };
                // On disk before the call goes out: the shell saves the state before it acts. Only now is the name used up.
                self.state.next_generation = self.state.next_generation.max(generation.saturating_add(1));
                self.enter(now, Stage::Creating { asked: true }, "asking Nova for the clone");
                Turn::Do(create, Purpose::Stage)
            }
            (Stage::Creating { asked: true }, _) => {
                self.enter(now, Stage::Looking { looks: 0 }, "a creation may have gone out: looking for it");
                Turn::Again
            }
            (Stage::Looking { .. }, _) => match &transition.kind {
                Kind::ScaleOut { intent, .. } => Turn::Do(Effect::FindIntent(*intent), Purpose::Stage),
                Kind::Adopt
                | Kind::Handover
                | Kind::RollBack { .. }
                | Kind::Evict { .. }
                | Kind::Rejoin { .. } => self.give_up(now, "only a scale-out creates"),
            },
            (Stage::TakingVip, _) => {
                Turn::Do(Effect::TakeVip { members: self.state.addresses() }, Purpose::Stage)
            }
            (Stage::Building, Some(id)) => self.building(now, transition, id),
            (Stage::Starting, Some(id)) => self.starting(now, transition, id),
            (Stage::Addressing, Some(id)) => Turn::Do(Effect::Address(id), Purpose::Stage),
            // Only reached when HAProxy has taken it in.
            (Stage::Listing, Some(_)) => {
                self.enter(now, Stage::Proving { checks: 0, probes: 0 }, "waiting for health checks");
                Turn::Again
            }
            (Stage::Proving { checks, probes }, Some(id)) => {
                self.proving(now, transition, id, *checks, *probes)
            }
            (Stage::Ramping { step, applied }, Some(id)) => {
                self.ramping(now, transition, id, *step, *applied)
            }
            (Stage::Restoring, Some(id)) => {
                if let Some(member) = self.state.member_mut(id) {
                    member.serving_since.get_or_insert(now);
                }
                let why = transition.note.clone();
                self.end(now, "restored", why, true);
                Turn::Again
            }
            (stage, None) => {
                debug_assert!(false, "{stage:?} without a server");
                Turn::Wait
            }
            (stage, Some(_)) => {
                debug_assert!(false, "{stage:?} is not a stage of the way in");
                Turn::Wait
            }
        }
    }

    pub(super) fn done_in(&mut self, now: Timestamp, transition: &Transition, outcome: Outcome) {
        match (&transition.stage, outcome) {
            (Stage::Admitting, Outcome::Admitted) => {
                self.enter(now, Stage::Creating { asked: false }, "there is room for a clone");
            }
            (Stage::Admitting, Outcome::Refused(why) | Outcome::Failed { why, .. }) => {
                // Nothing was tried, so it is no failure; but it need not be asked at every vote either.
                self.state.breaker.not_before = now.plus(REFUSED_PAUSE);
                self.state.breaker.why.clone_from(&why);
                self.end(now, "no scale-out", why, false);
            }
            (Stage::Creating { .. }, Outcome::Created(id)) => self.made(now, id),
            (Stage::Creating { .. }, Outcome::Failed { kind: FailureKind::Unknown, why }) => {
                self.enter(now, Stage::Looking { looks: 0 }, format!("unclear whether it was made: {why}"));
            }
            (Stage::Creating { .. }, Outcome::Failed { kind, why }) => {
                // Surely not made: it may be asked for again with the same intent.
                self.enter(now, Stage::Creating { asked: false }, why.clone());
                let tries = self.again_later(now, why.clone());
                // While the whole API is away, nothing is said about this creation.
                let away = self.view.cloud_missing.is_some();
                if kind != FailureKind::Transient || (tries >= CREATE_TRIES && !away) {
                    self.not_made(now, why);
                }
            }
            (Stage::Looking { .. }, Outcome::Found(Some(id))) => self.made(now, id),
            (Stage::Looking { looks }, Outcome::Found(None)) => {
                let looks = looks + 1;
                if looks >= LOOKS {
                    self.not_made(now, format!("not made, nor found in {looks} looks: {}", transition.note));
                } else {
                    self.enter(now, Stage::Looking { looks }, transition.note.clone());
                    if let Some(transition) = &mut self.state.transition {
                        transition.not_before = now.plus(LOOK_PAUSE);
                    }
                }
            }
            (Stage::Addressing, Outcome::Failed { why, .. })
                if now.since(transition.stage_since) >= self.settings.transition.healthy_deadline
                    && matches!(transition.kind, Kind::ScaleOut { .. })
                    // Without the API it may have one for long.
                    && self.view.cloud_missing.is_none() =>
            {
                self.fail_unlisted(now, format!("it got no address: {why}"));
            }
            (Stage::Addressing, Outcome::Addressed { server: id, address, floating_ip }) => {
                self.addressed(id, address, floating_ip);
                self.place(id, Place::Listed { weight: Weight::ZERO });
                self.enter(now, Stage::Listing, format!("into HAProxy with weight 0 as {address}"));
            }
            (Stage::Proving { checks, probes }, Outcome::Probed { ok, why }) => {
                let (probes, note) = if ok {
                    (probes + 1, format!("probe good: {why}"))
                } else {
                    (0, format!("probe: {why}"))
                };
                self.enter(now, Stage::Proving { checks: *checks, probes }, note);
                if !ok {
                    self.again_later(now, format!("probe: {why}"));
                }
            }
            (Stage::TakingVip, Outcome::Addressed { server, address, floating_ip }) => {
                self.addressed(server, address, floating_ip);
                self.enter(
                    now,
                    Stage::TakingVip,
                    format!("HAProxy reaches the base at {address} from now on"),
                );
            }
            (Stage::Starting, Outcome::Done) => {
                self.enter(now, Stage::Starting, "asked Nova to start it");
                if let Some(transition) = &mut self.state.transition {
                    transition.not_before = now.plus(LOOK_PAUSE);
                }
            }
            (Stage::TakingVip, Outcome::Done) => {
                self.state.vip_taken = true;
                self.view.vip = None;
                self.end(now, "adopted", "the service address is on HAProxy", true);
            }
            (_, Outcome::Failed { why, .. }) => {
                self.again_later(now, why);
            }
            (stage, outcome) => {
                debug_assert!(false, "{outcome:?} does not answer {stage:?}");
            }
        }
    }

    /// Where HAProxy reaches a member; the next turn applies it.
    pub(super) fn addressed(&mut self, id: ServerId, address: SocketAddr, floating_ip: Option<FloatingIpId>) {
        if let Some(member) = self.state.member_mut(id) {
            member.address = Some(address);
            member.floating_ip = floating_ip.or(member.floating_ip);
        }
    }

    /// HAProxy's word, or its silence, once per observation.
    pub(super) fn count_in(&mut self, now: Timestamp) {
        let Some(transition) = &self.state.transition else { return };
        let (Stage::Proving { checks, probes }, Some(id)) = (&transition.stage, transition.server) else {
            return;
        };
        let Some(member) = self.state.member(id) else { return };
        let name = member.backend_name();
        let listed = self.view.applied.as_ref().is_some_and(|m| m.servers.iter().any(|s| s.name == name));
        let good = listed && self.view.is_up(&name);
        let wanted = self.settings.transition.proofs;
        let next = if good {
            // We look more often than HAProxy checks: the same check seen twice is one proof.
            if *checks > 0 && now.since(self.view.proof_at) < self.settings.transition.proof_spacing {
                return;
            }
            self.view.proof_at = now;
            Stage::Proving { checks: (checks + 1).min(wanted), probes: *probes }
        } else {
            Stage::Proving { checks: 0, probes: 0 }
        };
        if next != transition.stage {
            let note = match self.view.lb_server(&name) {
                _ if self.view.lb_missing.is_some() => "HAProxy does not answer".to_owned(),
                server => format!("HAProxy's check says {}", server.map_or("nothing", |s| &s.check)),
            };
            self.enter(now, next, note);
        }
    }

    fn building(&mut self, now: Timestamp, transition: &Transition, id: ServerId) -> Turn {
        let in_stage = now.since(transition.stage_since);
        let facts = self.view.cloud.get(&id);
        match facts.map(|f| f.status) {
            Some(ServerStatus::Active) => {
                self.enter(now, Stage::Addressing, "Nova says ACTIVE");
                Turn::Again
            }
            Some(ServerStatus::Error) => {
                let fault = facts.and_then(|f| f.fault.clone()).unwrap_or_else(|| "no fault given".into());
                self.fail_unlisted(now, format!("Nova could not build it: {fault}"));
                Turn::Again
            }
            Some(ServerStatus::Deleted) if in_stage > READ_LAG => {
                self.fail_unlisted(now, "it was deleted while it was built".to_owned());
                Turn::Again
            }
            // Without Nova's word it may be ACTIVE for long.
            status
                if in_stage > self.settings.transition.build_deadline
                    && self.view.cloud_missing.is_none() =>
            {
                self.fail_unlisted(
                    now,
                    format!("not ACTIVE after {} s (status {status:?})", in_stage.as_secs()),
                );
                Turn::Again
            }
            status => {
                let task = facts.and_then(|f| f.task_state.clone()).unwrap_or_default();
                let status = status.map_or("not seen yet".to_owned(), |s| format!("{s:?}"));
                self.waits_for(format!("Nova: {status} {task}").trim_end())
            }
        }
    }

    fn starting(&mut self, now: Timestamp, t: &Transition, id: ServerId) -> Turn {
        let in_stage = now.since(t.stage_since);
        let facts = self.view.cloud.get(&id);
        let busy = facts.is_some_and(|f| f.task_state.is_some());
        match facts.map(|f| f.status) {
            Some(ServerStatus::Active) if !busy => {
                self.enter(now, Stage::Addressing, "it runs again");
                Turn::Again
            }
            Some(ServerStatus::Shutoff) if !busy => Turn::Do(Effect::Start(id), Purpose::Stage),
            // It may answer all the same.
            Some(ServerStatus::Error) => {
                self.enter(now, Stage::Addressing, "Nova says ERROR: whether it answers will be seen");
                Turn::Again
            }
            Some(ServerStatus::Deleted) => {
                self.end(now, "not brought back", "the VM is lost", false);
                Turn::Again
            }
            _ if in_stage > self.settings.transition.build_deadline
                && self.view.cloud_missing.is_none()
                && self.others_carry(id) =>
            {
                // Whoever asks next is not kept waiting by it.
                self.view.repair_not_before = now.plus(REJOIN_PAUSE);
                self.end(
                    now,
                    "not brought back",
                    format!("not started after {} s", in_stage.as_secs()),
                    false,
                );
                Turn::Again
            }
            status => {
                let status = status.map_or("not seen yet".to_owned(), |s| format!("{s:?}"));
                let task = facts.and_then(|f| f.task_state.clone()).unwrap_or_default();
                self.waits_for(format!("waiting for Nova to start it: {status} {task}").trim_end())
            }
        }
    }

    fn proving(&mut self, now: Timestamp, t: &Transition, id: ServerId, checks: u32, probes: u32) -> Turn {
        let Some(member) = self.state.member(id) else { return self.give_up(now, "the member is gone") };
        let wanted = self.settings.transition.proofs;
        if checks >= wanted && probes >= wanted {
            let alone = !self.others_carry(id);
            let last = self.settings.transition.ramp.len().saturating_sub(1);
            // Alone there is nobody to share with: all traffic or none.
            let step = if alone { last } else { 0 };
            self.enter(now, Stage::Ramping { step, applied: false }, "proven healthy");
            return Turn::Again;
        }
        if now.since(t.stage_since) > self.settings.transition.healthy_deadline {
            let check = self.view.lb_server(&member.backend_name()).map_or("nothing", |s| s.check.as_str());
            let why = format!(
                "not healthy after {} s: {checks} of {wanted} checks (the last one: {check}) and {probes} of {wanted} probes in a row",
                self.settings.transition.healthy_deadline.as_secs(),
            );
            self.fail_listed(now, id, why);
            return Turn::Again;
        }
        if checks < wanted {
            return Turn::Wait;
        }
        Turn::Do(Effect::Probe(member.backend_name()), Purpose::Stage)
    }

    /// It carries its full share.
    pub(super) fn joined(&mut self, now: Timestamp, transition: &Transition, id: ServerId) -> Turn {
        let Some(member) = self.state.member_mut(id) else { return self.give_up(now, "the member is gone") };
        member.serving_since = Some(now);
        let name = member.name.clone();
        match &transition.kind {
            Kind::Adopt if !self.state.vip_taken && !self.state.released => {
                self.enter(now, Stage::TakingVip, "moving the service address to HAProxy");
            }
            Kind::ScaleOut { .. } => {
                self.state.breaker = super::state::Breaker::default();
                self.end(now, "scaled out", format!("{name} serves with full weight"), true);
            }
            Kind::Adopt
            | Kind::Rejoin { .. }
            | Kind::Handover
            | Kind::RollBack { .. }
            | Kind::Evict { .. } => {
                self.end(now, "rejoined", format!("{name} serves with full weight"), true);
            }
        }
        Turn::Again
    }

    /// Nova gave the clone an id: from now on it is a member, if one without traffic.
    fn made(&mut self, now: Timestamp, id: ServerId) {
        let Some(transition) = &mut self.state.transition else { return };
        transition.server = Some(id);
        if let Kind::ScaleOut { intent, name, generation } = &transition.kind {
            let mark = super::cloud::Mark {
                pool: self.state.pool.clone(),
                intent: *intent,
                generation: *generation,
            };
            let member = Member {
                id,
                name: name.clone(),
                generation: *generation,
                mark: Some(mark),
                address: None,
                floating_ip: None,
                place: Place::Unlisted,
                serving_since: None,
                gone: false,
            };
            self.state.members.push(member);
        }
        self.enter(now, Stage::Building, "Nova builds it");
    }

    /// The creation failed and left nothing behind.
    fn not_made(&mut self, now: Timestamp, why: String) {
        self.creation_failed(now, &why);
        self.end(now, "scale-out failed", why, false);
    }

    /// Counts a failed creation: back-off, and the breaker when it is one too many.
    pub(super) fn creation_failed(&mut self, now: Timestamp, why: &str) {
        let settings = &self.settings.transition;
        let breaker = &mut self.state.breaker;
        breaker.failures = breaker.failures.saturating_add(1);
        breaker.not_before = now.plus(super::backoff::doubling(
            settings.backoff_first,
            settings.backoff_max,
            breaker.failures,
        ));
        breaker.open = breaker.failures >= settings.breaker_after;
        breaker.why = why.to_owned();
    }

    /// A clone that HAProxy never listed (or no longer lists) is of no use: delete it.
    pub(super) fn fail_unlisted(&mut self, now: Timestamp, why: String) {
        self.state.note(now, "scale-out failed", why.clone());
        let Some(transition) = &mut self.state.transition else { return };
        transition.kind = Kind::RollBack { why: why.clone(), counts: true };
        let next = if transition.stage == Stage::Listing {
            Stage::Unlisting
        } else {
            Stage::Deleting { sent: false }
        };
        self.enter(now, next, why);
    }

    /// A member on its way in turns out not to be fit.
    pub(super) fn fail_listed(&mut self, now: Timestamp, id: ServerId, why: String) {
        let others = self.others_carry(id);
        let Some(transition) = &self.state.transition else { return };
        match &transition.kind {
            Kind::ScaleOut { .. } if others => self.undo_scale_out(now, id, why),
            Kind::Rejoin { .. } if others => {
                self.place(id, Place::Unlisted);
                self.view.repair_not_before = now.plus(REJOIN_PAUSE);
                self.end(now, "not brought back", why, true);
            }
            Kind::Adopt
            | Kind::ScaleOut { .. }
            | Kind::Rejoin { .. }
            | Kind::Handover
            | Kind::RollBack { .. }
            | Kind::Evict { .. } => {
                // Nobody else serves: there is nothing better than to go on trying.
                self.place(id, Place::Listed { weight: Weight::ZERO });
                let weightless = Stage::Proving { checks: 0, probes: 0 };
                transition_restart(&mut self.state.transition, now, weightless, why);
            }
        }
    }

    /// A clone that HAProxy lists is of no use: take it out again, and delete it.
    pub(super) fn undo_scale_out(&mut self, now: Timestamp, id: ServerId, why: String) {
        if let Some(transition) = &mut self.state.transition {
            transition.kind = Kind::RollBack { why: why.clone(), counts: true };
        }
        self.state.note(now, "scale-out failed", why.clone());
        self.place(id, Place::Listed { weight: Weight::ZERO });
        self.enter(now, Stage::Settling, why);
    }

    /// Whether another member serves and is healthy.
    pub(super) fn others_carry(&self, id: ServerId) -> bool {
        self.state.serving().any(|m| m.id != id && self.answers(m))
    }

    /// Ends a transition that has lost its object.
    pub(super) fn give_up(&mut self, now: Timestamp, why: &str) -> Turn {
        self.end(now, "given up", why, false);
        Turn::Again
    }
}

/// Sets a transition back to a stage of the way in, where no other member can take over.
fn transition_restart(transition: &mut Option<Transition>, now: Timestamp, stage: Stage, why: String) {
    if let Some(transition) = transition {
        transition.stage = stage;
        transition.stage_since = now;
        transition.not_before = now;
        transition.note = why;
    }
}
