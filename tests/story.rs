//! The core's story in a world without faults: scale-out, split, handover, twice; what is called off; what is refused.
//!
//! Virtual time: half a second a step, every effect answered at the next step.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "it is a test: that is how it fails and tells"
)]

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use lbsidecar::core::{
    cloud::{Mark, ServerFacts, ServerStatus},
    condition::Phase,
    event::{Command, Effect, Event, Outcome, Request, VipSeen},
    guest::{DomainCounters, DomainState, VcpuCounters},
    ids::{PoolName, ServerId},
    lb::{LbAdmin, LbMode, LbModel, LbSeen, LbServerSeen},
    machine::Machine,
    recover::{Facts, recover},
    settings::*,
    time::Timestamp,
    units::Percent,
};
use uuid::Uuid;

const STEP: u64 = 500;

fn settings() -> Settings {
    let secs = Duration::from_secs;
    let percent = |value| Percent::try_new(value).unwrap();
    Settings {
        pool: PoolName::try_new("web").unwrap(),
        base: "vm-test".into(),
        clone: "vm-test-clone".into(),
        service_port: 80,
        max_members: 2,
        policy: PolicySettings {
            high: percent(60.0),
            low: percent(20.0),
            min_up: 4,
            min_down: 4,
            metric: Metric::Max,
            signal: Signal::Cpu,
            sample: secs(1),
            interval: secs(5),
            margin: percent(15.0),
            warm_up: secs(10),
            cooldown_up: secs(60),
            cooldown_down: secs(60),
            min_lifetime: secs(60),
        },
        clone_spec: CloneSettings {
            source: CloneSource::Image,
            image: None,
            flavor: None,
            network: None,
            key_name: None,
            security_groups: None,
            user_data: None,
        },
        transition: TransitionSettings {
            build_deadline: secs(600),
            healthy_deadline: secs(180),
            proofs: 3,
            proof_spacing: secs(1),
            ramp: vec![1, 10, 50, 100],
            ramp_step: secs(2),
            drain_deadline: secs(300),
            drain_policy: DrainPolicy::Wait,
            stop_deadline: secs(60),
            delete_deadline: secs(900),
            snapshot_before_delete: false,
            snapshot_retain: 2,
            backoff_first: secs(300),
            backoff_max: secs(1800),
            breaker_after: 3,
        },
        guards: GuardSettings {
            reserve_memory_mib: 256,
            max_cpu_pressure: percent(60.0),
            max_steal: percent(30.0),
        },
    }
}

struct World {
    now: Timestamp,
    machine: Machine,
    cloud: BTreeMap<ServerId, ServerFacts>,
    cpu: BTreeMap<ServerId, (f64, u64)>,
    lb: LbModel,
    vip: VipSeen,
    sessions: u64,
    inbox: Vec<Event>,
    log: Vec<String>,
    refuse: Option<String>,
    /// Nova takes a DELETE and does not carry it out.
    stuck: bool,
}

impl World {
    fn new() -> Self {
        let now = Timestamp(1_000_000);
        let id = ServerId(Uuid::from_u128(1 << 96));
        let base = server(id, "vm-test", None, now);
        let settings = settings();
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
            inbox: Vec::new(),
            log: Vec::new(),
            refuse: None,
            stuck: false,
        }
    }

    fn load(&mut self, percent: f64) {
        for (cpu, _) in self.cpu.values_mut() {
            *cpu = percent;
        }
    }

    fn seen(&self) -> LbSeen {
        let servers = self.lb.servers.iter().map(|s| {
            let seen = LbServerSeen {
                listed: true,
                address: Some(s.address),
                up: true,
                check_ok: true,
                check: "L7OK".into(),
                weight: s.weight.get(),
                admin: if s.mode == LbMode::Drain { LbAdmin::Drain } else { LbAdmin::Ready },
                sessions: self.sessions,
                answers_ok: 10,
                ..LbServerSeen::default()
            };
            (s.name.clone(), seen)
        });
        LbSeen { generation: Some(1), worker_pid: 1, servers: servers.collect(), ..LbSeen::default() }
    }

    fn step(&mut self) {
        self.now = self.now.plus(Duration::from_millis(STEP));
        let mut events = std::mem::take(&mut self.inbox);
        if self.now.0.is_multiple_of(1000) {
            let counters = self.cpu.iter_mut().map(|(id, (cpu, time))| {
                *time += (*cpu * 1e7) as u64;
                DomainCounters {
                    server: *id,
                    instance: Some(1),
                    at_ns: self.now.0 * 1_000_000,
                    state: DomainState::Running,
                    vcpus: [(0, VcpuCounters { time_ns: *time, delay_ns: Some(0) })].into(),
                    memory: None,
                }
            });
            events.push(Event::Sampled(counters.collect()));
        }
        events.push(Event::LbSeen(self.seen()));
        events.push(Event::CloudSeen(self.cloud.values().cloned().collect()));
        events.push(Event::VipSeen(self.vip.clone()));
        events.push(Event::Tick);
        for event in events {
            let requests = self.machine.step(self.now, event);
            self.machine.state.check_invariants(2).unwrap();
            self.answer(requests);
        }
    }

    fn answer(&mut self, requests: Vec<Request>) {
        for Request { ticket, effect } in requests {
            self.log.push(effect.name().to_owned());
            let outcome = match effect {
                Effect::Apply { model, .. } => {
                    self.lb = model;
                    Outcome::Applied { generation: 1 }
                }
                Effect::Probe(_) => Outcome::Probed { ok: true, why: "200".into() },
                Effect::Admit { .. } => match self.refuse.clone() {
                    Some(why) => Outcome::Refused(why),
                    None => Outcome::Admitted,
                },
                Effect::Create { intent, name, generation, .. } => {
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
                    self.cloud.get_mut(&id).unwrap().status = ServerStatus::Active;
                    Outcome::Done
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
                    Outcome::Done
                }
                Effect::GiveVip(id) => {
                    self.vip = VipSeen::Elsewhere(format!("on {id}"));
                    Outcome::Done
                }
                Effect::FindIntent(_) => Outcome::Found(None),
                Effect::CutSessions(_) | Effect::Snapshot(_) | Effect::ReleaseAddress(_) => Outcome::Done,
            };
            self.inbox.push(Event::Done { ticket, outcome });
        }
    }

    #[track_caller]
    fn until(&mut self, what: &str, seconds: u64, met: impl Fn(&World) -> bool) {
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

    fn phase(&self) -> Phase {
        self.machine.phase(self.now)
    }

    fn names(&self) -> Vec<&str> {
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

#[test]
fn two_whole_cycles() {
    let mut world = World::new();
    world.until("adopted", 60, |w| w.phase() == Phase::Single && w.machine.state.transition.is_none());
    for (base, clone) in [("vm-test", "vm-test-clone"), ("vm-test-clone", "vm-test-clone-2")] {
        world.load(90.0);
        world.until("scaled out", 200, |w| w.phase() == Phase::Balanced);
        assert_eq!(world.names(), [base, clone]);
        assert!(world.lb.servers.iter().all(|s| s.weight.get() == 100));
        world.load(10.0);
        world.until("handed over", 400, |w| w.phase() == Phase::Single);
        assert_eq!(world.names(), [clone]);
    }
    assert_eq!(world.log.iter().filter(|e| *e == "create").count(), 2);
    assert_eq!(world.log.iter().filter(|e| *e == "delete").count(), 2);
}

#[test]
fn load_that_returns_calls_a_handover_off_and_nothing_is_deleted() {
    let mut world = World::new();
    world.load(90.0);
    world.until("scaled out", 200, |w| w.phase() == Phase::Balanced);
    world.load(10.0);
    world.sessions = 1;
    world.until("draining", 400, |w| {
        w.phase() == Phase::HandingOver && w.lb.servers.iter().any(|s| s.weight.get() == 0)
    });
    world.load(90.0);
    world.until("called off", 60, |w| w.phase() == Phase::Balanced);
    assert!(world.lb.servers.iter().all(|s| s.weight.get() == 100 && s.mode == LbMode::Ready));
    assert!(!world.log.iter().any(|e| e == "delete"));
}

#[test]
fn a_refusal_is_said_and_asked_again_later_without_using_up_names() {
    let mut world = World::new();
    world.refuse = Some("quota of instances is used up (10 of 10)".into());
    world.load(90.0);
    world.until("asked", 120, |w| w.log.iter().any(|e| e == "admit"));
    world.until("said", 60, |w| {
        w.machine.view.decisions.back().is_some_and(|d| d.reason.contains("quota of instances is used up"))
    });
    let asked = |w: &World| w.log.iter().filter(|e| *e == "admit").count();
    let before = asked(&world);
    for _ in 0..240 {
        world.step();
    }
    assert!((1..=3).contains(&(asked(&world) - before)), "{}", asked(&world));
    world.refuse = None;
    world.until("scaled out", 200, |w| w.phase() == Phase::Balanced);
    assert_eq!(world.names(), ["vm-test", "vm-test-clone"]);
}

#[test]
fn the_operator_scales_out_hands_over_aborts_and_holds() {
    let mut world = World::new();
    world.until("adopted", 60, |w| w.phase() == Phase::Single && w.machine.state.transition.is_none());
    let say = |world: &mut World, command: Command| {
        let (answer, requests) = world.machine.command(world.now, &command);
        world.answer(requests);
        answer
    };
    assert!(say(&mut world, Command::Handover).is_err(), "alone, the base must stay");
    say(&mut world, Command::ScaleOut).unwrap();
    world.until("scaled out", 200, |w| w.phase() == Phase::Balanced);
    say(&mut world, Command::Hold { why: "maintenance".into() }).unwrap();
    assert!(say(&mut world, Command::Handover).unwrap_err().contains("maintenance"));
    say(&mut world, Command::Resume).unwrap();
    world.load(40.0);
    world.until("long enough together", 90, |w| {
        let clone = &w.machine.state.members[1];
        clone.serving_since.is_some_and(|since| w.now.since(since) >= Duration::from_secs(60))
    });
    world.sessions = 1;
    say(&mut world, Command::Handover).unwrap();
    world.until("draining", 60, |w| w.lb.servers.iter().any(|s| s.mode == LbMode::Drain));
    say(&mut world, Command::Abort).unwrap();
    world.until("called off", 60, |w| w.phase() == Phase::Balanced);
    say(&mut world, Command::Release).unwrap();
    world.until("released", 60, |w| matches!(w.vip, VipSeen::Elsewhere(_)));
}

#[test]
fn a_locked_base_is_not_handed_over_and_that_is_said() {
    let mut world = World::new();
    world.load(90.0);
    world.until("scaled out", 200, |w| w.phase() == Phase::Balanced);
    world.cloud.values_mut().find(|facts| facts.name == "vm-test").unwrap().locked = true;
    world.load(10.0);
    world.until("said", 400, |w| {
        w.machine.view.decisions.back().is_some_and(|d| d.reason.contains("vm-test is locked"))
    });
    assert_eq!(world.phase(), Phase::Balanced);
    assert!(!world.log.iter().any(|effect| effect == "delete"));
}

#[test]
fn a_deletion_that_nova_does_not_finish_is_said_and_nothing_else_is_begun() {
    let mut world = World::new();
    world.stuck = true;
    world.load(90.0);
    world.until("scaled out", 200, |w| w.phase() == Phase::Balanced);
    world.load(10.0);
    world.until("said", 1500, |w| {
        w.machine.alarms(w.now).iter().any(|a| a.contains("does not finish the deletion"))
    });
    assert_eq!(world.log.iter().filter(|effect| *effect == "delete").count(), 1);
    assert_eq!(world.lb.servers.len(), 1, "it is out of HAProxy");
    world.load(90.0);
    for _ in 0..400 {
        world.step();
    }
    assert_eq!(world.log.iter().filter(|effect| *effect == "create").count(), 1, "it still counts");
}
