//! The namespaces: how they are made, kept and entered.
//!
//! ```text
//!  lbsidecar-lab up ──► keeper          (host's network; in the new user namespace when not root)
//!                         │ unshare(user, pid)
//!                         └─► init      (process 1 of the lab; unshares mount and network, covers the host's directories)
//!                               └─► server   (the world and the cloud)
//!                               └─► libvirtd, QEMU, whatever `exec` starts
//! ```
//!
//! Each process asks to be killed when the one above it dies, and process 1 takes everything in its namespace along: no death
//! of any of them leaves anything behind.

mod cover;
mod enter;
mod init;
mod keeper;
mod users;

use std::{os::unix::process::CommandExt, process::Command};

pub(crate) use self::{
    enter::{become_command, exec, hold_signals, wait},
    init::run as init,
    keeper::run as keep,
    users::check as check_user_namespaces,
};
use crate::directory::Directory;

/// This program again, for the same lab; the caller adds what it shall do.
pub(crate) fn ourselves(directory: &Directory) -> Command {
    // By the link and not by its path, which the lab may cover; with a name that process lists can show.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("lbsidecar-lab").arg("--dir").arg(directory.path());
    command
}
