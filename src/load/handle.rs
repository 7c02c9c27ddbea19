//! Starting, steering and ending a load.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{sync::watch, task::JoinSet, time::Instant};

use super::{
    client::{self, GroupRun, Shared},
    ledger::Ledger,
    pace::Pace,
    plan::{ClientGroup, LoadError, LoadPlan, is_field},
    report::{LoadReport, LoadSnapshot},
};

/// The counting client.
#[derive(Debug)]
pub struct Load;

impl Load {
    /// Starts the plan's clients on the current tokio runtime.
    ///
    /// # Errors
    /// [`LoadError::Plan`] when the plan would make malformed requests; nothing has been sent then.
    pub fn start(mut plan: LoadPlan) -> Result<LoadHandle, LoadError> {
        if !plan.target.path.starts_with('/') || !is_field(&plan.target.path) || !is_field(&plan.target.host)
        {
            return Err(LoadError::Plan(
                "the target's host and path must have no spaces or control characters".to_owned(),
            ));
        }
        let groups = std::mem::take(&mut plan.groups);
        groups.iter().try_for_each(ClientGroup::check)?;
        let run = format!("{:08x}", fastrand::u32(..));
        let shared = Shared {
            ledger: Ledger::new(run.clone())?,
            pace: Pace::new(plan.rate),
            deadline: plan.duration.map(|d| Instant::now() + d),
            plan,
            run,
        };
        let handle = LoadHandle { shared: Arc::new(shared), running: Mutex::default() };
        groups.into_iter().try_for_each(|group| handle.start_group(group))?;
        Ok(handle)
    }
}

/// A running load. Dropping it cuts its clients off at once, without a report.
#[derive(Debug)]
pub struct LoadHandle {
    shared: Arc<Shared>,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    stops: BTreeMap<String, watch::Sender<bool>>,
    clients: JoinSet<()>,
}

impl LoadHandle {
    /// Adds clients. A group of the same name that was stopped before is counted on; one that still runs is stopped.
    ///
    /// # Errors
    /// [`LoadError::Plan`] when the group would make malformed requests.
    pub fn start_group(&self, group: ClientGroup) -> Result<(), LoadError> {
        group.check()?;
        let column = self.shared.ledger.open_group(&group.name, group.clients);
        let (stop, stopped) = watch::channel(false);
        let run = Arc::new(GroupRun::new(group, column, &self.shared.plan, &self.shared.run));
        let mut running = self.running();
        for _ in 0..run.spec.clients {
            running.clients.spawn(client::run(Arc::clone(&self.shared), Arc::clone(&run), stopped.clone()));
        }
        // The sender that this replaces is dropped, which its clients take for a stop.
        running.stops.insert(run.spec.name.clone(), stop);
        Ok(())
    }

    /// Lets the clients of a group end after their request in flight. A name that does not run is no error.
    pub fn stop_group(&self, name: &str) {
        self.running().stops.remove(name);
    }

    /// Changes the bound of requests a second for all clients, at once; `None` lifts it, 0 is a pause.
    pub fn set_rate(&self, rate: Option<f64>) {
        self.shared.pace.set(rate);
    }

    /// Ends the running phase of the counts and starts one of this name.
    pub fn mark(&self, phase: &str) {
        self.shared.ledger.mark(phase);
    }

    /// All counts of this instant.
    #[must_use]
    pub fn snapshot(&self) -> LoadSnapshot {
        self.shared.ledger.snapshot()
    }

    /// Ends all clients, waits for the answers in flight (at most the plan's request timeout) and gives the report.
    pub async fn stop(self) -> LoadReport {
        self.running().stops.clear();
        self.finish().await
    }

    /// Waits until the plan's duration is over or every group has been stopped, and gives the report.
    pub async fn finish(self) -> LoadReport {
        let Running { stops: _stops, mut clients } =
            self.running.into_inner().unwrap_or_else(PoisonError::into_inner);
        while clients.join_next().await.is_some() {}
        self.shared.ledger.report(self.shared.plan.target.address.to_string())
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
