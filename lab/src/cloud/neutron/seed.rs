//! The networks that exist from the start.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::{
    super::{errors::ApiError, options::Host},
    addresses::Wish,
    records::{Base, Gateway, Net, Network, Router, Subnet},
    subnets::default_pools,
};

impl Network {
    /// Adds a subnet, and the port of the DHCP agent on it.
    pub(super) fn add_subnet(&mut self, subnet: Subnet, now: Timestamp) -> Result<(), ApiError> {
        let (id, network, dhcp, project) = (subnet.base.id, subnet.network, subnet.dhcp, subnet.base.project);
        self.subnets.insert(id, subnet);
        if let Some(net) = self.networks.get_mut(&network) {
            net.base.touch(now);
        }
        if dhcp {
            let wish = Wish { subnet: Some(id), address: None };
            let device = format!("dhcp-{network}");
            self.own_port(network, "network:dhcp", &device, &[wish], project, now)?;
        }
        Ok(())
    }

    fn seed_network(&mut self, project: Uuid, name: &str, external: bool, now: Timestamp) -> Uuid {
        let segment = 100 + self.count();
        let base = Base::new(project, name, now);
        let id = base.id;
        self.networks.insert(id, Net { base, external, shared: false, admin_up: true, segment });
        id
    }

    fn seed_subnet(&mut self, network: Uuid, name: &str, cidr: Ipv4Net, now: Timestamp) -> Subnet {
        let project = self.networks.get(&network).map(|net| net.base.project).unwrap_or_default();
        let gateway = cidr.hosts().next();
        Subnet {
            base: Base::new(project, name, now),
            network,
            cidr,
            gateway,
            dhcp: true,
            pools: default_pools(cidr, gateway),
            nameservers: Vec::new(),
            host_routes: json!([]),
            last: None,
        }
    }

    /// `external` with the floating IPs: the /24 of the host's own address on br-ex, pool .10 to .250.
    pub(in super::super) fn seed_external(
        &mut self,
        project: Uuid,
        host: &Host,
        now: Timestamp,
    ) -> Result<Uuid, ApiError> {
        self.host.clone_from(&host.name);
        self.default_group(project, now);
        let [a, b, c, _] = host.address.octets();
        let network = self.seed_network(project, "external", true, now);
        let cidr = Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), 24);
        let mut subnet = self.seed_subnet(network, "external-subnet", cidr, now);
        subnet.gateway = Some(host.address);
        subnet.pools = vec![(Ipv4Addr::new(a, b, c, 10), Ipv4Addr::new(a, b, c, 250))];
        subnet.dhcp = false;
        self.add_subnet(subnet, now)?;
        Ok(network)
    }

    /// `lab-net`, `lab-subnet`, `lab-router` and `lab-sg`.
    pub(in super::super) fn seed_lab(
        &mut self,
        project: Uuid,
        external: Uuid,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        let network = self.seed_network(project, "lab-net", false, now);
        let cidr = Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 100, 0), 24);
        let mut subnet = self.seed_subnet(network, "lab-subnet", cidr, now);
        let outside = self.subnets.values().find(|subnet| subnet.network == external);
        subnet.nameservers =
            outside.and_then(|outside| outside.gateway).iter().map(ToString::to_string).collect();
        let (id, leg) = (subnet.base.id, subnet.gateway);
        self.add_subnet(subnet, now)?;

        let mut base = Base::new(project, "lab-router", now);
        base.touch(now);
        let device = base.id.to_string();
        let wish = Wish { subnet: Some(id), address: leg };
        self.own_port(network, "network:router_interface", &device, &[wish], project, now)?;
        let port = self.own_port(external, "network:router_gateway", &device, &[], Uuid::nil(), now)?;
        let gateway = Some(Gateway { network: external, port, snat: true });
        self.routers.insert(base.id, Router { base, admin_up: true, gateway, routes: json!([]) });

        let group = self.add_group(project, "lab-sg", "ping, ssh, http", now);
        for (protocol, port) in [("icmp", None), ("tcp", Some(22)), ("tcp", Some(80))] {
            self.let_in(project, group, protocol, port, now);
        }
        Ok(())
    }
}
