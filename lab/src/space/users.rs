//! The user namespace of a lab that is not root's: its root is the user, and its other users come from `/etc/subuid` and `/etc/subgid`.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sched::{CloneFlags, unshare},
    unistd::{User, getgid, getuid},
};

/// A user's range of subordinate ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u32,
    count: u32,
}

/// Says what is missing for a lab without root; nothing when root.
pub(crate) fn check() -> Result<()> {
    if getuid().is_root() {
        return Ok(());
    }
    ranges()?;
    let limit = fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    ensure!(
        limit.trim() != "0",
        "user namespaces are switched off here (user.max_user_namespaces is 0): switch them on or run the lab as root"
    );
    let debian = fs::read_to_string("/proc/sys/kernel/unprivileged_userns_clone").unwrap_or_default();
    ensure!(
        debian.trim() != "0",
        "user namespaces are root's only here: `sysctl kernel.unprivileged_userns_clone=1`, or run the lab as root"
    );
    let ubuntu =
        fs::read_to_string("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").unwrap_or_default();
    ensure!(
        ubuntu.trim() != "1",
        "AppArmor forbids user namespaces here: `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or run the lab as root"
    );
    ensure!(
        fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun").is_ok(),
        "/dev/net/tun cannot be opened, which guests' network cards need: `chmod 0666 /dev/net/tun` (udev's default), or run the lab as root"
    );
    Ok(())
}

/// Moves this process into a user namespace of its own, as its root.
pub(super) fn enter_own() -> Result<()> {
    let (uids, gids) = ranges()?;
    // The map of a namespace can only be written from outside of it, so the one who writes it starts before we leave.
    let pid = std::process::id().to_string();
    let map = |program: &str, own: u32, range: Range| {
        format!("{program} {pid} 0 {own} 1 1 {} {}", range.first, range.count)
    };
    let script = format!(
        "read -r go && {} && {}",
        map("newuidmap", getuid().as_raw(), uids),
        map("newgidmap", getgid().as_raw(), gids)
    );
    let mut mapper = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .spawn()
        .context("failed to start a shell for newuidmap")?;
    unshare(CloneFlags::CLONE_NEWUSER).context("failed to make a user namespace")?;
    if let Some(mut stdin) = mapper.stdin.take() {
        stdin.write_all(b"go\n").context("failed to call newuidmap")?;
    }
    let status = mapper.wait().context("failed to wait for newuidmap")?;
    ensure!(
        status.success(),
        "failed to map users into the lab: newuidmap or newgidmap refused (see the line above)"
    );
    Ok(())
}

/// The present user's subordinate uids and gids.
fn ranges() -> Result<(Range, Range)> {
    let uid = getuid();
    let name = User::from_uid(uid).ok().flatten().map(|user| user.name).unwrap_or_default();
    let find = |file: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        range(&text, &name, uid.as_raw())
    };
    if !crate::cli::is_installed("newuidmap") || !crate::cli::is_installed("newgidmap") {
        bail!(
            "a lab without root needs newuidmap and newgidmap: install the package uidmap, or run the lab as root"
        );
    }
    match (find("/etc/subuid"), find("/etc/subgid")) {
        (Some(uids), Some(gids)) => Ok((uids, gids)),
        _ => bail!(
            "user {name} has no subordinate ids, which a lab without root needs: \
             `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}` as root, or run the lab as root"
        ),
    }
}

/// The first usable range of a user in the text of `/etc/subuid`: lines `name-or-id:first:count`.
fn range(text: &str, name: &str, id: u32) -> Option<Range> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        if owner != name && owner != id.to_string() {
            return None;
        }
        let range = Range { first: fields.next()?.parse().ok()?, count: fields.next()?.trim().parse().ok()? };
        // Below 1000 ids a file of some system user would not fit.
        (range.count >= 1000).then_some(range)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_or_number() {
        let text = "other:100000:65536\nana:165536:65536\n1001:300000:65536\nshort:1:10\n";
        assert_eq!(range(text, "ana", 1000), Some(Range { first: 165_536, count: 65_536 }));
        assert_eq!(range(text, "bo", 1001), Some(Range { first: 300_000, count: 65_536 }));
        assert_eq!(range(text, "short", 7), None);
        assert_eq!(range("", "ana", 1000), None);
    }
}
