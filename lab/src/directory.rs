//! The lab's directory: its files and sockets, and how to find a lab that is up.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getuid},
};
use serde::{Deserialize, Serialize};

use crate::{
    cloud::options::Seed,
    publish::Publication,
    world::guest::{Accelerator, Image},
};

/// Longest path that a Unix socket's address takes, less the longest of our socket names.
const LONGEST: usize = 107 - "/control.sock".len();

/// The lab's first process and its start time.
const INIT: &str = "init.pid";
const PLAN: &str = "plan.json";
const ENV: &str = "env.json";
const PUBLISHED: &str = "published.json";

/// Where one lab keeps what is needed to find, enter and end it.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    path: PathBuf,
}

/// What `up` found out before the lab's own processes start, and leaves for them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// What guests boot from.
    pub(crate) image: Image,
    /// What runs them.
    pub(crate) accelerator: Accelerator,
    /// The public half of [`Directory::key`].
    pub(crate) public_key: String,
    /// Ports to be reachable from the host.
    pub(crate) publish: Vec<Publication>,
    /// What its cloud has from the start.
    pub(crate) seed: Seed,
}

impl Directory {
    /// The given directory, or the user's default one.
    pub(crate) fn new(path: Option<PathBuf>) -> Result<Self> {
        let path = match (path, std::env::var_os("XDG_RUNTIME_DIR")) {
            (Some(path), _) => std::path::absolute(&path)
                .with_context(|| format!("failed to make {} absolute", path.display()))?,
            (None, Some(runtime)) if !runtime.is_empty() => Path::new(&runtime).join("lbsidecar-lab/default"),
            (None, _) => PathBuf::from(format!("/tmp/lbsidecar-lab-{}/default", getuid())),
        };
        ensure!(
            path.as_os_str().len() <= LONGEST,
            "the lab's directory {} is too long for its sockets: at most {LONGEST} characters",
            path.display()
        );
        Ok(Self { path })
    }

    /// Makes it, readable by its owner only. A directory that is there already must be empty or a former lab's, and ours.
    pub(crate) fn create(&self) -> Result<()> {
        let path = self.path.display();
        let create = |path: &Path| fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        create(&self.path).with_context(|| format!("failed to create the lab's directory {path}"))?;
        let owner = fs::metadata(&self.path).map(|facts| facts.uid());
        ensure!(
            owner.is_ok_and(|owner| owner == getuid().as_raw()),
            "the lab's directory {path} is another user's: choose another with --dir"
        );
        let mut entries = fs::read_dir(&self.path).with_context(|| format!("failed to read {path}"))?;
        ensure!(
            entries.next().is_none() || self.log().exists(),
            "{path} is not empty and no lab's directory: choose another with --dir"
        );
        self.clear()?;
        create(&self.guests()).with_context(|| format!("failed to create {}", self.guests().display()))
    }

    /// Removes what a lab leaves in it, and the directory itself when nothing else is there.
    pub(crate) fn remove(&self) -> Result<()> {
        self.clear()?;
        for path in [self.log(), self.lock()] {
            remove(&path)?;
        }
        match fs::remove_dir(&self.path) {
            Err(error) if error.kind() != ErrorKind::DirectoryNotEmpty => {
                Err(error).with_context(|| format!("failed to remove {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Removes all but the log and the lock.
    fn clear(&self) -> Result<()> {
        let files = [INIT, PLAN, ENV, PUBLISHED].map(|name| self.path.join(name));
        let sockets = [self.control(), self.forward()];
        let made = [self.initramfs(), self.libvirt_log(), self.key(), self.key().with_extension("pub")];
        for path in files.into_iter().chain(sockets).chain(made) {
            remove(&path)?;
        }
        for path in [self.guests(), self.state(), self.demo()] {
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(error).with_context(|| format!("failed to remove {}", path.display()))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Held by the process that keeps the lab, for as long as it does.
    pub(crate) fn lock(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// What all of the lab's processes write.
    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("lab.log")
    }

    /// Answers every connection with the lab's status; is there only while the lab is ready.
    pub(crate) fn control(&self) -> PathBuf {
        self.path.join("control.sock")
    }

    /// Leads into the lab's network.
    pub(crate) fn forward(&self) -> PathBuf {
        self.path.join("forward.sock")
    }

    /// The guests' files.
    pub(crate) fn guests(&self) -> PathBuf {
        self.path.join("guests")
    }

    /// State of the daemons that run in the lab.
    pub(crate) fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    /// Configuration and log of the daemon that the demo shows.
    pub(crate) fn demo(&self) -> PathBuf {
        self.path.join("demo")
    }

    /// What libvirtd writes.
    pub(crate) fn libvirt_log(&self) -> PathBuf {
        self.path.join("libvirtd.log")
    }

    /// The initramfs that guests share.
    pub(crate) fn initramfs(&self) -> PathBuf {
        self.path.join("initramfs")
    }

    /// The private key of the lab's key pair `lab-key`; the public one is beside it, with `.pub`.
    pub(crate) fn key(&self) -> PathBuf {
        self.path.join("lab-key")
    }

    /// Leaves the plan for the lab's processes.
    pub(crate) fn write_plan(&self, plan: &Plan) -> Result<()> {
        self.write(PLAN, &serde_json::to_string(plan)?)
    }

    /// The plan that `up` left.
    pub(crate) fn read_plan(&self) -> Result<Plan> {
        serde_json::from_str(&self.read(PLAN)?).context("failed to understand the lab's plan.json")
    }

    /// Says which ports of the host lead into the lab.
    pub(crate) fn write_published(&self, published: &[Publication]) -> Result<()> {
        self.write(PUBLISHED, &serde_json::to_string(published)?)
    }

    /// The ports of the host that lead into the lab.
    pub(crate) fn read_published(&self) -> Result<Vec<Publication>> {
        serde_json::from_str(&self.read(PUBLISHED)?).context("failed to understand the lab's published.json")
    }

    /// Leaves the variables that programs in the lab need.
    pub(crate) fn write_env(&self, variables: &BTreeMap<String, String>) -> Result<()> {
        self.write(ENV, &serde_json::to_string_pretty(variables)?)
    }

    /// The variables that programs in the lab need.
    pub(crate) fn read_env(&self) -> Result<BTreeMap<String, String>> {
        let text = self.read(ENV).context("is the lab up?")?;
        serde_json::from_str(&text).context("failed to understand the lab's env.json")
    }

    /// Says which process is the lab's first.
    pub(crate) fn write_init(&self, pid: Pid) -> Result<()> {
        let started = started(pid).context("the lab's first process ended at once")?;
        self.write(INIT, &format!("{pid} {started}\n"))
    }

    /// The lab's first process, when the lab lives. Its start time tells it from a stranger with the same number.
    pub(crate) fn init(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.path.join(INIT)).ok()?;
        let (pid, then) = text.trim().split_once(' ')?;
        let pid = Pid::from_raw(pid.parse().ok()?);
        (started(pid).as_deref() == Some(then)).then_some(pid)
    }

    /// The lab's first process, or what to do.
    pub(crate) fn expect_init(&self) -> Result<Pid> {
        match self.init() {
            Some(pid) => Ok(pid),
            None => bail!("there is no lab up in {}: `lbsidecar-lab up` starts one", self.path.display()),
        }
    }

    /// Ends the lab's first process; the kernel then ends everything in its namespaces.
    pub(crate) fn kill_init(&self) -> Result<()> {
        let Some(pid) = self.init() else { return Ok(()) };
        kill(pid, Signal::SIGKILL).with_context(|| format!("failed to end the lab's first process {pid}"))
    }

    /// The log's last lines.
    pub(crate) fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(12)).map(|line| format!("  {line}\n")).collect()
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path.join(name);
        // By rename, so that a reader never sees half a file.
        let temporary = self.path.join(format!(".{name}"));
        fs::write(&temporary, text)
            .and_then(|()| fs::rename(&temporary, &path))
            .with_context(|| format!("failed to write {}", path.display()))
    }

    fn read(&self, name: &str) -> Result<String> {
        let path = self.path.join(name);
        fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
    }
}

/// Removes a file that may be there.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// When a process started, in ticks since the machine's boot: field 22 of `/proc/<pid>/stat`. A zombie has ended.
fn started(pid: Pid) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, field 2, is in parentheses and may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    let started = fields.nth(18)?;
    (state != "Z" && state != "X").then(|| started.to_owned())
}
