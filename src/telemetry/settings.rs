//! What is logged, and how.

/// Logging.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// A level and levels of parts: `info,lbsidecar::haproxy=debug`.
    pub filter: String,
    /// How lines look.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// To the journal when standard error goes there anyway, else as text.
    Auto,
    /// Text on standard error.
    Text,
    /// JSON on standard error, one object a line.
    Json,
}
