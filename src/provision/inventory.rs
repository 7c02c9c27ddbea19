//! Everything that carries the pool's mark.

use std::fmt;

use uuid::Uuid;

use super::keys;
use crate::{
    core::ids::{FloatingIpId, PoolName, PortId, ServerId},
    openstack::{
        Cloud, CloudError, FloatingIp, pool_mark,
        resources::{Group, Network, NetworkPort, Router, Rule, Subnet},
    },
};

/// How much is to be removed, beside servers, floating IPs, load balancer port and key pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scope {
    /// Snapshots too.
    pub snapshots: bool,
    /// Security groups, router, subnet and network too.
    pub network: bool,
}

/// Something with our mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A floating IP, and its address.
    FloatingIp(FloatingIpId, String),
    /// A server, and its name.
    Server(ServerId, String),
    /// A load balancer port.
    BalancerPort(PortId),
    /// A snapshot, and its name.
    Snapshot(Uuid, String),
    /// A key pair, by name.
    KeyPair(String),
    /// A rule in a security group that is not ours, and that group's name.
    Rule(Uuid, String),
    /// A leg of a router in a subnet of ours: router, subnet, the subnet's name.
    Leg(Uuid, Uuid, String),
    /// A router, and its name.
    Router(Uuid, String),
    /// A subnet, and its name.
    Subnet(Uuid, String),
    /// A network, and its name.
    Network(Uuid, String),
    /// A security group, and its name.
    Group(Uuid, String),
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FloatingIp(_, address) => write!(f, "floating IP {address}"),
            Self::Server(id, name) => write!(f, "server {name} ({id})"),
            Self::BalancerPort(id) => write!(f, "load balancer port {id}"),
            Self::Snapshot(id, name) => write!(f, "snapshot {name} ({id})"),
            Self::KeyPair(name) => write!(f, "key pair {name}"),
            Self::Rule(id, group) => write!(f, "rule {id} in security group {group}"),
            Self::Leg(router, _, subnet) => write!(f, "attachment of subnet {subnet} to router {router}"),
            Self::Router(id, name) => write!(f, "router {name} ({id})"),
            Self::Subnet(id, name) => write!(f, "subnet {name} ({id})"),
            Self::Network(id, name) => write!(f, "network {name} ({id})"),
            Self::Group(id, name) => write!(f, "security group {name} ({id})"),
        }
    }
}

/// What was found: what is to go, in the order in which it can, and what was asked to stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// In this order.
    pub items: Vec<Item>,
    /// Ours too, and not asked for.
    pub kept: Vec<Item>,
}

/// Finds everything of the pool.
///
/// # Errors
/// When a service does not answer well: half an inventory would be taken for a whole one.
pub async fn inventory(cloud: &Cloud, pool: &PoolName, scope: Scope) -> Result<Inventory, CloudError> {
    let mark = pool_mark(pool);
    let ours = |description: Option<&String>| description.is_some_and(|text| *text == mark);
    let (floating_ips, balancers, servers, snapshots, key_pairs) = tokio::try_join!(
        cloud.list_own::<FloatingIp>(&[]),
        cloud.balancer_ports(pool),
        cloud.servers(),
        cloud.snapshots(pool),
        cloud.key_pairs(),
    )?;
    let (groups, ports, routers, subnets, networks) = tokio::try_join!(
        cloud.list_own::<Group>(&[]),
        cloud.list_own::<NetworkPort>(&[]),
        cloud.list_own::<Router>(&[]),
        cloud.list_own::<Subnet>(&[]),
        cloud.list_own::<Network>(&[]),
    )?;
    let mut items: Vec<Item> = Vec::new();
    let marked = floating_ips.iter().filter(|ip| ours(ip.description.as_ref()));
    items.extend(marked.map(|ip| Item::FloatingIp(ip.id, ip.address.to_string())));
    items.extend(balancers.iter().map(|port| Item::BalancerPort(PortId(port.id))));
    items.extend(servers.into_iter().filter(|s| s.is_of(pool)).map(|s| Item::Server(s.id, s.name)));
    let marked = key_pairs.into_iter().filter(|pair| keys::comment(&pair.public_key) == Some(mark.as_str()));
    items.extend(marked.map(|pair| Item::KeyPair(pair.name)));

    let images = snapshots.into_iter().map(|image| Item::Snapshot(image.id, image.name.unwrap_or_default()));
    let mut network: Vec<Item> = Vec::new();
    for group in groups.iter().filter(|group| !ours(group.description.as_ref())) {
        let rules = group.rules.iter().filter(|rule: &&Rule| ours(rule.description.as_ref()));
        network.extend(rules.map(|rule| Item::Rule(rule.id, group.name.clone())));
    }
    for port in ports.iter().filter(|port| port.is_router_leg()) {
        let Ok(router) = port.device.parse() else { continue };
        let in_it = |subnet: &&Subnet| port.fixed_ips.iter().any(|fixed| fixed.subnet == subnet.id);
        let legs = subnets.iter().filter(in_it);
        let legs = legs.filter(|s| ours(s.description.as_ref()) || ours(port.description.as_ref()));
        network.extend(legs.map(|subnet| Item::Leg(router, subnet.id, subnet.name.clone())));
    }
    let marked = routers.into_iter().filter(|router| ours(router.description.as_ref()));
    network.extend(marked.map(|router| Item::Router(router.id, router.name)));
    let marked = subnets.into_iter().filter(|subnet| ours(subnet.description.as_ref()));
    network.extend(marked.map(|subnet| Item::Subnet(subnet.id, subnet.name)));
    let marked = networks.into_iter().filter(|network| ours(network.description.as_ref()));
    network.extend(marked.map(|network| Item::Network(network.id, network.name)));
    let marked = groups.into_iter().filter(|group| ours(group.description.as_ref()));
    network.extend(marked.map(|group| Item::Group(group.id, group.name)));

    let mut kept = Vec::new();
    if scope.snapshots {
        items.extend(images)
    } else {
        kept.extend(images)
    }
    if scope.network {
        items.extend(network)
    } else {
        kept.extend(network)
    }
    Ok(Inventory { items, kept })
}
