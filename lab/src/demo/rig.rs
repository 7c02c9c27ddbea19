//! What the story is played with: the programs, the base with its address, the clients, and what must be there at the end.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use lbsidecar::{
    core::guest::DomainState,
    guests::{inspect, settings::GuestsSettings},
    load::{ClientGroup, Method, Reuse},
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::api::Api;

/// The VM that serves at first; the daemon's default.
pub const BASE: &str = "vm-test";
/// The floating IP of the service, which the lab's usual publications lead to.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 20, 20, 11);
/// Where clients go.
pub const SERVICE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(ADDRESS), 80);
/// Name of the clients that burn CPU.
pub const BURN: &str = "burn";

/// The two programs, which lie beside each other.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `lbsidecar-lab`.
    pub lab: PathBuf,
    /// `lbsidecar`.
    pub lbsidecar: PathBuf,
}

impl Programs {
    /// Those beside `lab`, which is `lbsidecar-lab`.
    ///
    /// # Errors
    /// When `lbsidecar` is not there.
    pub fn beside(lab: PathBuf) -> Result<Self> {
        let lbsidecar = lab.with_file_name("lbsidecar");
        ensure!(
            lbsidecar.exists(),
            "{} is missing: build it with `cargo build --workspace --bins`",
            lbsidecar.display()
        );
        Ok(Self { lab, lbsidecar })
    }
}

/// Boots the base, gives it the floating IP, and waits until it serves there.
///
/// # Errors
/// What the cloud says, or that the guest does not answer.
pub async fn boot_base(api: &Api) -> Result<Uuid> {
    let id = api.boot(BASE, "m1.nano").await?;
    api.give_address(id, ADDRESS).await?;
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build()?;
    let end = Instant::now() + Duration::from_secs(90);
    while http.get(format!("http://{SERVICE}/healthz")).send().await.is_err() {
        ensure!(Instant::now() < end, "{BASE} does not answer at {SERVICE} after 90 s");
        sleep(Duration::from_millis(100)).await;
    }
    Ok(id)
}

/// Clients of all kinds: those that keep their connection busy, those that let it rest, those that open one for each request,
/// and those that send what must not be sent twice.
#[must_use]
pub fn clients() -> Vec<ClientGroup> {
    const ECHO: usize = 64;
    let ms = Duration::from_millis;
    let mut groups = vec![
        ClientGroup::keep_alive(8, ms(10)),
        // Below HAProxy's keep-alive timeout: past it, whoever writes first wins, with any server.
        ClientGroup::idle(24, ms(500)..=ms(4000)),
        // HAProxy opens a connection to a guest for the first request of each of these: that is a guest's most expensive work.
        ClientGroup::new_connection(2, ms(100)),
        ClientGroup::post(2, ms(30), vec![b'x'; ECHO]),
    ];
    for group in &mut groups {
        group.expect = Some(BASE.to_owned());
        if let Method::Post(_) = group.method {
            group.path = Some("/echo".to_owned());
            group.expect = Some(ECHO.to_string());
        }
    }
    groups
}

/// Clients whose requests keep one guest busy and leave two guests halfway between the thresholds.
#[must_use]
pub fn burners() -> ClientGroup {
    let think = Duration::from_millis(30);
    ClientGroup {
        name: BURN.to_owned(),
        clients: 1,
        reuse: Reuse::KeepAlive,
        think: think..=think,
        method: Method::Get,
        path: Some("/burn?ms=100".to_owned()),
        expect: Some("burned".to_owned()),
    }
}

/// The guests that libvirt knows, with whether each runs.
///
/// # Errors
/// When libvirt does not answer.
pub async fn domains() -> Result<Vec<(Uuid, bool)>> {
    let settings = GuestsSettings {
        uris: vec!["qemu:///system".to_owned()],
        sample: Duration::from_secs(1),
        deadline: Duration::from_secs(10),
    };
    let report = inspect(&settings).await.map_err(|error| anyhow::anyhow!("failed to {error}"))?;
    let found = report.endpoints.into_iter().find_map(|endpoint| endpoint.found.ok());
    let found = found.context("no libvirt answers")?;
    Ok(found.domains.iter().map(|seen| (seen.server.0, seen.state == DomainState::Running)).collect())
}

/// What differs from "the primary alone, the service address with it": empty when nothing does.
///
/// # Errors
/// When the cloud or libvirt does not answer.
pub async fn left_over(api: &Api, primary: Uuid) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let servers = api.servers().await?;
    for server in &servers {
        if server.id != primary {
            found.push(format!("server {} ({}) is {}", server.name, server.id, server.status));
        } else if server.status != "ACTIVE" {
            found.push(format!("the primary {} is {}", server.name, server.status));
        }
    }
    if !servers.iter().any(|server| server.id == primary) {
        found.push(format!("the primary {primary} is gone"));
    }
    for (id, runs) in domains().await? {
        if id != primary {
            found.push(format!("domain {id} is still there"));
        } else if !runs {
            found.push("the primary's domain does not run".to_owned());
        }
    }
    let addresses = api.floating_ips().await?;
    let [(ADDRESS, Some(_))] = addresses.as_slice() else {
        found.push(format!("floating IPs: {addresses:?}"));
        return Ok(found);
    };
    Ok(found)
}

/// Waits until nothing is left over: what Nova deletes, it shows for a moment more.
///
/// # Errors
/// What is still left over at the deadline.
pub async fn expect_clean(api: &Api, primary: Uuid, within: Duration) -> Result<()> {
    let end = Instant::now() + within;
    loop {
        let found = left_over(api, primary).await?;
        if found.is_empty() {
            return Ok(());
        }
        if Instant::now() > end {
            bail!("left over: {}", found.join("; "));
        }
        sleep(Duration::from_millis(200)).await;
    }
}
