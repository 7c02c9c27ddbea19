//! The machine: one function from (state, view, now, event) to effects.
//!
//! ```text
//!  Event ──► note it in the view or in the stage ──► vote, when one is due
//!                                                        │
//!        effects ◄── advance: one thing at a time ◄──────┘
//! ```
//!
//! At most one effect is in flight, and every effect ends with an [`Event::Done`] that carries its ticket. `advance` looks, in
//! this order: does HAProxy run what the state says ([`super::state::State::lb_model`])? If not, apply it. Is a transition to be
//! called off? What does its stage need next? Without a transition: does anything want repair? So the file always follows the
//! state, the state is on disk before any effect, and a restart goes on from wherever it was.

use super::{
    backoff::retry_pause,
    cloud::{FailureKind, ServerFacts, ServerStatus},
    event::{Command, Effect, Event, Outcome, Request, Ticket, VipSeen},
    lb::{LbAdmin, LbMode, LbSeen},
    settings::Settings,
    state::{Blueprint, Member, Place, State},
    time::Timestamp,
    transition::{Kind, Stage, Transition, Way},
    units::Weight,
    view::{Pending, Purpose, View},
};

/// How long a blueprint that could not be taken is left alone.
const STUDY_PAUSE: std::time::Duration = std::time::Duration::from_secs(300);
/// How many turns one event may take; more would be a loop that makes no progress.
const TURNS: usize = 32;
/// How often in a row HAProxy must refuse a configuration before we go on without it where we can.
pub(super) const REFUSALS: u32 = 3;

/// The state, the view, and the rules.
#[derive(Debug)]
pub struct Machine {
    /// What survives a crash.
    pub state: State,
    /// What can be seen again.
    pub view: View,
    pub(super) settings: Settings,
}

/// What a turn of `advance` led to.
#[must_use]
pub(super) enum Turn {
    /// Something changed: look again.
    Again,
    /// Nothing to do until something happens.
    Wait,
    /// This is to be done.
    Do(Effect, Purpose),
}

impl Machine {
    /// A machine over a state that [`super::recover`] has made fit for the present.
    #[must_use]
    pub fn new(state: State, settings: Settings, now: Timestamp) -> Self {
        let next_vote = now.plus(settings.policy.interval);
        Self { state, view: View::new(next_vote), settings }
    }

    /// The rules.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// New rules, from a configuration read again; runs begin anew.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
        self.view.runs = super::view::Runs::default();
    }

    /// Takes an event in and tells what is to be done.
    pub fn step(&mut self, now: Timestamp, event: Event) -> Vec<Request> {
        match event {
            Event::Tick => {}
            Event::Sampled(counters) => self.sampled(now, counters),
            Event::SampleMissing(why) => self.sample_missing(now, why),
            Event::LbSeen(seen) => self.lb_seen(now, seen),
            Event::LbUnseen(why) => {
                let since = self.view.lb_missing.take().map_or(now, |(since, _)| since);
                self.view.lb_missing = Some((since, why));
                // It may come back as another process with another state, and what it said before says nothing about now.
                self.view.applied = None;
                self.count_in(now);
            }
            Event::CloudSeen(servers) => self.cloud_seen(now, servers),
            Event::CloudUnseen(why) => {
                let since = self.view.cloud_missing.take().map_or(now, |(since, _)| since);
                self.view.cloud_missing = Some((since, why));
            }
            Event::VipSeen(seen) => {
                let wanted = match seen {
                    VipSeen::Ours => !self.state.released,
                    VipSeen::Elsewhere(_) => self.state.released,
                    VipSeen::Free | VipSeen::Unknown(_) => false,
                };
                if wanted {
                    // What was answered with an error may have been done.
                    self.view.repair_failed = None;
                }
                let since = self.view.vip_unknown.take().unwrap_or(now);
                self.view.vip_unknown = matches!(seen, VipSeen::Unknown(_)).then_some(since);
                self.view.vip = Some(seen);
            }
            Event::VipKnown(address) => self.state.service_address = Some(address),
            Event::Done { ticket, outcome } => self.done(now, ticket, outcome),
        }
        self.vote_if_due(now);
        self.advance_checked(now)
    }

    /// Does what an operator asks for.
    ///
    /// # Errors
    /// Why it is not done, in plain words.
    pub fn command(&mut self, now: Timestamp, command: &Command) -> (Result<String, String>, Vec<Request>) {
        let answer = self.obey(now, command);
        (answer, self.advance_checked(now))
    }

    fn advance_checked(&mut self, now: Timestamp) -> Vec<Request> {
        let requests = self.advance(now);
        debug_assert_eq!(self.state.check_invariants(self.settings.max_members), Ok(()));
        requests
    }

    /// Takes the last outcome in, and begins nothing new: what comes next is left to the next start.
    pub fn finish(&mut self, now: Timestamp, ticket: Ticket, outcome: Outcome) {
        self.done(now, ticket, outcome);
    }

    /// Takes a request back that never went out, since the state could not be saved: it is surely not done, and whether it is still
    /// right is decided again. What waits for a disk must not act on an old world when there is room again.
    pub fn withdraw(&mut self, ticket: Ticket) {
        let withdrawn = self.view.pending.take_if(|pending| pending.ticket == ticket);
        if withdrawn.is_none_or(|pending| pending.purpose != Purpose::Stage) {
            return;
        }
        match self.state.transition.as_mut().map(|transition| &mut transition.stage) {
            Some(Stage::Creating { asked }) => *asked = false,
            Some(Stage::Deleting { sent }) => *sent = false,
            _ => {}
        }
    }

    fn done(&mut self, now: Timestamp, ticket: Ticket, outcome: Outcome) {
        let Some(pending) = self.view.pending.take_if(|pending| pending.ticket == ticket) else {
            // An answer to a question of a former life.
            return;
        };
        let reload = self.view.reload.take_if(|_| matches!(pending.purpose, Purpose::Apply(_)));
        match pending.purpose {
            Purpose::Stage => self.stage_done(now, outcome),
            Purpose::Apply(model) => match outcome {
                Outcome::Failed { kind, why } => {
                    if kind != FailureKind::Conflict {
                        // What it runs now is not known, and to go back is a change like any other.
                        self.view.applied = None;
                    }
                    let failures = self.view.apply_failed.take().map_or(1, |(n, _)| n.saturating_add(1));
                    self.view.apply_not_before = now.plus(retry_pause(failures));
                    if failures == 1 {
                        self.state.note(now, "haproxy", format!("apply failed: {why}"));
                    }
                    self.view.apply_failed = Some((failures, why));
                }
                _ => {
                    let ran = self.view.lb.as_ref().and_then(|(_, seen)| seen.generation);
                    if !matches!(outcome, Outcome::Applied { generation } if Some(generation) == ran) {
                        self.another_worker();
                    }
                    if self.view.apply_failed.take().is_some() {
                        self.state.note(now, "haproxy", "apply works again");
                    }
                    self.view.force_apply = false;
                    self.view.applied = Some(model);
                }
            },
            Purpose::Study(of) => match outcome {
                Outcome::Studied(text) => self.state.blueprint = Some(Blueprint { of, text }),
                _ => self.view.study_not_before = now.plus(STUDY_PAUSE),
            },
            Purpose::TakeVip | Purpose::GiveVip => {
                let taking = pending.purpose == Purpose::TakeVip;
                if let Outcome::Failed { why, .. } = outcome {
                    self.view.repair_not_before = now.plus(retry_pause(4));
                    self.view.repair_failed = Some(why);
                } else if let Outcome::Addressed { server, address, floating_ip } = outcome {
                    self.addressed(server, address, floating_ip);
                } else {
                    self.view.repair_failed = None;
                    // Until it is seen again.
                    self.view.vip = None;
                    self.state.vip_taken = taking;
                    let what = if taking { "service address taken" } else { "service address given back" };
                    self.state.note(now, "vip", what);
                }
            }
        }
        if let Some(force) = reload {
            self.reload(now, force);
        }
    }

    /// Applies HAProxy's configuration again, over edits made by hand if told so. What is in flight was asked for before.
    pub(super) fn reload(&mut self, now: Timestamp, force: bool) {
        if self.view.pending.as_ref().is_some_and(|pending| matches!(pending.purpose, Purpose::Apply(_))) {
            self.view.reload = Some(force);
            return;
        }
        self.view.applied = None;
        self.view.force_apply = force;
        self.view.apply_not_before = now;
    }

    /// Moves on as far as possible; at most one effect results, since at most one may be in flight.
    fn advance(&mut self, now: Timestamp) -> Vec<Request> {
        for _ in 0..TURNS {
            if self.view.pending.is_some() {
                break;
            }
            match self.turn(now) {
                Turn::Again => {}
                Turn::Wait => break,
                Turn::Do(effect, purpose) => {
                    self.view.last_ticket += 1;
                    let ticket = Ticket(self.view.last_ticket);
                    self.view.pending = Some(Pending { ticket, purpose });
                    return vec![Request { ticket, effect }];
                }
            }
        }
        Vec::new()
    }

    fn turn(&mut self, now: Timestamp) -> Turn {
        let model = self.state.lb_model();
        let applied = self.view.applied.as_ref() == Some(&model);
        if applied {
            // A change that it refused is not wanted any more.
            self.view.apply_failed = None;
        }
        // Without a member the last good configuration stays, unless it names one that is to be deleted, or the operator says so.
        if !applied && (!model.servers.is_empty() || self.last_is_listed() || self.view.force_apply) {
            if let Some(turn) = self.before_drain(now) {
                return turn;
            }
            if now >= self.view.apply_not_before {
                let force = self.view.force_apply;
                return Turn::Do(Effect::Apply { model: model.clone(), force }, Purpose::Apply(model));
            }
            return self.apply_waits(now);
        }
        if self.state.transition.is_none() {
            return self.upkeep(now);
        }
        // Without it nobody is served, however far the transition is.
        match self.take_back(now) {
            Some(turn) => turn,
            None => self.turn_transition(now),
        }
    }

    /// A drain that HAProxy was not told yet, since it did not answer or the disk was full, may be wrong by now.
    fn before_drain(&mut self, now: Timestamp) -> Option<Turn> {
        let transition = self.state.transition.as_ref().filter(|t| t.stage == Stage::Draining)?;
        if transition.cancel.is_some() {
            return Some(self.turn_transition(now));
        }
        if self.view.lb_missing.is_some() {
            // What brings it up again is a configuration, and it must not wait for what only HAProxy could say: it gets the one from
            // before the drain.
            let (kind, id) = (transition.kind.clone(), transition.server?);
            if kind != Kind::Handover || !self.call_off(now, "HAProxy does not answer") {
                self.place(id, Place::Listed { weight: Weight::ZERO });
                self.enter(now, Stage::Settling, "HAProxy does not answer");
            }
            return Some(Turn::Again);
        }
        if self.doubt(now, transition).is_some() {
            return Some(self.turn_transition(now));
        }
        match self.view.old_workers() {
            Some(0) => None,
            _ => Some(self.waits_for("waiting for old HAProxy workers to end")),
        }
    }

    /// HAProxy does not take the model. A member on its way in must not wait for that for ever.
    fn apply_waits(&mut self, now: Timestamp) -> Turn {
        let Some((failures, why)) = self.view.apply_failed.clone() else { return Turn::Wait };
        let Some(transition) = &self.state.transition else {
            return self.give_back(now).unwrap_or(Turn::Wait);
        };
        if failures >= REFUSALS
            && transition.stage == Stage::Listing
            && matches!(transition.kind, Kind::ScaleOut { .. })
            && let Some(id) = transition.server
        {
            // The file and the run time still hold what was good before: the newcomer never got in.
            if let Some(member) = self.state.member_mut(id) {
                member.place = Place::Unlisted;
            }
            self.view.applied = None;
            self.view.apply_not_before = now;
            self.fail_unlisted(now, format!("HAProxy does not take the configuration: {why}"));
            return Turn::Again;
        }
        Turn::Wait
    }

    fn turn_transition(&mut self, now: Timestamp) -> Turn {
        // A wish that cannot be met in this stage stays until one where it can.
        if let Some(why) = self.state.transition.as_ref().and_then(|t| t.cancel.clone())
            && self.call_off(now, &why)
        {
            if let Some(transition) = &mut self.state.transition {
                transition.cancel = None;
            }
            return Turn::Again;
        }
        let Some(transition) = self.state.transition.clone() else { return Turn::Again };
        if now < transition.not_before {
            return Turn::Wait;
        }
        match transition.stage.name().way() {
            Way::In => self.turn_in(now, &transition),
            Way::Out => self.turn_out(now, &transition),
        }
    }

    fn stage_done(&mut self, now: Timestamp, outcome: Outcome) {
        let Some(transition) = self.state.transition.clone() else { return };
        match transition.stage.name().way() {
            Way::In => self.done_in(now, &transition, outcome),
            Way::Out => self.done_out(now, &transition, outcome),
        }
    }

    fn cloud_seen(&mut self, now: Timestamp, servers: Vec<ServerFacts>) {
        self.view.cloud = servers.into_iter().map(|facts| (facts.id, facts)).collect();
        self.view.cloud_at = Some(now);
        self.view.cloud_missing = None;
        for member in &mut self.state.members {
            if let Some(facts) = self.view.cloud.get(&member.id) {
                member.gone = facts.status == ServerStatus::Deleted;
            }
        }
    }

    /// Whether a member answers: HAProxy's check says so, and it is the member that answers it.
    pub(super) fn answers(&self, member: &Member) -> bool {
        !member.gone && self.view.is_up(&member.backend_name())
    }

    fn lb_seen(&mut self, now: Timestamp, seen: LbSeen) {
        self.view.lb_missing = None;
        if !self.lb_agrees(&seen) && self.view.pending.is_none() {
            // Somebody reloaded it, or set something by hand: say it again.
            self.view.applied = None;
        }
        self.count_kept(&seen);
        let first = self.view.lb.is_none();
        self.view.lb = Some((now, seen));
        self.note_down(now);
        self.note_boots(now, first);
        self.count_in(now);
        self.count_out(now);
    }

    /// Whether HAProxy's run time is what was applied.
    fn lb_agrees(&self, seen: &LbSeen) -> bool {
        let Some(model) = &self.view.applied else { return true };
        let listed = seen.servers.values().filter(|s| s.listed).count();
        seen.generation.is_some()
            && listed == model.servers.len()
            && model.servers.iter().all(|server| {
                seen.servers.get(&server.name).is_some_and(|s| {
                    let admin = match server.mode {
                        LbMode::Ready => LbAdmin::Ready,
                        LbMode::Drain => LbAdmin::Drain,
                    };
                    s.listed
                        && s.weight == server.weight.get()
                        && s.admin == admin
                        && s.address.is_none_or(|address| address == server.address)
                })
            })
    }

    // What stages use to move on.

    /// Begins a transition.
    pub(super) fn begin(&mut self, now: Timestamp, transition: Transition, why: impl Into<String>) {
        let why = why.into();
        self.state.note(now, transition.kind.name(), why.clone());
        self.state.transition = Some(Transition { note: why, ..transition });
        self.view.ramp_base = None;
    }

    /// Enters a stage.
    pub(super) fn enter(&mut self, now: Timestamp, stage: Stage, note: impl Into<String>) {
        if let Some(transition) = &mut self.state.transition {
            debug_assert!(
                transition.stage.name() == stage.name()
                    || transition.stage.name().next().contains(&stage.name()),
                "{:?} may not follow {:?}",
                stage.name(),
                transition.stage.name()
            );
            if transition.stage.name() != stage.name() {
                transition.stage_since = now;
                transition.tries = 0;
                transition.not_before = now;
            }
            transition.stage = stage;
            transition.note = note.into();
        }
    }

    /// The stage's effect failed: try again after a pause.
    pub(super) fn again_later(&mut self, now: Timestamp, why: impl Into<String>) -> u32 {
        let Some(transition) = &mut self.state.transition else { return 0 };
        transition.tries = transition.tries.saturating_add(1);
        transition.not_before = now.plus(retry_pause(transition.tries));
        transition.note = why.into();
        transition.tries
    }

    /// Says what the stage waits for.
    pub(super) fn waits_for(&mut self, note: impl Into<String>) -> Turn {
        if let Some(transition) = &mut self.state.transition {
            transition.note = note.into();
        }
        Turn::Wait
    }

    /// Ends the transition; `changed` tells whether the membership did.
    pub(super) fn end(&mut self, now: Timestamp, what: &str, why: impl Into<String>, changed: bool) {
        debug_assert!(
            self.state.transition.as_ref().is_some_and(|t| t.stage.name().may_end()),
            "{:?} may not end",
            self.state.transition
        );
        let ended = self.state.transition.take();
        self.view.ramp_base = None;
        self.state.note(now, what, why);
        self.new_runs();
        if changed {
            self.state.epoch += 1;
            self.state.epoch_since = now;
            for sampler in self.view.samplers.values_mut() {
                sampler.forget();
            }
            // A VM that served before we came needs no rest from having been taken over.
            if ended.is_some_and(|t| t.kind == Kind::Adopt) {
                return;
            }
            let policy = &self.settings.policy;
            self.state.no_scale_out_before = now.plus(policy.cooldown_up);
            self.state.no_handover_before = now.plus(policy.cooldown_down);
        }
    }

    /// Sets a member's place in HAProxy; the next turn applies it.
    pub(super) fn place(&mut self, id: super::ids::ServerId, place: Place) {
        if let Some(member) = self.state.member_mut(id) {
            member.place = place;
            if place != (Place::Listed { weight: Weight::FULL }) {
                member.serving_since = None;
            }
        }
    }
}
