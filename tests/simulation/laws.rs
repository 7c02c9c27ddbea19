//! The laws, checked from outside: by what happens to the model world, not by what the core believes. `docs/architecture.md` numbers
//! them. Laws 3 and 15 live in adapters and have tests there.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use lbsidecar::core::{
    cloud::{FailureKind, ServerStatus},
    event::{Command, Effect, Event, Outcome},
    guest::DomainState,
    ids::{BackendName, ServerId},
    lb::{LbMode, LbModel, LbServer},
    machine::Machine,
    settings::Settings,
    state::State,
    time::Timestamp,
    transition::{Kind, Stage, Transition},
    units::Weight,
    view::Vote,
};

use crate::{
    balancer::Worker,
    world::{DAWN, Vm, World},
};

/// A law that was broken.
#[derive(Debug, Clone)]
pub(crate) struct Broken {
    pub(crate) at: Duration,
    pub(crate) law: &'static str,
    pub(crate) how: String,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at {:.3} s, {}: {}", self.at.as_secs_f64(), self.law, self.how)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Laws {
    pub(crate) broken: Vec<Broken>,
    /// When a reading of a member was last missing, reset, stale or paused.
    unknown_at: BTreeMap<ServerId, Timestamp>,
    /// The last reading of each: the QEMU, its time, and when it was taken.
    readings: BTreeMap<ServerId, (Option<u32>, u64, u64)>,
    operator_at: Timestamp,
    aborted: bool,
    was: Option<Began>,
    /// When a scale-out or handover last ended with another membership.
    changed_at: Option<Timestamp>,
    members: Vec<ServerId>,
    /// The state was lost once: an unlisted base can then not be told from a stranger of its name.
    forgotten: bool,
    /// Probes in a row that were good, and servers that had enough of them since they were listed.
    probes: BTreeMap<BackendName, u32>,
    proven: BTreeSet<BackendName>,
    /// What HAProxy was last told, and how often in a row it did not take that.
    told: LbModel,
    refused: u32,
    /// When HAProxy last answered.
    pub(crate) lb_seen_at: Timestamp,
    /// Whether there was said to be room for the clone to come.
    admitted: bool,
    /// VMs of ours that came to nothing, in a row, and when the last of them was deleted.
    failures: u32,
    /// VMs whose deletion was asked for, and those of which that is not known.
    deleted: BTreeSet<ServerId>,
    sent: BTreeSet<ServerId>,
    failed_at: Timestamp,
}

/// A transition that lets a pool grow or shrink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Began {
    ScaleOut,
    Handover,
}

fn growth(transition: Option<&Transition>) -> Option<Began> {
    match transition?.kind {
        Kind::ScaleOut { .. } => Some(Began::ScaleOut),
        Kind::Handover => Some(Began::Handover),
        _ => None,
    }
}

fn is_ours(vm: &Vm, settings: &Settings) -> bool {
    match &vm.facts.mark {
        Some(mark) => mark.pool == settings.pool,
        None => vm.facts.name == settings.base,
    }
}

impl Laws {
    pub(crate) fn broken(&mut self, now: Timestamp, law: &'static str, how: String) {
        self.broken.push(Broken { at: now.since(DAWN), law, how });
    }

    pub(crate) fn operator(&mut self, now: Timestamp, command: &Command, answer: &Result<String, String>) {
        self.operator_at = now;
        match command {
            Command::Abort => self.aborted |= answer.is_ok(),
            Command::Resume => self.failures = 0,
            _ => {}
        }
    }

    pub(crate) fn sampled(&mut self, now: Timestamp, event: &Event, machine: &Machine) {
        let members = machine.state.members.iter().map(|m| m.id);
        let Event::Sampled(counters) = event else {
            self.unknown_at.extend(members.map(|id| (id, now)));
            return;
        };
        for id in members {
            let reading = counters.iter().find(|c| c.server == id && c.state == DomainState::Running);
            let Some(reading) = reading else {
                self.unknown_at.insert(id, now);
                self.readings.remove(&id);
                continue;
            };
            let time = reading.vcpus.values().map(|vcpu| vcpu.time_ns).sum();
            let new = (reading.instance, time, reading.at_ns);
            if let Some(last) = self.readings.insert(id, new)
                && (last.0 != new.0 || last.1 > new.1 || new.2 - last.2 > 3_500_000_000)
            {
                self.unknown_at.insert(id, now);
            }
        }
    }

    /// The daemon died.
    pub(crate) fn restarting(&mut self, now: Timestamp, forgotten: bool, clock_set: bool) {
        self.forgotten |= forgotten;
        if clock_set {
            // What was to last until some time by the clock lasts longer or shorter now.
            (self.changed_at, self.failed_at) = (None, Timestamp::default());
        }
        if forgotten {
            (self.failures, self.failed_at) = (0, Timestamp::default());
        }
        // Where it stood is told by `restarted`.
        self.operator_at = now;
    }

    /// What was in flight goes on; it does not begin.
    pub(crate) fn restarted(&mut self, now: Timestamp, machine: &Machine) {
        self.was = growth(machine.state.transition.as_ref());
        self.aborted = false;
        // Who serves by now is known from here on, not from the first step; that nobody does yet is no change.
        if machine.state.serving().next().is_some() {
            self.membership(now, &machine.state);
        } else {
            self.members.clear();
        }
        // What may have gone out in a former life cannot be taken back.
        let moving = machine.state.transition.as_ref().filter(|t| t.stage == Stage::Deleting { sent: true });
        self.sent.extend(moving.and_then(|t| t.server));
        self.unknown_at.extend(machine.state.members.iter().map(|m| (m.id, now)));
    }

    /// After each step of the core.
    pub(crate) fn stepped(&mut self, world: &World, machine: &Machine, settings: &Settings) {
        let now = world.now;
        let state = &machine.state;
        let decision = machine.view.decisions.back();
        if decision.is_some_and(|d| d.reason.is_empty())
            || state.history.back().is_some_and(|entry| entry.why.is_empty())
        {
            self.broken(now, "law 14", "something was decided without a reason".into());
        }
        let is = growth(state.transition.as_ref());
        // One that has a VM goes on, since its roll-back was called off.
        let goes_on = is == Some(Began::ScaleOut) && state.moving().is_some();
        let began = if is == self.was || goes_on { None } else { is };
        self.was = is;
        if let Some(began) = began {
            self.aborted = false;
            self.admitted = false;
            if self.operator_at != now {
                self.begins(world, machine, settings, began);
            }
        }
        self.membership(now, state);
    }

    fn membership(&mut self, now: Timestamp, state: &State) {
        // What one does on its way may be undone, or lost with a crash that came before the save.
        if growth(state.transition.as_ref()).is_some()
            || state.serving().map(|m| m.id).eq(self.members.iter().copied())
        {
            return;
        }
        // The very first member is taken over, not added.
        if !self.members.is_empty() {
            self.changed_at = Some(now);
        }
        if state.serving().any(|m| !self.members.contains(&m.id)) {
            self.failures = 0;
        }
        self.members = state.serving().map(|m| m.id).collect();
    }

    /// The pool begins to grow or to shrink, by votes.
    fn begins(&mut self, world: &World, machine: &Machine, settings: &Settings, began: Began) {
        let now = world.now;
        let policy = &settings.policy;
        let serving: Vec<_> = machine.state.serving().collect();
        let answered = |id: &ServerId| {
            let vm = world.vms.get(id);
            vm.and_then(|vm| vm.answered_at).is_some_and(|at| now.since(at).as_secs() < 10)
        };
        if began == Began::ScaleOut && !serving.iter().any(|m| answered(&m.id)) {
            // Not votes, but self-heal: nobody serves.
            return;
        }
        let cooldown = match began {
            Began::ScaleOut => policy.cooldown_up,
            Began::Handover => policy.cooldown_down,
        };
        if self.changed_at.is_some_and(|changed| now.since(changed) < cooldown) {
            self.broken(now, "law 11", format!("{began:?} within the cooldown"));
        }
        if began == Began::ScaleOut {
            // A clone on the same host gets no more than the others.
            let busy = now < world.busy_until && world.busy_until.since(now) < Duration::from_secs(50);
            if busy {
                self.broken(now, "law 13", "a clone is made though the host has no CPU time to spare".into());
            }
            return;
        }
        let votes = policy.interval * (policy.min_down - 1);
        for member in &serving {
            if self.unknown_at.get(&member.id).is_some_and(|at| now.since(*at) < votes) {
                self.broken(
                    now,
                    "law 10",
                    format!("handover, though {} was not known meanwhile", member.name),
                );
            }
        }
        let readings = machine.view.decisions.back().map(|d| &d.readings);
        let sum: f64 = readings.into_iter().flatten().filter_map(|(_, r)| r.value).sum();
        let projected = sum / serving.len().saturating_sub(1).max(1) as f64;
        if projected > policy.high.get() - policy.margin.get() {
            self.broken(now, "law 12", format!("handover, and the rest will carry {projected:.0} %"));
        }
    }

    /// Before an effect goes out.
    pub(crate) fn issued(
        &mut self,
        world: &World,
        effect: &Effect,
        machine: &Machine,
        disk: Option<&State>,
        settings: &Settings,
    ) {
        let now = world.now;
        let on_disk = disk.and_then(|state| state.transition.as_ref());
        match effect {
            Effect::Create { intent, .. } => {
                let written = on_disk.is_some_and(|t| {
                    matches!(&t.kind, Kind::ScaleOut { intent: i, .. } if i == intent)
                        && t.stage == Stage::Creating { asked: true }
                });
                if !written {
                    self.broken(now, "law 8", "a creation goes out before its intent is on disk".into());
                }
                if !self.admitted {
                    self.broken(
                        now,
                        "law 13",
                        "a creation goes out, and nobody said that there is room".into(),
                    );
                }
                let pause = settings.transition.backoff_first;
                if self.failures > 0 && now.since(self.failed_at) < pause {
                    self.broken(now, "law 9", "a creation goes out right after a failed one".into());
                }
                if self.failures >= settings.transition.breaker_after {
                    self.broken(
                        now,
                        "law 9",
                        format!("a creation goes out after {} failures", self.failures),
                    );
                }
            }
            Effect::Delete(id) => {
                let Some(transition) = machine.state.transition.as_ref() else { return };
                // One that Nova took and failed is asked for again.
                let sent =
                    |t: &Transition| matches!(t.stage, Stage::Deleting { sent: true } | Stage::Vanishing);
                if !on_disk.is_some_and(sent) {
                    self.broken(now, "law 8", "a deletion goes out before that is on disk".into());
                }
                // A call that was answered with an error is made again, and what was sent cannot be taken back.
                if self.deleted.contains(id) || self.sent.contains(id) {
                    return;
                }
                let lately = |at: Timestamp| now.since(at).as_secs() < 5;
                let recent = |vm: &Vm| vm.answered_at.is_some_and(lately);
                let serves = |vm: &&Vm| {
                    vm.runs && recent(vm) && vm.carried_at.is_some_and(|at| now.since(at).as_secs() < 60)
                };
                let is_another = |vm: &Vm| vm.facts.id != *id && is_ours(vm, settings) && recent(vm);
                // One that somebody deleted a moment ago is not missed yet.
                let another = world.vms.values().any(is_another) || world.left().any(lately);
                if world.vms.get(id).filter(serves).is_some() && !another {
                    self.broken(now, "law 5", format!("{id} is deleted, and nobody else serves"));
                }
                if transition.kind != Kind::Handover {
                    return;
                }
                // The vote of the moment in which it began was there before it.
                let returned = machine.view.decisions.iter().rev().take_while(|d| d.at > transition.since);
                if self.aborted || returned.into_iter().any(|d| d.vote == Vote::High) {
                    self.broken(now, "law 6", "the handover was not called off".into());
                }
            }
            Effect::Apply { model, .. } => self.applies(world, model, settings),
            Effect::GiveVip(_) => {
                // Somebody may have reloaded it just now, and a HAProxy that nothing can be asked of is not waited for.
                let kept = |w: &Worker| w.old_since.is_some_and(|at| now.since(at).as_millis() > 1500);
                let deaf = self.refused >= 3 || now.since(self.lb_seen_at).as_secs() >= 15;
                if !deaf && (!world.lb.file.closing || world.lb.workers.iter().any(kept)) {
                    self.broken(now, "release", "the service address moves under kept connections".into());
                }
            }
            _ => {}
        }
    }

    /// Before HAProxy is brought to a model.
    fn applies(&mut self, world: &World, model: &LbModel, settings: &Settings) {
        let now = world.now;
        let carries = |s: &LbServer| s.weight > Weight::ZERO && s.mode == LbMode::Ready;
        let before = std::mem::take(&mut self.told);
        let was = |name: &BackendName| before.servers.iter().find(|s| s.name == *name);
        // How long one that died may be taken for healthy: HAProxy's check must have failed twice.
        let lately = |at: Timestamp| now.since(at).as_secs() < 5;
        let recent = |vm: &Vm| vm.answered_at.is_some_and(lately);
        for server in &model.servers {
            let name = &server.name;
            let (live, vm) =
                (world.lb.current().and_then(|w| w.server(name)), world.vm_at(server.address.ip()));
            if carries(server) && !self.proven.contains(name) {
                let listed =
                    live.is_some_and(|s| s.weight > 0 && s.admin != lbsidecar::core::lb::LbAdmin::Drain);
                let probed = self.probes.get(name).is_some_and(|n| *n >= settings.transition.proofs);
                let healthy = live.is_some_and(|s| s.up && s.streak > 0) || vm.is_some_and(recent);
                // What HAProxy serves by already was proven in a former life.
                if !(listed || probed && healthy) {
                    self.broken(now, "law 2", format!("{name} gets weight without proof"));
                }
                self.proven.insert(name.clone());
            }
            if server.mode == LbMode::Ready && server.weight == Weight::ZERO {
                self.proven.remove(name);
            }
            let carried = was(name).is_some_and(carries);
            if server.mode == LbMode::Drain && was(name).is_some_and(|s| s.mode == LbMode::Ready) {
                let long_old = world.lb.workers.iter().filter(|w| {
                    w.old_since.is_some_and(|since| now.since(since).as_millis() > 1500)
                        && w.server(name).is_some()
                });
                if long_old.count() > 0 && now >= world.lb.down_until {
                    self.broken(now, "law 4", format!("{name} is drained while an old worker serves it"));
                }
                let healthy =
                    |s: &LbServer| carries(s) && world.answered_at(s.address.ip()).is_some_and(lately);
                // One that answers again serves nobody before HAProxy has noticed.
                let serves = carried && live.is_some_and(|s| s.up) && vm.is_some_and(recent);
                if serves && !model.servers.iter().any(healthy) {
                    self.broken(now, "law 5", format!("{name} is drained, and nobody else serves"));
                }
            }
        }
        for server in &before.servers {
            if !model.servers.iter().any(|s| s.name == server.name) {
                self.proven.remove(&server.name);
                self.probes.remove(&server.name);
            }
        }
        self.told.clone_from(model);
    }

    /// Before an effect acts on the world.
    pub(crate) fn acts(&mut self, world: &World, effect: &Effect, settings: &Settings) {
        let now = world.now;
        let ours = |vm: &Vm| is_ours(vm, settings);
        match effect {
            Effect::Stop(id)
            | Effect::Start(id)
            | Effect::Delete(id)
            | Effect::Snapshot { server: id, .. }
                if world.vms.get(id).is_some_and(|vm| !ours(vm)) =>
            {
                self.broken(
                    now,
                    "law 7",
                    format!("{id} is a stranger, and {} was asked of it", effect.name()),
                );
            }
            Effect::Stop(id) => {
                let Some(vm) = world.vms.get(id) else { return };
                let workers = vm.facts.address.map_or(0, |ip| world.lb.workers_on(ip));
                if vm.runs && workers > 0 {
                    self.broken(
                        now,
                        "law 1",
                        format!("{id} is switched off while {workers} worker(s) use it"),
                    );
                }
            }
            Effect::Delete(id) => {
                let Some(vm) = world.vms.get(id) else { return };
                let workers = vm.facts.address.map_or(0, |ip| world.lb.workers_on(ip));
                if vm.runs && workers > 0 {
                    self.broken(now, "law 1", format!("{id} is deleted while {workers} worker(s) use it"));
                }
                self.deleted.insert(*id);
                // An operator's abort is no failure; nor is what nobody asked for.
                if vm.facts.status == ServerStatus::Error
                    && vm.answered_at.is_none()
                    && vm.gone_at.is_none()
                    && !self.aborted
                    && !vm.doubled
                {
                    self.failures += 1;
                    self.failed_at = now;
                }
            }
            Effect::Create { intent, .. } => {
                // The operator's own VM, when it failed and others took over, or when it was forgotten, is left to him.
                let left = |vm: &Vm| self.forgotten || vm.facts.status == ServerStatus::Error;
                let pool = world
                    .vms
                    .values()
                    .filter(|vm| ours(vm) && !vm.doubled && (vm.facts.mark.is_some() || !left(vm)));
                let count = pool.count() + 1;
                if count > settings.max_members as usize {
                    self.broken(now, "law 9", format!("{count} VMs asked for"));
                }
                let same = |vm: &Vm| vm.facts.mark.as_ref().is_some_and(|m| m.intent == *intent);
                if world.vms.values().any(same) {
                    self.broken(now, "law 8", "created twice with one intent".into());
                }
            }
            _ => {}
        }
    }

    /// What an effect came to.
    pub(crate) fn answered(&mut self, effect: &Effect, outcome: &Outcome, settings: &Settings) {
        match (effect, outcome) {
            (Effect::Probe(name), Outcome::Probed { ok: true, .. }) => {
                let count = self.probes.entry(name.clone()).or_default();
                *count = (*count + 1).min(settings.transition.proofs);
            }
            (Effect::Probe(name), _) => {
                self.probes.remove(name);
            }
            // It may have been done: from here there is only forward.
            (Effect::Delete(id), Outcome::Failed { kind: FailureKind::Transient, .. }) => {
                self.sent.insert(*id);
            }
            (Effect::Apply { .. }, Outcome::Failed { .. }) => self.refused += 1,
            (Effect::Apply { .. }, _) => self.refused = 0,
            (Effect::Admit { .. }, outcome) => self.admitted = *outcome == Outcome::Admitted,
            _ => {}
        }
    }
}
