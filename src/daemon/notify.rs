//! What systemd is told: ready after recovery, the phase in one line, and a sign of life from the loop itself.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

/// The connection to the service manager, when there is one.
#[derive(Debug)]
pub(super) struct Notifier {
    watchdog: bool,
    status: String,
}

impl Notifier {
    /// Reads what the service manager wants to hear.
    pub(super) fn new() -> Self {
        Self {
            watchdog: sd_notify::watchdog_enabled().is_some_and(|period: Duration| !period.is_zero()),
            status: String::new(),
        }
    }

    /// We serve: recovery is over.
    pub(super) fn ready(&self) {
        send(&[NotifyState::Ready]);
    }

    /// The loop turned; and the phase, when it is another one than last time.
    pub(super) fn alive(&mut self, status: &str) {
        if self.watchdog {
            send(&[NotifyState::Watchdog]);
        }
        if self.status != status {
            send(&[NotifyState::Status(status)]);
            status.clone_into(&mut self.status);
        }
    }

    /// The configuration is read again; the end of it is told by [`Notifier::ready`].
    pub(super) fn reloading(&self) {
        let mut states = vec![NotifyState::Reloading];
        states.extend(NotifyState::monotonic_usec_now().ok());
        send(&states);
    }

    /// We are about to end.
    pub(super) fn stopping(&self) {
        send(&[NotifyState::Stopping]);
    }
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "the service manager was not told");
    }
}
