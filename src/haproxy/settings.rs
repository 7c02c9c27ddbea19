//! Where HAProxy lives and what does not change while the pool lives.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use secrecy::SecretString;

use super::error::HaproxyError;
use crate::core::ids::PoolName;

/// One HAProxy instance: ours, for one pool.
#[derive(Debug, Clone)]
pub struct HaproxySettings {
    /// The pool.
    pub pool: PoolName,
    /// The program.
    pub binary: PathBuf,
    /// Directory of `haproxy.cfg`, its last-known-good and rejected versions; ours alone.
    pub config_dir: PathBuf,
    /// Directory of the sockets and the pid file: `master.sock`, `admin.sock`, `probe.sock`, `stats.sock`, `haproxy.pid`.
    pub run_dir: PathBuf,
    /// A template that replaces the embedded one.
    pub template: Option<PathBuf>,
    /// Service addresses, one bind line each. `0.0.0.0:80` inside the load balancer's own namespace.
    pub binds: Vec<SocketAddr>,
    /// Listen on `binds` also while no interface has these addresses: the service address comes to the host later.
    pub bind_nonlocal: bool,
    /// `http` or `tcp`.
    pub mode: ServiceMode,
    /// How members are checked.
    pub check: HealthCheck,
    /// The statistics page and exporter.
    pub stats: StatsPage,
    /// Longest legal request: HAProxy's `timeout server`.
    pub server_timeout: Duration,
    /// How long an idle client may keep its connection (and an old worker alive).
    pub keep_alive_timeout: Duration,
    /// Upper bound for old workers; above the drain deadline.
    pub hard_stop_after: Duration,
    /// Client connections at once.
    pub max_connections: u32,
    /// Who starts it.
    pub supervisor: Supervisor,
    /// Network namespace that it runs in (`/run/netns/<name>`), when not the host's.
    pub netns: Option<String>,
}

/// The protocol between clients and members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceMode {
    /// HTTP: requests are counted, retried when safe, and drained one by one.
    Http,
    /// Plain TCP.
    Tcp,
}

/// How HAProxy and our own probe decide that a member is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// Path of the request; absolute, no spaces or control characters.
    pub path: String,
    /// Lowest good status.
    pub status_min: u16,
    /// Highest good status.
    pub status_max: u16,
    /// Time between checks.
    pub interval: Duration,
}

/// The statistics page, password protected, on a loopback address, with the Prometheus exporter under `/metrics`.
#[derive(Debug, Clone)]
pub struct StatsPage {
    /// A loopback address.
    pub bind: SocketAddr,
    /// User name.
    pub user: String,
    /// Password; it goes into a 0600 configuration file only.
    pub password: SecretString,
}

/// Who starts HAProxy when it does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Supervisor {
    /// The systemd unit of this name.
    Systemd(String),
    /// We start it ourselves, detached, so that it outlives us.
    Detached,
}

impl HaproxySettings {
    /// Checks what HAProxy's command line and socket addresses cannot take.
    ///
    /// # Errors
    /// The setting and its rule.
    pub fn check(&self) -> Result<(), HaproxyError> {
        // `-S` takes options after a comma; 108 bytes hold a socket's address, and HAProxy needs some for a temporary name.
        const LONGEST: usize = 80;
        if self.binds.is_empty() {
            let why = "there is no address to listen on".into();
            return Err(HaproxyError::Setting { key: "binds", why });
        }
        let run_dir = self.run_dir.display().to_string();
        let why = if !self.run_dir.is_absolute() {
            format!("{run_dir} is not an absolute path")
        } else if run_dir.len() > LONGEST {
            format!("{run_dir} is longer than the {LONGEST} characters that fit into a socket's address")
        } else if run_dir.contains(',') {
            format!("{run_dir} holds a comma")
        } else {
            return Ok(());
        };
        Err(HaproxyError::Setting { key: "run_dir", why })
    }
}
