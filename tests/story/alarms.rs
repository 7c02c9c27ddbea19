//! An alarm ends with what it tells of.

use lbsidecar::core::{
    cloud::FailureKind,
    condition::Phase,
    event::{Command, VipSeen},
    lb::LbMode,
    transition::Stage,
};

use crate::{settings::settings, world::World};

fn alarmed(world: &World, of: &str) -> bool {
    world.machine.alarms(world.now).iter().any(|alarm| alarm.contains(of))
}

/// A handover that begins, and whose drain HAProxy does not take.
fn refused(kind: FailureKind) -> World {
    let mut world = World::pair(settings());
    world.load(10.0);
    world.kept = true;
    world.until("handing over", 400, |w| w.phase() == Phase::HandingOver);
    (world.kept, world.refuses) = (false, Some(kind));
    world.until("refused", 60, |w| {
        let transition = w.machine.state.transition.as_ref();
        transition.is_some_and(|t| t.stage == Stage::Draining)
            && alarmed(w, "does not take the configuration")
    });
    world.load(40.0);
    world
}

#[test]
fn a_service_address_that_came_back_with_an_error_is_no_alarm() {
    let mut world = World::pair(settings());
    world.load(40.0);
    (world.vip, world.unanswered) = (VipSeen::Free, true);
    world.until("taken again", 10, |w| w.vip == VipSeen::Ours);
    for _ in 0..10 {
        world.step();
    }
    assert!(!alarmed(&world, "cannot be taken"), "{:?}", world.machine.alarms(world.now));
}

#[test]
fn a_change_that_haproxy_refused_and_that_is_called_off_is_no_alarm() {
    for kind in [FailureKind::Transient, FailureKind::Conflict] {
        let mut world = refused(kind);
        world.say(Command::Abort).unwrap();
        (world.refuses, world.log) = (None, Vec::new());
        world.until("called off, and no alarm", 30, |w| w.phase() == Phase::Balanced);
        // How far it came is not known: the file may say one thing and the run time another.
        let again = world.log.iter().any(|effect| effect == "apply");
        assert_eq!(again, kind == FailureKind::Transient);
    }
}

#[test]
fn a_drain_that_haproxy_takes_late_is_still_right_or_is_not_begun() {
    let mut world = refused(FailureKind::Transient);
    world.down = vec![world.machine.state.members[1].id];
    for _ in 0..10 {
        world.step();
    }
    world.refuses = None;
    for _ in 0..60 {
        world.step();
        assert!(
            world.lb.servers.iter().all(|s| s.mode == LbMode::Ready),
            "nobody else serves: {:?}",
            world.lb
        );
    }
}
