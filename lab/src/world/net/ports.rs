//! Ports: whatever link appears under a port's name is put on the port's bridge, as Neutron's agent does.

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use serde::Deserialize;
use uuid::Uuid;

use super::{Network, TENANT_MTU, bridge_name, links, tap_name};
use crate::world::tools::{ip, run};

/// A link as `ip -json link` prints it.
#[derive(Debug, Deserialize)]
struct Link {
    ifname: String,
    master: Option<String>,
    mtu: u32,
    #[serde(default)]
    flags: Vec<String>,
}

impl Network {
    /// From now on a link named after this port belongs on this network.
    ///
    /// # Errors
    ///
    /// What `ip` says about a link that is there already.
    pub fn port_up(&mut self, port: Uuid, network: Uuid) -> Result<()> {
        self.ports.insert(port, network);
        self.plug()
    }

    /// Forgets a port and takes its link, if there is one, off the network.
    ///
    /// # Errors
    ///
    /// What `ip` says.
    pub fn port_down(&mut self, port: Uuid) -> Result<()> {
        if self.ports.remove(&port).is_none() {
            return Ok(());
        }
        let tap = tap_name(port);
        if links::exists(&tap)? { ip(None, &[format!("link set {tap} nomaster")]) } else { Ok(()) }
    }

    /// Makes a guest's tap device and plugs it.
    ///
    /// # Errors
    ///
    /// What `ip` says; above all when `/dev/net/tun` may not be used.
    pub fn tap_up(&mut self, port: Uuid, network: Uuid) -> Result<()> {
        let tap = tap_name(port);
        if !links::exists(&tap)? {
            ip(None, &[format!("tuntap add dev {tap} mode tap")])?;
        }
        self.port_up(port, network)
    }

    /// Removes a guest's tap device.
    ///
    /// # Errors
    ///
    /// What `ip` says.
    pub fn tap_down(&mut self, port: Uuid) -> Result<()> {
        links::delete(&tap_name(port))
    }

    /// Brings every link that is named after a port into its place.
    fn plug(&self) -> Result<()> {
        let text = run("ip", &["-json", "link", "show"])?;
        let present: Vec<Link> =
            serde_json::from_str(&text).context("failed to read what `ip -json link` printed")?;
        let mut commands = Vec::new();
        for (port, network) in &self.ports {
            let (tap, bridge) = (tap_name(*port), bridge_name(*network));
            let Some(link) = present.iter().find(|link| link.ifname == tap) else { continue };
            let up = link.flags.iter().any(|flag| flag == "UP");
            // A link in place is left alone: setting it again would be a change, which would call us again.
            if link.master.as_ref() != Some(&bridge) || link.mtu != u32::from(TENANT_MTU) || !up {
                commands.push(format!("link set dev {tap} mtu {TENANT_MTU} master {bridge} up"));
            }
        }
        if commands.is_empty() { Ok(()) } else { ip(None, &commands) }
    }
}

/// Plugs links as they appear, for as long as the process lives.
///
/// # Errors
///
/// When `ip monitor` cannot be started.
pub fn watch(network: Arc<Mutex<Network>>) -> Result<()> {
    let mut monitor = monitor()?;
    thread::Builder::new().name("ports".to_owned()).spawn(move || {
        loop {
            for _ in BufReader::new(&mut monitor.1).lines().map_while(Result::ok) {
                let network = network.lock().unwrap_or_else(PoisonError::into_inner);
                if let Err(error) = network.plug() {
                    // A link may go between being seen and being plugged; the next event tells the truth.
                    tracing::debug!(error = format!("{error:#}"), "did not plug a port");
                }
            }
            let _ = monitor.0.kill();
            let _ = monitor.0.wait();
            loop {
                thread::sleep(Duration::from_millis(200));
                match self::monitor() {
                    Ok(again) => break monitor = again,
                    Err(error) => tracing::warn!(error = format!("{error:#}"), "cannot watch links"),
                }
            }
        }
    })?;
    Ok(())
}

fn monitor() -> Result<(Child, ChildStdout)> {
    let mut child = Command::new("ip")
        .args(["-oneline", "monitor", "link"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("failed to start `ip monitor`")?;
    let stdout = child.stdout.take().context("`ip monitor` has no output")?;
    Ok((child, stdout))
}
