//! Links of the present namespace.

use std::fs;

use anyhow::{Context, Result};

use crate::world::tools::ip;

/// Whether a link of this name is there.
pub(super) fn exists(name: &str) -> Result<bool> {
    // The thread's own view: sysfs would show the namespace that it was mounted in.
    let table = fs::read_to_string("/proc/thread-self/net/dev").context("failed to list the links")?;
    Ok(table.lines().filter_map(|line| line.split_once(':')).any(|(link, _)| link.trim() == name))
}

/// Removes a link that may be there.
pub(super) fn delete(name: &str) -> Result<()> {
    if exists(name)? { ip(None, &[format!("link delete {name}")]) } else { Ok(()) }
}
