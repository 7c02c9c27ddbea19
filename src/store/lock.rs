//! One daemon per pool: an advisory lock that the kernel lets go of when its process ends, however it ends.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use super::error::StoreError;

/// Takes the lock and writes our process's number into it.
///
/// # Errors
/// [`StoreError::Locked`] when another process has it; an I/O error.
pub(super) fn take(path: &Path) -> Result<Flock<File>, StoreError> {
    let io = |source| StoreError::Io { doing: "open", path: path.to_owned(), source };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(io)?;
    let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut text = String::new();
            // Who has it is told when it can be read; that it is taken is sure.
            let _ = file.read_to_string(&mut text);
            return Err(StoreError::Locked { path: path.to_owned(), holder: text.trim().parse().ok() });
        }
        Err((_, errno)) => return Err(io(errno.into())),
    };
    lock.set_len(0).and_then(|()| lock.rewind()).map_err(io)?;
    writeln!(lock, "{}", std::process::id()).map_err(io)?;
    Ok(lock)
}
