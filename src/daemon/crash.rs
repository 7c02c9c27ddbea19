//! Death on order, for tests: SIGKILL before, during and after every effect, and before and after every save.
//!
//! `TEST_LBSIDECAR_CRASHES` names a file. The daemon dies wherever it comes for the first time and leaves a line there that says
//! where, so that whoever starts it again and again leads it through all such places, one after the other. Only debug builds
//! have this; in others a place is nothing at all.

#[cfg(debug_assertions)]
use std::sync::Arc;

use crate::core::state::State;

/// Where the daemon is: between transitions, or in which stage of which.
#[derive(Debug, Clone)]
pub(super) struct Place {
    #[cfg(debug_assertions)]
    name: Arc<str>,
}

#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Place>() == 0, "a release build cannot be told to die");

#[cfg(not(debug_assertions))]
impl Place {
    pub(super) fn of(_: &State) -> Self {
        Self {}
    }

    pub(super) fn reached(&self, _: &str, _: &str) {}

    pub(super) fn reached_soon(&self, _: &'static str, _: &'static str) {}
}

#[cfg(debug_assertions)]
impl Place {
    /// Where this state is.
    pub(super) fn of(state: &State) -> Self {
        let name = state.transition.as_ref().map_or_else(
            || "between transitions".to_owned(),
            |transition| format!("{} {:?}", transition.kind.name(), transition.stage),
        );
        Self { name: name.into() }
    }

    /// The daemon is about to do `what`, or has done it; `when` says which. It dies here when this is the first time.
    pub(super) fn reached(&self, when: &str, what: &str) {
        armed::die_once(&format!("{when} {what}: {}", self.name));
    }

    /// The same in a moment, when `what` is under way.
    pub(super) fn reached_soon(&self, when: &'static str, what: &'static str) {
        let place = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(std::time::Duration::from_millis(4)).await;
            place.reached(when, what);
        });
    }
}

#[cfg(debug_assertions)]
mod armed {
    use std::{
        fs::{self, OpenOptions},
        io::Write,
        path::PathBuf,
        sync::LazyLock,
    };

    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };

    /// Where the places are kept that the daemon has died at.
    static FILE: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("TEST_LBSIDECAR_CRASHES").map(PathBuf::from));

    /// Ends this process as the kernel would, unless that was done here before.
    pub(super) fn die_once(place: &str) {
        let Some(path) = FILE.as_ref() else { return };
        if fs::read_to_string(path).is_ok_and(|known| known.lines().any(|line| line == place)) {
            return;
        }
        let mut told = OpenOptions::new().create(true).append(true).open(path);
        // What cannot be told would be done for ever.
        if told.as_mut().is_ok_and(|file| writeln!(file, "{place}").is_ok()) {
            let _ = kill(Pid::this(), Signal::SIGKILL);
        }
    }
}
