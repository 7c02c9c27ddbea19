//! What of it is there already: one look at the project. It changes nothing.

use std::net::{Ipv4Addr, UdpSocket};

use ipnet::Ipv4Net;
use uuid::Uuid;

use super::{
    keys::{self, PublicKey},
    settings::{ProvisionSettings, Vip},
};
use crate::openstack::{
    BootSources, Cloud, CloudError, FloatingIp, Server, pool_mark,
    resources::{Group, KeyPair, Network, NetworkPort, Router, Subnet},
};

/// What was found. `None`: it is not there.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// From where SSH is allowed; `None` until the floating IP is known.
    pub from: Option<Ipv4Net>,
    /// The external network.
    pub external: Option<Network>,
    /// The network.
    pub network: Option<Network>,
    /// Its subnet: by name, or else by its addresses.
    pub subnet: Option<Subnet>,
    /// The router.
    pub router: Option<Router>,
    /// The router that the subnet is attached to.
    pub attached: Option<Uuid>,
    /// The VMs' security group.
    pub members: Option<Group>,
    /// The load balancer port's security group.
    pub balancer_group: Option<Group>,
    /// The key pair at Nova.
    pub key_pair: Option<KeyPair>,
    /// The key here.
    pub key: Option<PublicKey>,
    /// Image and flavor of a base that has to be made.
    pub sources: Option<BootSources>,
    /// The base.
    pub base: Option<Server>,
    /// Its port.
    pub base_port: Option<NetworkPort>,
    /// Names of the pool's clones. When there are some and no base, the pool has moved on and needs none.
    pub clones: Vec<String>,
    /// The load balancer port.
    pub balancer: Option<NetworkPort>,
    /// The service's floating IP.
    pub floating_ip: Option<FloatingIp>,
    /// How many snapshots of ours the pool has.
    pub snapshots: usize,
    /// What is there, and cannot be used; each says what to do.
    pub problems: Vec<String>,
}

/// Something with a name, which may carry our mark.
trait Named {
    fn name(&self) -> &str;
    fn description(&self) -> Option<&str>;
    fn id(&self) -> Uuid;
}

macro_rules! named {
    ($($type:ty),+) => {$(
        impl Named for $type {
            fn name(&self) -> &str {
                &self.name
            }
            fn description(&self) -> Option<&str> {
                self.description.as_deref()
            }
            fn id(&self) -> Uuid {
                self.id
            }
        }
    )+};
}
named!(Network, Subnet, Router, Group);

impl Seen {
    /// The one of this name; one of ours before those of others.
    fn pick<T: Named>(&mut self, what: &str, mut all: Vec<T>, name: &str, mark: &str) -> Option<T> {
        all.retain(|one| one.name() == name);
        if all.iter().any(|one| one.description() == Some(mark)) {
            all.retain(|one| one.description() == Some(mark));
        }
        all.sort_by_key(Named::id);
        if all.len() > 1 {
            let ids: Vec<String> = all.iter().map(|one| one.id().to_string()).collect();
            self.problems.push(format!(
                "there are {} {what}s named {name} ({}): rename or remove all but one, or choose another name",
                ids.len(),
                ids.join(", ")
            ));
        }
        all.into_iter().next()
    }
}

/// Looks at everything.
///
/// # Errors
/// When a service does not answer well. What is there and cannot be used is no error, but in [`Seen::problems`].
pub async fn look(cloud: &Cloud, settings: &ProvisionSettings) -> Result<Seen, CloudError> {
    let mark = pool_mark(&settings.pool);
    let mut seen = Seen::default();
    let (external, networks, routers, groups) = tokio::try_join!(
        cloud.external_networks(&settings.external),
        cloud.list_own::<Network>(&[]),
        cloud.list_own::<Router>(&[]),
        cloud.list_own::<Group>(&[]),
    )?;
    let (key_pairs, servers, balancers, floating_ips, snapshots) = tokio::try_join!(
        cloud.key_pairs(),
        cloud.servers(),
        cloud.balancer_ports(&settings.pool),
        cloud.list_own::<FloatingIp>(&[]),
        cloud.snapshots(&settings.pool),
    )?;
    seen.external = external.into_iter().next();
    seen.network = seen.pick("network", networks, &settings.network, &mark);
    seen.router = seen.pick("router", routers, &settings.router, &mark);
    seen.members = seen.pick("security group", groups.clone(), &settings.security_group, &mark);
    seen.balancer_group = seen.pick("security group", groups, &settings.balancer_group(), &mark);
    seen.key_pair = key_pairs.into_iter().find(|pair| pair.name == settings.key_name);
    match keys::find(settings).await {
        Ok(key) => seen.key = key,
        Err(error) => seen.problems.push(error.to_string()),
    }
    seen.snapshots = snapshots.iter().filter(|image| image.status == "active").count();
    seen.balancer = balancers.into_iter().next();
    seen.servers(cloud, settings, servers).await?;
    seen.subnet(cloud, settings, &mark).await?;
    if settings.vip != Vip::Static {
        seen.floating_ip = seen.service_address(settings, floating_ips, &mark);
    }
    seen.from = settings.ssh_from.or_else(|| seen.this_host());
    Ok(seen)
}

impl Seen {
    async fn servers(
        &mut self,
        cloud: &Cloud,
        settings: &ProvisionSettings,
        servers: Vec<Server>,
    ) -> Result<(), CloudError> {
        let of_pool = |s: &&Server| s.mark().is_some_and(|mark| mark.pool == settings.pool);
        self.clones = servers.iter().filter(of_pool).map(|s| s.name.clone()).collect();
        let named: Vec<Server> = servers
            .into_iter()
            .filter(|s| s.name == settings.base || s.id.to_string() == settings.base)
            .collect();
        if named.len() > 1 {
            let ids: Vec<String> = named.iter().map(|s| s.id.to_string()).collect();
            let name = &settings.base;
            self.problems.push(format!(
                "there are {} servers named {name} ({}): give the id of the one that is meant with --base",
                ids.len(),
                ids.join(", ")
            ));
        }
        self.base = named.into_iter().next();
        if let Some(base) = &self.base {
            let ports: Vec<NetworkPort> =
                cloud.list_own(&[("device_id", base.id.to_string().as_str())]).await?;
            let network = self.network.as_ref().map(|network| network.id);
            let misplaced = !ports.is_empty() && !ports.iter().any(|port| Some(port.network) == network);
            if misplaced {
                self.problems.push(format!(
                    "server {} ({}) has no port in network {}: name its network with --net, or another base with --base",
                    base.name, base.id, settings.network
                ));
            }
            self.base_port = ports.into_iter().find(|port| Some(port.network) == network);
        } else if self.clones.is_empty() {
            if Uuid::parse_str(&settings.base).is_ok() {
                self.problems.push(format!(
                    "there is no server {}: give the name of one that is to be made",
                    settings.base
                ));
            }
            match cloud.boot_sources(&settings.image, &settings.flavor).await {
                Ok(sources) => self.sources = Some(sources),
                Err(error) if error.kind() == crate::core::cloud::FailureKind::Permanent => {
                    self.problems.push(format!("{error}: choose another with --image or --flavor"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn subnet(
        &mut self,
        cloud: &Cloud,
        settings: &ProvisionSettings,
        mark: &str,
    ) -> Result<(), CloudError> {
        let Some(network) = &self.network else { return Ok(()) };
        let id = network.id.to_string();
        let filter = [("network_id", id.as_str())];
        let (subnets, ports) =
            tokio::try_join!(cloud.list_own::<Subnet>(&filter), cloud.list_own::<NetworkPort>(&filter))?;
        let wanted = ipnet::IpNet::V4(settings.cidr);
        self.subnet = self
            .pick("subnet", subnets.clone(), &settings.subnet, mark)
            .or_else(|| subnets.into_iter().find(|subnet| subnet.cidr == wanted));
        if let Some(subnet) = &self.subnet {
            let leg = |port: &&NetworkPort| {
                port.is_router_leg() && port.fixed_ips.iter().any(|f| f.subnet == subnet.id)
            };
            let legs: Vec<Uuid> =
                ports.iter().filter(leg).filter_map(|port| port.device.parse().ok()).collect();
            let own = self.router.as_ref().map(|router| router.id).filter(|id| legs.contains(id));
            self.attached = own.or(legs.first().copied());
        }
        Ok(())
    }

    /// The floating IP of the service: the chosen one; else that of the load balancer port, that of the base, or a free one of ours.
    fn service_address(
        &mut self,
        settings: &ProvisionSettings,
        mut all: Vec<FloatingIp>,
        mark: &str,
    ) -> Option<FloatingIp> {
        all.sort_by_key(|ip| ip.id);
        if let Some(address) = settings.address {
            let chosen = all.into_iter().find(|ip| ip.address == address);
            if chosen.is_none() {
                self.problems.push(format!(
                    "the project has no floating IP {address}: make it with `openstack floating ip create --floating-ip-address \
                     {address} {}`, or leave --vip out",
                    settings.external
                ));
            }
            return chosen;
        }
        let on = |port: &Option<NetworkPort>| {
            let id = port.as_ref()?.id;
            all.iter().find(|ip| ip.port.is_some_and(|port| port.0 == id)).cloned()
        };
        on(&self.balancer).or_else(|| on(&self.base_port)).or_else(|| {
            all.iter().find(|ip| ip.port.is_none() && ip.description.as_deref() == Some(mark)).cloned()
        })
    }

    /// Our own address towards the floating IP, which is what a VM sees of us.
    pub(super) fn this_host(&self) -> Option<Ipv4Net> {
        source_towards(self.floating_ip.as_ref()?.address).map(Ipv4Net::from)
    }
}

/// Asks the kernel which address it would send from; nothing is sent.
fn source_towards(address: Ipv4Addr) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((address, 9)).ok()?;
    match socket.local_addr().ok()? {
        std::net::SocketAddr::V4(own) if !own.ip().is_unspecified() => Some(*own.ip()),
        _ => None,
    }
}
