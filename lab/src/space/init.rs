//! Process 1 of the lab: makes the mount and network namespaces, starts the server, reaps, and takes everything along when it ends.

use std::{io, process::Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sched::{CloneFlags, unshare},
    sys::{
        prctl::set_pdeathsig,
        signal::Signal,
        wait::{WaitStatus, wait},
    },
    unistd::Pid,
};

use super::cover;
use crate::directory::Directory;

/// Runs until the server ends.
pub(crate) fn run(directory: &Directory) -> Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    // The keeper may have died before the line above; then this reads nothing.
    let mut go = String::new();
    io::stdin().read_line(&mut go)?;
    ensure!(go == "go\n", "the lab's keeper ended before the lab was made");
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
        .context("failed to make mount and network namespaces")?;
    cover::cover(directory.path())?;
    let server = super::ourselves(directory)
        .arg("serve")
        .stdin(Stdio::null())
        .spawn()
        .context("failed to start the lab's server")?;
    let server = Pid::from_raw(i32::try_from(server.id())?);
    loop {
        // Orphans of the whole lab end up here.
        match wait()? {
            WaitStatus::Exited(pid, code) if pid == server => {
                bail!("the lab's server ended with code {code}")
            }
            WaitStatus::Signaled(pid, signal, _) if pid == server => {
                bail!("the lab's server was killed by {signal}")
            }
            _ => {}
        }
    }
}
