//! The model world: Nova with its VMs, libvirt, clients with sessions, and whatever others do. It knows nothing of the daemon; it
//! lets time pass and notices when a client loses a request.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use fastrand::Rng;
use lbsidecar::core::{
    cloud::{Mark, ServerFacts, ServerStatus},
    event::VipSeen,
    guest::{DomainCounters, DomainState, VcpuCounters},
    ids::{IntentId, PoolName, ServerId},
    time::Timestamp,
};
use uuid::Uuid;

use crate::{
    balancer::Balancer,
    fates::{Fates, What},
};

/// One VM that is there.
#[derive(Debug, Clone)]
pub(crate) struct Vm {
    pub(crate) facts: ServerFacts,
    /// When it runs, when its service answers, when it is off, when it is gone.
    pub(crate) active_at: Timestamp,
    pub(crate) ready_at: Timestamp,
    pub(crate) off_at: Option<Timestamp>,
    pub(crate) gone_at: Option<Timestamp>,
    pub(crate) fails_to_build: bool,
    /// Made by a request that arrived twice: nobody asked for it.
    pub(crate) doubled: bool,
    /// Hidden from lists until then.
    pub(crate) listed_from: Timestamp,
    /// Whether its guest runs: Nova may say ERROR of one that does.
    pub(crate) runs: bool,
    /// When its service answered last.
    pub(crate) answered_at: Option<Timestamp>,
    /// When a worker sent it a request last.
    pub(crate) carried_at: Option<Timestamp>,
    /// libvirt's view; on another host libvirt here does not know it.
    pub(crate) instance: u32,
    pub(crate) time_ns: u64,
    pub(crate) delay_ns: u64,
    pub(crate) paused: bool,
    pub(crate) away_until: Timestamp,
}

/// Everything outside of the daemon.
pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) fates: Fates,
    /// Dice of this moment.
    rng: Rng,
    pub(crate) vms: BTreeMap<ServerId, Vm>,
    /// When those that are gone answered last.
    left: BTreeMap<IpAddr, Timestamp>,
    next_vm: u32,
    pub(crate) lb: Balancer,
    next_check: Timestamp,
    pub(crate) vip: Vip,
    /// Load of the whole service, in percent of one VM.
    pub(crate) load: f64,
    /// Until then a tenth of the CPU time is to be had.
    pub(crate) busy_until: Timestamp,
    /// The first request that a client lost although nothing outside of the daemon's hands explains it.
    pub(crate) lost: Option<String>,
    pub(crate) served: u64,
    pub(crate) long_sessions: bool,
    /// The story, when it is to be told.
    pub(crate) story: Option<Vec<String>>,
}

/// Where the service address leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vip {
    Haproxy,
    Vm(ServerId),
    Nobody,
}

/// When every life begins.
pub(crate) const DAWN: Timestamp = Timestamp(1_800_000_000_000);

impl World {
    pub(crate) fn new(fates: Fates) -> Self {
        let now = DAWN;
        let mut world = Self {
            now,
            rng: fates.noise(0, 0),
            fates,
            vms: BTreeMap::new(),
            left: BTreeMap::new(),
            next_vm: 1,
            lb: Balancer::default(),
            next_check: now,
            vip: Vip::Nobody,
            load: 30.0,
            busy_until: now,
            lost: None,
            served: 0,
            long_sessions: false,
            story: None,
        };
        let other = Mark {
            pool: PoolName::try_new("other").unwrap(),
            intent: IntentId(Uuid::from_u128(7)),
            generation: 1,
        };
        let base = world.boot("vm-test", None);
        world.boot("somebody-elses", None);
        world.boot("vm-test-clone", Some(other));
        for vm in world.vms.values_mut() {
            (vm.active_at, vm.ready_at, vm.runs) = (now, now, true);
        }
        world.vip = Vip::Vm(base);
        world.lb.start_worker(now, now);
        world
    }

    pub(crate) fn after(&self, milliseconds: u64) -> Timestamp {
        self.now.plus(Duration::from_millis(milliseconds))
    }

    /// Tells a line of the story.
    pub(crate) fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            let at = self.now.since(DAWN);
            story.push(format!("{:>4}.{:03} s  {}", at.as_secs(), at.subsec_millis(), line()));
        }
    }

    /// Whether this mishap strikes in this second.
    pub(crate) fn now_strikes(&mut self, what: What) -> Option<Rng> {
        let dice = self.fates.at(self.now, what)?;
        self.tell(|| format!("!  {what}"));
        Some(dice)
    }

    /// Whether this mishap strikes this call.
    pub(crate) fn next_strikes(&mut self, what: What) -> Option<Rng> {
        let dice = self.fates.next(what)?;
        self.tell(|| format!("!  {what}"));
        Some(dice)
    }

    pub(crate) fn boot(&mut self, name: &str, mark: Option<Mark>) -> ServerId {
        let number = self.next_vm;
        self.next_vm += 1;
        let id = ServerId(Uuid::from_u128(u128::from(number) << 96));
        let mut dice = self.fates.noise(1, number.into());
        let (build, start) = (dice.u64(1000..8000), dice.u64(1000..6000));
        let facts = ServerFacts {
            id,
            name: name.to_owned(),
            status: ServerStatus::Build,
            task_state: Some("spawning".into()),
            fault: None,
            address: Some(IpAddr::V4(Ipv4Addr::new(192, 168, 100, 10 + (number % 240) as u8))),
            floating_ip: None,
            mark,
            locked: false,
            created: self.now,
        };
        let vm = Vm {
            facts,
            active_at: self.after(build),
            ready_at: self.after(build + start),
            off_at: None,
            gone_at: None,
            fails_to_build: false,
            doubled: false,
            listed_from: self.now,
            runs: false,
            answered_at: None,
            carried_at: None,
            instance: number,
            time_ns: 0,
            delay_ns: 0,
            paused: false,
            away_until: self.now,
        };
        self.vms.insert(id, vm);
        id
    }

    /// Whether its service answers.
    pub(crate) fn answers(&self, vm: &Vm) -> bool {
        vm.runs && self.now >= vm.ready_at && !vm.paused
    }

    pub(crate) fn vm_at(&self, ip: IpAddr) -> Option<&Vm> {
        self.vms.values().find(|vm| vm.facts.address == Some(ip))
    }

    /// When something at this address answered last.
    pub(crate) fn answered_at(&self, ip: IpAddr) -> Option<Timestamp> {
        self.vm_at(ip).map_or_else(|| self.left.get(&ip).copied(), |vm| vm.answered_at)
    }

    /// When those that are gone answered last.
    pub(crate) fn left(&self) -> impl Iterator<Item = Timestamp> {
        self.left.values().copied()
    }

    /// Until when clients stay on the worker that a reload leaves behind. Nobody is connected to one that the service address did not
    /// lead to.
    pub(crate) fn idle_until(&mut self) -> Timestamp {
        let idle = if self.vip == Vip::Haproxy { self.rng.u64(0..5000) } else { 0 };
        self.after(idle)
    }

    /// Lets `step` milliseconds pass.
    pub(crate) fn pass(&mut self, step: u64) {
        self.now = self.after(step);
        self.rng = self.fates.noise(0, self.now.0);
        self.nova();
        if self.now >= self.next_check {
            self.next_check = self.next_check.plus(Duration::from_secs(1));
            let (vms, now) = (&self.vms, self.now);
            self.lb.check(|ip| {
                let vm = vms.values().find(|vm| vm.facts.address == Some(ip));
                vm.is_some_and(|vm| vm.runs && now >= vm.ready_at && !vm.paused)
            });
        }
        self.clients();
        self.burn(step);
    }

    fn nova(&mut self) {
        let now = self.now;
        let mut gone = false;
        for vm in self.vms.values_mut() {
            let facts = &mut vm.facts;
            if facts.status == ServerStatus::Build && now >= vm.active_at {
                facts.task_state = None;
                vm.runs = !vm.fails_to_build;
                if vm.fails_to_build {
                    facts.status = ServerStatus::Error;
                    facts.fault = Some("No valid host was found.".into());
                } else {
                    facts.status = ServerStatus::Active;
                }
            }
            if vm.off_at.is_some_and(|at| now >= at) {
                (vm.off_at, vm.runs, facts.task_state) = (None, false, None);
                if facts.status == ServerStatus::Active {
                    facts.status = ServerStatus::Shutoff;
                }
            }
            if vm.runs && now >= vm.ready_at && !vm.paused {
                vm.answered_at = Some(now);
            }
            gone |= vm.gone_at.is_some_and(|at| now >= at);
        }
        if gone {
            self.vms.retain(|_, vm| {
                let stays = vm.gone_at.is_none_or(|at| now < at);
                if let (false, Some(ip), Some(at)) = (stays, vm.facts.address, vm.answered_at) {
                    self.left.insert(ip, at);
                }
                stays
            });
        }
        // Sessions to a VM that does not run break: whoever deleted it must have waited.
        let vms = &self.vms;
        for server in self.lb.workers.iter_mut().flat_map(|w| &mut w.servers) {
            let ip = Some(server.address.ip());
            if !server.sessions.is_empty() && !vms.values().any(|vm| vm.facts.address == ip && vm.runs) {
                server.sessions.clear();
            }
        }
    }

    fn clients(&mut self) {
        self.lb.pass(self.now);
        if self.vip != Vip::Haproxy || self.now < self.lb.down_until {
            return;
        }
        let last = self.lb.workers.len().saturating_sub(1);
        for worker in 0..=last {
            let requests = if worker == last { 2 } else { u32::from(self.rng.u8(0..20) == 0) };
            for _ in 0..requests {
                self.request(worker);
            }
        }
    }

    /// One request through one worker: by weight, with one redispatch when the connection is refused.
    fn request(&mut self, worker: usize) {
        let mut tried = usize::MAX;
        for _ in 0..2 {
            let Some(servers) = self.lb.workers.get(worker).map(|w| &w.servers) else { return };
            let usable = || servers.iter().enumerate().filter(|(i, s)| *i != tried && s.usable());
            let total: u32 = usable().map(|(_, s)| u32::from(s.weight)).sum();
            if total == 0 {
                break;
            }
            let mut pick = self.rng.u32(0..total);
            let chosen = usable().find(|(_, s)| {
                let here = pick < u32::from(s.weight);
                pick = pick.saturating_sub(s.weight.into());
                here
            });
            let Some((index, server)) = chosen else { return };
            let ip = server.address.ip();
            if self.vm_at(ip).is_some_and(|vm| self.answers(vm)) {
                let long = self.long_sessions && self.rng.u8(0..200) == 0;
                let lasts = if long { self.rng.u64(5000..60_000) } else { self.rng.u64(5..150) };
                let end = self.after(lasts);
                if let Some(server) = self.lb.workers.get_mut(worker).and_then(|w| w.servers.get_mut(index)) {
                    server.sessions.push(end);
                    server.requests += 1;
                }
                self.served += 1;
                if let Some(vm) = self.vms.values_mut().find(|vm| vm.facts.address == Some(ip)) {
                    vm.carried_at = Some(self.now);
                }
                return;
            }
            tried = index;
        }
        let (workers, now) = (self.lb.workers.len(), self.now);
        self.lost.get_or_insert_with(|| {
            format!(
                "at {} no server answered worker {} of {workers}",
                now.since(DAWN).as_millis(),
                worker + 1
            )
        });
    }

    fn burn(&mut self, step: u64) {
        let Some(worker) = self.lb.workers.last() else { return };
        let total: u32 = worker.servers.iter().filter(|s| s.usable()).map(|s| u32::from(s.weight)).sum();
        let busy = self.now < self.busy_until;
        for vm in self.vms.values_mut().filter(|vm| vm.runs && !vm.paused) {
            let listed =
                worker.servers.iter().find(|s| s.usable() && vm.facts.address == Some(s.address.ip()));
            let share = match (self.vip, listed) {
                (Vip::Vm(id), _) if id == vm.facts.id => self.load,
                (Vip::Haproxy, Some(s)) => self.load * f64::from(s.weight) / f64::from(total.max(1)),
                _ => 0.5,
            };
            let wanted = if self.now < vm.ready_at { 100.0 } else { share.min(100.0) };
            let got = if busy { wanted / 10.0 } else { wanted };
            let nanoseconds = |percent: f64| (percent / 100.0 * step as f64 * 1e6) as u64;
            vm.time_ns += nanoseconds(got);
            vm.delay_ns += nanoseconds(if busy { 60.0 } else { 0.0 });
        }
    }

    // What sources see.

    pub(crate) fn counters(&self, ids: &[ServerId]) -> Vec<DomainCounters> {
        let here =
            self.vms.values().filter(|vm| ids.contains(&vm.facts.id) && vm.runs && self.now >= vm.away_until);
        here.map(|vm| DomainCounters {
            server: vm.facts.id,
            instance: Some(vm.instance),
            at_ns: self.now.0 * 1_000_000,
            state: if vm.paused { DomainState::Paused } else { DomainState::Running },
            vcpus: [(0, VcpuCounters { time_ns: vm.time_ns, delay_ns: Some(vm.delay_ns) })].into(),
            memory: None,
        })
        .collect()
    }

    /// What lists show: everything with a mark of the pool that is not too new.
    pub(crate) fn listed(&self) -> Vec<ServerFacts> {
        let listed = self.vms.values().filter(|vm| self.now >= vm.listed_from);
        listed.map(|vm| vm.facts.clone()).collect()
    }

    /// One server's own page.
    pub(crate) fn page(&self, id: ServerId) -> ServerFacts {
        self.vms.get(&id).map_or_else(|| ServerFacts::gone(id), |vm| vm.facts.clone())
    }

    pub(crate) fn vip_seen(&self) -> VipSeen {
        match self.vip {
            Vip::Haproxy => VipSeen::Ours,
            Vip::Nobody => VipSeen::Free,
            Vip::Vm(id) => VipSeen::Elsewhere(format!("on {id}")),
        }
    }
}
