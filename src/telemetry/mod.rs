//! What the daemon tells about itself: logs for people, metrics for machines.

pub mod settings;

pub use settings::{LogFormat, LogSettings};
