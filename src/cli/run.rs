//! `run`: the daemon in the foreground.

use super::out::Failure;
use crate::{config::Flags, exit::Exit};

pub(super) fn run(_flags: &Flags) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Internal, "the daemon is not joined to the command line yet"))
}
