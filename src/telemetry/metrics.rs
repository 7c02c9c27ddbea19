//! Metrics: for now only the places where they are counted.

use std::time::Duration;

use crate::core::{machine::Machine, time::Timestamp};

/// All metrics of the daemon.
#[derive(Debug, Default)]
pub struct Metrics {}

impl Metrics {
    /// All of them at 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// OpenMetrics text.
    #[must_use]
    pub fn encode(&self) -> String {
        "# EOF\n".to_owned()
    }

    /// One HTTP exchange with the cloud ended.
    pub fn request(&self, _service: &str, _operation: &str, _status: Option<u16>, _elapsed: Duration) {}

    /// One effect ended.
    pub fn effect(&self, _effect: &str, _ok: bool, _elapsed: Duration) {}

    /// The machine as it is now.
    pub fn show(&self, _machine: &Machine, _now: Timestamp) {}
}
