//! The core's story in a world without faults: scale-out, split, handover, twice; what is called off; what is refused.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "it is a test: that is how it fails and tells"
)]

mod address;
mod alarms;
mod boots;
mod haproxy;
mod losses;
mod recovery;
mod release;
#[path = "../common/settings.rs"]
mod settings;
mod thresholds;
mod world;

use std::time::Duration;

use lbsidecar::core::{
    cloud::{FailureKind, ServerStatus},
    condition::Phase,
    event::Command,
    lb::LbMode,
    settings::LostPrimary,
    units::Percent,
};
use settings::settings;
use world::{STEP, World};

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
fn a_snapshot_goes_by_the_settings_of_the_moment() {
    let mut settings = settings();
    settings.transition.snapshot_before_delete = true;
    let mut world = World::pair(settings.clone());
    settings.transition.snapshot_retain = 7;
    world.machine.set_settings(settings);
    world.load(10.0);
    world.until("handed over", 400, |w| w.phase() == Phase::Single);
    assert_eq!(world.snapshots_kept, Some(7));
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
    assert!(world.say(Command::Handover).is_err(), "alone, the base must stay");
    world.say(Command::ScaleOut).unwrap();
    world.until("scaled out", 200, |w| w.phase() == Phase::Balanced);
    world.say(Command::Hold { why: "maintenance".into() }).unwrap();
    assert!(world.say(Command::Handover).unwrap_err().contains("maintenance"));
    world.say(Command::Resume).unwrap();
    world.load(40.0);
    world.until("long enough together", 90, |w| {
        let clone = &w.machine.state.members[1];
        clone.serving_since.is_some_and(|since| w.now.since(since) >= Duration::from_secs(60))
    });
    world.sessions = 1;
    world.say(Command::Handover).unwrap();
    world.until("draining", 60, |w| w.lb.servers.iter().any(|s| s.mode == LbMode::Drain));
    world.say(Command::Abort).unwrap();
    world.until("called off", 60, |w| w.phase() == Phase::Balanced);
}

#[test]
fn what_the_operator_called_off_is_not_begun_anew_before_the_cooldown() {
    let mut world = World::new();
    let policy = settings().policy;
    world.until("adopted", 60, |w| w.phase() == Phase::Single && w.machine.state.transition.is_none());
    world.load(90.0);
    world.until("under way", 300, |w| w.machine.state.transition.is_some());
    world.say(Command::Abort).unwrap();
    let aborted = world.now;
    world.until("called off", 60, |w| w.machine.state.transition.is_none());
    world.until("begun anew", 300, |w| w.machine.state.transition.is_some());
    assert!(world.now.since(aborted) >= policy.cooldown_up, "after {:?}", world.now.since(aborted));

    world.until("scaled out", 200, |w| w.phase() == Phase::Balanced);
    world.sessions = 1;
    world.load(10.0);
    let handing_over = |w: &World| w.phase() == Phase::HandingOver;
    world.until("handing over", 400, handing_over);
    world.say(Command::Abort).unwrap();
    let aborted = world.now;
    world.until("called off", 60, |w| w.phase() == Phase::Balanced);
    world.until("handing over again", 400, handing_over);
    assert!(world.now.since(aborted) >= policy.cooldown_down, "after {:?}", world.now.since(aborted));
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
    for _ in 0..120_000 / STEP {
        world.step();
    }
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
    // What is gone cannot be copied any more, whatever the policy says by then.
    for (status, how, next) in [
        (ServerStatus::Error, "Nova says ERROR", "policy.lost_primary"),
        (ServerStatus::Deleted, "Nova says that it is gone", "make the VM anew"),
    ] {
        let mut world = World::pair(settings());
        let before = world.lb.clone();
        world.down = world.cloud.keys().copied().collect();
        for facts in world.cloud.values_mut() {
            facts.status = status;
        }
        for _ in 0..1200 {
            world.step();
        }
        assert_eq!((world.phase(), &world.lb), (Phase::Degraded, &before));
        let alarm = world.machine.alarms(world.now).remove(0);
        for part in [&format!("vm-test is lost: {how}"), "503", next] {
            assert!(alarm.contains(part), "{alarm}");
        }
        assert_eq!(alarm.contains("policy.lost_primary"), status == ServerStatus::Error, "{alarm}");
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
fn a_deletion_that_was_refused_can_still_be_called_off() {
    for kind in
        [FailureKind::Conflict, FailureKind::Capacity, FailureKind::Unauthorized, FailureKind::Permanent]
    {
        let mut world = World::pair(settings());
        (world.undeleted, world.log) = (Some(kind), Vec::new());
        world.load(10.0);
        world.until("refused", 400, |w| w.log.iter().any(|effect| effect == "delete"));
        world.load(90.0);
        world.until("called off", 60, |w| w.phase() == Phase::Balanced);
        assert_eq!(world.names(), ["vm-test", "vm-test-clone"], "{kind:?}");
    }
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
fn a_deletion_that_nova_fails_is_asked_for_again() {
    let mut world = World::new();
    world.stuck = true;
    world.load(90.0);
    world.until("scaled out", 200, |w| w.phase() == Phase::Balanced);
    world.load(10.0);
    world.until("asked to delete", 400, |w| w.log.iter().any(|effect| effect == "delete"));
    let base = world.cloud.values_mut().find(|facts| facts.name == "vm-test").unwrap();
    (base.status, base.task_state, world.stuck) = (ServerStatus::Error, None, false);
    world.until("handed over", 30, |w| w.phase() == Phase::Single);
    assert_eq!(world.log.iter().filter(|effect| *effect == "delete").count(), 2);
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
