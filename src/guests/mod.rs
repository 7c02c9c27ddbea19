//! The guests of this pool as libvirt knows them: CPU and memory counters, lifecycle, and what `check` shows of the daemons.
//!
//! ```text
//!   sample() ──ask──► owner thread per libvirt daemon ──RPC──► libvirtd ──► QEMU
//!            ◄─answer─ (reconnects by itself)                     │
//!   events() ◄── broadcast ── libvirt's event loop thread ◄───────┘ lifecycle
//! ```
//!
//! libvirt's calls block, some of them for as long as somebody else holds a domain's lock. So none of them is made on a thread
//! of the daemon's runtime, and every answer has a deadline: past it a reading counts as missing, and that is never taken for
//! "idle" or "gone". Connections are read-only; nothing here can change a guest.

mod counters;
mod endpoint;
mod error;
#[cfg(test)]
mod fuzz;
mod inspect;
mod libvirt;
mod schedstat;
pub mod settings;

use std::collections::{BTreeMap, btree_map::Entry};

use tokio::sync::{broadcast, mpsc};

pub use self::{
    error::GuestsError,
    inspect::{DaemonSeen, DomainSeen, EndpointReport, GuestsReport, Version, inspect},
};
use self::{libvirt::Host, settings::GuestsSettings};
use crate::core::{
    guest::{DomainCounters, DomainState},
    ids::ServerId,
};

/// Lifecycle events that a slow listener may be behind; past it the oldest are lost, which costs nothing but time since every
/// reading tells the state again.
const EVENTS_KEPT: usize = 256;

/// Something happened to a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifecycle {
    /// The domain's UUID, which is the Nova server's id. Also strangers' domains are told.
    pub server: ServerId,
    /// What happened.
    pub what: LifecycleKind,
}

/// What happened to a domain (`virDomainEventType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifecycleKind {
    /// Its definition was made or changed.
    Defined,
    /// Its definition was removed.
    Undefined,
    /// Its QEMU started.
    Started,
    /// Its vCPUs stopped.
    Suspended,
    /// Its vCPUs go on.
    Resumed,
    /// Its QEMU ended.
    Stopped,
    /// The guest's own shutdown has finished.
    Shutdown,
    /// The guest put itself to sleep.
    Sleeping,
    /// The guest's kernel crashed.
    Crashed,
    /// A number that this program does not know.
    Other(i32),
}

/// The libvirt daemons that may know our guests. Dropping it ends its threads as soon as libvirt lets them go.
#[derive(Debug)]
pub struct Guests {
    hosts: Vec<Host>,
    settings: GuestsSettings,
    events: broadcast::Sender<Lifecycle>,
}

impl Guests {
    /// Starts to connect, in the background: a daemon that is not there yet is no error, and one that goes away is looked for
    /// until it is back.
    #[must_use]
    pub fn start(settings: GuestsSettings) -> Self {
        let (events, _) = broadcast::channel(EVENTS_KEPT);
        let hosts = endpoint::endpoints(&settings)
            .into_iter()
            .map(|endpoint| Host::start(endpoint, settings.sample, events.clone()))
            .collect();
        Self { hosts, settings, events }
    }

    /// Reads the counters of `servers`, one entry for each that some daemon knows; the others are absent, which does not mean
    /// that they are deleted.
    ///
    /// # Errors
    /// [`GuestsError`] when nothing was found and a daemon did not answer properly or in time.
    pub async fn sample(&self, servers: &[ServerId]) -> Result<Vec<DomainCounters>, GuestsError> {
        let (reply, mut answers) = mpsc::channel(self.hosts.len().max(1));
        let mut failures = Vec::new();
        let mut waiting: Vec<&Host> = Vec::new();
        for host in &self.hosts {
            match host.ask(servers.into(), reply.clone()) {
                Ok(()) => waiting.push(host),
                Err(error) => failures.push(error),
            }
        }
        drop(reply);
        let mut found = BTreeMap::new();
        let mut answered = false;
        let all_answers = async {
            while let Some((from, answer)) = answers.recv().await {
                if let Some(at) = waiting.iter().position(|host| host.endpoint().uri == from) {
                    waiting.swap_remove(at).answered();
                }
                match answer {
                    Ok(counters) => {
                        answered = true;
                        merge(&mut found, counters);
                    }
                    Err(error) => failures.push(error),
                }
            }
        };
        let _ = tokio::time::timeout(self.settings.deadline, all_answers).await;
        for host in waiting {
            failures.push(host.missed(self.settings.deadline));
        }
        // A place that was only probed and holds no libvirt is no failure as long as another one answered.
        if answered {
            failures.retain(|error| !matches!(error, GuestsError::NotThere { .. }));
        }
        if found.is_empty()
            && let Some(error) = GuestsError::of_all(failures)
        {
            return Err(error);
        }
        Ok(found.into_values().collect())
    }

    /// What happens to domains from now on. Events are hints: a listener that lags behind loses the oldest ones, none are told
    /// of the time without a connection, and one may be told twice while a thread that hung is being replaced.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Lifecycle> {
        self.events.subscribe()
    }
}

/// During a migration two daemons know a domain; the one that runs it is right.
fn merge(found: &mut BTreeMap<ServerId, DomainCounters>, counters: Vec<DomainCounters>) {
    for reading in counters {
        match found.entry(reading.server) {
            Entry::Vacant(entry) => {
                entry.insert(reading);
            }
            Entry::Occupied(mut entry) => {
                if entry.get().state != DomainState::Running && reading.state == DomainState::Running {
                    entry.insert(reading);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn of_two_daemons_that_know_a_domain_the_one_that_runs_it_is_right() {
        let reading = |state, instance| DomainCounters {
            server: ServerId(Uuid::nil()),
            instance,
            at_ns: 0,
            state,
            vcpus: BTreeMap::new(),
            memory: None,
        };
        for order in [[0, 1], [1, 0]] {
            let readings = [reading(DomainState::Paused, Some(1)), reading(DomainState::Running, Some(2))];
            let mut found = BTreeMap::new();
            for index in order {
                merge(&mut found, vec![readings[index].clone()]);
            }
            assert_eq!(found[&ServerId(Uuid::nil())].instance, Some(2));
        }
    }
}
