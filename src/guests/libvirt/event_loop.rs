//! libvirt's event loop, one for the whole process and for as long as it lives: libvirt offers no way to end it.
//!
//! It has to be registered before the first connection is opened, otherwise that one has neither keepalive nor events.

use std::{sync::OnceLock, thread, time::Duration};

use tracing::error;
use virt::{error::clear_error_callback, event};

/// Starts the loop on a thread of its own; every further call only tells how the first one ended.
///
/// # Errors
/// A sentence when libvirt or the system refused.
pub(super) fn ensure() -> Result<(), String> {
    static LOOP: OnceLock<Result<(), String>> = OnceLock::new();
    LOOP.get_or_init(|| {
        // Otherwise libvirt prints every error to stderr, beside the one that we report.
        clear_error_callback();
        event::event_register_default_impl().map_err(|error| error.message().to_owned())?;
        thread::Builder::new()
            .name("libvirt-events".to_owned())
            .spawn(run)
            .map(|_| ())
            .map_err(|error| error.to_string())
    })
    .clone()
}

fn run() {
    loop {
        if let Err(error) = event::event_run_default_impl() {
            error!(%error, "libvirt's event loop failed once");
            // Only keeps a failure that lasts from burning a core.
            thread::sleep(Duration::from_secs(1));
        }
    }
}
