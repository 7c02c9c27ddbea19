//! A state that is older than the world: the newest one could not be read.

use lbsidecar::core::{
    cloud::ServerStatus,
    condition::Phase,
    event::{Command, VipSeen},
    lb::LbAdmin,
    machine::Machine,
    recover::{Facts, recover},
    state::State,
    transition::StageName,
    units::Weight,
};

use crate::{settings::settings, world::World};

fn stage(world: &World) -> Option<StageName> {
    world.machine.state.transition.as_ref().map(|t| t.stage.name())
}

/// A world whose daemon died while Nova built the clone, and starts again from this state, older than that.
fn resumed_from(mut world: World, older: State) -> World {
    world.until("made", 30, |w| w.cloud.len() == 2);
    let facts = Facts { older: true, servers: world.cloud.values().cloned().collect(), ..Facts::default() };
    let state = recover(Some(older), &facts, world.machine.settings(), world.now);
    world.machine = Machine::new(state, settings(), world.now);
    world.inbox.clear();
    world
}

/// VMs that were made and not deleted, the base included.
fn vms(world: &World) -> usize {
    world.cloud.values().filter(|facts| facts.status != ServerStatus::Deleted).count()
}

#[test]
fn a_creation_that_an_older_state_knows_nothing_of_is_looked_for_by_its_intent() {
    let mut world = World::new();
    world.load(90.0);
    world.until("admitting", 200, |w| stage(w) == Some(StageName::Admitting));
    let older = world.machine.state.clone();
    let mut world = resumed_from(world, older);
    world.until("scaled out", 100, |w| w.phase() == Phase::Balanced);
    assert_eq!(world.log.iter().filter(|effect| *effect == "create").count(), 1);
    assert_eq!(vms(&world), 2);
}

#[test]
fn an_older_state_without_the_intent_makes_nothing_before_the_list_must_show_what_is_there() {
    let mut world = World::new();
    world.until("adopted", 60, |w| w.phase() == Phase::Single && w.machine.state.transition.is_none());
    let older = world.machine.state.clone();
    world.say(Command::ScaleOut).unwrap();
    let mut world = resumed_from(world, older);
    let hidden: Vec<_> = world.cloud.values().filter(|facts| facts.mark.is_some()).cloned().collect();
    world.cloud.retain(|_, facts| facts.mark.is_none());
    world.until("HAProxy was seen", 5, |w| w.machine.view.lb.is_some());
    let refusal = world.say(Command::ScaleOut).unwrap_err();
    assert!(refusal.contains("the newest state could not be read"), "{refusal}");
    for _ in 0..20 {
        world.step();
    }
    world.cloud.extend(hidden.into_iter().map(|facts| (facts.id, facts)));
    world.until("it is cleaned up", 100, |w| vms(w) == 1);
    assert_eq!(world.log.iter().filter(|effect| *effect == "create").count(), 1);
}

#[test]
fn one_that_failed_since_an_older_state_was_written_is_proven_again() {
    let mut world = World::new();
    world.load(90.0);
    world.until("ramping", 200, |w| {
        stage(w) == Some(StageName::Ramping)
            && w.lb.servers.len() == 2
            && w.lb.servers.iter().all(|s| s.weight.get() > 0)
    });
    let older = world.machine.state.clone();
    let clone = older.members[1].id;
    // It failed, and it is back at weight 0.
    world.lb.servers[1].weight = Weight::ZERO;
    let facts = Facts { older: true, lb: Some(world.seen()), ..Facts::default() };
    let state = recover(Some(older), &facts, &settings(), world.now);
    world.machine = Machine::new(state, settings(), world.now);
    world.inbox.clear();
    world.down = vec![clone];
    for _ in 0..40 {
        world.step();
        assert_eq!(world.lb.servers[1].weight, Weight::ZERO, "it does not answer");
    }
    world.down.clear();
    world.until("scaled out", 100, |w| w.phase() == Phase::Balanced);
}

#[test]
fn without_a_state_whom_haproxy_lists_is_a_member_whatever_nova_says() {
    let mut world = World::pair(settings());
    world.load(10.0);
    world.until("handed over", 400, |w| w.phase() == Phase::Single);
    let clone = world.machine.state.members[0].id;
    world.load(40.0);
    world.cloud.get_mut(&clone).unwrap().status = ServerStatus::Error;
    let mut lb = world.seen();
    for server in lb.servers.values_mut() {
        // By somebody's hand.
        server.admin = LbAdmin::Maint;
    }
    let servers = world.cloud.values().filter(|facts| facts.mark.is_some()).cloned().collect();
    let facts = Facts { servers, lb: Some(lb), vip: Some(VipSeen::Ours), ..Facts::default() };
    let state = recover(None, &facts, &settings(), world.now);
    world.machine = Machine::new(state, settings(), world.now);
    (world.inbox, world.log) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        world.step();
    }
    assert_eq!((world.phase(), world.names()), (Phase::Single, vec!["vm-test-clone"]));
    assert!(!world.log.iter().any(|effect| effect == "delete"), "{:?}", world.log);
}

#[test]
fn whom_an_older_state_has_serving_and_haproxy_does_not_list_is_proven_again() {
    let mut world = World::new();
    world.until("adopted", 60, |w| w.phase() == Phase::Single && w.machine.state.transition.is_none());
    let older = world.machine.state.clone();
    // Forced to be empty since.
    world.lb.servers.clear();
    let facts = Facts { older: true, lb: Some(world.seen()), ..Facts::default() };
    let state = recover(Some(older), &facts, &settings(), world.now);
    world.machine = Machine::new(state, settings(), world.now);
    world.inbox.clear();
    world.until("listed", 20, |w| !w.lb.servers.is_empty());
    assert_eq!(world.lb.servers[0].weight, Weight::ZERO);
    world.until("it serves", 60, |w| w.phase() == Phase::Single && w.machine.state.transition.is_none());
}
