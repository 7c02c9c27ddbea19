//! The last requests that the cloud saw, so that a test can assert what was asked, in which order and how often.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde::Serialize;

use super::errors::Service;

/// How many requests are kept.
const KEPT: usize = 20_000;

/// One request.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Counts up from 0 in order of arrival.
    pub sequence: u64,
    /// When it arrived, by the cloud's clock.
    pub at: Timestamp,
    /// Who was asked.
    pub service: Service,
    /// `GET`, …
    pub method: String,
    /// Path and query as sent.
    pub path: String,
    /// The status that went out; `None` while it is being answered, and when the connection was closed in place of an answer.
    pub status: Option<u16>,
    /// `x-openstack-request-id`.
    pub request_id: String,
    /// The fault that was played on it.
    pub fault: Option<u64>,
}

/// The log of requests.
#[derive(Debug, Default)]
pub struct Journal {
    entries: Mutex<(u64, VecDeque<Entry>)>,
}

impl Journal {
    /// The last requests, oldest first.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().1.iter().cloned().collect()
    }

    /// How many requests of this method, to a path (without query) that ends in `path`, are in the log.
    #[must_use]
    pub fn count(&self, method: &str, path: &str) -> usize {
        let matches = |entry: &&Entry| {
            entry.method == method && entry.path.split('?').next().is_some_and(|own| own.ends_with(path))
        };
        self.lock().1.iter().filter(matches).count()
    }

    /// Takes a request in; answers its sequence number.
    pub(super) fn arrived(&self, mut entry: Entry) -> u64 {
        let mut log = self.lock();
        entry.sequence = log.0;
        log.0 += 1;
        if log.1.len() == KEPT {
            log.1.pop_front();
        }
        log.1.push_back(entry);
        log.0 - 1
    }

    /// Notes the status that went out.
    pub(super) fn answered(&self, sequence: u64, status: u16) {
        if let Some(entry) = self.lock().1.iter_mut().rev().find(|entry| entry.sequence == sequence) {
            entry.status = Some(status);
        }
    }

    fn lock(&self) -> MutexGuard<'_, (u64, VecDeque<Entry>)> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
