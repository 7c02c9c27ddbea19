//! KVM or emulation: decided by a guest that really boots, not by the presence of `/dev/kvm`.

use std::{
    fs::{self, OpenOptions},
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{COMMAND_LINE, Image};

/// How long the probe guest may take; under a KVM that works it needs less than two seconds.
const PROBE_DEADLINE: Duration = Duration::from_secs(10);

/// What runs the guests' instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

impl Accelerator {
    /// The `type` attribute of libvirt's `<domain>`.
    #[must_use]
    pub fn domain_type(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "qemu",
        }
    }

    /// Finds out once per boot of this machine, by booting a probe guest, and remembers the answer in `cache`.
    ///
    /// # Errors
    ///
    /// When the probe guest cannot be written or QEMU cannot be started.
    pub fn find(image: &Image, cache: &Path) -> Result<Self> {
        if OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
            return Ok(Self::Tcg);
        }
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let memory = cache.join("kvm-probe");
        if let Some((known, answer)) =
            fs::read_to_string(&memory).ok().as_deref().and_then(|text| text.split_once(' '))
            && known == boot.trim()
        {
            return Ok(if answer == "works" { Self::Kvm } else { Self::Tcg });
        }
        let works = probe(image, cache)?;
        tracing::info!(works, "tried a guest under KVM");
        fs::write(&memory, format!("{} {}", boot.trim(), if works { "works" } else { "fails" }))
            .with_context(|| format!("failed to write {}", memory.display()))?;
        Ok(if works { Self::Kvm } else { Self::Tcg })
    }
}

fn probe(image: &Image, cache: &Path) -> Result<bool> {
    let initramfs = tempfile::Builder::new().prefix("probe-").tempfile_in(cache)?;
    image.probe(initramfs.path())?;
    let mut qemu = Command::new("qemu-system-x86_64")
        .args([
            "-accel",
            "kvm",
            "-m",
            "128",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ])
        .args(["-serial", "stdio", "-append", COMMAND_LINE])
        .arg("-kernel")
        .arg(&image.kernel)
        .arg("-initrd")
        .arg(initramfs.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("failed to start qemu-system-x86_64: is the package qemu-system-x86 installed?")?;
    let (alive, heard) = mpsc::channel();
    if let Some(stdout) = qemu.stdout.take() {
        // Ends with QEMU, whose end closes the pipe.
        thread::spawn(move || {
            if BufReader::new(stdout)
                .split(b'\n')
                .map_while(Result::ok)
                .any(|line| line.starts_with(b"guest: up"))
            {
                let _ = alive.send(());
            }
        });
    }
    let works = heard.recv_timeout(PROBE_DEADLINE).is_ok();
    let _ = qemu.kill();
    qemu.wait().context("failed to wait for the probe guest")?;
    Ok(works)
}
