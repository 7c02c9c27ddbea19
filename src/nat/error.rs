//! What may go wrong with the host's rules.

use std::{io, path::PathBuf};

use crate::exit::Exit;

/// Why the host's address translation could not be looked at or changed. Reads after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum NatError {
    /// Only root may.
    #[error("{0}: only root may; run it with sudo")]
    NotRoot(&'static str),
    /// An interface is not there.
    #[error("use {name} as the {role}: there is no such interface; `ip -brief link` shows {there}")]
    NoInterface {
        /// `uplink` or `bridge`.
        role: &'static str,
        /// The name.
        name: String,
        /// Those that there are.
        there: String,
    },
    /// The program is not installed.
    #[error("run nft: it is not installed; `apt-get install nftables` brings it")]
    NoNft,
    /// nft said no.
    #[error("{doing}: nft says: {why}")]
    Nft {
        /// What was tried.
        doing: &'static str,
        /// What it said.
        why: String,
    },
    /// A file or directory.
    #[error("{doing} {}: {source}", path.display())]
    File {
        /// `read`, `write`, …
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A program that is needed could not be run, or failed.
    #[error("run `{command}`: {why}")]
    Command {
        /// Its command line.
        command: String,
        /// What it said.
        why: String,
    },
}

impl NatError {
    /// How a command ends with it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            NatError::NotRoot(_) => Exit::NoPermission,
            NatError::NoInterface { .. } | NatError::NoNft => Exit::Unavailable,
            NatError::File { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Exit::NoPermission
            }
            NatError::Nft { why, .. } if why.contains("Operation not permitted") => Exit::NoPermission,
            NatError::Nft { .. } | NatError::File { .. } | NatError::Command { .. } => Exit::Failure,
        }
    }

    pub(super) fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> NatError {
        let path = path.into();
        move |source| NatError::File { doing, path, source }
    }
}
