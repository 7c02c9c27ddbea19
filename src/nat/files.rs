//! The files of ours that bring it back at the next boot.

use std::{
    fs,
    io::{self, ErrorKind, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use super::{error::NatError, rules, spec::NatSpec};

/// The rules.
pub const RULES: &str = "/etc/lbsidecar/host-nat.nft";
/// Forwarding.
pub const SYSCTL: &str = "/etc/sysctl.d/90-lbsidecar-host-nat.conf";
/// Who loads the rules.
pub const UNIT: &str = "/etc/systemd/system/lbsidecar-host-nat.service";
/// What makes systemd start it: the link that `systemctl enable` would make.
pub const WANTED: &str = "/etc/systemd/system/multi-user.target.wants/lbsidecar-host-nat.service";
/// The unit's name.
pub(super) const UNIT_NAME: &str = "lbsidecar-host-nat.service";

/// Begins the line in [`SYSCTL`] that notes what forwarding was before us.
const BEFORE: &str = "# Before: net.ipv4.ip_forward = ";
const UNIT_TEXT: &str = "[Unit]
Description=Address translation for the cloud's external network (lbsidecar host-nat)
# A reload or restart of the host's own rules begins with `flush ruleset`, and would take ours along.
After=nftables.service systemd-sysctl.service
PartOf=nftables.service
ReloadPropagatedFrom=nftables.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'exec nft -f /etc/lbsidecar/host-nat.nft'
ExecReload=/bin/sh -c 'exec nft -f /etc/lbsidecar/host-nat.nft'

[Install]
WantedBy=multi-user.target
";

/// The files and what is in them; `forwarded` is what forwarding was before us.
#[must_use]
pub fn contents(spec: &NatSpec, forwarded: bool) -> [(&'static str, String); 3] {
    let sysctl = format!(
        "# Written by lbsidecar; `lbsidecar host-nat disable` removes it.\n{BEFORE}{}\nnet.ipv4.ip_forward = 1\n",
        u8::from(forwarded)
    );
    [(RULES, rules::rules(spec)), (SYSCTL, sysctl), (UNIT, UNIT_TEXT.to_owned())]
}

/// A file's text; `None` when there is none.
pub(super) fn read(path: &str) -> Result<Option<String>, NatError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(NatError::file("read", path)(error)),
    }
}

/// What forwarding was before us, as [`SYSCTL`] notes it; `None` when we have not set it.
pub(super) fn forwarded_before() -> Result<Option<bool>, NatError> {
    let text = read(SYSCTL)?;
    Ok(text
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix(BEFORE).map(|before| before == "1"))))
}

/// Writes a file whole or not at all.
pub(super) fn write(path: &str, text: &str) -> Result<(), NatError> {
    let write = || -> io::Result<()> {
        let directory = Path::new(path).parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(text.as_bytes())?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(NatError::file("write", path))
}

/// Makes the link that has the unit started.
pub(super) fn want() -> Result<(), NatError> {
    let link = || -> io::Result<()> {
        fs::create_dir_all(Path::new(WANTED).parent().unwrap_or(Path::new("/")))?;
        symlink(UNIT, WANTED)
    };
    link().map_err(NatError::file("write", WANTED))
}

/// Whether the link is there, wherever it leads.
pub(super) fn is_wanted() -> bool {
    Path::new(WANTED).symlink_metadata().is_ok()
}

/// Removes a file; whether there was one.
pub(super) fn remove(path: &str) -> Result<bool, NatError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(NatError::file("remove", path)(error)),
    }
}

/// The first other file that wants forwarding at boot: where it does, forwarding is not ours to end.
pub(super) fn others_that_forward() -> Option<String> {
    let mut files = vec![Path::new("/etc/sysctl.conf").to_owned()];
    for directory in ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d"] {
        let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
        files.extend(
            entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "conf")),
        );
    }
    files
        .into_iter()
        .filter(|path| path != Path::new(SYSCTL))
        .find(|path| fs::read_to_string(path).is_ok_and(|text| text.lines().any(sets_forwarding)))
        .map(|path| path.display().to_string())
}

fn sets_forwarding(line: &str) -> bool {
    let Some((key, value)) = line.trim().trim_start_matches('-').split_once('=') else { return false };
    let key = key.trim().replace('/', ".");
    value.trim() == "1" && matches!(key.as_str(), "net.ipv4.ip_forward" | "net.ipv4.conf.all.forwarding")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_forward_are_known_in_each_form() {
        for line in
            ["net.ipv4.ip_forward=1", " -net/ipv4/ip_forward = 1 ", "net.ipv4.conf.all.forwarding = 1"]
        {
            assert!(sets_forwarding(line), "{line}");
        }
        for line in ["#net.ipv4.ip_forward=1", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=1", ""]
        {
            assert!(!sets_forwarding(line), "{line}");
        }
    }
}
