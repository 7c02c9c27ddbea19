//! One life: twenty minutes of changing load in bad weather, then fine weather in which it must settle.

use std::{collections::BTreeSet, time::Duration};

use fastrand::Rng;
use lbsidecar::core::{
    cloud::ServerStatus, condition::Phase, event::Command, ids::ServerId, lb::LbAdmin, settings::*,
    transition::StageName, units::Percent,
};

use crate::{
    daemon::Daemon,
    fates::{Fates, Mishap, What},
    laws::Broken,
    settings::settings,
    world::{DAWN, Vip, Vm, World},
};

/// How long the weather is bad.
const BAD: Duration = Duration::from_secs(20 * 60);
/// How long it may take to settle after that, back-offs and deadlines included.
const FINE: Duration = Duration::from_secs(60 * 60);
/// How long it must be calm to count as settled.
const CALM: Duration = Duration::from_secs(60);

/// What a life came to.
#[derive(Debug, Default)]
pub(crate) struct Life {
    pub(crate) broken: Vec<Broken>,
    pub(crate) struck: Vec<Mishap>,
    pub(crate) story: Vec<String>,
    pub(crate) steps: u64,
    pub(crate) crashes: u32,
    pub(crate) crashed_in: BTreeSet<StageName>,
    pub(crate) stages: BTreeSet<StageName>,
    pub(crate) cycles: u32,
    pub(crate) heals: u32,
}

/// The rules of this life.
fn rules(seed: u64) -> Settings {
    let mut rng = Rng::with_seed(seed ^ 0x5e77_1465);
    let mut settings = settings();
    settings.policy.min_lifetime = Duration::from_secs(30);
    // At 40 two members may both be low, and yet one alone could not carry it.
    settings.policy.low = Percent::clamped([20.0, 20.0, 40.0][rng.usize(0..3)]);
    settings.transition.drain_policy =
        [DrainPolicy::Wait, DrainPolicy::Wait, DrainPolicy::Abort][rng.usize(0..3)];
    settings.transition.snapshot_before_delete = rng.bool();
    settings.policy.lost_primary = [LostPrimary::Alert, LostPrimary::Recreate][rng.usize(0..2)];
    settings
}

/// Lives it; with only these mishaps, when they are given.
pub(crate) fn live(seed: u64, violent: bool, only: Option<BTreeSet<Mishap>>, tells: bool) -> Life {
    let mut world = World::new(Fates::new(seed, violent, only));
    world.story = tells.then(Vec::new);
    world.long_sessions = seed.is_multiple_of(2);
    let mut daemon = Daemon::new(rules(seed), &world);
    let mut second = 0;
    while world.now.since(DAWN) < BAD && daemon.laws.broken.is_empty() {
        pass(&mut world, &mut daemon);
        if world.now.0 / 1000 != second {
            second = world.now.0 / 1000;
            others(&mut world);
            violence(&mut world);
        }
        look(&world, &mut daemon, violent);
    }
    if daemon.laws.broken.is_empty() {
        settle(&mut world, &mut daemon, violent);
    }
    if world.served == 0 && !violent && daemon.laws.broken.is_empty() {
        daemon.laws.broken(world.now, "service", "no request was served at all".into());
    }
    Life {
        broken: daemon.laws.broken,
        struck: world.fates.struck,
        story: world.story.unwrap_or_default(),
        steps: daemon.steps,
        crashes: daemon.crashes,
        crashed_in: daemon.crashed_in,
        stages: daemon.stages,
        cycles: daemon.cycles,
        heals: daemon.heals,
    }
}

/// A step: long while nothing is under way, short else.
fn pass(world: &mut World, daemon: &mut Daemon) {
    let busy = daemon.is_busy() || world.lb.workers.len() > 1;
    world.pass(if busy { 50 } else { 250 });
    daemon.turn(world);
}

fn look(world: &World, daemon: &mut Daemon, violent: bool) {
    if let Some(lost) = &world.lost
        && !violent
    {
        daemon.laws.broken(world.now, "no request is lost", lost.clone());
    }
}

/// What others do, and what happens by itself, without harm to clients.
fn others(world: &mut World) {
    if let Some(mut dice) = world.now_strikes(What::Load) {
        let load = [5.0, 10.0, 15.0, 35.0, 70.0, 90.0, 150.0][dice.usize(0..7)];
        world.tell(|| format!("   it is {load} % of one VM"));
        world.load = load;
    }
    if world.now_strikes(What::Reload).is_some() {
        let idle_until = world.idle_until();
        world.lb.start_worker(world.now, idle_until);
    }
    if world.now_strikes(What::HostBusy).is_some() {
        world.busy_until = world.after(60_000);
    }
    if world.now_strikes(What::Edit).is_some() {
        world.lb.edited = true;
    }
    if let Some(mut dice) = world.now_strikes(What::Weight)
        && let Some(worker) = world.lb.workers.last_mut()
        && let Some(server) = dice.choice(&mut worker.servers)
        && server.weight > 0
    {
        server.weight = 50;
    }
    let away = world.after(30_000);
    for what in [What::CounterReset, What::Migration, What::Lock] {
        let Some(dice) = world.now_strikes(what) else { continue };
        let Some(vm) = victim(world, dice) else { continue };
        match what {
            What::CounterReset => (vm.time_ns, vm.delay_ns) = (0, 0),
            What::Migration => {
                vm.away_until = away;
                vm.instance += 1000;
                (vm.time_ns, vm.delay_ns) = (0, 0);
            }
            _ => vm.facts.locked = !vm.facts.locked,
        }
    }
}

/// One of the pool's VMs that Nova says is ACTIVE.
fn victim(world: &mut World, mut dice: Rng) -> Option<&mut Vm> {
    let ours = world
        .vms
        .values()
        .filter(|vm| vm.facts.status == ServerStatus::Active && vm.gone_at.is_none() && is_ours(vm));
    let id: ServerId = dice.choice(ours.map(|vm| vm.facts.id).collect::<Vec<_>>())?;
    world.vms.get_mut(&id)
}

fn is_ours(vm: &Vm) -> bool {
    match &vm.facts.mark {
        Some(mark) => mark.pool.as_str() == "web",
        None => vm.facts.name == "vm-test",
    }
}

/// What clients may notice.
fn violence(world: &mut World) {
    if world.now_strikes(What::HaproxyCrash).is_some() {
        world.lb.crash(world.now);
    }
    if let Some(mut dice) = world.now_strikes(What::HaproxyDown) {
        world.lb.down_until = world.after(dice.u64(1_000..60_000));
        world.lb.crash(world.now);
    }
    if let Some(mut dice) = world.now_strikes(What::VipAway) {
        let base = world.vms.values().find(|vm| is_ours(vm)).map(|vm| vm.facts.id);
        world.vip = match base {
            Some(id) if dice.bool() => Vip::Vm(id),
            _ => Vip::Nobody,
        };
    }
    if let Some(mut dice) = world.now_strikes(What::Disable)
        && let Some(worker) = world.lb.workers.last_mut()
        && let Some(server) = dice.choice(&mut worker.servers)
    {
        server.admin = LbAdmin::Maint;
    }
    let (now, soon, later) = (world.now, world.after(5000), world.after(400_000));
    for what in [What::Kill, What::PowerOff, What::Hang, What::Reboot, What::Pause, What::NovaError] {
        let Some(mut dice) = world.now_strikes(what) else { continue };
        let dies = dice.bool();
        let Some(vm) = victim(world, dice) else { continue };
        match what {
            What::Kill => vm.gone_at = Some(now),
            What::PowerOff => vm.off_at = Some(now),
            What::Hang => vm.ready_at = later,
            What::Reboot => (vm.instance, vm.time_ns, vm.ready_at) = (vm.instance + 1000, 0, soon),
            What::Pause => vm.paused = !vm.paused,
            _ => {
                (vm.facts.status, vm.facts.fault) = (ServerStatus::Error, Some("rpc timeout".into()));
                vm.runs = vm.runs && !dies;
            }
        }
    }
}

/// In fine weather every transition ends and nothing is left over.
fn settle(world: &mut World, daemon: &mut Daemon, violent: bool) {
    world.tell(|| "*  fine weather".to_owned());
    world.fates.calm = true;
    daemon.in_fine_weather();
    world.load = 35.0;
    world.lb.down_until = world.lb.down_until.min(world.now);
    let (soon, now) = (world.after(5000), world.now);
    for vm in world.vms.values_mut() {
        vm.paused = false;
        vm.facts.locked = false;
        vm.ready_at = vm.ready_at.min(soon);
        vm.gone_at = vm.gone_at.map(|at| at.min(soon));
        vm.away_until = vm.away_until.min(now);
    }
    daemon.command(world, &Command::Resume);
    let (mut calm_since, mut looks_at) = (world.now, world.after(10_000));
    while world.now.since(now) < FINE && world.now.since(calm_since) < CALM && daemon.laws.broken.is_empty() {
        pass(world, daemon);
        look(world, daemon, violent);
        if world.now >= looks_at {
            looks_at = world.after(10_000);
            obey(world, daemon);
        }
        if unsettled(world, daemon).is_some() {
            calm_since = world.now;
        }
    }
    if let Some(what) = unsettled(world, daemon) {
        daemon.laws.broken(world.now, "in fine weather it settles", what);
    }
}

/// A person looks now and then, and does what the alarms say.
fn obey(world: &mut World, daemon: &mut Daemon) {
    let said = |alarms: &[String], what: &str| alarms.iter().any(|alarm| alarm.contains(what));
    let alarms = daemon.alarms(world);
    if said(&alarms, "`lbsidecar reload --force`") {
        daemon.command(world, &Command::Reload { force: true });
    }
    if said(&alarms, "`lbsidecar resume`") {
        daemon.command(world, &Command::Resume);
    }
}

/// What is not as it should be in fine weather.
fn unsettled(world: &World, daemon: &Daemon) -> Option<String> {
    let state = &daemon.machine.state;
    // VMs with our mark that are not members.
    let left = world
        .vms
        .values()
        .find(|vm| vm.facts.mark.is_some() && is_ours(vm) && state.member(vm.facts.id).is_none());
    if let Some(left) = left
        && state.base().is_some()
    {
        return Some(format!("{} ({}) is left over", left.facts.name, left.facts.id));
    }
    if let Some(transition) = &state.transition {
        return Some(format!("under way: {transition:?}"));
    }
    let (phase, alarms) = (daemon.phase(world), daemon.alarms(world));
    // Whom nobody may bring back is waited for; before the service address was taken that is any VM, and so is one that is gone and was
    // never looked at.
    let known = state.blueprint.is_some() || state.pattern().is_some_and(|m| world.vms.contains_key(&m.id));
    let may = daemon.settings.policy.lost_primary == LostPrimary::Recreate && state.vip_taken && known;
    let waits =
        !may && alarms.iter().all(|alarm| alarm.contains("is lost") || alarm.contains("nothing to copy"));
    // Without any VM and any memory of one there is nothing to go on from: the real daemon says so and ends.
    let waits = waits || state.members.is_empty();
    let well = matches!(phase, Phase::Single | Phase::Balanced) || waits;
    (!well).then(|| format!("it is {phase:?}: {alarms:?}"))
}
