//! The lab's network, as Neutron's Linux bridge and L3 agents would make it.
//!
//! ```text
//!  main namespace                                   qrouter-<id>                       main namespace
//!  br-ex 10.20.20.1/24 ──── vqg… ═══ qg-… (external address, floating IPs /32, NAT) qr-… ═══ vqr… ──── brq<network>
//!    └── veth into namespace `client`, 10.20.20.251                                                      ├── tap<port> (guest)
//!                                                                                                        └── tap<port> (any veth)
//! ```
//!
//! Nothing has a default route out of the lab.

mod links;
mod nat;
mod ports;
mod router;

use std::{collections::BTreeMap, net::Ipv4Addr};

use anyhow::Result;
use uuid::Uuid;

pub use self::{ports::watch, router::GRACE};
use super::tools::{ip, run};
use crate::cloud::driver::Router;

/// The bridge of the external network.
pub const EXTERNAL_BRIDGE: &str = "br-ex";
/// The lab's host on the external network: the cloud's API, and HAProxy when it runs on the host.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 20, 20, 1);
/// The external network's prefix length.
pub const EXTERNAL_PREFIX: u8 = 24;
/// A namespace on the external network, for clients that are not the host.
pub const CLIENT_NETNS: &str = "client";
/// Its address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 20, 20, 251);
/// Tenant networks leave room for a tunnel's header, as on clouds with VXLAN.
pub const TENANT_MTU: u16 = 1450;

/// Name of the link that plugs a port.
#[must_use]
pub fn tap_name(port: Uuid) -> String {
    short("tap", port)
}

/// Name of a tenant network's bridge.
#[must_use]
pub fn bridge_name(network: Uuid) -> String {
    short("brq", network)
}

/// A link's name made of the first 11 characters of an id, as Neutron makes them.
fn short(prefix: &str, id: Uuid) -> String {
    let id = id.to_string();
    format!("{prefix}{}", id.get(..11).unwrap_or_default())
}

/// What was asked for so far. The kernel has the rest.
#[derive(Debug, Default)]
pub struct Network {
    routers: BTreeMap<Uuid, Router>,
    /// Floating IP: fixed IP and router.
    floating: BTreeMap<Ipv4Addr, (Ipv4Addr, Uuid)>,
    /// Where floating IPs led before, and their flows may still lead: floating IP, fixed IP, router.
    left: Vec<(Ipv4Addr, Ipv4Addr, Uuid)>,
    /// Port: network.
    ports: BTreeMap<Uuid, Uuid>,
}

impl Network {
    /// Makes the parts that are always there.
    ///
    /// # Errors
    ///
    /// What `ip` says.
    pub fn create() -> Result<Self> {
        ip(
            None,
            &[
                "link set lo up".to_owned(),
                format!("link add {EXTERNAL_BRIDGE} type bridge forward_delay 0 stp_state 0"),
                format!("address add {HOST}/{EXTERNAL_PREFIX} dev {EXTERNAL_BRIDGE}"),
                format!("link set {EXTERNAL_BRIDGE} up"),
            ],
        )?;
        run("ip", &["netns", "add", CLIENT_NETNS])?;
        ip(
            None,
            &[
                format!("link add client type veth peer name eth0 netns {CLIENT_NETNS}"),
                format!("link set client master {EXTERNAL_BRIDGE} up"),
            ],
        )?;
        ip(
            Some(CLIENT_NETNS),
            &[
                "link set lo up".to_owned(),
                format!("address add {CLIENT}/{EXTERNAL_PREFIX} dev eth0"),
                "link set eth0 up".to_owned(),
            ],
        )?;
        Ok(Self::default())
    }

    /// Makes a tenant network.
    ///
    /// # Errors
    ///
    /// What `ip` says.
    pub fn network_up(&mut self, network: Uuid) -> Result<()> {
        let bridge = bridge_name(network);
        if links::exists(&bridge)? {
            return Ok(());
        }
        ip(
            None,
            &[
                format!("link add {bridge} type bridge forward_delay 0 stp_state 0"),
                format!("link set {bridge} mtu {TENANT_MTU} up"),
            ],
        )
    }

    /// Removes a tenant network.
    ///
    /// # Errors
    ///
    /// What `ip` says.
    pub fn network_down(&mut self, network: Uuid) -> Result<()> {
        links::delete(&bridge_name(network))
    }
}
