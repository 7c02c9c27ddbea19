//! What the daemon tells about itself: logs for people, metrics for machines.

mod metrics;
pub mod settings;
pub use metrics::Metrics;

pub use settings::{LogFormat, LogSettings};
