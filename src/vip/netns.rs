//! Named network namespaces, as `ip netns` keeps them: a namespace lives as long as it is bind-mounted on a file under
//! `/run/netns`, and whoever knows the name can enter it (`ip netns exec`, `nsenter --net=`, systemd's
//! `NetworkNamespacePath=`).
//!
//! A unit that makes one must run in the host's mount namespace (no `ProtectSystem=`, `PrivateTmp=` and the like), or the
//! mount is visible to itself alone.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    thread,
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{NSFS_MAGIC, statfs},
};

const DIR: &str = "/run/netns";

/// Where the namespace of this name is kept.
pub(super) fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// Whether there is a namespace on `path`; a file that nothing is mounted on is none. Needs no rights.
pub(super) fn exists(path: &Path) -> io::Result<bool> {
    match statfs(path) {
        Ok(found) => Ok(found.filesystem_type() == NSFS_MAGIC),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Makes the namespace if it is not there.
pub(super) fn create(path: &Path) -> io::Result<()> {
    if exists(path)? {
        return Ok(());
    }
    prepare_dir()?;
    OpenOptions::new().create(true).append(true).open(path)?;
    let target = path.to_owned();
    let made = in_thread(move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        mount(Some("/proc/thread-self/ns/net"), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(())
    });
    if made.is_err() {
        let _ = fs::remove_file(path);
    }
    made
}

/// Removes the name; the namespace itself ends with its last process. No error when it is not there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match umount2(path, MntFlags::MNT_DETACH) {
        // EINVAL: nothing is mounted there.
        Ok(()) | Err(Errno::ENOENT | Errno::EINVAL) => {}
        Err(error) => return Err(error.into()),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Runs `job` inside the namespace at `path`, on a thread of its own, since a thread that has entered a namespace cannot be
/// given back to a pool.
pub(super) fn inside<T: Send + 'static>(
    path: &Path,
    job: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let namespace = fs::File::open(path)?;
    in_thread(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        Ok(job())
    })
}

fn in_thread<T: Send + 'static>(job: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let thread = thread::Builder::new().name("netns".to_owned()).spawn(job)?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread inside the namespace panicked")))
}

/// Makes `/run/netns` a shared mount, as `ip netns add` does, so that a removed name vanishes from every mount namespace.
fn prepare_dir() -> io::Result<()> {
    match DirBuilder::new().mode(0o755).create(DIR) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let share = || mount(None::<&str>, DIR, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    match share() {
        // It is not a mount point yet.
        Err(Errno::EINVAL) => {
            mount(Some(DIR), DIR, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
            share()?;
        }
        other => other?,
    }
    Ok(())
}
