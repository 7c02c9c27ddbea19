//! The model of HAProxy: a file, a worker that runs it, and old workers that serve from the lists that they were born with.

use std::net::{IpAddr, SocketAddr};

use lbsidecar::core::{
    ids::BackendName,
    lb::{LbAdmin, LbMode, LbModel, LbSeen, LbServerSeen},
    time::Timestamp,
};

/// One server as one worker sees it.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) name: BackendName,
    pub(crate) address: SocketAddr,
    pub(crate) weight: u16,
    pub(crate) admin: LbAdmin,
    pub(crate) up: bool,
    /// Good checks in a row, or bad ones below zero.
    pub(crate) streak: i8,
    /// When each session ends.
    pub(crate) sessions: Vec<Timestamp>,
    pub(crate) requests: u64,
}

impl Server {
    /// Whether the worker would send it a new request.
    pub(crate) fn usable(&self) -> bool {
        self.up && self.weight > 0 && self.admin == LbAdmin::Ready
    }
}

/// One worker.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    pub(crate) pid: u32,
    pub(crate) servers: Vec<Server>,
    /// When it became an old one.
    pub(crate) old_since: Option<Timestamp>,
    /// For an old one: until then idle clients may still send one more request.
    pub(crate) idle_until: Timestamp,
}

impl Worker {
    pub(crate) fn server(&self, name: &BackendName) -> Option<&Server> {
        self.servers.iter().find(|s| s.name == *name)
    }
}

/// HAProxy.
#[derive(Debug, Default)]
pub(crate) struct Balancer {
    pub(crate) file: LbModel,
    pub(crate) generation: u64,
    /// The current one is the last.
    pub(crate) workers: Vec<Worker>,
    /// It does not run until then.
    pub(crate) down_until: Timestamp,
    /// Somebody edited the file.
    pub(crate) edited: bool,
    pids: u32,
}

impl Balancer {
    /// Starts a worker from the file; the one before becomes an old one, whose clients stay until `idle_until` at most.
    pub(crate) fn start_worker(&mut self, now: Timestamp, idle_until: Timestamp) {
        self.pids += 1;
        let servers = self.file.servers.iter().map(|s| Server {
            name: s.name.clone(),
            address: s.address,
            weight: s.weight.get(),
            admin: LbAdmin::Ready,
            // As measured: up until the first check fails.
            up: true,
            streak: 0,
            sessions: Vec::new(),
            requests: 0,
        });
        let worker = Worker { pid: self.pids, servers: servers.collect(), old_since: None, idle_until: now };
        if let Some(old) = self.workers.last_mut() {
            (old.old_since, old.idle_until) = (Some(now), idle_until);
        }
        self.workers.push(worker);
    }

    pub(crate) fn current(&self) -> Option<&Worker> {
        self.workers.last()
    }

    /// What the adapter does: file first, then a reload when the structure changed, then run-time commands.
    pub(crate) fn apply(&mut self, model: &LbModel, now: Timestamp, idle_until: Timestamp) {
        let line = |s: &lbsidecar::core::lb::LbServer| (s.name.clone(), s.address);
        let names_of = |w: &Worker| w.servers.iter().map(|s| s.name.clone()).collect::<Vec<_>>();
        let wanted: Vec<_> = model.servers.iter().map(line).collect();
        let listed: Vec<_> = self.file.servers.iter().map(line).collect();
        let running = self.current().map(names_of).unwrap_or_default();
        let structural = listed != wanted
            || !running.iter().eq(wanted.iter().map(|(name, _)| name))
            || self.file.closing != model.closing;
        self.file = model.clone();
        if structural {
            if let Some(worker) = self.workers.last_mut() {
                for server in &mut worker.servers {
                    if !wanted.iter().any(|(name, _)| *name == server.name) {
                        server.admin = LbAdmin::Maint;
                    }
                }
            }
            self.generation += 1;
            self.start_worker(now, idle_until);
        }
        let Some(worker) = self.workers.last_mut() else { return };
        for (server, live) in model.servers.iter().zip(&mut worker.servers) {
            live.weight = server.weight.get();
            live.admin = if server.mode == LbMode::Drain { LbAdmin::Drain } else { LbAdmin::Ready };
        }
    }

    /// All workers die at once and one starts again from the file.
    pub(crate) fn crash(&mut self, now: Timestamp) {
        self.workers.clear();
        self.start_worker(now, now);
    }

    /// One round of health checks.
    pub(crate) fn check(&mut self, answers: impl Fn(IpAddr) -> bool) {
        let Some(worker) = self.workers.last_mut() else { return };
        for server in worker.servers.iter_mut().filter(|s| s.admin != LbAdmin::Maint) {
            server.streak = if answers(server.address.ip()) {
                server.streak.max(0) + 1
            } else {
                server.streak.min(0) - 1
            };
            server.streak = server.streak.clamp(-3, 3);
            server.up = if server.streak >= 2 { true } else { server.up && server.streak > -2 };
        }
    }

    /// Sessions end; old workers without any end, too.
    pub(crate) fn pass(&mut self, now: Timestamp) {
        for server in self.workers.iter_mut().flat_map(|w| &mut w.servers) {
            server.sessions.retain(|end| *end > now);
        }
        self.workers.retain(|worker| {
            worker.old_since.is_none()
                || worker.idle_until > now
                || worker.servers.iter().any(|s| !s.sessions.is_empty())
        });
    }

    /// What the adapter sees, over all workers.
    pub(crate) fn seen(&self) -> LbSeen {
        let Some((current, old)) = self.workers.split_last() else { return LbSeen::default() };
        let mut seen = LbSeen {
            generation: Some(self.generation),
            worker_pid: current.pid,
            old_workers: old.iter().map(|w| w.pid).collect(),
            file_edited: self.edited,
            ..LbSeen::default()
        };
        for server in &current.servers {
            let check = match server.streak {
                0 => "INI",
                1.. => "L7OK",
                _ => "L4CON",
            };
            let entry = LbServerSeen {
                listed: true,
                address: Some(server.address),
                up: server.up,
                check_ok: server.up && server.streak > 0,
                check: check.to_owned(),
                weight: server.weight,
                admin: server.admin,
                sessions: server.sessions.len() as u64,
                requests: server.requests,
                answers_ok: server.requests,
                ..LbServerSeen::default()
            };
            seen.servers.insert(server.name.clone(), entry);
        }
        for server in old.iter().flat_map(|w| &w.servers) {
            let entry = seen.servers.entry(server.name.clone()).or_default();
            entry.sessions += server.sessions.len() as u64;
            entry.usable_by_old_worker |= server.usable();
        }
        seen
    }

    /// How many workers would send a VM a request or hold a session to it.
    pub(crate) fn workers_on(&self, ip: IpAddr) -> usize {
        let touches = |s: &Server| s.address.ip() == ip && (s.usable() || !s.sessions.is_empty());
        self.workers.iter().filter(|w| w.servers.iter().any(touches)).count()
    }
}
