//! Running a command under a deadline.

use std::{io, process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};

use super::error::VipError;
use crate::core::cloud::FailureKind;

const DEADLINE: Duration = Duration::from_secs(15);

/// What a command that ended by itself left.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    line: String,
    stderr: String,
}

impl Ended {
    /// The standard output of a command that succeeded.
    pub(super) fn success(self) -> Result<String, VipError> {
        if self.code == Some(0) { Ok(self.stdout) } else { Err(self.failure("")) }
    }

    /// The command's failure, with advice.
    pub(super) fn failure(self, advice: &str) -> VipError {
        let code =
            self.code.map_or_else(|| "it was killed".to_owned(), |code| format!("it ended with {code}"));
        let detail = format!("{code}: {}{advice}", self.stderr.trim());
        VipError::Command { command: self.line, detail, kind: FailureKind::Transient }
    }
}

/// Runs a command to its end.
///
/// # Errors
/// [`VipError::Command`] when it cannot be started (`NotFound` when it does not exist) or does not end within 15 s, after
/// which it is killed and may or may not have had an effect (`Unknown`).
pub(super) async fn run(program: &str, args: &[&str]) -> Result<Ended, VipError> {
    let line = std::iter::once(program).chain(args.iter().copied()).collect::<Vec<_>>().join(" ");
    let child =
        Command::new(program).args(args).env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true).output();
    match timeout(DEADLINE, child).await {
        Ok(Ok(output)) => Ok(Ended {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            line,
            stderr: String::from_utf8_lossy(&output.stderr).chars().take(400).collect(),
        }),
        Ok(Err(error)) => {
            let kind = match error.kind() {
                io::ErrorKind::NotFound => FailureKind::NotFound,
                _ => FailureKind::Permanent,
            };
            Err(VipError::Command {
                command: line,
                detail: format!("{error}; is {program} installed?"),
                kind,
            })
        }
        Err(_) => Err(VipError::Command {
            command: line,
            detail: format!("no end within {DEADLINE:?}"),
            kind: FailureKind::Unknown,
        }),
    }
}
