//! `up`: what is missing, the guests' image, and the wait until the lab is ready.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::{net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::{is_installed, print};
use crate::{
    cloud::options::Seed,
    directory::{Directory, Plan},
    publish::Publication,
    space,
    world::{
        guest::{Accelerator, COMMAND_LINE, Image, Kernel},
        tools::run,
    },
};

/// Stands for [`USUAL_PORTS`] on the command line.
pub(super) const USUAL: &str = "usual";
/// The service on a lab's first floating IP; HAProxy's statistics page, in the default pool's namespace; the daemon's page.
const USUAL_PORTS: [&str; 3] =
    ["8080:10.20.20.11:80", "8404:lbsidecar-default/127.0.0.1:8404", "9180:127.0.0.1:9180"];
/// Programs that the lab calls, and the packages that have them.
const PROGRAMS: [(&str, &str); 10] = [
    ("busybox", "busybox-static"),
    ("conntrack", "conntrack"),
    ("dpkg-deb", "dpkg"),
    ("dropbear", "dropbear-bin"),
    ("ip", "iproute2"),
    ("ldd", "libc-bin"),
    ("libvirtd", "libvirt-daemon-system"),
    ("nft", "nftables"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("ssh-keygen", "openssh-client"),
];
/// Time from the first process to a cloud that answers; seconds, unless the machine is very busy.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// What this machine has not, and a lab cannot do without.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Missing(String);

/// The publications given on the command line.
pub(super) fn publications(given: &[String]) -> Result<Vec<Publication>> {
    let mut publications = Vec::new();
    for text in given {
        let texts = if text == USUAL { USUAL_PORTS.as_slice() } else { &[text.as_str()] };
        for text in texts {
            publications.push(text.parse().map_err(|error| anyhow::anyhow!("--publish {text}: {error}"))?);
        }
    }
    Ok(publications)
}

/// A lab that is ready.
#[derive(Debug)]
pub(crate) struct Started {
    keeper: Child,
    /// What a person should know of it, line by line.
    pub(crate) said: String,
}

/// Starts a lab and waits until it is ready; in the foreground until it ends.
pub(super) fn up(
    directory: &Directory,
    foreground: bool,
    publications: &[Publication],
    seed: Seed,
) -> Result<()> {
    let mut lab = start(directory, foreground, publications, seed)?;
    print(&lab.said);
    if foreground {
        // Ended by a signal, we take the keeper along, and the keeper the rest.
        let status = lab.keeper.wait().context("failed to wait for the lab")?;
        bail!(
            "the lab ended ({status}); the end of {}:\n{}",
            directory.log().display(),
            directory.log_tail()
        );
    }
    Ok(())
}

/// Starts a lab and waits until it is ready. In the foreground it ends with this process.
pub(crate) fn start(
    directory: &Directory,
    foreground: bool,
    publications: &[Publication],
    seed: Seed,
) -> Result<Started> {
    let started = Instant::now();
    ensure!(directory.init().is_none(), "a lab is up already in {}", directory.path().display());
    let accelerator = prepare(directory, publications, seed)?;

    let mut keeper = keep(directory, foreground)?;
    wait_until_ready(directory, &mut keeper)?;
    let mut said = format!(
        "lab ready in {:.1} s: {} guests, directory {}\n",
        started.elapsed().as_secs_f64(),
        match accelerator {
            Accelerator::Kvm => "KVM",
            Accelerator::Tcg => "emulated (no KVM)",
        },
        directory.path().display()
    );
    for Publication { port, target } in directory.read_published()? {
        said.push_str(&format!(
            "  http://127.0.0.1:{port} leads to {target}
"
        ));
    }
    Ok(Started { keeper, said })
}

/// Makes the directory and all that the lab's processes need, and leaves the plan for them.
pub(super) fn prepare(
    directory: &Directory,
    publications: &[Publication],
    seed: Seed,
) -> Result<Accelerator> {
    let missing = |error: anyhow::Error| Missing(format!("{error:#}"));
    check().map_err(missing)?;
    directory.create()?;
    let cache = cache()?;
    let kernel = Kernel::obtain(&cache).map_err(missing)?;
    let image = Image::build(&kernel, &directory.initramfs())?;
    let accelerator = Accelerator::find(&image, &cache)?;
    let public_key = make_key(directory)?;
    directory.write_plan(&Plan { image, accelerator, public_key, publish: publications.to_vec(), seed })?;
    Ok(accelerator)
}

/// Writes what guests boot from, for another cloud.
pub(super) fn guest_image(to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("failed to create {}", to.display()))?;
    let kernel = Kernel::obtain(&cache()?)?;
    Image::build(&kernel, &to.join("initrd"))?;
    for (name, data) in [("vmlinuz", fs::read(&kernel.image)?), ("cmdline", COMMAND_LINE.into())] {
        let path = to.join(name);
        fs::write(&path, data).with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(())
}

/// Says what is missing, all at once.
fn check() -> Result<()> {
    let mut packages: Vec<_> =
        PROGRAMS.iter().filter(|(program, _)| !is_installed(program)).map(|(_, package)| *package).collect();
    packages.dedup();
    ensure!(packages.is_empty(), "the lab needs more packages: `apt-get install {}`", packages.join(" "));
    space::check_user_namespaces()
}

/// Makes the lab's key pair; gives its public half.
fn make_key(directory: &Directory) -> Result<String> {
    let key = directory.key();
    let quiet = ["-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f"].map(OsStr::new);
    run("ssh-keygen", &[&quiet[..], &[key.as_os_str()]].concat())?;
    let public = key.with_extension("pub");
    let text = fs::read_to_string(&public).with_context(|| format!("failed to read {}", public.display()))?;
    Ok(text.trim().to_owned())
}

/// Where the guests' kernel is kept between labs.
fn cache() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .context("failed to find a cache directory: neither XDG_CACHE_HOME nor HOME is set")?
        .join("lbsidecar-lab");
    fs::create_dir_all(&cache).with_context(|| format!("failed to create {}", cache.display()))?;
    Ok(cache)
}

fn keep(directory: &Directory, foreground: bool) -> Result<Child> {
    let log = File::create(directory.log())
        .with_context(|| format!("failed to create {}", directory.log().display()))?;
    let mut command = space::ourselves(directory);
    command.arg("keep");
    if foreground {
        command.arg("--foreground");
        // What a terminal sends on Ctrl-C is for whoever started the lab; the lab ends with them, after their last word.
        command.process_group(0);
    }
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("failed to start the lab's keeper")
}

fn wait_until_ready(directory: &Directory, keeper: &mut Child) -> Result<()> {
    let end = Instant::now() + READY_DEADLINE;
    while UnixStream::connect(directory.control()).is_err() {
        if let Some(status) = keeper.try_wait()? {
            bail!(
                "the lab did not come up ({status}); the end of {}:\n{}",
                directory.log().display(),
                directory.log_tail()
            );
        }
        if Instant::now() > end {
            let _ = directory.kill_init();
            let _ = keeper.wait();
            bail!(
                "the lab was not ready within {} s; the end of {}:\n{}",
                READY_DEADLINE.as_secs(),
                directory.log().display(),
                directory.log_tail()
            );
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
