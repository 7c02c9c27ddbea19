//! The model world: Nova with VMs, HAProxy with its workers, clients with sessions. It knows nothing of the daemon; it answers calls,
//! lets time pass, and notices when a client loses a request.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use fastrand::Rng;
use lbsidecar::core::{
    cloud::{Mark, ServerFacts, ServerStatus},
    event::VipSeen,
    guest::{DomainCounters, DomainState, VcpuCounters},
    ids::{BackendName, ServerId},
    lb::{LbAdmin, LbMode, LbModel, LbSeen, LbServerSeen},
    time::Timestamp,
};
use uuid::Uuid;

/// One VM at Nova, living or gone.
#[derive(Debug, Clone)]
pub(crate) struct Vm {
    pub(crate) facts: ServerFacts,
    /// When it runs, when its service answers, when it is off, when it is gone.
    pub(crate) active_at: Timestamp,
    pub(crate) ready_at: Timestamp,
    pub(crate) off_at: Option<Timestamp>,
    pub(crate) gone_at: Option<Timestamp>,
    pub(crate) fails_to_build: bool,
    /// libvirt's view.
    pub(crate) instance: u32,
    pub(crate) time_ns: u64,
    pub(crate) paused: bool,
    pub(crate) cpu: f64,
    /// Hidden from lists until then: lists lag behind.
    pub(crate) listed_from: Timestamp,
}

/// One server as one worker sees it.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) weight: u16,
    pub(crate) admin: LbAdmin,
    pub(crate) up: bool,
    pub(crate) checked: bool,
    pub(crate) streak: i8,
    pub(crate) sessions: Vec<Timestamp>,
    pub(crate) requests: u64,
    pub(crate) answers_ok: u64,
}

/// One HAProxy worker.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    pub(crate) pid: u32,
    pub(crate) generation: u64,
    pub(crate) servers: BTreeMap<BackendName, Server>,
    /// For an old worker: until then idle clients may still send one more request.
    pub(crate) idle_until: Timestamp,
}

/// Everything outside of the daemon.
pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) rng: Rng,
    pub(crate) vms: BTreeMap<ServerId, Vm>,
    pub(crate) file: LbModel,
    pub(crate) generation: u64,
    /// The current one is the last.
    pub(crate) workers: Vec<Worker>,
    pub(crate) next_pid: u32,
    pub(crate) next_vm: u32,
    pub(crate) vip: Vip,
    /// Load of the whole service, in percent of one VM.
    pub(crate) load: f64,
    /// Requests that clients lost although nothing outside of the daemon's hands explains it.
    pub(crate) lost: Vec<String>,
    pub(crate) served: u64,
    pub(crate) long_sessions: bool,
}

/// Where the service address leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Vip {
    Haproxy,
    Vm(ServerId),
    Nobody,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let now = Timestamp(1_800_000_000_000);
        let mut world = Self {
            now,
            rng: Rng::with_seed(seed),
            vms: BTreeMap::new(),
            file: LbModel::default(),
            generation: 0,
            workers: Vec::new(),
            next_pid: 100,
            next_vm: 1,
            vip: Vip::Nobody,
            load: 30.0,
            lost: Vec::new(),
            served: 0,
            long_sessions: false,
        };
        let base = world.boot("vm-test", None);
        if let Some(vm) = world.vms.get_mut(&base) {
            (vm.active_at, vm.ready_at) = (now, now);
        }
        world.vip = Vip::Vm(base);
        let stranger = world.boot("somebody-elses", None);
        if let Some(vm) = world.vms.get_mut(&stranger) {
            (vm.active_at, vm.ready_at) = (now, now);
        }
        world.start_worker();
        world
    }

    pub(crate) fn after(&self, milliseconds: u64) -> Timestamp {
        self.now.plus(Duration::from_millis(milliseconds))
    }

    pub(crate) fn boot(&mut self, name: &str, mark: Option<Mark>) -> ServerId {
        let number = self.next_vm;
        self.next_vm += 1;
        let id = ServerId(Uuid::from_u128(u128::from(number) << 96));
        let (build, start) = (self.rng.u64(1000..8000), self.rng.u64(1000..6000));
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
            instance: number,
            time_ns: 0,
            paused: false,
            cpu: 0.0,
            listed_from: self.now,
        };
        self.vms.insert(id, vm);
        id
    }

    /// Whether its service answers.
    pub(crate) fn answers(&self, vm: &Vm) -> bool {
        vm.facts.status == ServerStatus::Active && self.now >= vm.ready_at && !vm.paused
    }

    fn vm_at(&self, address: SocketAddr) -> Option<&Vm> {
        self.vms
            .values()
            .find(|vm| vm.facts.status != ServerStatus::Deleted && vm.facts.address == Some(address.ip()))
    }

    // HAProxy.

    /// Starts a worker from the file; the one before becomes an old one.
    pub(crate) fn start_worker(&mut self) {
        self.next_pid += 1;
        let servers = self.file.servers.iter().map(|s| {
            let server = Server {
                address: s.address,
                weight: s.weight.get(),
                admin: LbAdmin::Ready,
                // As measured: up until the first check fails.
                up: true,
                checked: false,
                streak: 0,
                sessions: Vec::new(),
                requests: 0,
                answers_ok: 0,
            };
            (s.name.clone(), server)
        });
        let worker = Worker {
            pid: self.next_pid,
            generation: self.generation,
            servers: servers.collect(),
            idle_until: self.now,
        };
        // Nobody is connected to a worker that the service address did not lead to.
        let idle = if self.vip == Vip::Haproxy { self.rng.u64(0..5000) } else { 0 };
        let idle_until = self.after(idle);
        if let Some(old) = self.workers.last_mut() {
            old.idle_until = idle_until;
        }
        self.workers.push(worker);
    }

    /// What the adapter does: file first, then a reload when the membership changed, then run-time commands.
    pub(crate) fn apply(&mut self, model: &LbModel) {
        let listed: Vec<_> = self.file.servers.iter().map(|s| (s.name.clone(), s.address)).collect();
        let wanted: Vec<_> = model.servers.iter().map(|s| (s.name.clone(), s.address)).collect();
        let running: Vec<_> =
            self.workers.last().map(|w| w.servers.keys().cloned().collect()).unwrap_or_default();
        let mut names: Vec<_> = wanted.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        let structural = listed != wanted || running != names;
        self.file = model.clone();
        if structural {
            if let Some(worker) = self.workers.last_mut() {
                for (name, server) in &mut worker.servers {
                    if !names.contains(name) {
                        server.admin = LbAdmin::Maint;
                    }
                }
            }
            self.generation += 1;
            self.start_worker();
        }
        if let Some(worker) = self.workers.last_mut() {
            for server in &model.servers {
                if let Some(live) = worker.servers.get_mut(&server.name) {
                    live.weight = server.weight.get();
                    live.admin = if server.mode == LbMode::Drain { LbAdmin::Drain } else { LbAdmin::Ready };
                }
            }
        }
    }

    /// All workers die at once and one starts again from the file.
    pub(crate) fn crash_haproxy(&mut self) {
        self.workers.clear();
        self.start_worker();
    }

    pub(crate) fn seen(&self) -> LbSeen {
        let Some((current, old)) = self.workers.split_last() else { return LbSeen::default() };
        let mut seen = LbSeen {
            generation: Some(current.generation),
            worker_pid: current.pid,
            old_workers: old.iter().map(|w| w.pid).collect(),
            ..LbSeen::default()
        };
        for (name, server) in &current.servers {
            let entry = LbServerSeen {
                listed: true,
                address: Some(server.address),
                up: server.up,
                check_ok: server.checked && server.up,
                check: if server.checked { "L7OK" } else { "INI" }.to_owned(),
                weight: server.weight,
                admin: server.admin,
                sessions: server.sessions.len() as u64,
                requests: server.requests,
                answers_ok: server.answers_ok,
                ..LbServerSeen::default()
            };
            seen.servers.insert(name.clone(), entry);
        }
        for worker in old {
            for (name, server) in &worker.servers {
                let entry = seen.servers.entry(name.clone()).or_default();
                entry.sessions += server.sessions.len() as u64;
                entry.usable_by_old_worker |= usable(server);
            }
        }
        seen
    }

    // Time.

    /// Lets `step` milliseconds pass.
    pub(crate) fn pass(&mut self, step: u64) {
        self.now = self.after(step);
        self.nova();
        if self.now.0 % 1000 < step {
            self.checks();
        }
        self.clients();
        self.burn(step);
    }

    fn nova(&mut self) {
        let now = self.now;
        for vm in self.vms.values_mut() {
            let facts = &mut vm.facts;
            if facts.status == ServerStatus::Build && now >= vm.active_at {
                facts.task_state = None;
                if vm.fails_to_build {
                    facts.status = ServerStatus::Error;
                    facts.fault = Some("No valid host was found.".into());
                } else {
                    facts.status = ServerStatus::Active;
                }
            }
            if vm.off_at.is_some_and(|at| now >= at) {
                vm.off_at = None;
                facts.task_state = None;
                if facts.status == ServerStatus::Active {
                    facts.status = ServerStatus::Shutoff;
                }
            }
            if vm.gone_at.is_some_and(|at| now >= at) {
                vm.gone_at = None;
                facts.status = ServerStatus::Deleted;
            }
        }
        // Sessions to a VM that is gone break: whoever deleted it must have waited.
        let gone: Vec<SocketAddr> = self
            .workers
            .iter()
            .flat_map(|w| w.servers.values())
            .filter(|s| !s.sessions.is_empty() && self.vm_at(s.address).is_none_or(|vm| !self.runs(vm)))
            .map(|s| s.address)
            .collect();
        for worker in &mut self.workers {
            for server in worker.servers.values_mut().filter(|s| gone.contains(&s.address)) {
                server.sessions.clear();
            }
        }
    }

    fn runs(&self, vm: &Vm) -> bool {
        vm.facts.status == ServerStatus::Active
    }

    fn checks(&mut self) {
        let answers: BTreeMap<SocketAddr, bool> = self
            .workers
            .last()
            .map(|w| w.servers.values().map(|s| s.address).collect::<Vec<_>>())
            .unwrap_or_default()
            .into_iter()
            .map(|address| (address, self.vm_at(address).is_some_and(|vm| self.answers(vm))))
            .collect();
        let Some(worker) = self.workers.last_mut() else { return };
        for server in worker.servers.values_mut().filter(|s| s.admin != LbAdmin::Maint) {
            let good = answers.get(&server.address).copied().unwrap_or_default();
            server.checked = true;
            server.streak =
                if good { server.streak.max(0) + 1 } else { server.streak.min(0) - 1 }.clamp(-3, 3);
            if server.streak >= 2 {
                server.up = true;
            } else if server.streak <= -2 {
                server.up = false;
            }
        }
    }

    fn clients(&mut self) {
        let now = self.now;
        for worker in &mut self.workers {
            for server in worker.servers.values_mut() {
                server.sessions.retain(|end| *end > now);
            }
        }
        let last = self.workers.len().saturating_sub(1);
        let mut index = 0;
        self.workers.retain(|worker| {
            index += 1;
            index > last || worker.idle_until > now || worker.servers.values().any(|s| !s.sessions.is_empty())
        });
        if self.vip != Vip::Haproxy {
            return;
        }
        let last = self.workers.len().saturating_sub(1);
        for worker in 0..self.workers.len() {
            let requests = if worker == last { 2 } else { u32::from(self.rng.u8(0..20) == 0) };
            for _ in 0..requests {
                self.request(worker);
            }
        }
    }

    /// One request through one worker: by weight, with one redispatch when the connection is refused.
    fn request(&mut self, worker: usize) {
        let mut tried: Vec<BackendName> = Vec::new();
        for _ in 0..2 {
            let Some(candidates) = self.workers.get(worker).map(|w| {
                w.servers
                    .iter()
                    .filter(|(name, s)| usable(s) && !tried.contains(name))
                    .map(|(name, s)| (name.clone(), s.address, u32::from(s.weight)))
                    .collect::<Vec<_>>()
            }) else {
                return;
            };
            let total: u32 = candidates.iter().map(|(_, _, weight)| weight).sum();
            if total == 0 {
                break;
            }
            let mut pick = self.rng.u32(0..total);
            let Some((name, address)) = candidates.into_iter().find_map(|(name, address, weight)| {
                if pick < weight {
                    return Some((name, address));
                }
                pick -= weight;
                None
            }) else {
                return;
            };
            if self.vm_at(address).is_some_and(|vm| self.answers(vm)) {
                let long = self.long_sessions && self.rng.u8(0..200) == 0;
                let lasts = if long { self.rng.u64(5000..60_000) } else { self.rng.u64(5..150) };
                let end = self.after(lasts);
                if let Some(server) = self.workers.get_mut(worker).and_then(|w| w.servers.get_mut(&name)) {
                    server.sessions.push(end);
                    server.requests += 1;
                    server.answers_ok += 1;
                }
                self.served += 1;
                return;
            }
            tried.push(name);
        }
        self.lost.push(format!("{} no server answered worker {worker} (tried {tried:?})", self.now));
    }

    fn burn(&mut self, step: u64) {
        let Some(worker) = self.workers.last() else { return };
        let usable_servers: Vec<_> = worker.servers.values().filter(|s| usable(s)).collect();
        let total: f64 = usable_servers.iter().map(|s| f64::from(s.weight)).sum();
        let shares: Vec<(IpAddr, f64)> = usable_servers
            .iter()
            .map(|s| (s.address.ip(), self.load * f64::from(s.weight) / total.max(1.0)))
            .collect();
        let direct = match self.vip {
            Vip::Vm(id) => Some(id),
            Vip::Haproxy | Vip::Nobody => None,
        };
        for vm in self.vms.values_mut() {
            let share =
                shares.iter().find(|(ip, _)| vm.facts.address == Some(*ip)).map_or(0.5, |(_, cpu)| *cpu);
            let share = if direct == Some(vm.facts.id) { self.load } else { share };
            vm.cpu = if self.now < vm.ready_at { 100.0 } else { share.min(100.0) };
            if vm.facts.status == ServerStatus::Active && !vm.paused {
                vm.time_ns += (vm.cpu / 100.0 * step as f64 * 1e6) as u64;
            }
        }
    }

    // What sources see.

    pub(crate) fn counters(&self, ids: &[ServerId]) -> Vec<DomainCounters> {
        let running = self
            .vms
            .values()
            .filter(|vm| ids.contains(&vm.facts.id) && vm.facts.status == ServerStatus::Active);
        running
            .map(|vm| DomainCounters {
                server: vm.facts.id,
                instance: Some(vm.instance),
                at_ns: self.now.0 * 1_000_000,
                state: if vm.paused { DomainState::Paused } else { DomainState::Running },
                vcpus: [(0, VcpuCounters { time_ns: vm.time_ns, delay_ns: Some(0) })].into(),
                memory: None,
            })
            .collect()
    }

    pub(crate) fn servers(&self, known: &[ServerId]) -> Vec<ServerFacts> {
        self.vms
            .values()
            .filter(|vm| {
                let listed = self.now >= vm.listed_from && vm.facts.status != ServerStatus::Deleted;
                known.contains(&vm.facts.id) || (vm.facts.mark.is_some() && listed)
            })
            .map(|vm| vm.facts.clone())
            .collect()
    }

    pub(crate) fn vip_seen(&self) -> VipSeen {
        match self.vip {
            Vip::Haproxy => VipSeen::Ours,
            Vip::Nobody => VipSeen::Free,
            Vip::Vm(id) => VipSeen::Elsewhere(format!("on {id}")),
        }
    }
}

/// Whether a worker would send this server a new request.
pub(crate) fn usable(server: &Server) -> bool {
    server.up && server.weight > 0 && server.admin == LbAdmin::Ready
}
