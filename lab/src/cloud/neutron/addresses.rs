//! Addresses: which are taken, and which a new port gets.

use std::{collections::BTreeSet, net::Ipv4Addr};

use axum::http::StatusCode;
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    super::errors::ApiError,
    records::{Base, Fixed, Network, Port, Subnet},
};

/// What a client asks for as one of a port's addresses.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wish {
    pub(super) subnet: Option<Uuid>,
    pub(super) address: Option<Ipv4Addr>,
}

impl Network {
    /// Whether an address of a network is taken.
    pub(in super::super) fn taken(&self, network: Uuid, address: Ipv4Addr) -> bool {
        let mut ports = self.ports.values().filter(|port| port.network == network);
        ports.any(|port| port.addresses.iter().any(|own| own.address == address))
    }

    /// Chooses the addresses for a new port: what is wished for, or one of the network's first subnet. `keep` are addresses
    /// that the port already has.
    pub(super) fn choose(
        &mut self,
        network: Uuid,
        wishes: &[Wish],
        keep: &[Fixed],
    ) -> Result<Vec<Fixed>, ApiError> {
        let default = [Wish::default()];
        let has_subnet = self.subnets.values().any(|subnet| subnet.network == network);
        let wishes = match wishes {
            [] if !has_subnet => return Ok(Vec::new()),
            [] => &default,
            given => given,
        };
        wishes.iter().map(|wish| self.choose_one(network, *wish, keep)).collect()
    }

    fn choose_one(&mut self, network: Uuid, wish: Wish, keep: &[Fixed]) -> Result<Fixed, ApiError> {
        let fits = |subnet: &&Subnet| {
            subnet.network == network
                && wish.subnet.is_none_or(|id| id == subnet.base.id)
                && wish.address.is_none_or(|address| subnet.cidr.contains(&address))
        };
        let subnet = self.subnets.values().find(fits).map(|subnet| subnet.base.id);
        let subnet = subnet.ok_or_else(|| match (wish.subnet, wish.address) {
            (_, Some(address)) => {
                let words = format!("IP address {address} is not a valid IP for any of the subnets on the specified network.");
                ApiError::neutron(StatusCode::BAD_REQUEST, "InvalidIpForNetwork", words)
            }
            (Some(id), None) => {
                let words = format!("Failed to create port on network {network}, because fixed_ips included invalid subnet {id}.");
                ApiError::neutron(StatusCode::BAD_REQUEST, "InvalidInput", words)
            }
            (None, None) => no_more(network),
        })?;
        if let Some(address) = wish.address {
            let fixed = Fixed { subnet, address };
            if !keep.contains(&fixed) && self.taken(network, address) {
                let words = format!("IP address {address} already allocated in subnet {subnet}");
                return Err(ApiError::neutron(StatusCode::CONFLICT, "IpAddressAlreadyAllocated", words));
            }
            return Ok(fixed);
        }
        let taken: BTreeSet<Ipv4Addr> = self
            .ports
            .values()
            .filter(|port| port.network == network)
            .flat_map(|port| port.addresses.iter().map(|own| own.address))
            .collect();
        let subnet = self.subnets.get_mut(&subnet).ok_or_else(|| no_more(network))?;
        let address = subnet.next_free(&taken).ok_or_else(|| no_more(network))?;
        subnet.last = Some(address);
        Ok(Fixed { subnet: subnet.base.id, address })
    }

    /// A new port with the next free MAC, not yet bound; the caller fills in the rest and inserts it.
    pub(super) fn blank_port(project: Uuid, network: Uuid, name: &str, now: Timestamp) -> Port {
        let base = Base::new(project, name, now);
        let [a, b, c, ..] = base.id.into_bytes();
        Port {
            network,
            mac: format!("fa:16:3e:{a:02x}:{b:02x}:{c:02x}"),
            addresses: Vec::new(),
            card: 0,
            device: String::new(),
            owner: String::new(),
            groups: Vec::new(),
            address_pairs: serde_json::json!([]),
            admin_up: true,
            security: true,
            host: String::new(),
            vnic: "normal".to_owned(),
            profile: serde_json::json!({}),
            up: false,
            base,
        }
    }

    /// A port of Neutron's own: of a router, for DHCP, for a floating IP.
    pub(super) fn own_port(
        &mut self,
        network: Uuid,
        owner: &str,
        device: &str,
        wishes: &[Wish],
        project: Uuid,
        now: Timestamp,
    ) -> Result<Uuid, ApiError> {
        let mut port = Self::blank_port(project, network, "", now);
        port.addresses = self.choose(network, wishes, &[])?;
        port.device = device.to_owned();
        port.owner = owner.to_owned();
        if owner != "network:floatingip" {
            port.host.clone_from(&self.host);
        }
        port.security = false;
        port.up = true;
        let id = port.base.id;
        self.ports.insert(id, port);
        Ok(id)
    }

    /// The first address of a port.
    pub(super) fn address_of(&self, port: Uuid) -> Option<Ipv4Addr> {
        self.ports.get(&port)?.addresses.first().map(|own| own.address)
    }
}

impl Subnet {
    fn next_free(&self, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        let all = || {
            self.pools
                .iter()
                .flat_map(|(first, last)| (u32::from(*first)..=u32::from(*last)).map(Ipv4Addr::from))
        };
        let free = |address: &Ipv4Addr| !taken.contains(address) && Some(*address) != self.gateway;
        let after = self.last.and_then(|last| all().find(|address| *address > last && free(address)));
        after.or_else(|| all().find(free))
    }
}

fn no_more(network: Uuid) -> ApiError {
    let words = format!("No more IP addresses available on network {network}.");
    ApiError::neutron(StatusCode::CONFLICT, "IpAddressGenerationFailure", words)
}
