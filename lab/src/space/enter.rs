//! Running a command inside a lab, as `nsenter` would.

use std::{
    ffi::OsString,
    fs::{self, File},
    os::{
        fd::AsFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    process::{Child, Command, ExitCode},
};

use anyhow::{Context, Result};
use nix::{
    libc::SI_KERNEL,
    sched::{CloneFlags, setns},
    sys::{
        prctl::set_pdeathsig,
        signal::{SigSet, Signal, kill},
        signalfd::SignalFd,
    },
    unistd::Pid,
};

use crate::{cli::search_path, directory::Directory};

/// Signals that are passed on to the command.
const PASSED_ON: [Signal; 6] =
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2];

/// Runs a command in the lab and answers with its exit code, or 128 and the signal that ended it, as a shell would.
///
/// The process must have one thread: only such a one may enter a user namespace.
pub(crate) fn exec(directory: &Directory, command: &[OsString]) -> Result<ExitCode> {
    let init = directory.expect_init()?;
    let variables = directory.read_env()?;
    let work = std::env::current_dir();
    enter(init)?;
    if let Ok(work) = work {
        // Entering a mount namespace leads to its root. A directory that the lab covers is not there.
        let _ = std::env::set_current_dir(work);
    }
    let signals = hold_signals()?;
    // Once more through this program, now inside: `/proc/self` is the child there.
    let child = super::ourselves(directory)
        .arg("become")
        .arg("--")
        .args(command)
        .envs(variables)
        .env("PATH", search_path())
        .spawn()
        .context("failed to start a process in the lab")?;
    Ok(ExitCode::from(wait(child, &signals)?))
}

/// Becomes the command, which dies with the process that waits for it outside.
pub(crate) fn become_command(command: &[OsString]) -> Result<ExitCode> {
    set_pdeathsig(Signal::SIGKILL)?;
    // The mask of the process outside comes along.
    SigSet::all().thread_unblock()?;
    let (program, arguments) = command.split_first().context("there is no command to run")?;
    let error = Command::new(program).args(arguments).exec();
    eprintln!("lbsidecar-lab: failed to run {}: {error}", program.to_string_lossy());
    // As shells answer when there is no such program.
    Ok(ExitCode::from(127))
}

fn enter(init: Pid) -> Result<()> {
    let open = |name: &str| {
        let path = format!("/proc/{init}/ns/{name}");
        File::open(&path).with_context(|| format!("failed to open {path}: is this lab another user's?"))
    };
    // All are opened before the first is entered: afterwards /proc may be another one.
    let spaces = [
        ("user", CloneFlags::CLONE_NEWUSER, open("user")?),
        ("pid", CloneFlags::CLONE_NEWPID, open("pid")?),
        ("net", CloneFlags::CLONE_NEWNET, open("net")?),
        ("mnt", CloneFlags::CLONE_NEWNS, open("mnt")?),
    ];
    let same_user = fs::read_link("/proc/self/ns/user")? == fs::read_link(format!("/proc/{init}/ns/user"))?;
    for (name, kind, file) in spaces {
        if name == "user" && same_user {
            continue;
        }
        setns(file.as_fd(), kind).with_context(|| format!("failed to enter the lab's {name} namespace"))?;
    }
    Ok(())
}

/// From now on signals wait for [`wait`]. Processes that are started meanwhile take this over.
pub(crate) fn hold_signals() -> Result<SigSet> {
    let mut signals = SigSet::empty();
    for signal in PASSED_ON {
        signals.add(signal);
    }
    signals.add(Signal::SIGCHLD);
    signals.thread_block()?;
    Ok(signals)
}

/// Waits for the child and passes signals on to it; its exit code, or 128 and the signal that ended it, as a shell would say.
pub(crate) fn wait(mut child: Child, signals: &SigSet) -> Result<u8> {
    let arrivals = SignalFd::new(signals)?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    loop {
        if let Some(status) = child.try_wait()? {
            let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
            return Ok(u8::try_from(code).unwrap_or(1));
        }
        let Some(arrival) = arrivals.read_signal()? else { continue };
        let signal = i32::try_from(arrival.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
        // What the terminal sends reaches the child by itself.
        if let Some(signal) = signal
            && signal != Signal::SIGCHLD
            && arrival.ssi_code != SI_KERNEL
        {
            // It may have ended a moment ago.
            let _ = kill(pid, signal);
        }
    }
}
