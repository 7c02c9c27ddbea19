//! The keeper: the one process of a lab that stays in the host's network.
//!
//! It holds the lab's lock, makes the user and process namespaces, starts process 1 in them and publishes ports. It may have one
//! thread only: a process that unshared its process namespace cannot have more.

use std::{
    fs::File,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sched::{CloneFlags, unshare},
    sys::{prctl::set_pdeathsig, signal::Signal},
    unistd::{Pid, getuid, setsid},
};
use tokio::io::AsyncWriteExt;

use crate::{cli::search_path, directory::Directory, publish};

/// Keeps the lab until it ends; in the foreground only as long as its parent lives.
pub(crate) fn run(directory: &Directory, foreground: bool) -> Result<()> {
    if foreground {
        set_pdeathsig(Signal::SIGKILL)?;
    } else {
        // A new session: the terminal's end is not the lab's.
        setsid().context("failed to leave the session")?;
    }
    let _lock = lock(directory)?;
    let plan = directory.read_plan()?;
    if !getuid().is_root() {
        super::users::enter_own()?;
    }
    unshare(CloneFlags::CLONE_NEWPID)
        .context("failed to make a process namespace: that needs root or a user namespace")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut command = tokio::process::Command::from(start_init(directory));
        let mut init = command.spawn().context("failed to start the lab's first process")?;
        let pid = init
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .context("the lab's first process ended at once")?;
        directory.write_init(Pid::from_raw(pid))?;
        let listeners = publish::listen(&plan.publish).await?;
        directory.write_published(&publish::taken(&listeners)?)?;
        if let Some(mut stdin) = init.stdin.take() {
            stdin.write_all(b"go\n").await.context("failed to start the lab's first process")?;
        }
        publish::accept(listeners, directory.forward());
        let status = init.wait().await.context("failed to wait for the lab's first process")?;
        bail!("the lab's first process ended ({status})")
    })
}

fn start_init(directory: &Directory) -> Command {
    let mut command = super::ourselves(directory);
    command
        .arg("init")
        // Debian keeps what the lab calls out of an ordinary user's path.
        .env("PATH", search_path())
        .stdin(Stdio::piped());
    command
}

fn lock(directory: &Directory) -> Result<Flock<File>> {
    let path = directory.lock();
    let file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("failed to open {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, Errno::EWOULDBLOCK)) => bail!("another lab is up in {}", directory.path().display()),
        Err((_, error)) => Err(error).with_context(|| format!("failed to lock {}", path.display())),
    }
}
