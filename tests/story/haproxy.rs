//! HAProxy dies in the worst moment.

use lbsidecar::core::{
    cloud::{FailureKind, ServerStatus},
    condition::Phase,
    event::Command,
    transition::Stage,
};

use crate::{
    settings::settings,
    world::{STEP, World},
};

/// HAProxy refuses the drain that is about to begin, since it is dying.
fn dies_before_it_drains(world: &mut World) {
    world.until("about to drain", 200, |w| {
        w.machine.state.transition.as_ref().is_some_and(|t| t.stage == Stage::Draining)
    });
    for _ in 0..2 {
        world.step();
    }
    assert_eq!(world.machine.state.transition.as_ref().map(|t| &t.stage), Some(&Stage::Draining));
    // First nobody answers, then it can be started.
    world.silent = true;
    for _ in 0..4 {
        world.step();
    }
    (world.refuses, world.silent, world.dead) = (None, false, true);
    world.until("HAProxy is started again", 10, |w| !w.dead);
}

#[test]
fn a_haproxy_that_dies_before_a_handover_drains_is_started_with_everybody() {
    let mut world = World::pair(settings());
    world.load(40.0);
    for _ in 0..80_000 / STEP {
        world.step();
    }
    world.refuses = Some(FailureKind::Transient);
    world.say(Command::Handover).unwrap();
    dies_before_it_drains(&mut world);
    assert_eq!(world.lb.servers.len(), 2);
    assert!(world.lb.servers.iter().all(|server| server.weight.get() == 100), "{:?}", world.lb);
    world.until("as before", 30, |w| w.phase() == Phase::Balanced);
    for _ in 0..80_000 / STEP {
        world.step();
    }
    world.say(Command::Handover).unwrap();
    world.until("handed over", 60, |w| w.phase() == Phase::Single);
}

#[test]
fn a_haproxy_that_dies_before_a_lost_clone_drains_is_started_and_it_goes_on() {
    let mut world = World::pair(settings());
    world.load(40.0);
    let clone = world.machine.state.members[1].id;
    world.cloud.get_mut(&clone).unwrap().status = ServerStatus::Shutoff;
    world.down = vec![clone];
    world.refuses = Some(FailureKind::Transient);
    dies_before_it_drains(&mut world);
    world.until("cleaned up", 120, |w| w.names() == ["vm-test"] && w.phase() == Phase::Single);
}

#[test]
fn proofs_of_health_begin_anew_after_a_silence() {
    let mut world = World::new();
    world.load(90.0);
    let proofs = |w: &World| match w.machine.state.transition.as_ref().map(|t| &t.stage) {
        Some(Stage::Proving { checks, probes }) => Some((*checks, *probes)),
        _ => None,
    };
    world
        .until("nearly proven", 200, |w| proofs(w).is_some_and(|(checks, probes)| checks == 3 && probes > 0));
    world.silent = true;
    world.step();
    world.step();
    assert_eq!(proofs(&world), Some((0, 0)), "it may be another process with another state");
    world.silent = false;
    world.until("scaled out", 60, |w| w.phase() == Phase::Balanced);
}

#[test]
fn a_forced_reload_overwrites_the_file_also_when_no_member_is_fit_for_it() {
    let mut world = World::new();
    world.until("it is taken over", 60, |w| w.lb.servers.len() == 1);
    let base = world.machine.state.members[0].id;
    world.cloud.get_mut(&base).unwrap().status = ServerStatus::Error;
    world.down = vec![base];
    world.until("given up", 60, |w| w.machine.state.lb_model().servers.is_empty());
    for force in [false, true] {
        world.step();
        world.log.clear();
        world.say(Command::Reload { force }).unwrap();
        let applied = world.log.iter().any(|effect| effect == "apply");
        assert_eq!(applied, force, "without that word the last good configuration stays");
    }
    assert!(world.lb.servers.is_empty());
}
