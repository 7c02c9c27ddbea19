//! What can go wrong with HAProxy, each with its object, its cause and, where known, what to do.

use std::{io, net::SocketAddr, path::PathBuf};

use crate::core::cloud::FailureKind;

/// A failed operation; the text reads after "failed to …".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HaproxyError {
    /// A setting cannot go into a configuration file.
    #[error("use setting {key} for HAProxy: {why}")]
    Setting {
        /// Its name.
        key: &'static str,
        /// The rule that it breaks.
        why: String,
    },
    /// The program is missing, too old, or does not start.
    #[error("run {}: {why}", binary.display())]
    Binary {
        /// The program.
        binary: PathBuf,
        /// What it said.
        why: String,
    },
    /// The template does not render, or renders something that cannot be ours.
    #[error("render template {name}: {why}")]
    Template {
        /// File, or that it is the embedded one.
        name: String,
        /// Line, column and reason.
        why: String,
    },
    /// `haproxy -c` refuses the rendered file. What ran goes on running.
    #[error("get HAProxy to accept the new configuration: {why} (it is kept as {})", kept.display())]
    Rejected {
        /// Where the refused file is; its messages lie beside it.
        kept: PathBuf,
        /// The first messages.
        why: String,
    },
    /// Somebody changed the file by hand.
    #[error("replace {}: it was edited by hand; `lbsidecar reload --force` overwrites it and keeps a copy", path.display())]
    Edited {
        /// The file.
        path: PathBuf,
    },
    /// The file system said no.
    #[error("{operation} {}: {source}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// HAProxy does not answer.
    #[error("ask HAProxy at {}: {why}; is it running?", socket.display())]
    Unreachable {
        /// The socket asked.
        socket: PathBuf,
        /// What happened.
        why: String,
    },
    /// HAProxy answered something else than it should.
    #[error("have HAProxy do {command:?}: it says {answer:?}")]
    Command {
        /// The command.
        command: String,
        /// The answer, shortened.
        answer: String,
    },
    /// A worker has ended.
    #[error("ask HAProxy's worker {pid}: it has ended")]
    WorkerGone {
        /// Its process id.
        pid: u32,
    },
    /// What runs there is not ours.
    #[error(
        "take over HAProxy at {}: it runs {found}, not pool {pool}; stop it, or give this pool a run directory of its own",
        socket.display()
    )]
    Foreign {
        /// Its master socket.
        socket: PathBuf,
        /// Its description.
        found: String,
        /// Our pool.
        pool: String,
    },
    /// The service address cannot be bound.
    #[error("listen on {address}: {why}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why not, and what to do.
        why: String,
        /// Its kind.
        obstacle: Obstacle,
    },
    /// It does not start.
    #[error("start HAProxy: {why}")]
    Start {
        /// What it said last.
        why: String,
    },
    /// It runs on, but not with the new file.
    #[error("reload HAProxy with generation {generation}: {why}; {after}")]
    Reload {
        /// The generation that did not go live.
        generation: u64,
        /// Why not.
        why: String,
        /// What is in force now.
        after: String,
    },
    /// It was told, and its state says otherwise.
    #[error("confirm what HAProxy does: {0}")]
    Unconfirmed(String),
}

/// What keeps an address from being listened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// No interface has it.
    Absent,
    /// This user may not.
    Denied,
    /// Anything else.
    Other,
}

impl HaproxyError {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Setting { .. } | Self::Binary { .. } | Self::Template { .. } | Self::Rejected { .. } => {
                FailureKind::Permanent
            }
            Self::Edited { .. } | Self::Foreign { .. } | Self::Bind { .. } => FailureKind::Conflict,
            Self::Unconfirmed(_) => FailureKind::Unknown,
            Self::File { .. }
            | Self::Unreachable { .. }
            | Self::Command { .. }
            | Self::WorkerGone { .. }
            | Self::Start { .. }
            | Self::Reload { .. } => FailureKind::Transient,
        }
    }
}
