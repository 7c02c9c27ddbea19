//! Why the state cannot be read or written, and what to do.

use std::{io, path::PathBuf};

use crate::{core::cloud::FailureKind, exit::Exit};

/// Why the state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another daemon works on this pool.
    #[error("lock {}: {} has it: one daemon works on a pool", path.display(), holder.map_or("another process".to_owned(), |pid| format!("process {pid}")))]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process that has it, as it wrote into the file.
        holder: Option<u32>,
    },
    /// The directory is not ours alone.
    #[error("use {}: other users may enter it (mode {mode:o}): chmod 700 {}", path.display(), path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Its rights.
        mode: u32,
    },
    /// A newer version of this program wrote it.
    #[error("read {}: it has format {found}, and this version reads up to {known}: install the version that wrote it, or a newer one", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest that we know.
        known: u32,
    },
    /// It is another pool's.
    #[error("read {}: it is the state of pool {pool:?}: each pool needs a directory of its own", path.display())]
    Stranger {
        /// The file.
        path: PathBuf,
        /// The pool that it belongs to.
        pool: String,
    },
    /// The state cannot be put into JSON.
    #[error("write the state: {0}")]
    Encode(#[from] serde_json::Error),
    /// The operating system refused.
    #[error("{doing} {}: {}", path.display(), says(source))]
    Io {
        /// The operation.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

fn says(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "the disk is full: make room".to_owned(),
        io::ErrorKind::ReadOnlyFilesystem => {
            "the file system is read-only: remount it, or choose another --state-dir".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied: run as the user that the directory belongs to, or choose another --state-dir"
                .to_owned()
        }
        _ => error.to_string(),
    }
}

impl StoreError {
    /// Whether it may go away by itself.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Locked { .. } => FailureKind::Conflict,
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FailureKind::Capacity,
                io::ErrorKind::PermissionDenied => FailureKind::Unauthorized,
                io::ErrorKind::ReadOnlyFilesystem => FailureKind::Permanent,
                _ => FailureKind::Transient,
            },
            Self::Open { .. } | Self::Newer { .. } | Self::Stranger { .. } | Self::Encode(_) => {
                FailureKind::Permanent
            }
        }
    }

    /// How the program ends of it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Locked { .. } => Exit::NotRunning,
            Self::Io { .. } if self.kind() == FailureKind::Unauthorized => Exit::NoPermission,
            Self::Open { .. } | Self::Newer { .. } | Self::Stranger { .. } => Exit::Config,
            Self::Encode(_) => Exit::Internal,
            Self::Io { .. } => Exit::Failure,
        }
    }
}
