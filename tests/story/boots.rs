//! A guest's boot is load that no second VM would help.

use lbsidecar::core::{condition::Phase, ids::ServerId, view::Vote};

use crate::{settings::settings, world::World};

/// One member that serves.
fn single() -> (World, ServerId) {
    let mut world = World::by(settings());
    world.until("adopted", 60, |w| w.phase() == Phase::Single && w.machine.state.transition.is_none());
    let id = world.machine.state.members[0].id;
    (world, id)
}

/// It boots: all of its CPU is taken, and HAProxy gets no answer for half a minute.
fn boot(world: &mut World, id: ServerId, check: &'static str) {
    world.load(100.0);
    (world.down, world.check) = (vec![id], check);
    for _ in 0..60 {
        world.step();
    }
    world.down.clear();
}

fn scales_out(world: &World) -> bool {
    world.machine.state.transition.is_some()
}

/// A healthy member's load counts, a warm-up after its start.
fn counts_again(world: &mut World) {
    let (answers, policy) = (world.now, settings().policy);
    world.until("scaling out", 60, scales_out);
    assert!(world.now.since(answers) >= policy.warm_up + policy.interval * (policy.min_up - 1));
}

#[test]
fn another_qemu_process_is_a_start() {
    let (mut world, id) = single();
    world.qemu += 1;
    boot(&mut world, id, "L4TOUT");
    assert_eq!(world.phase(), Phase::Degraded, "its boot made a clone");
    let last = world.machine.view.decisions.back().unwrap();
    assert_eq!(last.vote, Vote::Unknown);
    assert_eq!(last.reason, "vm-test has just started: its boot does not vote");
    counts_again(&mut world);
}

#[test]
fn a_closed_port_is_a_start() {
    let (mut world, id) = single();
    boot(&mut world, id, "L4CON");
    assert_eq!(world.phase(), Phase::Degraded, "its boot made a clone");
    counts_again(&mut world);
}

#[test]
fn a_member_that_is_too_busy_to_answer_gets_help() {
    let (mut world, id) = single();
    world.load(100.0);
    (world.down, world.check) = (vec![id], "L7TOUT");
    let policy = settings().policy;
    let votes = policy.interval * (policy.min_up + 2);
    world.until("scaling out", votes.as_secs(), scales_out);
}

#[test]
fn one_that_never_answers_after_its_start_gets_help_in_the_end() {
    let (mut world, id) = single();
    world.qemu += 1;
    world.load(100.0);
    world.down = vec![id];
    let (started, deadline) = (world.now, settings().transition.healthy_deadline);
    world.until("scaling out", deadline.as_secs() + 60, scales_out);
    assert!(world.now.since(started) >= deadline);
}
