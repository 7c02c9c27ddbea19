//! Tries everything that HAProxy will need, and changes nothing: for `lbsidecar check`.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
};

use nix::unistd::{AccessFlags, access};
use tokio::process::Command;

use super::{
    Haproxy, HaproxyError, HaproxySettings, bind,
    check::{self, version},
    file::OnDisk,
    settings::Supervisor,
};
use crate::core::{
    ids::BackendName,
    lb::{LbMode, LbModel, LbServer},
    units::Weight,
};

/// One thing tried.
#[derive(Debug)]
pub struct Finding {
    /// What was tried, as `HAProxy address 203.0.113.10:80`.
    pub what: String,
    /// What was found, or why it will not work and what to do.
    pub outcome: Result<String, HaproxyError>,
}

/// Tries the program, the template, the directories, what runs now, the addresses and the limits.
pub async fn preflight(settings: &HaproxySettings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found = |what: String, outcome: Result<String, HaproxyError>| {
        findings.push(Finding { what, outcome });
    };
    let version = version(&settings.binary).await;
    let usable = version.is_ok();
    found(format!("HAProxy program {}", settings.binary.display()), version);
    found("HAProxy directories".into(), directories(settings));
    let haproxy = match Haproxy::new(settings.clone()) {
        Ok(haproxy) => haproxy,
        Err(error) => {
            found("HAProxy template".into(), Err(error));
            return findings;
        }
    };
    if usable {
        found("HAProxy template".into(), haproxy.try_template().await);
    }
    let running = haproxy.running().await;
    let ours = matches!(running, Ok(Some(_)));
    found(
        "HAProxy instance".into(),
        running.map(|running| match running {
            Some(running) => format!("runs as {} (worker {})", running.description, running.pid),
            None => "does not run yet".into(),
        }),
    );
    found("HAProxy configuration file".into(), haproxy.try_file());
    for &address in settings.binds.iter().chain([&settings.stats.bind]) {
        let held = ours && haproxy.binds(address);
        let outcome = if held {
            Ok("held by our HAProxy".into())
        } else if let Some(netns) = settings.netns.as_ref().filter(|name| !bind::netns_path(name).exists()) {
            Ok(format!("not tried: its namespace {netns} is made at the first start"))
        } else {
            bind::usable(settings, address).map(Into::into)
        };
        found(format!("HAProxy address {address}"), outcome);
    }
    found("HAProxy starter".into(), starter(settings).await);
    found("HAProxy file descriptors".into(), descriptors(settings).await);
    findings
}

impl Haproxy {
    /// Renders a model with one member and has HAProxy check it.
    async fn try_template(&self) -> Result<String, HaproxyError> {
        let name = BackendName::try_new("check").map_err(|error| self.template.error(error.to_string()))?;
        let server = LbServer {
            name,
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 80),
            weight: Weight::FULL,
            mode: LbMode::Ready,
        };
        self.accepts(&LbModel { servers: vec![server], closing: false }).await?;
        Ok("renders, and HAProxy accepts it".into())
    }

    /// Has HAProxy read the file for `model` without running it. It lies in the directory for temporary files meanwhile, since whoever
    /// asks may not write in ours; nobody else can read it.
    ///
    /// # Errors
    /// The file cannot be made, or HAProxy does not accept it.
    pub async fn accepts(&self, model: &LbModel) -> Result<(), HaproxyError> {
        let text = self.next_text(model)?;
        let failed = |source| HaproxyError::File {
            operation: "write a trial configuration to",
            path: std::env::temp_dir(),
            source,
        };
        let trial = tempfile::NamedTempFile::new().map_err(failed)?;
        fs::write(trial.path(), text).map_err(failed)?;
        match check::accepts(&self.settings.binary, trial.path()).await? {
            Ok(()) => Ok(()),
            Err(refusal) => Err(self.template.error(format!(
                "HAProxy refuses what it renders: {}; `lbsidecar render` shows it",
                refusal.why
            ))),
        }
    }

    fn try_file(&self) -> Result<String, HaproxyError> {
        match self.file.read()? {
            OnDisk::Missing => Ok("not written yet".into()),
            OnDisk::Ours(_) => Ok("as we wrote it".into()),
            OnDisk::Edited(_) => Err(HaproxyError::Edited { path: self.file.path() }),
        }
    }

    /// Whether the configuration file binds this address.
    fn binds(&self, address: SocketAddr) -> bool {
        let line = format!("bind {address}");
        self.file
            .read()
            .is_ok_and(|file| file.text().is_some_and(|text| text.lines().any(|found| found.trim() == line)))
    }
}

/// Whether we may write where we must.
fn directories(settings: &HaproxySettings) -> Result<String, HaproxyError> {
    for dir in [&settings.config_dir, &settings.run_dir] {
        // What does not exist will be made below what does.
        let existing = dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        access(existing, AccessFlags::W_OK | AccessFlags::X_OK).map_err(|errno| HaproxyError::File {
            operation: "get the right to write to",
            path: existing.to_owned(),
            source: errno.into(),
        })?;
    }
    Ok(format!("{} and {} can be written", settings.config_dir.display(), settings.run_dir.display()))
}

/// Whether what starts HAProxy is there.
async fn starter(settings: &HaproxySettings) -> Result<String, HaproxyError> {
    let failed = |why: String| HaproxyError::Start { why };
    match &settings.supervisor {
        Supervisor::Systemd(unit) => {
            let systemctl = async |arguments: &[&str]| {
                let output = Command::new("systemctl")
                    .args(arguments)
                    .stdin(Stdio::null())
                    .kill_on_drop(true)
                    .output()
                    .await
                    .map_err(|error| failed(format!("systemctl: {error}")))?;
                Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned()))
            };
            // The second starts the first when we touch the configuration.
            for unit in [unit, &unit.replace(".service", ".path")] {
                if systemctl(&["cat", unit]).await?.is_none() {
                    let why = format!("systemd has no unit {unit}: install it, or set haproxy.starter");
                    return Err(failed(why));
                }
            }
            let has = systemctl(&["show", "--property=NetworkNamespacePath", "--value", unit]).await?;
            let needs = settings.netns.as_deref().map(bind::netns_path).unwrap_or_default();
            match has {
                Some(has) if Path::new(&has) != needs => Err(failed(network(unit, &has, &needs))),
                _ => Ok(format!("systemd unit {unit}")),
            }
        }
        Supervisor::Detached => {
            let mut programs = vec!["setsid"];
            if settings.netns.is_some() {
                programs.push("nsenter");
            }
            match programs.into_iter().find(|program| !in_path(program)) {
                Some(missing) => {
                    Err(failed(format!("the program {missing} is not there; install util-linux")))
                }
                None => Ok("started by us, detached".into()),
            }
        }
    }
}

/// A unit that puts HAProxy into another network than the settings say, and what to do.
fn network(unit: &str, has: &str, needs: &Path) -> String {
    if needs == Path::new("") {
        return format!(
            "{unit} puts HAProxy into the namespace {has}, and vip.mode wants it in the host's network: \
             use the drop-in /usr/share/lbsidecar/host-network.conf"
        );
    }
    let has = if has.is_empty() { "the host's network" } else { has };
    format!(
        "{unit} puts HAProxy into {has}, and vip.mode wants it in {needs}: \
         set NetworkNamespacePath={needs} with `systemctl edit {unit}`",
        needs = needs.display()
    )
}

fn in_path(program: &str) -> bool {
    super::start::PATH.split(':').any(|dir| PathBuf::from(dir).join(program).exists())
}

/// Whether as many connections can be open as the settings allow. HAProxy needs two descriptors for each, and some for itself; it
/// does not start with fewer, and `-c` does not notice.
async fn descriptors(settings: &HaproxySettings) -> Result<String, HaproxyError> {
    if matches!(settings.supervisor, Supervisor::Systemd(_)) {
        return Ok("set by the systemd unit (LimitNOFILE)".into());
    }
    let needed = 2 * u64::from(settings.max_connections) + 1000;
    // A shell of our own rights tells it best: the hard limit, whether it can be raised, and the kernel's bound.
    let status = Command::new("sh")
        .args(["-c", &format!("ulimit -n {needed}")])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await;
    match status {
        Ok(status) if status.success() => Ok(format!("{needed} can be open")),
        _ => Err(HaproxyError::Start {
            why: format!(
                "{} connections need {needed} open files: raise the limit of open files (ulimit -n), or lower haproxy.max_connections",
                settings.max_connections
            ),
        }),
    }
}
