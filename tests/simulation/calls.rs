//! Effects as calls into the model world: what they do there, and how the network and the services spoil them.

use lbsidecar::core::{
    cloud::{BlueprintText, FailureKind, Mark, ServerStatus},
    event::{Effect, Outcome},
    ids::{FloatingIpId, IntentId, ServerId},
};

use crate::{
    daemon::Daemon,
    fates::What,
    world::{Vip, World},
};

/// A far future.
const FAR: u64 = 86_400_000;

impl Daemon {
    /// One call, with all that can happen to it on its way.
    pub(crate) fn call(&mut self, world: &mut World, effect: &Effect) -> Outcome {
        // Only the POST of a server cannot be repeated without harm.
        let unclear = match effect {
            Effect::Create { .. } | Effect::Snapshot { .. } => FailureKind::Unknown,
            _ => FailureKind::Transient,
        };
        if let Effect::Probe(_) = effect {
            return self.act(world, effect);
        }
        let to_haproxy = matches!(effect, Effect::Apply { .. } | Effect::CutSessions(_));
        if !to_haproxy && self.api_is_away(world) {
            // Refused connections, or a gateway without anybody behind it.
            return failed(
                if world.now.0.is_multiple_of(100) { FailureKind::Transient } else { unclear },
                "away",
            );
        }
        if let Some(failure) = self.error(world, effect, to_haproxy, unclear) {
            return failure;
        }
        if let Some(mut dice) = world.next_strikes(What::LostReply) {
            if dice.bool() {
                let _ = self.act(world, effect);
            }
            return failed(unclear, "no answer");
        }
        let outcome = self.act(world, effect);
        if world.next_strikes(What::Duplicate).is_some() {
            let known: Vec<ServerId> = world.vms.keys().copied().collect();
            let _ = self.take_effect(world, effect);
            for vm in world.vms.values_mut().filter(|vm| !known.contains(&vm.facts.id)) {
                vm.doubled = true;
            }
        }
        outcome
    }

    /// An error instead of a good answer; seen at Nova: 503, and the server was made.
    fn error(
        &mut self,
        world: &mut World,
        effect: &Effect,
        to_haproxy: bool,
        unclear: FailureKind,
    ) -> Option<Outcome> {
        if to_haproxy {
            world.next_strikes(What::Refused)?;
            return Some(failed(FailureKind::Transient, "HAProxy does not take it"));
        }
        let errors = [
            (What::Unauthorized, FailureKind::Unauthorized),
            (What::Forbidden, FailureKind::Permanent),
            (What::Conflict, FailureKind::Conflict),
            (What::NoQuota, FailureKind::Capacity),
            (What::TooMany, FailureKind::Transient),
            (What::ServerError, unclear),
            (What::DoneButError, unclear),
        ];
        let (what, kind) = errors.into_iter().find(|(what, _)| world.next_strikes(*what).is_some())?;
        if what == What::DoneButError {
            let _ = self.act(world, effect);
        }
        Some(failed(kind, &what.to_string()))
    }

    /// It acts, by our own will.
    pub(crate) fn act(&mut self, world: &mut World, effect: &Effect) -> Outcome {
        self.laws.acts(world, effect, &self.settings);
        self.take_effect(world, effect)
    }

    fn take_effect(&mut self, world: &mut World, effect: &Effect) -> Outcome {
        match effect {
            Effect::Apply { model, force } => {
                if world.lb.edited && !force {
                    return failed(
                        FailureKind::Conflict,
                        "it was edited by hand; `lbsidecar reload --force` overwrites it",
                    );
                }
                world.lb.edited = false;
                if world.now < world.lb.down_until {
                    // The adapter starts one that does not run.
                    world.lb.down_until = world.now;
                    world.lb.crash(world.now);
                }
                let idle_until = world.idle_until();
                world.lb.apply(model, world.now, idle_until);
                Outcome::Applied { generation: world.lb.generation }
            }
            Effect::Probe(name) => {
                let server = world.lb.current().and_then(|w| w.server(name)).map(|s| s.address.ip());
                let vm = server.and_then(|ip| world.vm_at(ip));
                let ok = vm.is_some_and(|vm| world.answers(vm)) && world.now >= world.lb.down_until;
                Outcome::Probed { ok, why: if ok { "200".into() } else { "no answer".into() } }
            }
            Effect::CutSessions(name) => {
                let servers = world.lb.workers.last_mut().into_iter().flat_map(|w| &mut w.servers);
                for server in servers.filter(|s| s.name == *name) {
                    server.sessions.clear();
                }
                Outcome::Done
            }
            Effect::Admit { .. } => match world.next_strikes(What::NoRoom) {
                Some(_) => Outcome::Refused("quota of instances is used up".into()),
                None => Outcome::Admitted,
            },
            Effect::Study(id) if world.vms.contains_key(id) => {
                Outcome::Studied(BlueprintText("like it".into()))
            }
            Effect::Study(_) => failed(FailureKind::NotFound, "no such server"),
            Effect::Create { base, blueprint: None, .. } if !world.vms.contains_key(base) => {
                failed(FailureKind::NotFound, "there is nothing to copy")
            }
            Effect::Create { intent, name, generation, .. } => {
                let mark =
                    Mark { pool: self.settings.pool.clone(), intent: *intent, generation: *generation };
                Outcome::Created(build(world, name, mark))
            }
            Effect::FindIntent(intent) => Outcome::Found(find(world, *intent)),
            Effect::Address(id) => match world.vms.get(id).and_then(|vm| vm.facts.address) {
                Some(ip) => {
                    // As in host mode, in every other life.
                    let floating_ip = world.long_sessions.then_some(FloatingIpId(id.0));
                    Outcome::Addressed { server: *id, address: (ip, 80).into(), floating_ip }
                }
                None => failed(FailureKind::NotFound, "no such server"),
            },
            Effect::Stop(id) => {
                let off = world.after(world.fates.noise(4, world.now.0).u64(500..5000));
                if let Some(vm) = world.vms.get_mut(id) {
                    vm.off_at = Some(off);
                    vm.facts.task_state = Some("powering-off".into());
                }
                Outcome::Done
            }
            Effect::Start(id) => {
                let ready = world.after(3000);
                if let Some(vm) = world.vms.get_mut(id).filter(|vm| vm.facts.status == ServerStatus::Shutoff)
                {
                    (vm.facts.status, vm.ready_at, vm.runs) = (ServerStatus::Active, ready, true);
                    vm.instance += 1000;
                    (vm.time_ns, vm.delay_ns) = (0, 0);
                }
                Outcome::Done
            }
            Effect::Snapshot { .. } | Effect::ReleaseAddress(_) => Outcome::Done,
            Effect::Delete(id) => delete(world, *id),
            Effect::TakeVip { .. } => {
                world.vip = Vip::Haproxy;
                Outcome::Done
            }
            Effect::GiveVip(id) => {
                world.vip = Vip::Vm(*id);
                Outcome::Done
            }
        }
    }
}

fn failed(kind: FailureKind, why: &str) -> Outcome {
    Outcome::Failed { kind, why: why.to_owned() }
}

/// Nova makes a server, well or badly.
fn build(world: &mut World, name: &str, mark: Mark) -> ServerId {
    let id = world.boot(name, Some(mark));
    let fails = world.next_strikes(What::BuildError).is_some();
    let for_ever = world.next_strikes(What::BuildForEver).is_some();
    let deaf = world.next_strikes(What::DeafClone).is_some();
    let lag = world.next_strikes(What::ListLag).map_or(0, |mut dice| dice.u64(0..8000));
    let (far, listed_from) = (world.after(FAR), world.after(lag));
    if let Some(vm) = world.vms.get_mut(&id) {
        vm.listed_from = listed_from;
        vm.fails_to_build = fails;
        if for_ever {
            vm.active_at = far;
        }
        if for_ever || deaf {
            vm.ready_at = far;
        }
    }
    id
}

fn delete(world: &mut World, id: ServerId) -> Outcome {
    if world.vms.get(&id).is_some_and(|vm| vm.facts.locked) {
        return failed(FailureKind::Conflict, "answered 409: the server is locked");
    }
    let slow = world.next_strikes(What::SlowDelete).map(|mut dice| dice.u64(30_000..600_000));
    let stuck = world.next_strikes(What::StuckDelete).map(|_| FAR);
    let soon = world.fates.noise(5, world.now.0).u64(500..3000);
    let gone = world.after(stuck.or(slow).unwrap_or(soon));
    if let Some(vm) = world.vms.get_mut(&id) {
        vm.gone_at.get_or_insert(gone);
        vm.runs = false;
        vm.facts.task_state = Some("deleting".into());
    }
    Outcome::Done
}

fn find(world: &World, intent: IntentId) -> Option<ServerId> {
    let carries = |mark: &Option<Mark>| mark.as_ref().is_some_and(|mark| mark.intent == intent);
    let listed = world.vms.values().filter(|vm| world.now >= vm.listed_from);
    listed.filter(|vm| carries(&vm.facts.mark)).min_by_key(|vm| vm.facts.created).map(|vm| vm.facts.id)
}

/// An effect in one line.
pub(crate) fn said(effect: &Effect) -> String {
    match effect {
        Effect::Apply { model, .. } => {
            let servers = model.servers.iter().map(|s| format!("{} {} {:?}", s.name, s.weight, s.mode));
            format!("apply [{}]", servers.collect::<Vec<_>>().join(", "))
        }
        other => format!("{other:?}"),
    }
}
