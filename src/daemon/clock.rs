//! The daemon's clock; with `telemetry` the only place that reads time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::core::time::Timestamp;

/// A wall clock that never jumps: wall time read once, monotonic time added since. Its moments can be stored and compared after
/// a restart, and a step of the system's clock while we run moves no deadline.
#[derive(Debug, Clone, Copy)]
pub(super) struct SteadyClock {
    wall_at_start: Duration,
    start: Instant,
}

impl SteadyClock {
    /// Starts it.
    #[must_use]
    pub(super) fn start() -> Self {
        let wall_at_start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall_at_start, start: Instant::now() }
    }

    /// The present moment.
    #[must_use]
    pub(super) fn now(&self) -> Timestamp {
        Timestamp::default().plus(self.wall_at_start + self.start.elapsed())
    }
}
