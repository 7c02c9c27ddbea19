//! The model world of the story: half a second a step, every effect answered at the next step.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use lbsidecar::core::{
    cloud::{BlueprintText, FailureKind, Mark, ServerFacts, ServerStatus},
    condition::Phase,
    event::{Command, Effect, Event, Outcome, Request, VipSeen},
    guest::{DomainCounters, DomainState, VcpuCounters},
    ids::{BackendName, PoolName, ServerId},
    lb::{LbAdmin, LbMode, LbModel, LbSeen, LbServerSeen},
    machine::Machine,
    recover::{Facts, recover},
    settings::Settings,
    time::Timestamp,
};
use uuid::Uuid;

use crate::settings::settings;

pub(crate) const STEP: u64 = 500;
/// In what is written down of a VM.
pub(crate) const USER_DATA: &str = "password: hunter2";

/// The pool and its surroundings; every effect does what it says.
pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) machine: Machine,
    pub(crate) cloud: BTreeMap<ServerId, ServerFacts>,
    pub(crate) cpu: BTreeMap<ServerId, (f64, u64)>,
    pub(crate) lb: LbModel,
    pub(crate) vip: VipSeen,
    pub(crate) sessions: u64,
    /// Clients keep connections to an older worker.
    pub(crate) kept: bool,
    /// HAProxy refuses what it is told.
    pub(crate) refuses: Option<FailureKind>,
    /// The service address moves, and the answer is an error.
    pub(crate) unanswered: bool,
    /// HAProxy does not answer.
    pub(crate) silent: bool,
    /// HAProxy is dead until it is started with a configuration.
    pub(crate) dead: bool,
    /// The number of every guest's QEMU process.
    pub(crate) qemu: u32,
    /// What HAProxy's check says of members that it gets no answer from.
    pub(crate) check: &'static str,
    /// Members that HAProxy gets no answer from.
    pub(crate) down: Vec<ServerId>,
    pub(crate) inbox: Vec<Event>,
    pub(crate) log: Vec<String>,
    pub(crate) refuse: Option<String>,
    /// Nova takes a DELETE and does not carry it out.
    pub(crate) stuck: bool,
    /// Nova refuses a DELETE.
    pub(crate) undeleted: Option<FailureKind>,
    /// Nova says that it starts a VM, and never does.
    pub(crate) unstarted: bool,
    /// How many snapshots shall stay, as it was said with the newest one.
    pub(crate) snapshots_kept: Option<u32>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::by(settings())
    }

    pub(crate) fn by(settings: Settings) -> Self {
        let now = Timestamp(1_000_000);
        let id = ServerId(Uuid::from_u128(1 << 96));
        let base = server(id, "vm-test", None, now);
        let facts = Facts { base: Some(base.clone()), ..Facts::default() };
        let state = recover(None, &facts, &settings, now);
        Self {
            now,
            machine: Machine::new(state, settings, now),
            cloud: [(id, base)].into(),
            cpu: [(id, (5.0, 0))].into(),
            lb: LbModel::default(),
            vip: VipSeen::Elsewhere("on vm-test".into()),
            sessions: 0,
            kept: false,
            refuses: None,
            unanswered: false,
            silent: false,
            dead: false,
            qemu: 1,
            check: "L4TOUT",
            down: Vec::new(),
            inbox: Vec::new(),
            log: Vec::new(),
            refuse: None,
            stuck: false,
            undeleted: None,
            unstarted: false,
            snapshots_kept: None,
        }
    }

    /// Two members that share the traffic.
    pub(crate) fn pair(settings: Settings) -> Self {
        let mut world = Self::by(settings);
        world.load(90.0);
        world.until("scaled out", 200, |w| w.phase() == Phase::Balanced);
        world
    }

    pub(crate) fn load(&mut self, percent: f64) {
        for (cpu, _) in self.cpu.values_mut() {
            *cpu = percent;
        }
    }

    pub(crate) fn seen(&self) -> LbSeen {
        let down = |name: &BackendName| self.down.iter().any(|id| name.as_str().ends_with(&id.short()));
        let servers = self.lb.servers.iter().map(|s| {
            let seen = LbServerSeen {
                listed: true,
                address: Some(s.address),
                up: !down(&s.name),
                check_ok: !down(&s.name),
                check: if down(&s.name) { self.check } else { "L7OK" }.into(),
                weight: s.weight.get(),
                admin: if s.mode == LbMode::Drain { LbAdmin::Drain } else { LbAdmin::Ready },
                sessions: self.sessions,
                answers_ok: 10,
                ..LbServerSeen::default()
            };
            (s.name.clone(), seen)
        });
        let old_workers = if self.kept { vec![2] } else { Vec::new() };
        LbSeen { generation: Some(1), old_workers, servers: servers.collect(), ..LbSeen::default() }
    }

    /// An operator's word, and the answer.
    pub(crate) fn say(&mut self, command: Command) -> Result<String, String> {
        let (answer, requests) = self.machine.command(self.now, &command);
        self.answer(requests);
        answer
    }

    pub(crate) fn step(&mut self) {
        self.now = self.now.plus(Duration::from_millis(STEP));
        let mut events = std::mem::take(&mut self.inbox);
        if self.now.0.is_multiple_of(1000) {
            let counters = self.cpu.iter_mut().map(|(id, (cpu, time))| {
                *time += (*cpu * 1e7) as u64;
                DomainCounters {
                    server: *id,
                    instance: Some(self.qemu),
                    at_ns: self.now.0 * 1_000_000,
                    state: DomainState::Running,
                    vcpus: [(0, VcpuCounters { time_ns: *time, delay_ns: Some(0) })].into(),
                    memory: None,
                }
            });
            events.push(Event::Sampled(counters.collect()));
        }
        events.push(if self.silent || self.dead {
            Event::LbUnseen("timeout".into())
        } else {
            Event::LbSeen(self.seen())
        });
        events.push(Event::CloudSeen(self.cloud.values().cloned().collect()));
        events.push(Event::VipSeen(self.vip.clone()));
        events.push(Event::Tick);
        for event in events {
            let requests = self.machine.step(self.now, event);
            self.machine.state.check_invariants(self.machine.settings().max_members).unwrap();
            self.answer(requests);
        }
    }

    pub(crate) fn answer(&mut self, requests: Vec<Request>) {
        for Request { ticket, effect } in requests {
            self.log.push(effect.name().to_owned());
            let outcome = match effect {
                Effect::Apply { .. } if self.refuses.is_some() => {
                    let kind = self.refuses.unwrap();
                    Outcome::Failed { kind, why: "HAProxy does not take it".into() }
                }
                Effect::Apply { model, .. } => {
                    self.dead = false;
                    self.lb = model;
                    Outcome::Applied { generation: 1 }
                }
                Effect::Probe(_) => Outcome::Probed { ok: true, why: "200".into() },
                Effect::Admit { .. } => match self.refuse.clone() {
                    Some(why) => Outcome::Refused(why),
                    None => Outcome::Admitted,
                },
                Effect::Study(_) => Outcome::Studied(BlueprintText(USER_DATA.into())),
                Effect::Create { intent, name, generation, base, blueprint } => {
                    let gone = self.cloud[&base].status == ServerStatus::Deleted;
                    assert_eq!(blueprint.is_some(), gone, "only what is gone is made from its blueprint");
                    let id = ServerId(Uuid::from_u128((100 + u128::from(generation)) << 96));
                    let mark = Mark { pool: PoolName::try_new("web").unwrap(), intent, generation };
                    self.cloud.insert(id, server(id, &name, Some(mark), self.now));
                    self.cpu.insert(id, (30.0, 0));
                    Outcome::Created(id)
                }
                Effect::Address(id) => {
                    let last = (id.0.as_u128() >> 96) as u8;
                    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 168, 100, last)), 80);
                    Outcome::Addressed { server: id, address, floating_ip: None }
                }
                Effect::Stop(id) => {
                    self.cloud.get_mut(&id).unwrap().status = ServerStatus::Shutoff;
                    Outcome::Done
                }
                Effect::Start(id) => {
                    let facts = self.cloud.get_mut(&id).unwrap();
                    if self.unstarted {
                        facts.task_state = Some("powering-on".into());
                    } else {
                        facts.status = ServerStatus::Active;
                    }
                    Outcome::Done
                }
                Effect::Delete(_) if self.undeleted.is_some() => {
                    Outcome::Failed { kind: self.undeleted.unwrap(), why: "Nova does not delete it".into() }
                }
                Effect::Delete(id) => {
                    let listed = self.lb.servers.iter().any(|s| s.name.as_str().ends_with(&id.short()));
                    assert!(!listed, "deleted while HAProxy lists it");
                    let facts = self.cloud.get_mut(&id).unwrap();
                    facts.task_state = Some("deleting".into());
                    if !self.stuck {
                        facts.status = ServerStatus::Deleted;
                    }
                    self.cpu.remove(&id);
                    Outcome::Done
                }
                Effect::TakeVip { .. } => {
                    assert!(!self.lb.servers.is_empty());
                    self.vip = VipSeen::Ours;
                    if self.unanswered {
                        Outcome::Failed { kind: FailureKind::Transient, why: "answered 503".into() }
                    } else {
                        Outcome::Done
                    }
                }
                Effect::GiveVip(_) if self.unanswered => {
                    Outcome::Failed { kind: FailureKind::Transient, why: "answered 503".into() }
                }
                Effect::GiveVip(id) => {
                    self.vip = VipSeen::Elsewhere(format!("on {id}"));
                    Outcome::Done
                }
                Effect::FindIntent(intent) => {
                    let carries =
                        |facts: &&ServerFacts| facts.mark.as_ref().is_some_and(|m| m.intent == intent);
                    Outcome::Found(self.cloud.values().find(carries).map(|facts| facts.id))
                }
                Effect::Snapshot { keep, .. } => {
                    self.snapshots_kept = Some(keep);
                    Outcome::Done
                }
                Effect::CutSessions(_) | Effect::ReleaseAddress(_) => Outcome::Done,
            };
            self.inbox.push(Event::Done { ticket, outcome });
        }
    }

    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, seconds: u64, met: impl Fn(&World) -> bool) {
        for _ in 0..seconds * 1000 / STEP {
            if met(self) {
                return;
            }
            self.step();
        }
        let last = self.machine.view.decisions.back().map(|d| d.reason.clone());
        panic!(
            "not within {seconds} s: {what}; transition {:?}; last decision {last:?}",
            self.machine.state.transition
        );
    }

    pub(crate) fn phase(&self) -> Phase {
        self.machine.phase(self.now)
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.machine.state.members.iter().map(|m| m.name.as_str()).collect()
    }
}

fn server(id: ServerId, name: &str, mark: Option<Mark>, now: Timestamp) -> ServerFacts {
    ServerFacts {
        id,
        name: name.into(),
        status: ServerStatus::Active,
        task_state: None,
        fault: None,
        address: None,
        floating_ip: None,
        mark,
        locked: false,
        created: now,
    }
}
