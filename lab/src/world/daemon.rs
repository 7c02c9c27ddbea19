//! The lab's own libvirtd, kept running: when it dies it is started again, as systemd would, and finds its guests alive.

use std::{
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

/// Plain QEMU, all as this user: the namespaces around the lab are the fence. No control groups: they are the one thing of a lab that
/// would outlive it, and two labs would share them.
const QEMU_CONF: &str = "user = \"+0\"\ngroup = \"+0\"\ndynamic_ownership = 0\nremember_owner = 0\nsecurity_driver = \"none\"\n\
                         namespaces = []\ncgroup_controllers = []\nstdio_handler = \"file\"\n";
const LIBVIRTD_CONF: &str = "auth_unix_ro = \"none\"\nauth_unix_rw = \"none\"\n";
/// Pause before a daemon that died is started again.
const PAUSE: Duration = Duration::from_millis(500);

/// Writes the daemon's configuration into the private `/etc/libvirt` and starts it.
///
/// # Errors
///
/// When a file cannot be written or libvirtd cannot be started.
pub(super) fn start(log: &Path) -> Result<()> {
    fs::write("/etc/libvirt/qemu.conf", QEMU_CONF).context("failed to write qemu.conf")?;
    fs::write("/etc/libvirt/libvirtd.conf", LIBVIRTD_CONF).context("failed to write libvirtd.conf")?;
    let log = File::create(log).with_context(|| format!("failed to create {}", log.display()))?;
    let start = move || command(log.try_clone()?).spawn();
    let mut daemon = start().context("failed to start libvirtd: is libvirt-daemon installed?")?;
    thread::Builder::new().name("libvirtd".to_owned()).spawn(move || {
        loop {
            match daemon.wait() {
                Ok(status) => tracing::warn!(
                    signal = status.signal(),
                    code = status.code(),
                    "libvirtd ended, starting it again"
                ),
                Err(error) => tracing::error!(%error, "lost sight of libvirtd"),
            }
            loop {
                thread::sleep(PAUSE);
                match start() {
                    Ok(again) => break daemon = again,
                    Err(error) => tracing::error!(%error, "cannot start libvirtd"),
                }
            }
        }
    })?;
    Ok(())
}

/// The daemon in the foreground, with warnings and worse in its log: it looks for the host's devices and does not find them.
fn command(log: File) -> Command {
    // Guests take it over from the daemon. Only root may go before others; for the rest `nice` says so in the log and goes on.
    let mut command = Command::new("nice");
    command
        .args(["-n", super::guest::NICENESS, "libvirtd"])
        .env("LIBVIRT_LOG_OUTPUTS", "3:stderr")
        .stdin(Stdio::null())
        .stderr(log);
    command
}
