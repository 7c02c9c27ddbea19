//! What HAProxy says of itself, over every worker.

use super::{
    Haproxy,
    csv::{Row, Table},
    description::Description,
    error::HaproxyError,
    master::{BACKEND, FRONTEND, Patience, changing},
    processes::Processes,
    settings::ServiceMode,
};
use crate::core::{ids::BackendName, lb::LbSeen};

impl Haproxy {
    /// Looks at every worker, the current one and the old ones.
    ///
    /// # Errors
    /// HAProxy does not answer. A worker that ends while it is asked is no error: its sessions have ended with it.
    pub async fn observe(&self) -> Result<LbSeen, HaproxyError> {
        let patience = Patience::new();
        loop {
            match self.look().await {
                Ok(seen) => return Ok(seen),
                Err(error) => patience.with(error).await?,
            }
        }
    }

    /// One look; it fails when it was blurred by a reload.
    async fn look(&self) -> Result<LbSeen, HaproxyError> {
        let before = self.master.processes().await?;
        let current = before.current.ok_or_else(changing)?;
        let description = self.master.description(current).await?;
        let states = self.master.servers(current).await?;
        let mut seen = LbSeen {
            generation: self.ours(&description).map(|description| description.generation),
            worker_pid: current,
            file_edited: self.is_edited(&self.file.read()?),
            ..LbSeen::default()
        };
        self.add_current(&mut seen, &self.master.statistics(current).await?);
        for (name, state) in states {
            let server = seen.servers.entry(name).or_default();
            server.address = state.address;
            server.weight = state.weight;
            server.admin = state.admin;
        }
        let mut gone = Vec::new();
        for &pid in &before.old {
            // Whether it has ended is seen below.
            if self.add_old(&mut seen, pid).await.is_err() {
                gone.push(pid);
            }
        }
        let after = self.master.processes().await?;
        if !is_later_than(&after, &before) || gone.iter().any(|pid| after.old.contains(pid)) {
            return Err(changing());
        }
        seen.old_workers = after.old;
        Ok(seen)
    }

    /// The description, if it is one of this pool's.
    pub(super) fn ours(&self, description: &str) -> Option<Description> {
        description.parse().ok().filter(|description: &Description| description.pool == self.settings.pool)
    }

    /// Adds what an old worker still does. It runs no checks: what is down there stays down, and what is drained stays drained.
    async fn add_old(&self, seen: &mut LbSeen, pid: u32) -> Result<(), HaproxyError> {
        let states = self.master.servers(pid).await?;
        let statistics = self.master.statistics(pid).await?;
        let rows: Vec<_> = statistics.rows().filter(|row| row.text("pxname") == BACKEND).collect();
        // Before version 2.5 a worker that stops leaves its proxies out of the statistics, but not out of the list of sessions.
        let sessions = if rows.is_empty() { self.master.sessions(pid).await? } else { Vec::new() };
        for row in statistics.rows() {
            if is_frontend(row) {
                seen.sessions += row.count("scur");
            } else if let Some(name) = server(row) {
                let server = seen.servers.entry(name).or_default();
                server.sessions += row.count("scur");
                server.queued += row.count("qcur");
            }
        }
        for session in sessions {
            seen.sessions += 1;
            if let Some(name) = session.server {
                seen.servers.entry(name).or_default().sessions += 1;
            }
        }
        for (name, state) in states {
            seen.servers.entry(name).or_default().usable_by_old_worker |= state.is_usable();
        }
        Ok(())
    }

    fn add_current(&self, seen: &mut LbSeen, table: &Table) {
        let http = self.settings.mode == ServiceMode::Http;
        for row in table.rows() {
            if is_frontend(row) {
                seen.sessions += row.count("scur");
                seen.requests = row.count(if http { "req_tot" } else { "stot" });
                seen.request_rate = row.count(if http { "req_rate" } else { "rate" });
            }
            let Some(name) = server(row) else { continue };
            let status = row.text("status");
            // A star marks that the next check is under way.
            let check = row.text("check_status").trim_start_matches("* ");
            let errors = row.count("econ") + row.count("eresp");
            let server = seen.servers.entry(name).or_default();
            server.listed = true;
            server.up = status.starts_with("UP") || status.starts_with("DRAIN") || status == "no check";
            server.check_ok = matches!(check, "L4OK" | "L6OK" | "L7OK");
            check.clone_into(&mut server.check);
            server.sessions += row.count("scur");
            server.queued += row.count("qcur");
            server.requests = row.count("stot");
            server.request_rate = row.count("rate");
            server.answers_ok = if http {
                row.count("hrsp_2xx") + row.count("hrsp_3xx")
            } else {
                row.count("stot").saturating_sub(errors + row.count("scur"))
            };
            server.errors = errors + row.count("hrsp_5xx");
            server.retries = row.count("wretr") + row.count("wredis");
        }
    }
}

fn is_frontend(row: Row<'_>) -> bool {
    row.text("pxname") == FRONTEND && row.text("svname") == "FRONTEND"
}

/// The server that a row of `show stat` is about, if it is about one of ours.
fn server(row: Row<'_>) -> Option<BackendName> {
    let name = row.text("svname");
    if row.text("pxname") != BACKEND || name == "BACKEND" {
        return None;
    }
    BackendName::try_new(name).ok()
}

/// Whether nothing but the end of old workers lies between two looks.
fn is_later_than(after: &Processes, before: &Processes) -> bool {
    after.current == before.current && after.old.iter().all(|pid| before.old.contains(pid))
}
