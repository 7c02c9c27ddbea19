//! The load balancer port: a port of ours in the tenant network, behind which HAProxy lives.
//!
//! It is known by its device: `device_owner` is [`OWNER`] and `device_id` is `lbsidecar-<pool>`, both written in the call that makes
//! it. Plugging it into the host's switch is not done here.

use std::net::{IpAddr, Ipv4Addr};

use serde::Deserialize;
use serde_json::json;
use tracing::warn;
use uuid::Uuid;

use super::{
    Cloud,
    call::{Call, Service::Network as Neutron},
    error::{CloudError, or_none},
    neutron::{Network, Port, Subnet},
};
use crate::core::{
    cloud::FailureKind,
    ids::{PoolName, PortId},
};

/// Who uses the port, in Neutron's words.
pub(super) const OWNER: &str = "lbsidecar:host";
/// The MTU of a network that names none.
const USUAL_MTU: u32 = 1500;

/// A load balancer port that is wanted.
#[derive(Debug, Clone)]
pub struct LbPortRequest {
    /// The pool that it is for.
    pub pool: PoolName,
    /// The network of the members.
    pub network: Uuid,
    /// The compute host to bind it to, as Neutron's agent there calls itself.
    pub host: String,
    /// Ids of its security groups; they must let clients in.
    pub security_groups: Vec<String>,
}

/// A load balancer port, with all that is needed to plug it in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LbPort {
    /// Its id.
    pub id: PortId,
    /// The network that it is in.
    pub network: Uuid,
    /// That network's name, by which Nova lists servers' addresses.
    pub network_name: String,
    /// Its MAC address.
    pub mac: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// The length of its subnet's prefix.
    pub prefix: u8,
    /// The subnet's gateway.
    pub gateway: Option<Ipv4Addr>,
    /// The network's MTU.
    pub mtu: u32,
    /// Whether its host's switch is a Linux bridge, as Neutron has bound it.
    pub on_linuxbridge: bool,
}

#[derive(Deserialize)]
struct PortBody {
    port: Port,
}

#[derive(Deserialize)]
struct NetworkBody {
    network: Network,
}

#[derive(Deserialize)]
struct SubnetBody {
    subnet: Subnet,
}

impl Cloud {
    /// The pool's load balancer port; made when there is none, bound to this host when it is bound to another.
    ///
    /// # Errors
    /// When Neutron refuses (binding a port to a host needs an administrator's or a service's role), the port has no IPv4 address, or
    /// a call does not end well. After a lost answer it may be asked for again: it is then found.
    pub async fn ensure_lb_port(&self, request: &LbPortRequest) -> Result<LbPort, CloudError> {
        let port =
            match self.lb_ports(&request.pool).await?.into_iter().find(|p| p.network == request.network) {
                Some(port) if port.host.as_ref().is_none_or(|host| *host == request.host) => port,
                Some(port) => self.bind(&port, &request.host).await?,
                None => self.create_lb_port(request).await?,
            };
        self.describe_lb_port(&request.pool, port).await
    }

    /// The pool's load balancer port, if it has one.
    ///
    /// # Errors
    /// When Neutron does not answer well.
    pub async fn lb_port(&self, pool: &PoolName) -> Result<Option<LbPort>, CloudError> {
        match self.lb_ports(pool).await?.into_iter().next() {
            Some(port) => self.describe_lb_port(pool, port).await.map(Some),
            None => Ok(None),
        }
    }

    /// Deletes a port. One that is gone already is fine.
    ///
    /// # Errors
    /// When Neutron refuses, or does not answer well.
    pub async fn delete_port(&self, id: PortId) -> Result<(), CloudError> {
        let call = Call::delete(Neutron, "delete port", id, &["ports", &id.to_string()]);
        or_none(self.client.send(&call).await).map(drop)
    }

    async fn lb_ports(&self, pool: &PoolName) -> Result<Vec<Port>, CloudError> {
        let call = Call::get(Neutron, "find load balancer port of pool", pool, &["ports"])
            .with("device_owner", OWNER)
            .with("device_id", device(pool));
        let mut ports: Vec<Port> = self.client.list(call, "ports").await?;
        if ports.len() > 1 {
            warn!(%pool, count = ports.len(), "the pool has several load balancer ports; the first by id is used");
            ports.sort_by_key(|port| port.id);
        }
        Ok(ports)
    }

    async fn create_lb_port(&self, request: &LbPortRequest) -> Result<Port, CloudError> {
        let mut port = json!({
            "network_id": request.network,
            "name": device(&request.pool),
            "device_owner": OWNER,
            "device_id": device(&request.pool),
            "binding:host_id": request.host,
        });
        if !request.security_groups.is_empty() {
            port["security_groups"] = json!(request.security_groups);
        }
        let call = Call::post(
            Neutron,
            "create load balancer port of pool",
            &request.pool,
            &["ports"],
            json!({"port": port}),
        );
        Ok(self.client.json::<PortBody>(&call).await.map_err(forbidden)?.port)
    }

    async fn bind(&self, port: &Port, host: &str) -> Result<Port, CloudError> {
        let body = json!({"port": {"binding:host_id": host}});
        let call = Call::put(Neutron, "bind port", port.id, &["ports", &port.id.to_string()], body);
        Ok(self.client.json::<PortBody>(&call).await.map_err(forbidden)?.port)
    }

    async fn describe_lb_port(&self, pool: &PoolName, port: Port) -> Result<LbPort, CloudError> {
        let fixed = port.fixed_ips.iter().find_map(|fixed| match fixed.address {
            IpAddr::V4(address) => Some((address, fixed.subnet)),
            IpAddr::V6(_) => None,
        });
        let (address, subnet) = fixed.ok_or_else(|| {
            let object = format!("{} of pool {pool}", port.id);
            CloudError::new(
                FailureKind::Permanent,
                "use load balancer port",
                object,
                "it has no IPv4 address",
            )
        })?;
        let network = port.network.to_string();
        let network = Call::get(Neutron, "look at network", &network, &["networks", &network]);
        let subnet = subnet.to_string();
        let subnet = Call::get(Neutron, "look at subnet", &subnet, &["subnets", &subnet]);
        let (NetworkBody { network }, SubnetBody { subnet }) =
            tokio::try_join!(self.client.json(&network), self.client.json(&subnet))?;
        Ok(LbPort {
            id: port.id,
            network: network.id,
            network_name: network.name,
            mac: port.mac,
            address,
            prefix: subnet.cidr.prefix_len(),
            gateway: subnet.gateway_ip.and_then(|gateway| match gateway {
                IpAddr::V4(gateway) => Some(gateway),
                IpAddr::V6(_) => None,
            }),
            mtu: network.mtu.unwrap_or(USUAL_MTU),
            on_linuxbridge: port.vif_type.as_deref() == Some("bridge"),
        })
    }
}

pub(super) fn device(pool: &PoolName) -> String {
    format!("lbsidecar-{pool}")
}

fn forbidden(error: CloudError) -> CloudError {
    if error.status() == Some(403) && error.kind() == FailureKind::Permanent {
        return error.advise("binding a port to a host needs an administrator's role, or that somebody who has it makes the port");
    }
    error
}
