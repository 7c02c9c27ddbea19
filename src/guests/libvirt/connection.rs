//! One open connection to a libvirt daemon, and a reading through it. Blocking; for the owner thread only.

use std::collections::BTreeMap;

use nix::time::{ClockId, clock_gettime};
use tokio::sync::broadcast::Sender;
use tracing::debug;
use virt::{
    connect::Connect,
    domain::Domain,
    error::{Error, ErrorNumber},
};

use super::{
    event_loop,
    events::Subscription,
    stats::{Busy, Statistics},
};
use crate::{
    core::{guest::DomainCounters, ids::ServerId},
    guests::{
        Lifecycle,
        counters::{self, Taken},
        endpoint::Endpoint,
        error::GuestsError,
    },
};

/// A keepalive message after so many seconds of silence, and the connection counts as dead after so many without an answer.
const KEEPALIVE: (i32, u32) = (5, 3);

/// One open connection. Fields drop in this order: the connection goes last.
#[derive(Debug)]
pub(in crate::guests) struct Connection {
    uri: String,
    /// Kept for its end.
    _events: Option<Subscription>,
    /// Domains that were found, so that a reading is one call.
    known: BTreeMap<ServerId, Domain>,
    busy: Busy,
    connect: Connect,
}

impl Connection {
    /// Opens it read-only; with `events` also subscribes to lifecycle events.
    ///
    /// # Errors
    /// [`GuestsError::NotThere`] for a probed place without a socket, otherwise [`GuestsError::Open`].
    pub(in crate::guests) fn open(
        endpoint: &Endpoint,
        events: Option<Sender<Lifecycle>>,
    ) -> Result<Self, GuestsError> {
        endpoint.probe()?;
        event_loop::ensure().map_err(|cause| GuestsError::Thread { uri: endpoint.uri.clone(), cause })?;
        let connect =
            Connect::open_read_only(Some(&endpoint.uri)).map_err(|error| endpoint.explain(&error))?;
        let (seconds, count) = KEEPALIVE;
        // Drivers without a daemon have none, and need none.
        if let Err(error) = connect.set_keep_alive(seconds, count) {
            debug!(uri = endpoint.uri, error = error.message(), "no keepalive");
        }
        let events = match events {
            None => None,
            Some(sink) => Some(Subscription::start(&connect, sink).map_err(|error| GuestsError::Call {
                uri: endpoint.uri.clone(),
                operation: "subscribe to lifecycle events",
                cause: error.message().to_owned(),
            })?),
        };
        Ok(Self {
            uri: endpoint.uri.clone(),
            _events: events,
            known: BTreeMap::new(),
            busy: Busy::Skip,
            connect,
        })
    }

    /// Whether the daemon still holds the other end, as far as this side has noticed; asks nobody.
    pub(in crate::guests) fn is_alive(&self) -> bool {
        self.connect.is_alive().unwrap_or(false)
    }

    /// The bare connection, for what only `check` wants to know.
    pub(in crate::guests) fn connect(&self) -> &Connect {
        &self.connect
    }

    /// The daemon's URI.
    pub(in crate::guests) fn uri(&self) -> &str {
        &self.uri
    }

    /// Reads the counters of those of `servers` that this daemon knows.
    ///
    /// # Errors
    /// [`GuestsError::Call`].
    pub(in crate::guests) fn read(
        &mut self,
        servers: &[ServerId],
    ) -> Result<Vec<DomainCounters>, GuestsError> {
        self.known.retain(|server, _| servers.contains(server));
        for server in servers {
            if !self.known.contains_key(server) {
                match self.connect.lookup_domain_by_uuid(server.0) {
                    Ok(domain) => {
                        self.known.insert(*server, domain);
                    }
                    Err(error) if error.code().is(ErrorNumber::NoDomain) => {}
                    Err(error) => return Err(self.failed("look up a domain", &error)),
                }
            }
        }
        let before = monotonic_ns();
        let statistics = self.statistics().map_err(|error| self.failed("read domain statistics", &error))?;
        // The counters were read somewhere between: the middle is wrong by half the call's duration at most.
        let at_ns = before.midpoint(monotonic_ns());
        let wall_s = seconds_of(ClockId::CLOCK_REALTIME);
        let readings: Vec<DomainCounters> = statistics
            .records()
            .filter_map(|record| {
                let taken =
                    Taken { server: ServerId(record.uuid()?), instance: record.instance(), at_ns, wall_s };
                Some(counters::parse(taken, record.numbers()))
            })
            .collect();
        // What is gone is looked up again, in case it comes back.
        self.known.retain(|server, _| readings.iter().any(|reading| reading.server == *server));
        Ok(readings)
    }

    fn statistics(&mut self) -> Result<Statistics, Error> {
        match Statistics::read(self.known.values(), self.busy) {
            // Drivers that do not know the flag say so; they are asked without it from then on.
            Err(error) if self.busy == Busy::Skip && error.code().is(ErrorNumber::InvalidArg) => {
                let statistics = Statistics::read(self.known.values(), Busy::Wait)?;
                self.busy = Busy::Wait;
                Ok(statistics)
            }
            result => result,
        }
    }

    fn failed(&self, operation: &'static str, error: &Error) -> GuestsError {
        GuestsError::Call { uri: self.uri.clone(), operation, cause: error.message().to_owned() }
    }
}

/// CLOCK_MONOTONIC in nanoseconds. A kernel without it does not exist; were there one, every interval would be 0 and no reading valid.
pub(in crate::guests) fn monotonic_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        let (seconds, nanos) = (time.tv_sec().unsigned_abs(), time.tv_nsec().unsigned_abs());
        seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
    })
}

fn seconds_of(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |time| time.tv_sec().unsigned_abs())
}
