//! The guests' kernel: out of a distribution package, unpacked into a cache, nothing installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::world::tools::run;

/// Packages that always depend on the newest kernel for virtual machines: Debian's and Ubuntu's.
const METAPACKAGES: [&str; 2] = ["linux-image-cloud-amd64", "linux-image-virtual"];
/// Modules that a guest needs, unless its kernel has them built in; without the others it lacks a feature.
const MODULES: [(&str, bool); 12] = [
    ("failover", false),
    ("net_failover", false),
    ("virtio", true),
    ("virtio_ring", true),
    ("virtio_pci_legacy_dev", false),
    ("virtio_pci_modern_dev", false),
    ("virtio_pci", true),
    ("virtio_net", true),
    ("virtio_blk", true),
    ("virtio_balloon", true),
    ("button", true),
    ("evdev", true),
];

/// An unpacked kernel.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// The image to boot.
    pub image: PathBuf,
    /// Its modules, uncompressed.
    pub modules: Vec<PathBuf>,
}

impl Kernel {
    /// Takes the kernel out of the cache, or downloads its package into it first. Only this needs the network, and only once.
    ///
    /// # Errors
    ///
    /// When no package is known, or it cannot be downloaded or does not hold what a guest needs.
    pub fn obtain(cache: &Path) -> Result<Self> {
        let home = cache.join("kernel");
        if !home.join("vmlinuz").exists() {
            ensure!(
                std::env::consts::ARCH == "x86_64",
                "the lab's guests are x86-64 only, this machine is {}",
                std::env::consts::ARCH
            );
            fs::create_dir_all(cache).with_context(|| format!("failed to create {}", cache.display()))?;
            let work = tempfile::Builder::new()
                .prefix("kernel-")
                .tempdir_in(cache)
                .with_context(|| format!("failed to create a directory in {}", cache.display()))?;
            let unpacked = download(work.path())?;
            let ready = work.path().join("ready");
            select(&unpacked, &ready)?;
            // Whoever was first wins; the loser's copy goes with its temporary directory.
            if let Err(error) = fs::rename(&ready, &home) {
                ensure!(
                    home.join("vmlinuz").exists(),
                    "failed to move the kernel to {}: {error}",
                    home.display()
                );
            }
        }
        let mut modules = Vec::new();
        for entry in fs::read_dir(home.join("modules"))
            .with_context(|| format!("failed to read {}", home.display()))?
        {
            modules.push(entry?.path());
        }
        modules.sort();
        Ok(Self { image: home.join("vmlinuz"), modules })
    }
}

/// Downloads and unpacks the newest kernel's packages under `work`; gives the directory that has `boot` and `lib/modules`.
fn download(work: &Path) -> Result<PathBuf> {
    let Some(image) = METAPACKAGES.iter().find_map(|name| kernel_package(name)) else {
        bail!(
            "failed to find a kernel package: apt knows none of {}; run `apt-get update` as root and try again",
            METAPACKAGES.join(", ")
        );
    };
    let mut packages = vec![image.clone()];
    // Ubuntu keeps the modules in a package of their own.
    let modules = image.replacen("linux-image-", "linux-modules-", 1);
    if run("apt-cache", &["show", modules.as_str()]).is_ok_and(|text| !text.trim().is_empty()) {
        packages.push(modules);
    }
    tracing::info!(package = image, "downloading the guests' kernel");
    let downloaded = Command::new("apt-get")
        .args(["-q", "download"])
        .args(&packages)
        .current_dir(work)
        .output()
        .context("failed to start apt-get")?;
    ensure!(
        downloaded.status.success(),
        "failed to download {}: {}; if its version is gone, run `apt-get update` as root and try again",
        packages.join(" "),
        String::from_utf8_lossy(&downloaded.stderr).trim()
    );
    let unpacked = work.join("unpacked");
    for entry in fs::read_dir(work)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run("dpkg-deb", &["-x".as_ref(), path.as_os_str(), unpacked.as_os_str()])?;
        }
    }
    Ok(unpacked)
}

/// The package with the kernel itself that a metapackage depends on.
fn kernel_package(metapackage: &str) -> Option<String> {
    let text = run("apt-cache", &["depends", "--important", metapackage]).ok()?;
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| {
            name.strip_prefix("linux-image-")
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        })
        .map(str::to_owned)
}

/// Copies what a guest needs out of an unpacked kernel.
fn select(unpacked: &Path, ready: &Path) -> Result<()> {
    fs::create_dir_all(ready.join("modules"))?;
    let image = fs::read_dir(unpacked.join("boot"))
        .context("failed to read the unpacked kernel's /boot")?
        .filter_map(Result::ok)
        .find(|entry| entry.file_name().to_string_lossy().starts_with("vmlinuz"))
        .context("failed to find vmlinuz in the kernel package")?;
    let built_in = find(unpacked, &|name| name == "modules.builtin")
        .and_then(|path| fs::read_to_string(path).ok())
        .unwrap_or_default();
    for (index, (module, needed)) in MODULES.iter().enumerate() {
        let stem = format!("{module}.ko");
        let target = ready.join("modules").join(format!("{index:02}-{stem}"));
        match find(unpacked, &|name| {
            name.strip_prefix(&stem).is_some_and(|end| matches!(end, "" | ".xz" | ".zst" | ".gz"))
        }) {
            Some(path) => uncompress(&path, &target)?,
            None => {
                let there = built_in.lines().any(|line| line.ends_with(&format!("/{stem}")));
                ensure!(there || !needed, "failed to find the module {module} in the kernel package");
            }
        }
    }
    fs::copy(image.path(), ready.join("vmlinuz"))?;
    Ok(())
}

/// The first file under `directory` whose name is wanted.
fn find(directory: &Path, wanted: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    for entry in fs::read_dir(directory).ok()?.filter_map(Result::ok) {
        let path = entry.path();
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_directory {
            if let Some(found) = find(&path, wanted) {
                return Some(found);
            }
        } else if wanted(&entry.file_name().to_string_lossy()) {
            return Some(path);
        }
    }
    None
}

fn uncompress(module: &Path, target: &Path) -> Result<()> {
    let program = match module.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => {
            fs::copy(module, target)?;
            return Ok(());
        }
    };
    let output = Command::new(program)
        .arg("-dc")
        .arg(module)
        .output()
        .with_context(|| format!("failed to start {program}, which this kernel's modules need"))?;
    ensure!(output.status.success(), "failed to uncompress {}", module.display());
    fs::write(target, output.stdout)?;
    Ok(())
}
