//! `env`, `status` and `down`.

use std::{
    fs::File,
    io::Read,
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

use super::print;
use crate::directory::Directory;

/// Time for the kernel to end everything in the lab.
const DOWN_DEADLINE: Duration = Duration::from_secs(15);

/// Prints the lab's variables for a shell.
pub(super) fn env(directory: &Directory) -> Result<()> {
    for (name, value) in directory.read_env()? {
        print(&format!("export {name}='{}'\n", value.replace('\'', r"'\''")));
    }
    Ok(())
}

/// Prints the lab's status.
pub(super) fn status(directory: &Directory) -> Result<()> {
    let mut status = String::new();
    UnixStream::connect(directory.control())
        .and_then(|mut lab| lab.read_to_string(&mut status))
        .with_context(|| {
            format!("failed to reach a lab in {}: `lbsidecar-lab up` starts one", directory.path().display())
        })?;
    print(&status);
    Ok(())
}

/// Ends the lab and removes its files; says nothing when there is none.
pub(crate) fn down(directory: &Directory) -> Result<()> {
    if !directory.log().exists() || !directory.lock().exists() {
        return Ok(());
    }
    directory.kill_init()?;
    let end = Instant::now() + DOWN_DEADLINE;
    let lock = directory.lock();
    loop {
        // The keeper's lock is the last thing to go.
        let file = File::open(&lock).with_context(|| format!("failed to open {}", lock.display()))?;
        if Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok() {
            break;
        }
        if Instant::now() > end {
            bail!(
                "the lab in {} did not end within {} s",
                directory.path().display(),
                DOWN_DEADLINE.as_secs()
            );
        }
        directory.kill_init()?;
        thread::sleep(Duration::from_millis(20));
    }
    directory.remove()
}
