//! Members that are lost, and those that only seemed to be.

use lbsidecar::core::{
    cloud::{FailureKind, Mark, ServerFacts, ServerStatus},
    condition::Phase,
    event::{Command, Effect, Event, Outcome, Request},
    ids::{IntentId, ServerId},
    lb::LbMode,
    machine::Machine,
    recover::{Facts, recover},
    settings::{LostPrimary, Settings},
    state::Place,
    transition::{Kind, StageName},
};

use crate::{
    settings::settings,
    world::{USER_DATA, World},
};

fn recreate() -> Settings {
    let mut settings = settings();
    settings.policy.lost_primary = LostPrimary::Recreate;
    settings
}

fn lose(world: &mut World, id: ServerId, status: ServerStatus) {
    world.cloud.get_mut(&id).unwrap().status = status;
    world.down.push(id);
}

/// A pair whose clone was silent for so long that it is on its way out.
fn evicting(kept: bool, stage: StageName) -> (World, ServerId) {
    let mut world = World::pair(settings());
    let clone = world.machine.state.members[1].id;
    world.load(40.0);
    (world.kept, world.sessions, world.down) = (kept, 1, vec![clone]);
    world.until("evicting", 200, |w| {
        let transition = w.machine.state.transition.as_ref();
        transition.is_some_and(|t| matches!(t.kind, Kind::Evict { .. }) && t.stage.name() == stage)
    });
    (world, clone)
}

#[test]
fn a_clone_that_answers_again_while_it_waits_for_its_removal_stays() {
    for (kept, stage) in [(true, StageName::Settling), (false, StageName::Emptying)] {
        let (mut world, _) = evicting(kept, stage);
        world.down.clear();
        world.until("it stays", 10, |w| w.machine.state.transition.is_none());
        (world.kept, world.sessions) = (false, 0);
        for _ in 0..200 {
            world.step();
        }
        assert_eq!((world.phase(), world.names().len()), (Phase::Balanced, 2), "in stage {stage}");
        assert!(world.lb.servers.iter().all(|s| s.weight.get() == 100 && s.mode == LbMode::Ready));
        assert!(!world.log.iter().any(|effect| effect == "delete"));
    }
}

#[test]
fn a_clone_that_answers_again_when_the_base_has_died_is_the_primary() {
    let (mut world, clone) = evicting(true, StageName::Settling);
    let base = world.machine.state.members[0].id;
    world.down = vec![base];
    world.cloud.get_mut(&base).unwrap().status = ServerStatus::Error;
    (world.kept, world.sessions) = (false, 0);
    world.until("promoted", 100, |w| w.names() == ["vm-test-clone"] && w.phase() == Phase::Single);
    assert_ne!(world.cloud[&clone].status, ServerStatus::Deleted);
}

#[test]
fn a_member_that_is_gone_leaves_at_once_though_something_answers_at_its_address() {
    let mut world = World::pair(settings());
    let clone = world.machine.state.members[1].id;
    world.load(40.0);
    // Old workers, and a stranger that got the address: neither is waited for.
    world.kept = true;
    world.cloud.get_mut(&clone).unwrap().status = ServerStatus::Deleted;
    world.until("it left", 5, |w| w.names() == ["vm-test"] && w.machine.state.transition.is_none());
    assert_eq!(world.lb.servers.len(), 1);
    assert!(!world.log.iter().any(|effect| effect == "delete"), "there is nothing to delete");
}

#[test]
fn who_waits_for_an_answer_of_a_member_that_is_gone_is_cut_but_not_for_ever() {
    let mut world = World::pair(settings());
    let clone = world.machine.state.members[1].id;
    world.load(40.0);
    // They never end: somebody else has the address, and clients still come.
    world.sessions = 1;
    lose(&mut world, clone, ServerStatus::Deleted);
    world.until("cut", 10, |w| w.log.iter().any(|effect| effect == "cut-sessions"));
    assert_eq!(world.lb.servers.len(), 2, "it leaves HAProxy after that");
    world.until("it left", 10, |w| w.names() == ["vm-test"] && w.machine.state.transition.is_none());
}

#[test]
fn a_survivor_that_is_gone_calls_a_handover_off_before_haproxy_knows() {
    let mut world = World::pair(settings());
    let clone = world.machine.state.members[1].id;
    world.load(10.0);
    world.sessions = 1;
    world.until("draining", 400, |w| w.lb.servers.iter().any(|s| s.mode == LbMode::Drain));
    world.cloud.get_mut(&clone).unwrap().status = ServerStatus::Deleted;
    world.until("called off", 5, |w| w.lb.servers.iter().all(|s| s.mode == LbMode::Ready));
}

#[test]
fn a_pool_of_one_gets_its_lost_primary_made_again_also_after_a_restart() {
    let mut settings = recreate();
    settings.max_members = 1;
    let mut world = World::by(settings.clone());
    world.until("adopted and written down", 60, |w| w.machine.state.blueprint.is_some());
    let base = world.machine.state.members[0].id;
    lose(&mut world, base, ServerStatus::Deleted);
    world.until("begun", 60, |w| {
        w.machine.state.transition.as_ref().is_some_and(|t| t.stage.name() == StageName::Admitting)
    });
    let state = recover(Some(world.machine.state.clone()), &Facts::default(), &settings, world.now);
    world.machine = Machine::new(state, settings, world.now);
    world.inbox.clear();
    // HAProxy is first to answer; Nova was not asked yet.
    let first = world.machine.step(world.now, Event::LbSeen(world.seen()));
    let done =
        first.iter().map(|r| Event::Done { ticket: r.ticket, outcome: Outcome::Applied { generation: 1 } });
    let next: Vec<Request> = done.flat_map(|event| world.machine.step(world.now, event)).collect();
    let from_blueprint = |r: &Request| matches!(&r.effect, Effect::Admit { blueprint: Some(_), .. });
    assert!(next.iter().any(from_blueprint), "{next:?}");
    // The log shows effects as they are, and the VM's user data are nobody's to read there.
    for shown in [format!("{next:?}"), format!("{:?}", world.machine.state)] {
        assert!(shown.contains("BlueprintText(17 bytes)") && !shown.contains(USER_DATA), "{shown}");
    }
    world.answer(next);
    world.until("made again", 100, |w| w.names() == ["vm-test-clone"] && w.phase() == Phase::Single);
}

#[test]
fn why_a_lost_primary_is_not_made_again_is_said() {
    let mut settings = recreate();
    settings.max_members = 1;
    let mut world = World::by(settings);
    world.until("adopted and written down", 60, |w| w.machine.state.blueprint.is_some());
    let base = world.machine.state.members[0].id;
    lose(&mut world, base, ServerStatus::Error);
    world.until("said", 60, |w| {
        w.machine
            .alarms(w.now)
            .iter()
            .any(|alarm| alarm.contains("no other one is made: the pool is full: 1 of 1 VMs"))
    });
    world.refuse = Some("the project's quota of instances is used up".into());
    world.cloud.get_mut(&base).unwrap().status = ServerStatus::Deleted;
    world.until("said", 60, |w| {
        w.machine.alarms(w.now).iter().any(|alarm| alarm.contains("quota of instances is used up"))
    });
    assert!(!world.log.iter().any(|effect| effect == "create"));
    world.refuse = None;
    world.until("made again", 200, |w| w.names() == ["vm-test-clone"] && w.phase() == Phase::Single);
}

#[test]
fn a_removal_ends_when_the_last_one_that_haproxy_lists_is_removed() {
    let mut world = World::pair(recreate());
    let ids: Vec<ServerId> = world.machine.state.members.iter().map(|m| m.id).collect();
    // As after a base that could not be brought back: in the pool, and not in HAProxy.
    let base = world.machine.state.member_mut(ids[0]).unwrap();
    (base.place, base.serving_since) = (Place::Unlisted, None);
    world.load(40.0);
    for id in ids {
        lose(&mut world, id, ServerStatus::Error);
    }
    world.until("another one is made", 300, |w| {
        w.phase() == Phase::Single && w.names().contains(&"vm-test-clone-2")
    });
}

#[test]
fn a_left_over_that_failed_does_not_keep_the_pool_full_while_nobody_serves() {
    let mut world = World::by(recreate());
    world.until("adopted and written down", 60, |w| w.machine.state.blueprint.is_some());
    let base = world.machine.state.members[0].id;
    let mark = Mark { pool: world.machine.state.pool.clone(), intent: IntentId(base.0), generation: 1 };
    let left = ServerFacts {
        id: ServerId(uuid::Uuid::from_u128(7)),
        mark: Some(mark),
        ..world.cloud[&base].clone()
    };
    let left = ServerFacts { name: "vm-test-clone".into(), status: ServerStatus::Error, ..left };
    // As after a state file that was lost while it was built.
    (world.machine.state.members[0].place, world.machine.state.members[0].serving_since) =
        (Place::Unlisted, None);
    lose(&mut world, base, ServerStatus::Error);
    world.cloud.insert(left.id, left);
    world.until("another one is made", 300, |w| w.phase() == Phase::Single && w.lb.servers.len() == 1);
}

#[test]
fn a_left_over_that_failed_is_a_failed_creation() {
    for (status, failures) in [(ServerStatus::Error, 1), (ServerStatus::Active, 0)] {
        let mut world = World::new();
        world.until("adopted", 60, |w| w.phase() == Phase::Single && w.machine.state.transition.is_none());
        let base = world.machine.state.members[0].id;
        let mark = Mark { pool: world.machine.state.pool.clone(), intent: IntentId(base.0), generation: 1 };
        let id = ServerId(uuid::Uuid::from_u128(9 << 96));
        let created = world.cloud[&base].created;
        let left = ServerFacts { mark: Some(mark), status, created, ..ServerFacts::gone(id) };
        world.cloud.insert(id, left);
        world.until("deleted", 120, |w| w.cloud[&id].status == ServerStatus::Deleted);
        world.until("ended", 10, |w| w.machine.state.transition.is_none());
        assert_eq!(world.machine.state.breaker.failures, failures, "{status:?}");
    }
}

#[test]
fn a_clone_that_was_given_up_stays_when_nobody_else_serves() {
    for stage in [StageName::Settling, StageName::Emptying, StageName::Deleting] {
        let mut world = World::new();
        world.load(90.0);
        world.until("ramping", 200, |w| {
            let transition = w.machine.state.transition.as_ref();
            transition.is_some_and(|t| t.stage.name() == StageName::Ramping) && w.lb.servers.len() == 2
        });
        let ids: Vec<ServerId> = world.machine.state.members.iter().map(|m| m.id).collect();
        world.kept = stage == StageName::Settling;
        world.sessions = u64::from(stage == StageName::Emptying);
        world.undeleted = Some(FailureKind::Conflict);
        world.down = vec![ids[1]];
        world.until("given up", 60, |w| {
            let transition = w.machine.state.transition.as_ref();
            transition.is_some_and(|t| matches!(t.kind, Kind::RollBack { .. }) && t.stage.name() == stage)
        });
        world.down = vec![ids[0]];
        world.until("it serves", 60, |w| {
            w.machine.state.transition.is_none()
                && w.lb
                    .servers
                    .iter()
                    .any(|s| s.name.as_str().ends_with(&ids[1].short()) && s.weight.get() == 100)
        });
        let last = world.machine.state.history.back().map(|entry| entry.what.clone());
        assert_eq!(last.as_deref(), Some("scaled out"), "it came to something after all");
        (world.kept, world.sessions, world.undeleted, world.down) = (false, 0, None, Vec::new());
        world.load(40.0);
        for _ in 0..200 {
            world.step();
        }
        assert_eq!((world.phase(), world.names().len()), (Phase::Balanced, 2), "in stage {stage}");
        assert_ne!(world.cloud[&ids[1]].status, ServerStatus::Deleted);
    }
}

#[test]
fn a_clone_that_never_answered_is_deleted_also_when_nobody_else_serves() {
    let mut world = World::by(recreate());
    world.until("adopted and written down", 60, |w| w.machine.state.blueprint.is_some());
    world.load(90.0);
    world.until("proving", 200, |w| {
        let transition = w.machine.state.transition.as_ref();
        transition.is_some_and(|t| t.stage.name() == StageName::Addressing)
    });
    let ids: Vec<ServerId> = world.machine.state.members.iter().map(|m| m.id).collect();
    (world.down, world.undeleted) = (vec![ids[1]], Some(FailureKind::Conflict));
    world.until("given up", 120, |w| {
        let transition = w.machine.state.transition.as_ref();
        transition.is_some_and(|t| t.stage.name() == StageName::Deleting)
    });
    lose(&mut world, ids[0], ServerStatus::Deleted);
    for _ in 0..40 {
        world.step();
    }
    world.undeleted = None;
    world.until("another one is made", 300, |w| {
        w.phase() == Phase::Single && w.names() == ["vm-test-clone-2"]
    });
}

#[test]
fn what_was_seen_before_a_reload_removes_nobody() {
    for (generation, removed) in [(1, true), (2, false)] {
        let mut world = World::pair(recreate());
        world.load(40.0);
        world.say(Command::Hold { why: "a look at both".into() }).unwrap();
        for id in world.machine.state.members.iter().map(|m| m.id).collect::<Vec<_>>() {
            lose(&mut world, id, ServerStatus::Error);
        }
        for _ in 0..100 {
            world.step();
        }
        (world.machine.state.hold, world.machine.view.applied) = (None, None);
        let asked = world.machine.step(world.now, Event::Tick);
        let outcome = Outcome::Applied { generation };
        let _ = world.machine.step(world.now, Event::Done { ticket: asked[0].ticket, outcome });
        assert_eq!(
            world.machine.state.transition.is_some(),
            removed,
            "generation {generation} ran before: 1"
        );
    }
}

#[test]
fn a_clone_that_fails_while_nothing_else_is_listed_is_a_failed_creation() {
    let mut world = World::by(recreate());
    world.until("adopted and written down", 60, |w| w.machine.state.blueprint.is_some());
    // As after a base that could not be brought back: in the pool, and not in HAProxy.
    let base = &mut world.machine.state.members[0];
    (base.place, base.serving_since) = (Place::Unlisted, None);
    let base = base.id;
    lose(&mut world, base, ServerStatus::Error);
    world.until("another one is listed", 100, |w| {
        w.machine.state.members.len() == 2
            && w.lb.servers.iter().all(|s| !s.name.as_str().ends_with(&base.short()))
    });
    let clone = world.machine.state.members[1].id;
    lose(&mut world, clone, ServerStatus::Error);
    world.until("given up", 100, |w| w.machine.state.transition.is_none());
    assert_eq!(world.machine.state.breaker.failures, 1);
    world.until("one that works is made", 200, |w| {
        w.phase() == Phase::Single && w.names().contains(&"vm-test-clone-2")
    });
}

#[test]
fn one_that_nova_never_starts_again_holds_nothing_up() {
    let mut world = World::pair(settings());
    (world.undeleted, world.unstarted) = (Some(FailureKind::Conflict), true);
    world.load(10.0);
    world.until("refused", 400, |w| w.log.iter().any(|effect| effect == "delete"));
    world.load(90.0);
    let starting = |w: &World| {
        w.machine.state.transition.as_ref().is_some_and(|t| t.stage.name() == StageName::Starting)
    };
    world.until("called off", 60, starting);
    let deadline = settings().transition.build_deadline;
    world.until("given up", deadline.as_secs() + 30, |w| w.machine.state.transition.is_none());
    let last = world.machine.state.history.back().unwrap();
    assert_eq!(last.what, "not brought back");
    assert!(last.why.contains("not started after"), "{}", last.why);
    world.say(Command::Release).unwrap();
}

/// The only member of a pool that starts what is off, just switched off.
fn alone_and_off() -> (World, ServerId) {
    let mut world = World::by(recreate());
    world.until("adopted", 60, |w| w.phase() == Phase::Single && w.machine.state.transition.is_none());
    let base = world.machine.state.members[0].id;
    lose(&mut world, base, ServerStatus::Shutoff);
    (world, base)
}

#[test]
fn one_that_nova_never_starts_is_an_alarm_when_nobody_else_serves() {
    let (mut world, base) = alone_and_off();
    world.unstarted = true;
    let said = |w: &World| w.machine.alarms(w.now).iter().any(|a| a.contains("Nova does not start a VM"));
    world.until("said", settings().transition.build_deadline.as_secs() + 120, said);
    // It runs in the end.
    (world.unstarted, world.down) = (false, Vec::new());
    let facts = world.cloud.get_mut(&base).unwrap();
    (facts.status, facts.task_state) = (ServerStatus::Active, None);
    world.until("serving", 60, |w| w.phase() == Phase::Single && w.machine.state.transition.is_none());
}

#[test]
fn one_that_was_started_and_does_not_answer_is_an_alarm_for_as_long() {
    let (mut world, base) = alone_and_off();
    world.until("started", 60, |w| w.cloud[&base].status == ServerStatus::Active);
    for _ in 0..2000 {
        world.step();
        let alarms = world.machine.alarms(world.now);
        assert!(alarms.iter().any(|alarm| alarm.contains("no member is healthy")), "{alarms:?}");
        assert_eq!(world.phase(), Phase::Degraded);
    }
    let policy = settings().policy;
    let sampler = world.machine.view.samplers.get_mut(&base).unwrap();
    let samples = sampler.vote(policy.metric, policy.signal).samples;
    assert!(samples <= 10, "{samples} samples of one that does not vote");
}
