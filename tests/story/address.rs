//! The service address is taken away by somebody else's hands: what HAProxy sees is then no word about who is used.

use lbsidecar::core::{
    condition::Phase,
    event::{Command, VipSeen},
    lb::LbMode,
};

use crate::{
    settings::settings,
    world::{STEP, World},
};

/// Until a handover would begin by itself, and then some.
const LONG: u64 = 400_000 / STEP;

fn elsewhere() -> VipSeen {
    VipSeen::Elsewhere("on port 1 of vm-test".into())
}

#[test]
fn while_the_service_address_is_elsewhere_nothing_is_begun() {
    let mut world = World::pair(settings());
    // To the base, past HAProxy: idle as it looks from there, its clients live by it.
    world.vip = elsewhere();
    world.load(10.0);
    for _ in 0..LONG {
        world.step();
        assert_eq!(world.machine.state.transition, None);
    }
    assert!(!world.log.iter().any(|effect| effect == "stop" || effect == "delete"), "{:?}", world.log);
    let why = &world.machine.view.decisions.back().unwrap().reason;
    assert!(why.contains("the service address is not with us but on port 1 of vm-test"), "{why}");
    assert!(world.say(Command::Handover).unwrap_err().contains("the service address is not with us"));
    world.vip = VipSeen::Ours;
    world.until("handed over", 300, |w| w.phase() == Phase::Single);

    world.vip = elsewhere();
    world.load(90.0);
    for _ in 0..LONG {
        world.step();
    }
    assert_eq!(world.names().len(), 1);
    assert!(world.say(Command::ScaleOut).unwrap_err().contains("the service address is not with us"));
}

#[test]
fn a_handover_is_called_off_when_the_service_address_is_taken_away() {
    let mut world = World::pair(settings());
    world.load(10.0);
    world.sessions = 1;
    world.until("draining", 400, |w| w.lb.servers.iter().any(|s| s.mode == LbMode::Drain));
    world.vip = elsewhere();
    world.until("called off", 10, |w| w.lb.servers.iter().all(|s| s.mode == LbMode::Ready));
    world.sessions = 0;
    for _ in 0..LONG {
        world.step();
    }
    assert!(!world.log.iter().any(|effect| effect == "stop" || effect == "delete"), "{:?}", world.log);
    assert_eq!(world.names().len(), 2);
}

#[test]
fn an_address_that_nobody_has_is_taken_back_also_while_a_drain_waits() {
    let mut world = World::pair(settings());
    world.load(10.0);
    world.sessions = 1;
    world.until("draining", 400, |w| w.lb.servers.iter().any(|s| s.mode == LbMode::Drain));
    world.vip = VipSeen::Free;
    world.until("taken back", 5, |w| w.vip == VipSeen::Ours);
    assert!(world.lb.servers.iter().any(|s| s.mode == LbMode::Drain), "the handover goes on");
    world.sessions = 0;
    world.until("handed over", 60, |w| w.phase() == Phase::Single);
    assert_eq!(world.log.iter().filter(|effect| *effect == "take-vip").count(), 2, "once at adoption");
}

#[test]
fn an_address_that_nobody_has_is_an_alarm_on_hold() {
    let mut world = World::pair(settings());
    world.load(40.0);
    world.say(Command::Hold { why: "maintenance".into() }).unwrap();
    world.vip = VipSeen::Free;
    let alarmed = |w: &World| w.machine.alarms(w.now).iter().any(|alarm| alarm.contains("leads to nobody"));
    world.until("said", 10, alarmed);
    for _ in 0..LONG {
        world.step();
        assert_eq!(world.vip, VipSeen::Free);
    }
    world.say(Command::Resume).unwrap();
    world.until("taken back", 10, |w| w.vip == VipSeen::Ours && !alarmed(w));
}

#[test]
fn while_it_is_not_known_where_the_address_is_nothing_shrinks() {
    let unknown = || VipSeen::Unknown("Neutron does not answer".into());
    let mut world = World::pair(settings());
    world.load(10.0);
    world.vip = unknown();
    let said = |w: &World| w.machine.alarms(w.now).iter().any(|alarm| alarm.contains("is not known where"));
    world.until("said", 20, said);
    for _ in 0..LONG {
        world.step();
        assert_eq!(world.machine.state.transition, None);
    }
    assert!(world.say(Command::Handover).unwrap_err().contains("not known where the service address is"));

    (world.vip, world.sessions) = (VipSeen::Ours, 1);
    world.until("draining", 300, |w| w.lb.servers.iter().any(|s| s.mode == LbMode::Drain));
    assert!(!said(&world));
    (world.vip, world.sessions) = (unknown(), 0);
    for _ in 0..LONG {
        world.step();
    }
    assert!(!world.log.iter().any(|effect| effect == "stop" || effect == "delete"), "{:?}", world.log);
    world.vip = VipSeen::Ours;
    world.until("handed over", 60, |w| w.phase() == Phase::Single);
}
