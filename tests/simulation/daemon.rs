//! The daemon around the core, as the shell runs it: saves before it acts, one effect in flight, and dies at any moment.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use fastrand::Rng;
use lbsidecar::core::{
    cloud::ServerFacts,
    event::{Command, Effect, Event, Outcome, Request, Ticket, VipSeen},
    guest::DomainCounters,
    ids::ServerId,
    machine::Machine,
    recover::{Facts, recover},
    settings::Settings,
    state::{History, State},
    time::Timestamp,
    transition::StageName,
};

use crate::{fates::What, laws::Laws, world::World};

/// An effect on its way.
struct Flight {
    ticket: Ticket,
    effect: Effect,
    acts_at: Timestamp,
    answers_at: Timestamp,
    /// What became of it, once it acted.
    outcome: Option<Outcome>,
}

/// When each source is asked next.
#[derive(Debug, Default)]
struct Due {
    tick: Timestamp,
    sample: Timestamp,
    lb: Timestamp,
    cloud: Timestamp,
    vip: Timestamp,
    fate: Timestamp,
}

/// Until when each source is silent.
#[derive(Debug, Default)]
struct Silence {
    samples: Timestamp,
    /// Old counters are repeated until then.
    fresh: Timestamp,
    lb: Timestamp,
    cloud: Timestamp,
    /// Of the whole API: calls fail as well.
    api: Timestamp,
    disk: Timestamp,
}

pub(crate) struct Daemon {
    pub(crate) settings: Settings,
    pub(crate) machine: Machine,
    pub(crate) laws: Laws,
    /// What is on disk, and what was before.
    disk: Option<State>,
    older: Option<State>,
    flight: Option<Flight>,
    due: Due,
    silent: Silence,
    /// What the clock of this life is ahead of the world's by, in milliseconds.
    clock: i64,
    samples: Vec<DomainCounters>,
    lists: VecDeque<Vec<ServerFacts>>,
    told: Option<History>,
    effects: u64,
    pub(crate) crashes: u32,
    pub(crate) crashed_in: BTreeSet<StageName>,
    /// The stage after the last step.
    stage: Option<StageName>,
    pub(crate) stages: BTreeSet<StageName>,
    pub(crate) cycles: u32,
    pub(crate) heals: u32,
    pub(crate) steps: u64,
}

/// Whether its moment has come; then the next one is set.
fn due(next: &mut Timestamp, now: Timestamp, period: u64) -> bool {
    let is = now >= *next;
    if is {
        *next = now.plus(Duration::from_millis(period));
    }
    is
}

impl Daemon {
    pub(crate) fn new(settings: Settings, world: &World) -> Self {
        let machine = start(None, false, false, &settings, world, world.now);
        Self {
            settings,
            disk: Some(machine.state.clone()),
            machine,
            laws: Laws::default(),
            older: None,
            flight: None,
            due: Due::default(),
            silent: Silence::default(),
            clock: 0,
            samples: Vec::new(),
            lists: VecDeque::new(),
            told: None,
            effects: 0,
            crashes: 0,
            crashed_in: BTreeSet::new(),
            stage: None,
            stages: BTreeSet::new(),
            cycles: 0,
            heals: 0,
            steps: 0,
        }
    }

    /// Whether anything is under way that wants to be looked at closely.
    pub(crate) fn is_busy(&self) -> bool {
        self.flight.is_some() || self.machine.state.transition.is_some()
    }

    /// The daemon's own clock.
    fn now(&self, world: &World) -> Timestamp {
        Timestamp(world.now.0.saturating_add_signed(self.clock))
    }

    /// How the pool is, by the daemon's own clock.
    pub(crate) fn phase(&self, world: &World) -> lbsidecar::core::condition::Phase {
        self.machine.phase(self.now(world))
    }

    /// What a person should look at.
    pub(crate) fn alarms(&self, world: &World) -> Vec<String> {
        self.machine.alarms(self.now(world))
    }

    /// Whatever is due now.
    pub(crate) fn turn(&mut self, world: &mut World) {
        let now = world.now;
        self.land(world);
        if let Some(flight) = self.flight.take_if(|f| now >= f.answers_at) {
            let outcome = flight.outcome.unwrap_or(Outcome::Done);
            let event = Event::Done { ticket: flight.ticket, outcome };
            if world.next_strikes(What::DoubleAnswer).is_some() {
                self.step(world, event.clone());
            }
            self.step(world, event);
        }
        let busy = self.machine.state.transition.is_some();
        if due(&mut self.due.tick, now, 250) {
            self.step(world, Event::Tick);
        }
        if due(&mut self.due.sample, now, 1000) {
            let event = self.sample(world);
            self.laws.sampled(now, &event, &self.machine);
            self.step(world, event);
        }
        if due(&mut self.due.lb, now, if busy { 200 } else { 1000 }) {
            let silent = now < self.silent.lb || now < world.lb.down_until;
            let event =
                if silent { Event::LbUnseen("timeout".into()) } else { Event::LbSeen(world.lb.seen()) };
            if !silent {
                self.laws.lb_seen_at = now;
            }
            self.step(world, event);
        }
        if due(&mut self.due.cloud, now, if busy { 1000 } else { 5000 }) {
            let event = if now < self.silent.cloud || self.api_is_away(world) {
                Event::CloudUnseen("503".into())
            } else {
                Event::CloudSeen(self.servers(world))
            };
            self.step(world, event);
        }
        if due(&mut self.due.vip, now, 5000) {
            let away = || VipSeen::Unknown("connection refused".into());
            let seen = if self.api_is_away(world) { away() } else { world.vip_seen() };
            self.step(world, Event::VipSeen(seen));
        }
        if due(&mut self.due.fate, now, 1000) {
            self.fate(world);
        }
    }

    fn sample(&mut self, world: &mut World) -> Event {
        let now = world.now;
        if now < self.silent.samples {
            return Event::SampleMissing("libvirt did not answer".into());
        }
        if now >= self.silent.fresh || self.samples.is_empty() {
            self.samples = world.counters(&self.known());
        }
        Event::Sampled(self.samples.clone())
    }

    /// As the shell asks: the list, and each known server that is not on it by its own page.
    fn servers(&mut self, world: &mut World) -> Vec<ServerFacts> {
        let known = self.known();
        let stale = self.lists.front().cloned().filter(|_| world.now_strikes(What::StaleList).is_some());
        if self.lists.len() >= 4 {
            self.lists.pop_front();
        }
        self.lists.push_back(world.listed());
        let mut facts = stale.unwrap_or_else(|| world.listed());
        facts.retain(|facts| known.contains(&facts.id) || facts.mark.is_some());
        for id in known {
            if !facts.iter().any(|facts| facts.id == id) {
                facts.push(world.page(id));
            }
        }
        facts
    }

    /// Whether neither Keystone nor Nova nor Neutron can be reached.
    pub(crate) fn api_is_away(&self, world: &World) -> bool {
        world.now < self.silent.api
    }

    /// All sources answer again.
    pub(crate) fn in_fine_weather(&mut self) {
        self.silent = Silence::default();
    }

    /// What befalls the daemon in this second.
    fn fate(&mut self, world: &mut World) {
        let until = |world: &World, mut dice: Rng, most: u64| {
            let lasts = dice.u64(500..most);
            world.after(lasts)
        };
        if let Some(dice) = world.now_strikes(What::NoSample) {
            self.silent.samples = until(world, dice, 12_000);
        }
        if let Some(dice) = world.now_strikes(What::StaleSample) {
            self.silent.fresh = until(world, dice, 12_000);
        }
        if let Some(dice) = world.now_strikes(What::LbSilent) {
            self.silent.lb = until(world, dice, 20_000);
        }
        if let Some(dice) = world.now_strikes(What::CloudSilent) {
            self.silent.cloud = until(world, dice, 120_000);
        }
        if let Some(mut dice) = world.now_strikes(What::ApiAway) {
            self.silent.api = world.after(dice.u64(61_000..=121_000));
        }
        if let Some(dice) = world.now_strikes(What::DiskFull) {
            self.silent.disk = until(world, dice, 60_000);
        }
        if world.now_strikes(What::Crash).is_some() {
            self.crash(world);
        }
        if let Some(mut dice) = world.now_strikes(What::Command) {
            let command = match dice.u8(0..10) {
                0 => Command::ScaleOut,
                1 => Command::Handover,
                2 | 3 => Command::Abort,
                4 => Command::Hold { why: "test".into() },
                5 => Command::Reload { force: dice.bool() },
                6 => Command::Release,
                _ => Command::Resume,
            };
            self.command(world, &command);
        }
    }

    pub(crate) fn command(&mut self, world: &mut World, command: &Command) {
        let now = self.now(world);
        let (answer, requests) = self.machine.command(now, command);
        world.tell(|| format!(">  operator: {command:?}: {answer:?}"));
        self.laws.operator(world.now, command, &answer);
        self.after(world, requests);
    }

    fn known(&self) -> Vec<ServerId> {
        let state = &self.machine.state;
        let moving = state.moving().filter(|id| state.member(*id).is_none());
        state.members.iter().map(|m| m.id).chain(moving).collect()
    }

    fn step(&mut self, world: &mut World, event: Event) {
        self.steps += 1;
        let now = self.now(world);
        let requests = self.machine.step(now, event);
        self.after(world, requests);
    }

    fn after(&mut self, world: &mut World, requests: Vec<Request>) {
        self.tell(world);
        if let Err(broken) = self.machine.state.check_invariants(self.settings.max_members) {
            self.laws.broken(world.now, "invariant", broken);
        }
        self.laws.stepped(world, &self.machine, &self.settings);
        // On disk, then out. A crash between the two is as likely as any, and so is one before the save.
        let acts = if requests.is_empty() { None } else { world.next_strikes(What::CrashBeforeAct) };
        let stage = self.machine.state.transition.as_ref().map(|t| t.stage.name());
        let begins = stage.is_some() && stage != std::mem::replace(&mut self.stage, stage);
        let dies = if begins { acts.or_else(|| world.next_strikes(What::CrashAtEntry)) } else { acts };
        let (crashes, saves) = (dies.is_some(), dies.is_none_or(|mut dice| dice.bool()));
        let writable = world.now >= self.silent.disk;
        if saves && writable && self.disk.as_ref() != Some(&self.machine.state) {
            self.older = self.disk.replace(self.machine.state.clone());
        }
        if crashes {
            self.crash(world);
            return;
        }
        for Request { ticket, effect } in requests {
            if writable {
                self.send(world, ticket, effect);
            } else {
                self.machine.withdraw(ticket);
            }
        }
    }

    fn send(&mut self, world: &mut World, ticket: Ticket, effect: Effect) {
        if self.flight.is_some() {
            self.laws.broken(
                world.now,
                "one effect",
                format!("{} while another is in flight", effect.name()),
            );
        }
        self.laws.issued(world, &effect, &self.machine, self.disk.as_ref(), &self.settings);
        self.effects += 1;
        let mut dice = world.fates.noise(2, self.effects);
        let mut takes = match effect {
            Effect::Probe(_) => dice.u64(2..50),
            Effect::Apply { .. } => dice.u64(20..300),
            _ => dice.u64(50..2000),
        };
        if !matches!(effect, Effect::Probe(_)) {
            world.tell(|| format!(">  {}", crate::calls::said(&effect)));
        }
        if let Some(mut dice) = world.next_strikes(What::Delay) {
            takes += dice.u64(5_000..90_000);
        }
        self.flight = Some(Flight {
            ticket,
            effect,
            acts_at: world.after(dice.u64(0..takes)),
            answers_at: world.after(takes),
            outcome: None,
        });
    }

    /// The daemon is gone at once, and another one starts from what is on disk.
    fn crash(&mut self, world: &mut World) {
        self.crashes += 1;
        if let Some(transition) = &self.machine.state.transition {
            self.crashed_in.insert(transition.stage.name());
        }
        if let Some(flight) = self.flight.take()
            && flight.outcome.is_none()
            && world.fates.noise(3, self.crashes.into()).bool()
        {
            // The call was on the wire already.
            let _ = self.act(world, &flight.effect);
        }
        let lost = world.next_strikes(What::StateLost).is_some();
        let old = world.next_strikes(What::StateOld).is_some();
        let disk = if old { self.older.take().or(self.disk.take()) } else { self.disk.take() };
        let disk = disk.filter(|_| !lost);
        let step = world.next_strikes(What::ClockStep);
        self.laws.restarting(world.now, disk.is_none(), step.is_some());
        if let Some(mut dice) = step {
            self.clock = dice.i64(-600_000..600_000);
        }
        let now = self.now(world);
        world.tell(|| "*  the daemon starts again".to_owned());
        let away = self.api_is_away(world);
        self.machine = start(disk, lost || old, away, &self.settings, world, now);
        self.laws.restarted(world.now, &self.machine);
        self.disk = Some(self.machine.state.clone());
        self.due = Due { fate: self.due.fate, ..Due::default() };
        self.lists.clear();
        self.tell(world);
    }

    /// Lets the effect in flight act when its moment has come.
    fn land(&mut self, world: &mut World) {
        let Some(mut flight) = self.flight.take() else { return };
        if flight.outcome.is_none() && world.now >= flight.acts_at {
            let outcome = self.call(world, &flight.effect);
            self.laws.answered(&flight.effect, &outcome, &self.settings);
            if !matches!(flight.effect, Effect::Probe(_)) {
                world.tell(|| format!("<  {}: {outcome:?}", flight.effect.name()));
            }
            flight.outcome = Some(outcome);
        }
        self.flight = Some(flight);
    }

    /// Counts, and tells what the history says.
    fn tell(&mut self, world: &mut World) {
        if let Some(transition) = &self.machine.state.transition {
            let stage = transition.stage.name();
            self.stages.insert(stage);
        }
        let history = &self.machine.state.history;
        if history.back() == self.told.as_ref() {
            return;
        }
        let told = self.told.take();
        let new = history.iter().rev().take_while(|entry| Some(*entry) != told.as_ref()).count();
        for entry in history.iter().skip(history.len() - new.min(history.len())) {
            self.cycles += u32::from(entry.what == "handed over");
            self.heals += u32::from(entry.what == "lost");
            world.tell(|| format!("   {}: {}", entry.what, entry.why));
        }
        self.told = history.back().cloned();
    }
}

fn start(
    stored: Option<State>,
    older: bool,
    away: bool,
    settings: &Settings,
    world: &World,
    now: Timestamp,
) -> Machine {
    let mut servers = world.listed();
    servers.retain(|facts| facts.mark.is_some());
    if let Some(state) = &stored {
        for id in state.members.iter().map(|m| m.id).chain(state.moving()) {
            if !servers.iter().any(|facts| facts.id == id) {
                servers.push(world.page(id));
            }
        }
    }
    let base = world.vms.values().find(|vm| vm.facts.name == settings.base && vm.facts.mark.is_none());
    let lb = (world.now >= world.lb.down_until).then(|| world.lb.seen());
    let base = base.map(|vm| vm.facts.clone());
    let mut facts = Facts { servers, base, lb, vip: Some(world.vip_seen()), older };
    if away && stored.is_some() {
        // A pool that has a state is resumed without Nova's word; one without waits for it.
        facts = Facts { lb: facts.lb, older, ..Facts::default() };
    }
    Machine::new(recover(stored, &facts, settings, now), settings.clone(), now)
}
