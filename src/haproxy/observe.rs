//! What HAProxy says of itself, over every worker.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    Haproxy,
    csv::{Row, Table},
    description::Description,
    error::HaproxyError,
    master::{BACKEND, FRONTEND},
    processes::Processes,
    settings::ServiceMode,
};
use crate::core::{ids::BackendName, lb::LbSeen};

/// How long the workers may keep changing under our eyes.
const DEADLINE: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_millis(20);

impl Haproxy {
    /// Looks at every worker, the current one and the old ones.
    ///
    /// # Errors
    /// HAProxy does not answer. A worker that ends while it is asked is no error: its sessions have ended with it.
    pub async fn observe(&self) -> Result<LbSeen, HaproxyError> {
        let until = Instant::now() + DEADLINE;
        loop {
            let looked = self.look().await;
            match looked {
                Ok(Some(seen)) => return Ok(seen),
                // A worker came or went in between: what was counted is of no single moment.
                Ok(None) if Instant::now() < until => {}
                Ok(None) => {
                    return Err(HaproxyError::Unconfirmed("its workers keep changing".into()));
                }
                Err(HaproxyError::WorkerGone { .. } | HaproxyError::Command { .. })
                    if Instant::now() < until => {}
                Err(error) => return Err(error),
            }
            sleep(RETRY).await;
        }
    }

    /// One look; `None` when it was blurred by a reload.
    async fn look(&self) -> Result<Option<LbSeen>, HaproxyError> {
        let before = self.master.processes().await?;
        let Some(current) = before.current else { return Ok(None) };
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
            match self.master.statistics(pid).await {
                Ok(table) => add_old(&mut seen, &table),
                // Whether it has ended is seen below.
                Err(_) => gone.push(pid),
            }
        }
        let after = self.master.processes().await?;
        if !is_later_than(&after, &before) || gone.iter().any(|pid| after.old.contains(pid)) {
            return Ok(None);
        }
        seen.old_workers = after.old;
        Ok(Some(seen))
    }

    /// The description, if it is one of this pool's.
    pub(super) fn ours(&self, description: &str) -> Option<Description> {
        description.parse().ok().filter(|description: &Description| description.pool == self.settings.pool)
    }

    fn add_current(&self, seen: &mut LbSeen, table: &Table) {
        let http = self.settings.mode == ServiceMode::Http;
        for row in table.rows() {
            if row.text("pxname") == FRONTEND && row.text("svname") == "FRONTEND" {
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

fn add_old(seen: &mut LbSeen, table: &Table) {
    for row in table.rows() {
        if row.text("pxname") == FRONTEND && row.text("svname") == "FRONTEND" {
            seen.sessions += row.count("scur");
        }
        let Some(name) = server(row) else { continue };
        let server = seen.servers.entry(name).or_default();
        server.sessions += row.count("scur");
        server.queued += row.count("qcur");
        // An old worker runs no checks: what is down there stays down, and what is drained stays drained.
        let status = row.text("status");
        let unusable = ["DRAIN", "MAINT", "DOWN", "NOLB"].iter().any(|word| status.starts_with(word))
            || row.text("weight") == "0";
        server.usable_by_old_worker |= !unusable;
    }
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
