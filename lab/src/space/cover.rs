//! The lab's own view of the file system: what its daemons write to is empty memory there, so that nothing of the host is touched.

use std::{
    fs::{self, File},
    os::fd::AsRawFd,
    path::Path,
};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

/// Directories that libvirt writes to; its packages make them.
const LIBVIRT: [&str; 4] = ["/etc/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt"];
/// Our own, which are there only where lbsidecar is installed.
const OURS: [&str; 2] = ["/etc/lbsidecar", "/var/lib/lbsidecar"];
/// What is needed in the empty `/run`.
const RUN: [&str; 4] = ["/run/libvirt", "/run/lbsidecar", "/run/lock", "/run/netns"];

/// Covers the host's directories, all but the lab's own one.
pub(super) fn cover(own: &Path) -> Result<()> {
    // From here on no mount of ours is seen outside, and none of the outside here.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("failed to make mounts private")?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>)
        .context("failed to mount /proc: inside a container that hides parts of it, run the lab as root")?;
    let keep = File::open(own).with_context(|| format!("failed to open {}", own.display()))?;
    for path in LIBVIRT {
        memory(path).with_context(|| format!("{path} comes with libvirt-daemon; is it installed?"))?;
    }
    for path in OURS.iter().filter(|path| Path::new(path).exists()) {
        memory(path)?;
    }
    memory("/run")?;
    for path in RUN {
        fs::create_dir_all(path).with_context(|| format!("failed to create {path}"))?;
    }
    if !own.exists() {
        fs::create_dir_all(own).with_context(|| format!("failed to create {}", own.display()))?;
        // The open file still leads to the directory that was covered.
        let source = format!("/proc/self/fd/{}", keep.as_raw_fd());
        mount(Some(source.as_str()), own, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("failed to keep {}", own.display()))?;
    }
    Ok(())
}

fn memory(path: &str) -> Result<()> {
    mount(Some("lab"), path, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755"))
        .with_context(|| format!("failed to cover {path}"))
}
