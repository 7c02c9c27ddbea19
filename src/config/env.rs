//! The surroundings that a configuration is read in; tests make their own.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Environment variables and the places that paths start from.
#[derive(Debug, Clone)]
pub struct Env {
    /// The environment variables that are text.
    pub variables: BTreeMap<String, String>,
    /// What `/etc`, `/run`, `/usr` and `/var` are looked for in.
    pub root: PathBuf,
    /// The working directory, which relative paths start from.
    pub directory: PathBuf,
}

impl Env {
    /// This process's.
    #[must_use]
    pub fn of_process() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let directory = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        Self { variables, root: PathBuf::from("/"), directory }
    }

    /// A variable that is set and not empty; an empty one counts as not set, as the OpenStack CLI has it.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A path of the system, given without its leading `/`.
    pub(super) fn system(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A path that somebody wrote.
    pub(super) fn path(&self, written: impl AsRef<Path>) -> PathBuf {
        self.directory.join(written)
    }
}
