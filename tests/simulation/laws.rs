//! The laws, checked from outside: by what happens to the model world, not by what the core believes.

use std::collections::BTreeMap;

use lbsidecar::core::{
    cloud::ServerStatus,
    event::{Effect, Event},
    guest::DomainState,
    ids::ServerId,
    lb::LbMode,
    machine::Machine,
    settings::Settings,
    time::Timestamp,
    transition::Kind,
};

use crate::{
    daemon::{under_way, workers_on},
    world::World,
};

#[derive(Debug, Default)]
pub(crate) struct Laws {
    pub(crate) violations: Vec<String>,
    /// When a reading of a member was last missing, reset or paused.
    unknown_at: BTreeMap<ServerId, Timestamp>,
    instances: BTreeMap<ServerId, u32>,
    operator_at: Timestamp,
    was_handover: bool,
    was_scale_out: bool,
    /// When a scale-out or handover last ended with another membership.
    changed_at: Option<Timestamp>,
    members: Vec<ServerId>,
    /// The state was lost once: an unlisted base can then not be told from a stranger of its name.
    pub(crate) forgotten: bool,
    /// When each VM's service last answered.
    answered_at: BTreeMap<ServerId, Timestamp>,
}

impl Laws {
    pub(crate) fn broken(&mut self, now: Timestamp, what: String) {
        self.violations.push(format!("{now}: {what}"));
    }

    pub(crate) fn operator(&mut self, now: Timestamp) {
        self.operator_at = now;
    }

    pub(crate) fn sampled(&mut self, now: Timestamp, event: &Event, machine: &Machine) {
        let members = machine.state.members.iter().map(|m| m.id);
        match event {
            Event::Sampled(counters) => {
                for id in members {
                    let reading = counters.iter().find(|c| c.server == id);
                    let instance = reading.and_then(|c| c.instance);
                    let known = self.instances.get(&id).copied();
                    let reset = instance.is_some() && known.is_some() && instance != known;
                    if reading.is_none_or(|c| c.state != DomainState::Running) || reset {
                        self.unknown_at.insert(id, now);
                    }
                    if let Some(instance) = instance {
                        self.instances.insert(id, instance);
                    }
                }
            }
            _ => {
                for id in members {
                    self.unknown_at.insert(id, now);
                }
            }
        }
    }

    pub(crate) fn restarted(&mut self, now: Timestamp, machine: &Machine) {
        // What was in flight goes on; it does not begin.
        self.was_handover = under_way(machine, |k| matches!(k, Kind::Handover));
        self.was_scale_out = under_way(machine, |k| matches!(k, Kind::ScaleOut { .. }));
        for member in &machine.state.members {
            self.unknown_at.insert(member.id, now);
        }
    }

    /// After each step of the core.
    pub(crate) fn stepped(&mut self, world: &World, machine: &Machine, settings: &Settings) {
        let now = world.now;
        for vm in world.vms.values().filter(|vm| world.answers(vm)) {
            self.answered_at.insert(vm.facts.id, now);
        }
        if machine.view.decisions.back().is_some_and(|d| d.reason.is_empty()) {
            self.broken(now, "law 14: a decision without a reason".into());
        }
        let handover = under_way(machine, |k| matches!(k, Kind::Handover));
        let scale_out = under_way(machine, |k| matches!(k, Kind::ScaleOut { .. }));
        let began = (handover && !self.was_handover, scale_out && !self.was_scale_out);
        (self.was_handover, self.was_scale_out) = (handover, scale_out);
        let by_votes = self.operator_at != now;
        let policy = &settings.policy;
        if began.0 && by_votes {
            let votes = policy.interval * (policy.min_down - 1);
            for member in machine.state.members.iter().filter(|m| m.is_serving()) {
                if self.unknown_at.get(&member.id).is_some_and(|at| now.since(*at) < votes) {
                    self.broken(
                        now,
                        format!("law 10: handover, though {} was not known meanwhile", member.name),
                    );
                }
            }
        }
        if let Some(changed) = self.changed_at
            && by_votes
        {
            if began.0 && now.since(changed) < policy.cooldown_down {
                self.broken(now, "law 11: handover within the cooldown".into());
            }
            if began.1 && now.since(changed) < policy.cooldown_up {
                self.broken(now, "law 11: scale-out within the cooldown".into());
            }
        }
        let members: Vec<ServerId> = machine.state.serving().map(|m| m.id).collect();
        // What a transition does on its way may be undone, or lost with a crash that came before the save.
        if members != self.members && machine.state.transition.is_none() {
            // The very first member is taken over, not added.
            if !self.members.is_empty() {
                self.changed_at = Some(now);
            }
            self.members = members;
        }
    }

    /// Before an effect acts on the world.
    pub(crate) fn acts(&mut self, world: &World, effect: &Effect, settings: &Settings) {
        let now = world.now;
        let ours = |id: &ServerId| {
            world.vms.get(id).is_none_or(|vm| {
                vm.facts.name == settings.base
                    || vm.facts.mark.as_ref().is_some_and(|m| m.pool == settings.pool)
            })
        };
        match effect {
            Effect::Delete(id) => {
                if !ours(id) {
                    self.broken(now, format!("law 7: {id} is a stranger and was deleted"));
                }
                let alive = world.vms.get(id).is_some_and(|vm| vm.facts.status == ServerStatus::Active);
                let workers = workers_on(world, *id);
                if alive && workers > 0 {
                    self.broken(now, format!("law 1: {id} deleted while {workers} worker(s) use it"));
                }
                let serves = |other: &&ServerId| {
                    **other != *id
                        && ours(other)
                        && self.answered_at.get(other).is_some_and(|at| now.since(*at).as_secs() < 5)
                };
                let was_serving = self.answered_at.get(id).is_some_and(|at| now.since(*at).as_secs() < 60);
                if alive && was_serving && !world.vms.keys().any(|other| serves(&other)) {
                    self.broken(now, format!("law 5: {id} deleted, and nobody else serves"));
                }
            }
            Effect::Stop(id) | Effect::Start(id) if !ours(id) => {
                self.broken(now, format!("law 7: {id} is a stranger and was touched"));
            }
            Effect::Create { intent, .. } => {
                let pool = world.vms.values().filter(|vm| {
                    vm.facts.status != ServerStatus::Deleted
                        && ((vm.facts.name == settings.base && !self.forgotten)
                            || vm.facts.mark.as_ref().is_some_and(|m| m.pool == settings.pool))
                });
                let count = pool.count() + 1;
                if count > settings.max_members as usize {
                    self.broken(now, format!("law 9: {count} VMs asked for"));
                }
                let same =
                    |vm: &&crate::world::Vm| vm.facts.mark.as_ref().is_some_and(|m| m.intent == *intent);
                if world.vms.values().any(|vm| same(&vm)) {
                    self.broken(now, "law 8: created twice with one intent".into());
                }
            }
            Effect::Apply { model, .. } => {
                for server in &model.servers {
                    let before = world
                        .file
                        .servers
                        .iter()
                        .find(|s| s.name == server.name)
                        .map_or(0, |s| s.weight.get());
                    let live = world.workers.last().and_then(|w| w.servers.get(&server.name));
                    let healthy = live.is_some_and(|s| s.up && s.checked);
                    let answers = world.vms.values().any(|vm| {
                        vm.facts.address == Some(server.address.ip())
                            && self
                                .answered_at
                                .get(&vm.facts.id)
                                .is_some_and(|at| now.since(*at).as_secs() < 5)
                    });
                    if before == 0
                        && server.weight.get() > 0
                        && server.mode == LbMode::Ready
                        && !(healthy || answers)
                    {
                        self.broken(now, format!("law 2: {} gets weight without proof", server.name));
                    }
                }
            }
            _ => {}
        }
    }
}
