//! The daemon around the core, as the shell runs it: saves before it acts, one effect in flight, and dies at any moment.

use std::{collections::BTreeMap, time::Duration};

use lbsidecar::core::{
    cloud::{FailureKind, Mark, ServerStatus},
    event::{Command, Effect, Event, Outcome, Request, Ticket},
    ids::{IntentId, ServerId},
    machine::Machine,
    recover::{Facts, recover},
    settings::Settings,
    state::State,
    time::Timestamp,
    transition::Kind,
};

use crate::{
    laws::Laws,
    world::{Vip, World, usable},
};

/// Chances of misfortune, in one of a thousand; 0 everywhere when the weather is fine.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    /// An effect fails and was not done.
    pub(crate) refused: u32,
    /// An effect is done (or not), but its answer is lost.
    pub(crate) lost_answer: u32,
    /// A creation leads to ERROR, or takes for ever.
    pub(crate) bad_build: u32,
    /// A deletion takes long.
    pub(crate) slow_delete: u32,
    /// A new VM's service never answers.
    pub(crate) deaf_clone: u32,
    /// Per second: a sample is missing, HAProxy or Nova do not answer.
    pub(crate) silence: u32,
    /// Per second: the daemon is killed.
    pub(crate) crash: u32,
    /// Per second: somebody reloads HAProxy.
    pub(crate) reload: u32,
    /// Per second: an operator's command.
    pub(crate) operator: u32,
    /// Per second: a VM is killed, paused, or HAProxy crashes: here clients may lose requests.
    pub(crate) violence: u32,
}

/// An effect on its way.
struct Flight {
    ticket: Ticket,
    effect: Effect,
    acts_at: Timestamp,
    answers_at: Timestamp,
    /// What became of it, once it acted.
    outcome: Option<Outcome>,
}

pub(crate) struct Daemon {
    pub(crate) settings: Settings,
    pub(crate) machine: Machine,
    pub(crate) laws: Laws,
    pub(crate) weather: Weather,
    /// What is on disk.
    disk: Option<State>,
    flight: Option<Flight>,
    next: BTreeMap<&'static str, Timestamp>,
    pub(crate) crashes: u32,
    pub(crate) steps: u64,
}

impl Daemon {
    pub(crate) fn new(settings: Settings, world: &World) -> Self {
        let machine = start(None, &settings, world);
        let disk = Some(machine.state.clone());
        Self {
            settings,
            machine,
            laws: Laws::default(),
            weather: Weather::default(),
            disk,
            flight: None,
            next: BTreeMap::new(),
            crashes: 0,
            steps: 0,
        }
    }

    fn due(&mut self, what: &'static str, now: Timestamp, period: u64) -> bool {
        let next = self.next.entry(what).or_insert(now);
        if now < *next {
            return false;
        }
        *next = now.plus(Duration::from_millis(period));
        true
    }

    /// Whatever is due now.
    pub(crate) fn turn(&mut self, world: &mut World) {
        let now = world.now;
        self.land(world);
        if let Some(flight) = self.flight.take_if(|f| now >= f.answers_at) {
            let outcome = flight.outcome.unwrap_or(Outcome::Done);
            self.step(world, Event::Done { ticket: flight.ticket, outcome });
        }
        let busy = self.machine.state.transition.is_some();
        if self.due("tick", now, 250) {
            self.step(world, Event::Tick);
        }
        if self.due("sample", now, 1000) {
            let members = self.known();
            let event = if chance(world, self.weather.silence) {
                Event::SampleMissing("libvirt did not answer".into())
            } else {
                Event::Sampled(world.counters(&members))
            };
            self.laws.sampled(now, &event, &self.machine);
            self.step(world, event);
        }
        if self.due("lb", now, if busy { 200 } else { 1000 }) {
            let event = if chance(world, self.weather.silence) {
                Event::LbUnseen("timeout".into())
            } else {
                Event::LbSeen(world.seen())
            };
            self.step(world, event);
        }
        if self.due("cloud", now, if busy { 1000 } else { 5000 }) {
            let event = if chance(world, self.weather.silence) {
                Event::CloudUnseen("503".into())
            } else {
                Event::CloudSeen(world.servers(&self.known()))
            };
            self.step(world, event);
        }
        if self.due("vip", now, 5000) {
            self.step(world, Event::VipSeen(world.vip_seen()));
        }
        if self.due("fate", now, 1000) {
            if chance(world, self.weather.crash) {
                self.crash(world);
            }
            if chance(world, self.weather.operator) {
                let command = match world.rng.u8(0..8) {
                    0 => Command::ScaleOut,
                    1 => Command::Handover,
                    2 | 3 => Command::Abort,
                    4 => Command::Hold { why: "test".into() },
                    5 => Command::Reload { force: false },
                    _ => Command::Resume,
                };
                self.command(world, &command);
            }
        }
    }

    pub(crate) fn command(&mut self, world: &mut World, command: &Command) {
        self.laws.operator(world.now);
        let (_, requests) = self.machine.command(world.now, command);
        self.after(world, requests);
    }

    fn known(&self) -> Vec<ServerId> {
        let state = &self.machine.state;
        state.members.iter().map(|m| m.id).chain(state.moving()).collect()
    }

    fn step(&mut self, world: &mut World, event: Event) {
        self.steps += 1;
        let requests = self.machine.step(world.now, event);
        self.after(world, requests);
    }

    fn after(&mut self, world: &mut World, requests: Vec<Request>) {
        if let Err(broken) = self.machine.state.check_invariants(self.settings.max_members) {
            self.laws.broken(world.now, format!("invariant: {broken}"));
        }
        self.laws.stepped(world, &self.machine, &self.settings);
        // On disk, then out. A crash between the two is as likely as any.
        let before = self.disk.clone();
        if before.as_ref() != Some(&self.machine.state) {
            self.disk = Some(self.machine.state.clone());
        }
        if !requests.is_empty() && chance(world, self.weather.crash * 3) {
            if world.rng.bool() {
                // Not even the save came through.
                self.disk = before;
            }
            self.crash(world);
            return;
        }
        for Request { ticket, effect } in requests {
            if self.flight.is_some() {
                self.laws.broken(world.now, format!("{} while another effect is in flight", effect.name()));
            }
            let takes = match effect {
                Effect::Probe(_) => world.rng.u64(2..50),
                Effect::Apply { .. } => world.rng.u64(20..300),
                _ => world.rng.u64(50..2000),
            };
            let acts = world.rng.u64(0..takes);
            self.flight = Some(Flight {
                ticket,
                effect,
                acts_at: world.after(acts),
                answers_at: world.after(takes),
                outcome: None,
            });
        }
    }

    /// The daemon is gone at once, and another one starts from what is on disk.
    fn crash(&mut self, world: &mut World) {
        self.crashes += 1;
        if let Some(flight) = self.flight.take()
            && flight.outcome.is_none()
            && world.rng.bool()
        {
            // The call was on the wire already.
            let _ = self.act(world, &flight.effect);
        }
        let disk = if world.rng.u8(0..50) == 0 { None } else { self.disk.take() };
        self.laws.forgotten |= disk.is_none();
        self.machine = start(disk, &self.settings, world);
        self.laws.restarted(world.now, &self.machine);
        self.disk = Some(self.machine.state.clone());
        self.next.clear();
    }

    /// Lets the effect in flight act when its moment has come.
    fn land(&mut self, world: &mut World) {
        let Some(flight) = &self.flight else { return };
        if flight.outcome.is_some() || world.now < flight.acts_at {
            return;
        }
        let effect = flight.effect.clone();
        let outcome = if chance(world, self.weather.refused) {
            Outcome::Failed { kind: FailureKind::Transient, why: "503".into() }
        } else {
            let lost = chance(world, self.weather.lost_answer);
            if lost && world.rng.bool() {
                Outcome::Failed { kind: FailureKind::Unknown, why: "no answer".into() }
            } else {
                let outcome = self.act(world, &effect);
                if lost {
                    Outcome::Failed { kind: FailureKind::Unknown, why: "no answer".into() }
                } else {
                    outcome
                }
            }
        };
        if let Some(flight) = &mut self.flight {
            flight.outcome = Some(outcome);
        }
    }

    fn act(&mut self, world: &mut World, effect: &Effect) -> Outcome {
        self.laws.acts(world, effect, &self.settings);
        match effect {
            Effect::Apply { model, .. } => {
                world.apply(model);
                Outcome::Applied { generation: world.generation }
            }
            Effect::Probe(name) => {
                let address = world.workers.last().and_then(|w| w.servers.get(name)).map(|s| s.address.ip());
                let ok = world.vms.values().any(|vm| vm.facts.address == address && world.answers(vm));
                Outcome::Probed { ok, why: if ok { "200".into() } else { "no answer".into() } }
            }
            Effect::CutSessions(name) => {
                if let Some(server) = world.workers.last_mut().and_then(|w| w.servers.get_mut(name)) {
                    server.sessions.clear();
                }
                Outcome::Done
            }
            Effect::Admit { .. } => Outcome::Admitted,
            Effect::Create { intent, name, generation, .. } => {
                let mark =
                    Mark { pool: self.settings.pool.clone(), intent: *intent, generation: *generation };
                let id = world.boot(name, Some(mark));
                let bad = chance(world, self.weather.bad_build);
                let (deaf, for_ever) = (chance(world, self.weather.deaf_clone), world.rng.bool());
                let (lag, far) = (world.rng.u64(0..4000), world.after(86_400_000));
                let lag = if chance(world, self.weather.silence) { lag } else { 0 };
                let listed_from = world.after(lag);
                if let Some(vm) = world.vms.get_mut(&id) {
                    vm.listed_from = listed_from;
                    vm.fails_to_build = bad;
                    if bad && for_ever {
                        vm.active_at = far;
                    }
                    if deaf {
                        vm.ready_at = far;
                    }
                }
                Outcome::Created(id)
            }
            Effect::FindIntent(intent) => Outcome::Found(find(world, *intent)),
            Effect::Address(id) => match world.vms.get(id).and_then(|vm| vm.facts.address) {
                Some(ip) => Outcome::Addressed { server: *id, address: (ip, 80).into(), floating_ip: None },
                None => Outcome::Failed { kind: FailureKind::NotFound, why: "no such server".into() },
            },
            Effect::Stop(id) => {
                let off = world.after(world.rng.clone().u64(500..5000));
                if let Some(vm) = world.vms.get_mut(id) {
                    vm.off_at = Some(off);
                }
                Outcome::Done
            }
            Effect::Start(id) => {
                let ready = world.after(3000);
                if let Some(vm) = world.vms.get_mut(id).filter(|vm| vm.facts.status == ServerStatus::Shutoff)
                {
                    (vm.facts.status, vm.ready_at) = (ServerStatus::Active, ready);
                    vm.instance += 1000;
                    vm.time_ns = 0;
                }
                Outcome::Done
            }
            Effect::Snapshot(_) | Effect::ReleaseAddress(_) => Outcome::Done,
            Effect::Delete(id) => {
                let slow = chance(world, self.weather.slow_delete);
                let takes = if slow { world.rng.u64(60_000..1_200_000) } else { world.rng.u64(500..3000) };
                let gone = world.after(takes);
                if let Some(vm) = world.vms.get_mut(id).filter(|vm| vm.facts.status != ServerStatus::Deleted)
                {
                    vm.gone_at.get_or_insert(gone);
                    vm.facts.task_state = Some("deleting".into());
                }
                Outcome::Done
            }
            Effect::TakeVip { .. } => {
                world.vip = Vip::Haproxy;
                Outcome::Done
            }
            Effect::GiveVip(id) => {
                world.vip = Vip::Vm(*id);
                Outcome::Done
            }
        }
    }
}

fn find(world: &World, intent: IntentId) -> Option<ServerId> {
    world
        .vms
        .values()
        .find(|vm| {
            vm.facts.mark.as_ref().is_some_and(|mark| mark.intent == intent) && world.now >= vm.listed_from
        })
        .filter(|vm| vm.facts.status != ServerStatus::Deleted)
        .map(|vm| vm.facts.id)
}

fn start(stored: Option<State>, settings: &Settings, world: &World) -> Machine {
    let known: Vec<ServerId> =
        stored.iter().flat_map(|s| s.members.iter().map(|m| m.id).chain(s.moving())).collect();
    let base = world.vms.values().find(|vm| {
        vm.facts.name == settings.base && vm.facts.mark.is_none() && vm.facts.status != ServerStatus::Deleted
    });
    let facts = Facts {
        servers: world.servers(&known),
        base: base.map(|vm| vm.facts.clone()),
        lb: Some(world.seen()),
        vip: Some(world.vip_seen()),
    };
    Machine::new(recover(stored, &facts, settings, world.now), settings.clone(), world.now)
}

/// Whether something of this chance (in a thousand) happens now.
pub(crate) fn chance(world: &mut World, per_mille: u32) -> bool {
    per_mille > 0 && world.rng.u32(0..1000) < per_mille
}

/// How many workers would send `id`'s VM a request or hold a session to it.
pub(crate) fn workers_on(world: &World, id: ServerId) -> usize {
    let Some(address) = world.vms.get(&id).and_then(|vm| vm.facts.address) else { return 0 };
    let touches =
        |s: &&crate::world::Server| s.address.ip() == address && (usable(s) || !s.sessions.is_empty());
    world.workers.iter().filter(|w| w.servers.values().any(|s| touches(&s))).count()
}

/// Whether a transition of this kind is in flight.
pub(crate) fn under_way(machine: &Machine, kind: fn(&Kind) -> bool) -> bool {
    machine.state.transition.as_ref().is_some_and(|t| kind(&t.kind))
}
