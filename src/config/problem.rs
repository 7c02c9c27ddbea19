//! What is wrong with a configuration: every mistake at once, each with its place, its key, its value, and what would be right.

use std::{fmt, path::PathBuf};

use crate::exit::Exit;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of a file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// One mistake, or one doubt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where; `None` when the mistake is that something is nowhere.
    pub origin: Option<Origin>,
    /// The key, and its value when there is one to show; empty when a whole file is wrong.
    pub subject: String,
    /// Why it is wrong and what would be right.
    pub why: String,
}

impl Problem {
    /// A mistake in the value of `key`, as it was written.
    pub(super) fn of_value(origin: Origin, key: &str, value: &str, why: impl Into<String>) -> Self {
        Self { origin: Some(origin), subject: format!("{key} = {value}"), why: why.into() }
    }

    /// A mistake that is not one of a value.
    pub(super) fn of(origin: Option<Origin>, subject: impl Into<String>, why: impl Into<String>) -> Self {
        Self { origin, subject: subject.into(), why: why.into() }
    }

    /// Whether it is about one of these keys, or about a whole file.
    pub(super) fn touches(&self, keys: &[&str]) -> bool {
        let key = self.subject.split(" = ").next().unwrap_or_default();
        key.is_empty() || keys.contains(&key)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = self.origin.as_ref().filter(|origin| **origin != Origin::Default) {
            write!(f, "{origin}: ")?;
        }
        if !self.subject.is_empty() {
            write!(f, "{}: ", self.subject)?;
        }
        f.write_str(&self.why)
    }
}

/// Everything that is wrong with a configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    fn text(&self) -> String {
        let count = match self.0.len() {
            1 => "one problem".to_owned(),
            n => format!("{n} problems"),
        };
        self.0
            .iter()
            .fold(format!("read the configuration: {count}"), |text, problem| format!("{text}\n  {problem}"))
    }

    /// [`Exit::Usage`] when the command line alone is to blame, else [`Exit::Config`].
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self.0.iter().all(|problem| matches!(problem.origin, Some(Origin::Flag(_)))) {
            true => Exit::Usage,
            false => Exit::Config,
        }
    }
}
