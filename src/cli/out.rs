//! Where the commands write: stdout for data, stderr for talk, and how a command fails.

use std::io::{self, IsTerminal, Write};

use super::{args::OutputArgs, text::Paint};
use crate::{admin::client::ClientError, config::Problems, exit::Exit};

/// Widths that a table can be made for; a terminal that is wider gets air at the right.
const WIDTHS: std::ops::RangeInclusive<usize> = 72..=160;

/// Why a command ends early.
#[derive(Debug)]
pub(super) struct Failure {
    exit: Exit,
    message: Option<String>,
}

impl Failure {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: Some(message.into()) }
    }

    /// Says it on stderr; how the command ends.
    pub(super) fn tell(self) -> Exit {
        if let Some(message) = self.message {
            talk(&message);
        }
        self.exit
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // The reader has seen enough: that is how `| head` ends.
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self { exit: Exit::Ok, message: None };
        }
        Self::new(Exit::Failure, format!("failed to write: {error}"))
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let message = match &error {
            ClientError::Refused(why) => why.clone(),
            other => format!("failed to {other}"),
        };
        Self::new(error.exit(), message)
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::new(problems.exit(), format!("failed to {problems}"))
    }
}

/// Writes data.
pub(super) fn data(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Data for programs, over several lines.
pub(super) fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::new(Exit::Internal, format!("failed to write JSON: {error}")))?;
    Ok(text + "\n")
}

/// Says something to the person at the terminal; nobody may be there.
pub(super) fn talk(message: &str) {
    let _ = writeln!(io::stderr().lock(), "lbsidecar: {message}");
}

/// Colours and size of stdout.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub(super) paint: Paint,
    pub(super) width: usize,
    /// Lines of the terminal; `None` when it is not one.
    pub(super) height: Option<usize>,
}

impl Look {
    pub(super) fn of(args: &OutputArgs) -> Self {
        Self::of_stdout(args.no_color)
    }

    /// What stdout is at this moment; `no_color` and the environment may forbid colours.
    #[must_use]
    pub fn of_stdout(no_color: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        // https://no-color.org: set and not empty.
        let asked_not_to = no_color || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let size = terminal_size::terminal_size_of(io::stdout());
        let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        let width = size.map(|(width, _)| usize::from(width.0)).or(columns).unwrap_or(100);
        Self {
            paint: Paint::new(terminal && !asked_not_to && !dumb),
            width: width.clamp(*WIDTHS.start(), *WIDTHS.end()),
            height: size.filter(|_| !dumb).map(|(_, height)| usize::from(height.0)),
        }
    }

    /// Whether stdout is a terminal that text can be replaced on.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.height.is_some()
    }
}
