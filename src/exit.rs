//! The exit codes, documented in `lbsidecar --help` and README; numbers from 64 up follow `sysexits.h`.

use std::process::{ExitCode, Termination};

use crate::core::cloud::FailureKind;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what was asked.
    Ok = 0,
    /// It failed; the message says why.
    Failure = 1,
    /// `status`: the pool is degraded. `host-nat status`: parts are missing. `load`: requests failed.
    Degraded = 2,
    /// `status` and other commands that ask the daemon: it does not run. `run`: another daemon owns the pool. `host-nat status`: it
    /// is not enabled.
    NotRunning = 3,
    /// The command line is wrong.
    Usage = 64,
    /// Something we need is not there: libvirt, Keystone, HAProxy, the base VM.
    Unavailable = 69,
    /// A bug of ours.
    Internal = 70,
    /// The rights are missing.
    NoPermission = 77,
    /// The configuration is wrong.
    Config = 78,
}

impl Exit {
    /// All of them, as `--help` lists them.
    pub const ALL: [Exit; 9] = [
        Exit::Ok,
        Exit::Failure,
        Exit::Degraded,
        Exit::NotRunning,
        Exit::Usage,
        Exit::Unavailable,
        Exit::Internal,
        Exit::NoPermission,
        Exit::Config,
    ];

    /// What it means, for `--help`.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Exit::Ok => "it did what was asked",
            Exit::Failure => "it failed; the message says why",
            Exit::Degraded => "status: degraded, or parts are missing; load: requests failed",
            Exit::NotRunning => "the daemon does not run; run: another daemon owns the pool",
            Exit::Usage => "the command line is wrong",
            Exit::Unavailable => "something needed is not there: libvirt, Keystone, HAProxy, the base VM",
            Exit::Internal => "a bug in lbsidecar",
            Exit::NoPermission => "the rights are missing",
            Exit::Config => "the configuration is wrong",
        }
    }
}

impl From<FailureKind> for Exit {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Unauthorized => Exit::NoPermission,
            FailureKind::Permanent => Exit::Failure,
            FailureKind::Transient
            | FailureKind::Unknown
            | FailureKind::Capacity
            | FailureKind::Conflict
            | FailureKind::NotFound => Exit::Unavailable,
        }
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}
