//! What the daemon tells about itself: logs for people, metrics for machines.

pub mod log;
mod metrics;
mod names;
pub mod settings;
#[cfg(test)]
mod tests;

pub use self::{
    log::{LogError, LogHandle},
    metrics::Metrics,
    names::reference,
    settings::{LogFormat, LogSettings},
};
