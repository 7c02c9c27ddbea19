//! What Nova asks of Neutron: ports for servers.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    super::{Cloud, driver::Nic, store::State},
    addresses::Wish,
    floating_ips, quotas,
    records::{Network, Port},
};

const OWNER: &str = "compute:nova";

impl Network {
    /// Whether the project's quota allows for so many more ports.
    pub(in super::super) fn has_room_for_ports(&self, project: Uuid, more: usize) -> bool {
        more == 0 || quotas::room(self, project, "port") >= more
    }

    /// Makes a port that a server is to get.
    pub(in super::super) fn make_server_port(
        &mut self,
        network: Uuid,
        fixed: Option<Ipv4Addr>,
        groups: &[Uuid],
        project: Uuid,
        now: Timestamp,
    ) -> Result<Uuid, String> {
        let mut port = Self::blank_port(project, network, "", now);
        let wishes: Vec<Wish> =
            fixed.map(|address| Wish { subnet: None, address: Some(address) }).into_iter().collect();
        port.addresses = self
            .choose(network, &wishes, &[])
            .map_err(|_| format!("no address is free on network {network}"))?;
        port.groups = groups.to_vec();
        let id = port.base.id;
        self.ports.insert(id, port);
        Ok(id)
    }

    /// Gives a port to a server, as the network card of this number.
    pub(in super::super) fn bind_port(
        &mut self,
        id: Uuid,
        server: Uuid,
        card: usize,
        now: Timestamp,
    ) -> Result<Uuid, String> {
        let port = self.ports.get_mut(&id).ok_or_else(|| format!("port {id} could not be found"))?;
        if !port.device.is_empty() {
            return Err(format!("port {id} is still in use"));
        }
        port.card = card;
        port.device = server.to_string();
        OWNER.clone_into(&mut port.owner);
        port.host.clone_from(&self.host);
        port.base.touch(now);
        Ok(id)
    }

    /// The network card for a port.
    pub(in super::super) fn nic(&self, id: Uuid) -> Option<Nic> {
        let port = self.ports.get(&id)?;
        let own = port.addresses.first()?;
        let subnet = self.subnets.get(&own.subnet)?;
        Some(Nic {
            port: id,
            network: port.network,
            mac: port.mac.clone(),
            address: own.address,
            prefix: subnet.cidr.prefix_len(),
            gateway: subnet.gateway,
        })
    }

    /// The ports of a running guest are up.
    pub(in super::super) fn device_is_up(&mut self, server: Uuid, up: bool, now: Timestamp) {
        let server = server.to_string();
        for port in self.ports.values_mut().filter(|port| port.device == server) {
            port.up = up;
            port.base.touch(now);
        }
    }
}

/// Takes a server's ports back: those that Nova made are deleted, the client's are only unbound.
pub(in super::super) async fn release_device(cloud: &Cloud, server: Uuid) {
    let _wiring = cloud.wiring.lock().await;
    let now = cloud.now();
    let mut freed = Vec::new();
    {
        let State { compute, network, .. } = &mut *cloud.state();
        let made = compute.servers.get(&server).map(|server| server.made_ports()).unwrap_or_default();
        for id in made {
            network.ports.remove(&id);
            freed.extend(network.free_floating_ips(id, now));
        }
        let server = server.to_string();
        for port in network.ports.values_mut().filter(|port| port.device == server) {
            unbind(port, now);
        }
    }
    floating_ips::lead_nowhere(cloud, &freed).await;
}

fn unbind(port: &mut Port, now: Timestamp) {
    port.device.clear();
    port.owner.clear();
    port.host.clear();
    port.up = false;
    port.base.touch(now);
}
