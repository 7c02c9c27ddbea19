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

#[path = "common/settings.rs"]
mod settings;

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
    ids::{BackendName, PoolName, ServerId},
    lb::{LbAdmin, LbMode, LbModel, LbSeen, LbServerSeen},
    machine::Machine,
    recover::{Facts, recover},
    settings::{LostPrimary, Settings},
    time::Timestamp,
    units::Percent,
};
use settings::settings;
use uuid::Uuid;

const STEP: u64 = 500;

struct World {
    now: Timestamp,
    machine: Machine,
    cloud: BTreeMap<ServerId, ServerFacts>,
    cpu: BTreeMap<ServerId, (f64, u64)>,
    lb: LbModel,
    vip: VipSeen,
    sessions: u64,
    /// Members that HAProxy gets no answer from.
    down: Vec<ServerId>,
    inbox: Vec<Event>,
    log: Vec<String>,
    refuse: Option<String>,
    /// Nova takes a DELETE and does not carry it out.
    stuck: bool,
}

impl World {
    fn new() -> Self {
        Self::by(settings())
    }

    fn by(settings: Settings) -> Self {
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
            down: Vec::new(),
            inbox: Vec::new(),
            log: Vec::new(),
            refuse: None,
            stuck: false,
        }
    }

    /// Two members that share the traffic.
    fn pair(settings: Settings) -> Self {
        let mut world = Self::by(settings);
        world.load(90.0);
        world.until("scaled out", 200, |w| w.phase() == Phase::Balanced);
        world
    }

    fn load(&mut self, percent: f64) {
        for (cpu, _) in self.cpu.values_mut() {
            *cpu = percent;
        }
    }

    fn seen(&self) -> LbSeen {
        let down = |name: &BackendName| self.down.iter().any(|id| name.as_str().ends_with(&id.short()));
        let servers = self.lb.servers.iter().map(|s| {
            let seen = LbServerSeen {
                listed: true,
                address: Some(s.address),
                up: !down(&s.name),
                check_ok: !down(&s.name),
                check: "L7OK".into(),
                weight: s.weight.get(),
                admin: if s.mode == LbMode::Drain { LbAdmin::Drain } else { LbAdmin::Ready },
                sessions: self.sessions,
                answers_ok: 10,
                ..LbServerSeen::default()
            };
            (s.name.clone(), seen)
        });
        let old_workers = if self.lb.closing && self.sessions > 0 { vec![2] } else { Vec::new() };
        LbSeen { generation: Some(1), old_workers, servers: servers.collect(), ..LbSeen::default() }
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
                Effect::Study(_) => Outcome::Studied("like it".into()),
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
    (0..80).for_each(|_| world.step());
    assert!(world.lb.closing && world.vip == VipSeen::Ours, "a client keeps a connection");
    world.sessions = 0;
    world.until("released", 60, |w| matches!(w.vip, VipSeen::Elsewhere(_)));
}

#[test]
fn a_handover_that_would_cause_the_next_scale_out_is_not_begun() {
    let mut settings = settings();
    settings.policy.low = Percent::try_new(40.0).unwrap();
    let mut world = World::pair(settings);
    // Low on both; and twice that, on one, is above 60 less the margin of 15.
    world.load(35.0);
    world.until("said", 300, |w| {
        w.machine.view.decisions.back().is_some_and(|d| d.reason.contains("would carry 70.0%"))
    });
    for _ in 0..600 {
        world.step();
        assert_eq!(world.phase(), Phase::Balanced);
    }
    world.load(20.0);
    world.until("handed over", 300, |w| w.phase() == Phase::Single);
}

#[test]
fn no_handover_begins_while_the_survivor_is_not_healthy() {
    let mut world = World::pair(settings());
    let clone = world.machine.state.members[1].id;
    // Past the cooldown and the clone's first minute: only its health speaks against a handover.
    world.load(40.0);
    (0..120_000 / STEP).for_each(|_| world.step());
    world.load(10.0);
    world.down = vec![clone];
    world.until("said", 50, |w| {
        w.machine.view.decisions.back().is_some_and(|d| d.reason.contains("vm-test-clone is not healthy"))
    });
    assert_eq!(world.machine.state.transition, None);
    assert!(world.lb.servers.iter().all(|s| s.mode == LbMode::Ready), "{:?}", world.lb);
}

#[test]
fn a_survivor_that_is_not_healthy_any_more_calls_the_handover_off() {
    let mut world = World::pair(settings());
    let clone = world.machine.state.members[1].id;
    world.load(10.0);
    world.sessions = 1;
    world.until("draining", 400, |w| w.lb.servers.iter().any(|s| s.mode == LbMode::Drain));
    world.down = vec![clone];
    world.until("called off", 30, |w| w.lb.servers.iter().all(|s| s.mode == LbMode::Ready));
    assert!(!world.log.iter().any(|e| e == "stop" || e == "delete"), "{:?}", world.log);
}

#[test]
fn a_lost_clone_is_cleaned_up_and_made_again_when_load_asks_for_it() {
    let mut world = World::pair(settings());
    let clone = world.machine.state.members[1].id;
    world.load(40.0);
    world.cloud.get_mut(&clone).unwrap().status = ServerStatus::Shutoff;
    world.down = vec![clone];
    world.until("cleaned up", 120, |w| w.names() == ["vm-test"] && w.phase() == Phase::Single);
    let told = world.machine.state.history.iter().any(|e| e.what == "lost" && e.why.contains("shut off"));
    assert!(told, "{:?}", world.machine.state.history);
    world.load(90.0);
    world.until("scaled out", 200, |w| {
        w.names() == ["vm-test", "vm-test-clone-2"] && w.phase() == Phase::Balanced
    });
}

#[test]
fn a_lost_base_leaves_the_pool_and_the_clone_is_promoted() {
    let mut world = World::pair(settings());
    let base = world.machine.state.members[0].id;
    world.load(40.0);
    world.cloud.get_mut(&base).unwrap().status = ServerStatus::Error;
    world.down = vec![base];
    world.until("promoted", 120, |w| w.names() == ["vm-test-clone"] && w.phase() == Phase::Single);
    assert!(!world.log.iter().any(|e| e == "delete"), "the operator's own VM is his to look into");
}

#[test]
fn when_all_are_lost_the_last_configuration_stays_and_a_person_is_called() {
    let mut world = World::pair(settings());
    let before = world.lb.clone();
    world.down = world.cloud.keys().copied().collect();
    for facts in world.cloud.values_mut() {
        facts.status = ServerStatus::Deleted;
    }
    (0..1200).for_each(|_| world.step());
    assert_eq!((world.phase(), &world.lb), (Phase::Degraded, &before));
    let alarm = world.machine.alarms(world.now).remove(0);
    for part in ["vm-test is lost: Nova says that it is gone", "503", "policy.lost_primary"] {
        assert!(alarm.contains(part), "{alarm}");
    }
}

#[test]
fn when_all_are_lost_another_one_is_made_if_the_policy_says_so() {
    let mut settings = settings();
    settings.policy.lost_primary = LostPrimary::Recreate;
    let mut world = World::pair(settings);
    world.down = world.cloud.keys().copied().collect();
    for facts in world.cloud.values_mut() {
        facts.status = ServerStatus::Deleted;
    }
    world.until("made again", 200, |w| w.names() == ["vm-test-clone-2"] && w.phase() == Phase::Single);
}

#[test]
fn a_primary_that_is_off_is_started_if_the_policy_says_so() {
    let mut settings = settings();
    settings.policy.lost_primary = LostPrimary::Recreate;
    let mut world = World::by(settings);
    world.until("adopted", 60, |w| w.phase() == Phase::Single && w.machine.state.transition.is_none());
    let base = world.machine.state.members[0].id;
    world.cloud.get_mut(&base).unwrap().status = ServerStatus::Shutoff;
    world.down = vec![base];
    world.until("started", 60, |w| w.cloud[&base].status == ServerStatus::Active);
    world.down.clear();
    world.until("serving", 60, |w| w.phase() == Phase::Single && w.machine.state.transition.is_none());
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

#[test]
fn sessions_of_a_base_that_is_off_do_not_keep_its_drain_waiting() {
    let mut world = World::new();
    world.load(90.0);
    world.until("scaled out", 200, |w| w.phase() == Phase::Balanced);
    world.load(10.0);
    world.sessions = 1;
    world.until("draining", 400, |w| w.lb.servers.iter().any(|s| s.mode == LbMode::Drain));
    let cut = |w: &World| w.log.iter().any(|effect| effect == "cut-sessions");
    for _ in 0..20 {
        world.step();
    }
    assert!(!cut(&world), "a base that runs is waited for");
    world.cloud.values_mut().find(|facts| facts.name == "vm-test").unwrap().status = ServerStatus::Shutoff;
    world.until("cut", 10, cut);
    world.sessions = 0;
    world.until("handed over", 60, |w| w.phase() == Phase::Single);
    assert_eq!(world.names(), ["vm-test-clone"]);
}
