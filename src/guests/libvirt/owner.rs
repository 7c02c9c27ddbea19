//! The thread that owns the connection to one libvirt daemon: answers questions, notices a lost connection, opens a new one.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use tokio::sync::{broadcast, mpsc};
use tracing::{debug, info, warn};

use super::{
    Answer,
    connection::{Connection, monotonic_ns},
};
use crate::{
    core::{guest::DomainCounters, ids::ServerId},
    guests::{Lifecycle, endpoint::Endpoint, error::GuestsError, schedstat::Scheduler},
};

/// First wait after a failed attempt to connect; it doubles.
const RETRY_FIRST: Duration = Duration::from_millis(250);
/// Longest wait between attempts.
const RETRY_MAX: Duration = Duration::from_secs(15);
/// Below this time between readings libvirt's steps of 10 ms are more than 1 % of it.
const COARSE: Duration = Duration::from_secs(1);
/// How often a connection is looked after while nobody asks.
const IDLE: Duration = Duration::from_secs(1);

/// A question.
#[derive(Debug)]
pub(super) struct Ask {
    /// Whose counters.
    pub(super) servers: Arc<[ServerId]>,
    /// Where the answer goes.
    pub(super) reply: mpsc::Sender<Answer>,
}

/// What the thread holds.
pub(super) struct Owner {
    endpoint: Endpoint,
    events: broadcast::Sender<Lifecycle>,
    link: Link,
    /// Only for readings that follow each other faster than libvirt's times can tell.
    scheduler: Option<Scheduler>,
}

enum Link {
    Up(Connection),
    Down {
        /// Why, as told to whoever asks.
        why: GuestsError,
        /// When to try again, on CLOCK_MONOTONIC.
        retry_at_ns: u64,
        /// How long to wait after the next failure.
        wait: Duration,
    },
}

impl Link {
    /// No connection, and no attempt yet.
    fn down(endpoint: &Endpoint) -> Self {
        let why = GuestsError::Call {
            uri: endpoint.uri.clone(),
            operation: "connect",
            cause: "there was no attempt yet".to_owned(),
        };
        Self::Down { why, retry_at_ns: 0, wait: RETRY_FIRST }
    }
}

impl Owner {
    pub(super) fn new(endpoint: Endpoint, sample: Duration, events: broadcast::Sender<Lifecycle>) -> Self {
        let link = Link::down(&endpoint);
        let scheduler = (sample < COARSE).then(Scheduler::default);
        Self { endpoint, events, link, scheduler }
    }

    /// Works until nobody can ask any more.
    pub(super) fn run(mut self, asks: &Receiver<Ask>) {
        loop {
            self.look_after();
            match asks.recv_timeout(self.idle()) {
                Ok(ask) => {
                    // Whoever asked may have given up while an earlier call blocked.
                    if !ask.reply.is_closed() {
                        let answer = self.read(&ask.servers);
                        let _ = ask.reply.try_send((self.endpoint.uri.clone(), answer));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn read(&mut self, servers: &[ServerId]) -> Result<Vec<DomainCounters>, GuestsError> {
        let answer = self.try_read(servers);
        // A daemon that was restarted is back at once as a rule: then nobody has to know.
        match &self.link {
            Link::Up(connection) if answer.is_err() && !connection.is_alive() => self.try_read(servers),
            _ => answer,
        }
    }

    fn try_read(&mut self, servers: &[ServerId]) -> Result<Vec<DomainCounters>, GuestsError> {
        self.look_after();
        match &mut self.link {
            Link::Up(connection) => {
                let mut readings = connection.read(servers)?;
                if let Some(scheduler) = &mut self.scheduler {
                    scheduler.refine(&mut readings);
                }
                Ok(readings)
            }
            Link::Down { why, .. } => Err(why.clone()),
        }
    }

    /// Gives up a dead connection, and opens a new one when it is time for it.
    fn look_after(&mut self) {
        match &self.link {
            Link::Up(connection) if !connection.is_alive() => {
                warn!(uri = self.endpoint.uri, "libvirt closed the connection");
                self.link = Link::down(&self.endpoint);
            }
            Link::Up(_) => return,
            Link::Down { .. } => {}
        }
        let Link::Down { why, retry_at_ns, wait } = &mut self.link else { return };
        if monotonic_ns() < *retry_at_ns {
            return;
        }
        match Connection::open(&self.endpoint, Some(self.events.clone())) {
            Ok(connection) => {
                info!(uri = self.endpoint.uri, origin = self.endpoint.origin, "connected to libvirt");
                self.link = Link::Up(connection);
            }
            Err(error) => {
                // One line per outage and cause; a place that was only probed is not worth one.
                if *why == error || matches!(error, GuestsError::NotThere { .. }) {
                    debug!(%error, "libvirt still cannot be reached");
                } else {
                    warn!(%error, "libvirt cannot be reached");
                }
                *retry_at_ns = monotonic_ns().saturating_add(nanos(*wait));
                *wait = (*wait * 2).min(RETRY_MAX);
                *why = error;
            }
        }
    }

    /// How long to wait for a question before looking after the connection again.
    fn idle(&self) -> Duration {
        match &self.link {
            Link::Up(_) => IDLE,
            Link::Down { retry_at_ns, .. } => {
                Duration::from_nanos(retry_at_ns.saturating_sub(monotonic_ns())).max(Duration::from_millis(1))
            }
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
