//! A release: the service address goes back to the primary, and no kept connection is left to a HAProxy that it does not lead to any more.

use std::time::Duration;

use lbsidecar::core::{
    cloud::FailureKind,
    condition::Phase,
    event::{Command, VipSeen},
};

use crate::{settings::settings, world::World};

fn gone(world: &World) -> bool {
    matches!(world.vip, VipSeen::Elsewhere(_))
}

/// A pair whose clients keep connections, after the operator's word.
fn releasing() -> World {
    let mut world = World::pair(settings());
    world.load(40.0);
    world.kept = true;
    world.say(Command::Release).unwrap();
    for _ in 0..80 {
        world.step();
    }
    world
}

#[test]
fn the_address_stays_until_no_client_keeps_a_connection() {
    let mut world = releasing();
    assert!(world.lb.closing && !gone(&world), "a client keeps a connection");
    let waits = world.machine.leaving().unwrap();
    assert!(waits.contains("when no client keeps a connection: 1 older HAProxy worker(s) left"), "{waits}");
    assert_eq!(world.phase(), Phase::Held);
    world.kept = false;
    world.until("released", 5, |w| gone(w) && w.machine.leaving().is_none());
    world.say(Command::Resume).unwrap();
    world.until("taken again", 10, |w| w.vip == VipSeen::Ours && !w.lb.closing);
}

#[test]
fn one_look_without_kept_connections_is_not_enough() {
    let mut world = World::pair(settings());
    world.say(Command::Release).unwrap();
    world.until("closing", 5, |w| w.lb.closing);
    // As HAProxy was before the reload.
    world.step();
    world.kept = true;
    for _ in 0..20 {
        world.step();
    }
    assert!(!gone(&world));
}

#[test]
fn a_pool_on_hold_is_released_all_the_same() {
    let mut world = World::pair(settings());
    world.say(Command::Hold { why: "maintenance".into() }).unwrap();
    world.say(Command::Release).unwrap();
    world.until("released", 10, gone);
}

#[test]
fn an_haproxy_that_refuses_or_is_silent_is_not_waited_for() {
    let mut world = World::pair(settings());
    (world.kept, world.refuses) = (true, Some(FailureKind::Transient));
    world.say(Command::Release).unwrap();
    let before = world.now;
    world.until("released", 60, gone);
    assert!(world.now.since(before) >= Duration::from_secs(1), "it was asked more than once");

    let mut world = releasing();
    world.silent = true;
    for _ in 0..20 {
        world.step();
    }
    assert!(!gone(&world), "ten seconds of silence may end");
    world.until("released", 10, gone);
}

#[test]
fn resume_calls_a_release_off_that_still_waits() {
    let mut world = releasing();
    world.say(Command::Resume).unwrap();
    world.kept = false;
    world.until("as before", 10, |w| !w.lb.closing && w.phase() == Phase::Balanced);
    assert_eq!(world.vip, VipSeen::Ours);
    assert!(!world.log.iter().any(|effect| effect == "give-vip"));
}

#[test]
fn the_address_goes_to_a_member_that_answers() {
    let mut world = World::pair(settings());
    let (base, clone) = (world.machine.state.members[0].id, world.machine.state.members[1].id);
    // On hold nobody takes it out.
    world.say(Command::Hold { why: "maintenance".into() }).unwrap();
    world.down = vec![clone];
    for _ in 0..40 {
        world.step();
    }
    world.say(Command::Release).unwrap();
    world.until("released", 30, gone);
    assert_eq!(world.vip, VipSeen::Elsewhere(format!("on {base}")));
}

#[test]
fn a_release_that_fails_is_an_alarm() {
    let mut world = World::pair(settings());
    world.unanswered = true;
    world.say(Command::Release).unwrap();
    let alarmed = |w: &World| w.machine.alarms(w.now).iter().any(|a| a.contains("cannot be given back"));
    world.until("said", 30, alarmed);
    world.unanswered = false;
    world.until("released", 60, |w| gone(w) && !alarmed(w));
}
