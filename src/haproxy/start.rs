//! Starts HAProxy so that it outlives us, or recognises the one that already runs.

use std::{
    fs,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use nix::unistd::Uid;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};
use tracing::{info, warn};

use super::{
    Haproxy, bind,
    check::{self, first_alerts},
    description::Description,
    error::HaproxyError,
    file::OnDisk,
    reload::NO_STATES,
    settings::Supervisor,
    sync::ReadBack,
};
use crate::core::lb::LbModel;

/// How long a start may take; a port that is taken is retried for two seconds by HAProxy itself.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long an address may still be taken: by a worker that ends because its master was killed, or by the HAProxy that systemd has
/// just started again.
const FREE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(10);
/// What a detached HAProxy may look for programs and time zones in; it inherits nothing else of our environment.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Haproxy {
    /// Makes sure that HAProxy runs. One that runs for this pool is taken as it is; a dead one is started again with the file that
    /// lies there, edited or not, since any service is better than none; `model` is for when there is no usable file.
    ///
    /// # Errors
    /// No usable program, a stranger on our socket or address, or it does not start.
    pub async fn ensure_running(&mut self, model: &LbModel) -> Result<(), HaproxyError> {
        match self.running().await? {
            Some(running) => {
                info!(pid = running.pid, generation = running.description.generation, "HAProxy runs already");
                Ok(())
            }
            None => self.start(model).await,
        }
    }

    pub(super) async fn start(&mut self, model: &LbModel) -> Result<(), HaproxyError> {
        check::version(&self.settings.binary).await?;
        let until = Instant::now() + FREE;
        while let Err(error) = self.addresses_free() {
            if self.running().await?.is_some() {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(error);
            }
            sleep(POLL).await;
        }
        let on_disk = self.file.read()?;
        if let Some(description) = on_disk.text().and_then(Description::in_file)
            && description.pool == self.settings.pool
        {
            match self.start_as_it_is(&description).await {
                Ok(()) => return Ok(()),
                Err(error) => warn!(%error, "HAProxy does not start with the file as it is: writing it anew"),
            }
        }
        self.start_with(model, &on_disk).await
    }

    /// Whether we have the addresses for ourselves. HAProxy would not notice: it shares them with any other HAProxy.
    fn addresses_free(&self) -> Result<(), HaproxyError> {
        let mut addresses = self.settings.binds.iter().chain([&self.settings.stats.bind]);
        addresses.try_for_each(|&address| bind::usable(&self.settings, address).map(drop))
    }

    async fn start_as_it_is(&self, description: &Description) -> Result<(), HaproxyError> {
        if let Err(refusal) = check::accepts(&self.settings.binary, &self.file.path()).await? {
            return Err(HaproxyError::Start { why: refusal.why });
        }
        let pid = self.launch(description).await?;
        info!(pid, generation = description.generation, "HAProxy is started again");
        Ok(())
    }

    /// Starts HAProxy with a file made for `model`.
    async fn start_with(&mut self, model: &LbModel, on_disk: &OnDisk) -> Result<(), HaproxyError> {
        let generation = self.next_generation(on_disk, 0);
        let rendered = self.template.render(&self.settings, model, generation)?;
        if let OnDisk::Edited(text) = on_disk {
            self.file.write(&self.file.beside("edited"), text)?;
        }
        self.install(&rendered.text).await?;
        let pid = self.launch(&rendered.description).await?;
        info!(pid, generation, "HAProxy is started");
        self.settle(model, ReadBack::Yes).await?;
        self.keep_good()
    }

    /// Starts the program and waits until a worker says that it runs `want`; its pid.
    async fn launch(&self, want: &Description) -> Result<u32, HaproxyError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.settings.run_dir).map_err(
            |source| HaproxyError::File {
                operation: "create directory",
                path: self.settings.run_dir.clone(),
                source,
            },
        )?;
        self.write_states(NO_STATES).map_err(|why| HaproxyError::Start { why })?;
        let said_before = self.log_length();
        let mut child = match &self.settings.supervisor {
            Supervisor::Systemd(unit) => {
                self.start_unit(unit).await?;
                None
            }
            Supervisor::Detached => Some(self.spawn()?),
        };
        let until = Instant::now() + DEADLINE;
        let why = loop {
            if let Some(pid) = self.live(want).await {
                return Ok(pid);
            }
            if let Some(Ok(Some(status))) = child.as_mut().map(Child::try_wait) {
                break format!("it ended at once ({status})");
            }
            if Instant::now() >= until {
                if let Some(child) = &mut child {
                    // Half started it would keep the address from the next try. An error means that it has ended.
                    let _ = child.kill().await;
                }
                break format!("not up within {} s", DEADLINE.as_secs());
            }
            sleep(POLL).await;
        };
        let said = first_alerts(&self.log_since(said_before));
        Err(HaproxyError::Start {
            why: said.unwrap_or_else(|| format!("{why}; {} may say why", self.log_name())),
        })
    }

    async fn live(&self, want: &Description) -> Option<u32> {
        let pid = self.master.current().await.ok()?;
        let found = self.master.description(pid).await.ok()?;
        (found == want.to_string()).then_some(pid)
    }

    /// A session of its own, no open file, terminal or environment variable of ours: nothing that happens to us reaches it.
    fn spawn(&self) -> Result<Child, HaproxyError> {
        let failed = |error: &io::Error| HaproxyError::Start { why: error.to_string() };
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(self.log_file())
            .map_err(|error| failed(&error))?;
        let stderr = log.try_clone().map_err(|error| failed(&error))?;
        let mut command = Command::new("setsid");
        if let Some(netns) = &self.settings.netns {
            command.arg("nsenter").arg(format!("--net={}", bind::netns_path(netns).display()));
        }
        command
            .arg(&self.settings.binary)
            .arg("-W")
            .arg("-f")
            .arg(self.file.path())
            .arg("-p")
            .arg(self.master.pid_file())
            .arg("-S")
            .arg(format!("{},mode,600", self.master.socket().display()))
            .env_clear()
            .env("PATH", PATH)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(stderr)
            .kill_on_drop(false)
            .spawn()
            .map_err(|error| failed(&error))
    }

    fn log_file(&self) -> PathBuf {
        self.settings.run_dir.join("haproxy.log")
    }

    /// Where a person finds HAProxy's messages.
    pub(super) fn log_name(&self) -> String {
        match &self.settings.supervisor {
            Supervisor::Systemd(unit) => format!("`journalctl -u {unit}`"),
            Supervisor::Detached => self.log_file().display().to_string(),
        }
    }

    pub(super) fn log_length(&self) -> u64 {
        fs::metadata(self.log_file()).map_or(0, |log| log.len())
    }

    /// What a detached HAProxy has said since its log was `offset` long; nothing under systemd.
    pub(super) fn log_since(&self, offset: u64) -> String {
        const MOST: u64 = 64 << 10;
        let mut said = Vec::new();
        let read = fs::File::open(self.log_file()).and_then(|mut log| {
            log.seek(SeekFrom::Start(offset))?;
            log.take(MOST).read_to_end(&mut said)
        });
        // Without the log there is one reason less in an error text.
        read.map_or(String::new(), |_| String::from_utf8_lossy(&said).into_owned())
    }

    /// Root has systemd start the unit. The service's own user may not, and touches the file that the path unit beside it watches.
    async fn start_unit(&self, unit: &str) -> Result<(), HaproxyError> {
        if !Uid::effective().is_root() {
            return self.file.touch();
        }
        let failed = |why: String| HaproxyError::Start { why };
        let output = Command::new("systemctl")
            .args(["start", unit])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| failed(format!("systemctl: {error}")))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(failed(format!("systemctl start {unit}: {}", said.trim())))
    }
}
