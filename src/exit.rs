//! The exit codes, documented in `lbsidecar --help` and README; numbers from 64 up follow `sysexits.h`.

use std::process::{ExitCode, Termination};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what was asked.
    Ok = 0,
    /// It failed; the message says why.
    Failure = 1,
    /// `status`: the pool is degraded. `load`: requests failed.
    Degraded = 2,
    /// `status` and other commands that ask the daemon: it does not run. `run`: another daemon owns the pool.
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

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}
