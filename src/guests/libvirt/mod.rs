//! One libvirt daemon: the thread that owns the connection to it, and the handle by which that thread is asked.
//!
//! A call into libvirt cannot be stopped, and some hang (a daemon that accepts and never answers, a lost path to a remote one). So
//! the handle never waits without a deadline, and a thread that has missed several questions in a row is left behind and replaced by
//! a fresh one with a fresh connection; it ends by itself when its call returns. Only a few may hang at a time.

pub(super) mod connection;
mod event_loop;
mod events;
mod owner;
mod stats;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use tokio::sync::{broadcast, mpsc};
use tracing::warn;

use self::owner::{Ask, Owner};
use super::{Lifecycle, endpoint::Endpoint, error::GuestsError};
use crate::core::{guest::DomainCounters, ids::ServerId};

/// Questions in a row without an answer after which a thread is left behind.
const MISSES: u32 = 5;
/// Threads that one daemon may have at most, hanging ones included.
const THREADS: usize = 3;
/// Questions that may wait for a thread. Those that nobody waits for any more are skipped when their turn comes.
const QUEUE: usize = 4;

/// Answers carry the daemon's URI, so that who asked several knows which is still missing.
pub(super) type Answer = (String, Result<Vec<DomainCounters>, GuestsError>);

/// The handle of one libvirt daemon.
#[derive(Debug)]
pub(super) struct Host {
    endpoint: Endpoint,
    sample: Duration,
    events: broadcast::Sender<Lifecycle>,
    /// Where the present thread takes questions; `None` when there is no thread yet.
    asks: Mutex<Option<SyncSender<Ask>>>,
    misses: AtomicU32,
    /// Each thread holds a clone, so that the count tells how many there are, plus one.
    threads: Arc<()>,
}

impl Host {
    /// Starts the thread, which connects at once.
    pub(super) fn start(endpoint: Endpoint, sample: Duration, events: broadcast::Sender<Lifecycle>) -> Self {
        let host = Self {
            endpoint,
            sample,
            events,
            asks: Mutex::new(None),
            misses: AtomicU32::new(0),
            threads: Arc::new(()),
        };
        // A thread that could not be had now is asked for again with every question.
        if let Ok(asks) = host.spawn() {
            *host.lock() = Some(asks);
        }
        host
    }

    /// Where it is.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Asks for the counters of `servers`; the answer comes over `reply`, or never.
    ///
    /// # Errors
    /// [`GuestsError`] when the question cannot even be put.
    pub(super) fn ask(
        &self,
        servers: Arc<[ServerId]>,
        reply: mpsc::Sender<Answer>,
    ) -> Result<(), GuestsError> {
        let mut asks = self.lock();
        if self.misses.load(Ordering::Relaxed) >= MISSES && Arc::strong_count(&self.threads) <= THREADS {
            warn!(uri = self.endpoint.uri, "libvirt hangs; trying with a new thread and connection");
            *asks = None;
            self.misses.store(0, Ordering::Relaxed);
        }
        let sender = match &*asks {
            Some(sender) => sender,
            None => asks.insert(self.spawn()?),
        };
        match sender.try_send(Ask { servers, reply }) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => {
                self.misses.fetch_add(1, Ordering::Relaxed);
                Err(GuestsError::Stuck { uri: self.endpoint.uri.clone() })
            }
            // The thread died; the next question gets a new one.
            Err(TrySendError::Disconnected(_)) => {
                *asks = None;
                Err(GuestsError::Thread {
                    uri: self.endpoint.uri.clone(),
                    cause: "the last one died".to_owned(),
                })
            }
        }
    }

    /// Notes that an answer came.
    pub(super) fn answered(&self) {
        self.misses.store(0, Ordering::Relaxed);
    }

    /// Notes that no answer came within `deadline`, and says so.
    pub(super) fn missed(&self, deadline: Duration) -> GuestsError {
        self.misses.fetch_add(1, Ordering::Relaxed);
        GuestsError::Deadline { uri: self.endpoint.uri.clone(), deadline }
    }

    fn spawn(&self) -> Result<SyncSender<Ask>, GuestsError> {
        let (sender, asks) = sync_channel(QUEUE);
        let owner = Owner::new(self.endpoint.clone(), self.sample, self.events.clone());
        let alive = Arc::clone(&self.threads);
        thread::Builder::new()
            .name("libvirt".to_owned())
            .spawn(move || {
                owner.run(&asks);
                drop(alive);
            })
            .map(|_| sender)
            .map_err(|error| GuestsError::Thread { uri: self.endpoint.uri.clone(), cause: error.to_string() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<SyncSender<Ask>>> {
        // The value is replaced as a whole, so that a panic while it was locked left it usable.
        self.asks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
