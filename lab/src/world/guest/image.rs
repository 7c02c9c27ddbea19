//! The guests' initramfs: what all guests share, and each guest's own facts appended to it.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{cpio::Cpio, kernel::Kernel};
use crate::{cloud::driver::Boot, world::tools::run};

/// The program that serves HTTP in the guest; it lies beside the lab's own.
const SERVICE: &str = "lbsidecar-lab-guest";
const INIT: &str = include_str!("init.sh");
/// How a guest finds out who it is where the lab did not write it down.
const DISCOVER: &str = include_str!("discover.sh");
/// The SSH server, where distributions have it.
const SSH_SERVERS: [&str; 2] = ["/usr/sbin/dropbear", "/usr/bin/dropbear"];
/// Users that images have by custom; they are all root here.
const USERS: &str =
    "root:x:0:0:root:/root:/bin/sh\nubuntu:x:0:0:root:/root:/bin/sh\ncirros:x:0:0:root:/root:/bin/sh\n";
/// What the guest does when its power button is pressed.
const POWER_BUTTON: &str = "#!/bin/busybox sh\nsync\npoweroff -f\n";

/// What all guests boot from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Image {
    /// The kernel image.
    pub kernel: PathBuf,
    /// The initramfs without the facts of one guest.
    pub initramfs: PathBuf,
}

impl Image {
    /// Builds the shared initramfs as `initramfs`.
    ///
    /// # Errors
    ///
    /// When a part is missing: busybox-static, the service's program, a library of it.
    pub fn build(kernel: &Kernel, initramfs: &Path) -> Result<Self> {
        let service = std::env::current_exe().context("failed to find this program")?.with_file_name(SERVICE);
        ensure!(
            service.exists(),
            "the guests' program {} is missing: build it with `cargo build --workspace --bins`",
            service.display()
        );
        let mut archive = Cpio::new(io::BufWriter::new(
            File::create(initramfs).with_context(|| format!("failed to create {}", initramfs.display()))?,
        ));
        for directory in ["bin", "dev", "etc", "etc/acpi", "etc/acpi/PWRF", "etc/dropbear", "etc/lab"]
            .into_iter()
            .chain(["modules", "proc", "root", "root/.ssh", "sys", "tmp"])
        {
            archive.directory(directory)?;
        }
        archive.file("etc/passwd", 0o644, USERS.as_bytes())?;
        archive.file("etc/group", 0o644, b"root:x:0:\n")?;
        archive.file("init", 0o755, INIT.as_bytes())?;
        archive.file("discover", 0o644, DISCOVER.as_bytes())?;
        archive.file("etc/acpi/PWRF/00000080", 0o755, POWER_BUTTON.as_bytes())?;
        let busybox = ["/bin/busybox", "/usr/bin/busybox"]
            .iter()
            .find_map(|path| fs::read(path).ok())
            .context("failed to find busybox: install the package busybox-static")?;
        archive.file("bin/busybox", 0o755, &busybox)?;
        archive.file(&format!("bin/{SERVICE}"), 0o755, &stripped(&service)?)?;
        let ssh = SSH_SERVERS
            .iter()
            .map(Path::new)
            .find(|path| path.exists())
            .context("failed to find dropbear: install the package dropbear-bin")?;
        archive.file("bin/dropbear", 0o755, &read(ssh)?)?;
        let mut needed = libraries(&service)?;
        needed.extend(libraries(ssh)?);
        needed.sort();
        needed.dedup();
        let mut directories = Vec::new();
        for library in needed {
            add_parents(&mut archive, &library, &mut directories)?;
            archive.file(library.trim_start_matches('/'), 0o755, &read(Path::new(&library))?)?;
        }
        for module in &kernel.modules {
            let name = module.file_name().unwrap_or_default().to_string_lossy();
            archive.file(&format!("modules/{name}"), 0o644, &read(module)?)?;
        }
        archive.finish()?;
        Ok(Self { kernel: kernel.image.clone(), initramfs: initramfs.to_owned() })
    }

    /// Writes a guest's initramfs: the shared one and the guest's facts.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or written.
    pub fn personalise(&self, guest: &Boot, initramfs: &Path) -> Result<()> {
        let mut cards = String::new();
        for nic in &guest.nics {
            let gateway = nic.gateway.map_or_else(|| "-".to_owned(), |gateway| gateway.to_string());
            cards.push_str(&format!("{}/{} {gateway}\n", nic.address, nic.prefix));
        }
        let address = guest.nics.first().map(|nic| nic.address.to_string()).unwrap_or_default();
        let uuid = guest.id.to_string();
        let mut facts = vec![
            ("hostname", host_name(&guest.name).into_bytes()),
            ("uuid", uuid.into_bytes()),
            ("address", address.into_bytes()),
            ("cards", cards.into_bytes()),
        ];
        if let Some(key) = &guest.public_key {
            facts.push(("authorized-keys", format!("{key}\n").into_bytes()));
        }
        if let Some(data) = &guest.user_data {
            facts.push(("user-data", data.clone()));
        }
        self.append(&facts, initramfs)
    }

    /// Writes an initramfs that says it is up and powers off.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or written.
    pub fn probe(&self, initramfs: &Path) -> Result<()> {
        self.append(
            &[("hostname", b"probe".to_vec()), ("cards", Vec::new()), ("probe", Vec::new())],
            initramfs,
        )
    }

    fn append(&self, facts: &[(&str, Vec<u8>)], initramfs: &Path) -> Result<()> {
        let mut out = read(&self.initramfs)?;
        let mut archive = Cpio::new(Vec::new());
        for (name, data) in facts {
            archive.file(&format!("etc/lab/{name}"), 0o644, data)?;
        }
        out.extend(archive.finish()?);
        fs::write(initramfs, out).with_context(|| format!("failed to write {}", initramfs.display()))
    }
}

/// A host name made of a server's name, as Nova makes it: lower case, and a hyphen for what a host name may not have.
fn host_name(name: &str) -> String {
    let lower = name.to_lowercase();
    let host: String =
        lower.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let host = host.trim_matches(['-', '.']);
    if host.is_empty() { "server".to_owned() } else { host.chars().take(63).collect() }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("failed to read {}", path.display()))
}

/// A program without its debugging information, which is most of it and which a small guest's memory would hold twice while it
/// boots. Where there is no `strip`, the program as it is.
fn stripped(program: &Path) -> Result<Vec<u8>> {
    let target = tempfile::NamedTempFile::new().context("failed to create a temporary file")?;
    let arguments = ["-o".as_ref(), target.path().as_os_str(), program.as_os_str()];
    if run("strip", &arguments).is_ok() { read(target.path()) } else { read(program) }
}

/// The shared libraries and the loader that a program is started with; they go into the initramfs under their own paths.
fn libraries(program: &Path) -> Result<Vec<String>> {
    let listing = run("ldd", &[program])?;
    Ok(listing
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(str::to_owned)
        .collect())
}

/// Adds the directories above `path` that are not in the archive yet.
fn add_parents<W: Write>(archive: &mut Cpio<W>, path: &str, there: &mut Vec<String>) -> io::Result<()> {
    let path = path.trim_start_matches('/');
    for (end, _) in path.match_indices('/') {
        let directory = path.get(..end).unwrap_or_default().to_owned();
        if !there.contains(&directory) {
            archive.directory(&directory)?;
            there.push(directory);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_names_become_host_names() {
        assert_eq!(host_name("vm-test"), "vm-test");
        assert_eq!(host_name("My Server_1!"), "my-server-1");
        assert_eq!(host_name("…"), "server");
    }
}
