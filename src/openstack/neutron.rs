//! Ports, floating IPs, networks, subnets and security groups.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::{
    Cloud,
    call::{Call, Service::Network as Neutron},
    copy::in_order_of_cards,
    error::{CloudError, or_none},
};
use crate::core::{
    cloud::FailureKind,
    ids::{FloatingIpId, PoolName, PortId, ServerId},
};

/// A port.
#[derive(Debug, Clone, Deserialize)]
pub struct Port {
    /// Its id.
    pub id: PortId,
    /// The network that it is in.
    #[serde(rename = "network_id")]
    pub network: Uuid,
    /// Its MAC address.
    #[serde(rename = "mac_address")]
    pub mac: String,
    /// Its addresses.
    #[serde(default)]
    pub fixed_ips: Vec<FixedIp>,
    /// Ids of its security groups.
    #[serde(default)]
    pub security_groups: Vec<String>,
    /// `ACTIVE`, `DOWN`, …
    #[serde(default)]
    pub status: String,
    /// The compute host that it is bound to, for administrators.
    #[serde(rename = "binding:host_id", default)]
    pub(super) host: Option<String>,
    /// How that host connects it, for administrators: `ovs` (also with OVN), `bridge`, `unbound`, `binding_failed`, …
    #[serde(rename = "binding:vif_type", default)]
    pub(super) vif_type: Option<String>,
}

/// An address of a port.
#[derive(Debug, Clone, Deserialize)]
pub struct FixedIp {
    /// The subnet that it is from.
    #[serde(rename = "subnet_id")]
    pub subnet: Uuid,
    /// The address.
    #[serde(rename = "ip_address")]
    pub address: IpAddr,
}

/// A floating IP.
#[derive(Debug, Clone, Deserialize)]
pub struct FloatingIp {
    /// Its id.
    pub id: FloatingIpId,
    /// The address.
    #[serde(rename = "floating_ip_address")]
    pub address: Ipv4Addr,
    /// The external network that it is from.
    #[serde(rename = "floating_network_id")]
    pub network: Uuid,
    /// The port that it leads to.
    #[serde(rename = "port_id")]
    pub port: Option<PortId>,
    /// Our mark is in here.
    #[serde(default)]
    pub description: Option<String>,
    /// Whose port that is.
    #[serde(default)]
    port_details: Option<PortDetails>,
}

#[derive(Debug, Clone, Deserialize)]
struct PortDetails {
    #[serde(default)]
    device_id: String,
    #[serde(default)]
    device_owner: String,
}

impl FloatingIp {
    /// Whether it carries the pool's mark.
    #[must_use]
    pub fn is_of(&self, pool: &PoolName) -> bool {
        self.description.as_deref() == Some(pool_mark(pool).as_str())
    }

    /// Whose port it leads to, for people: `server <id>`, or Neutron's own words for what is no server.
    #[must_use]
    pub fn holder(&self) -> Option<String> {
        let PortDetails { device_id, device_owner } = self.port_details.as_ref()?;
        let kind = if device_owner.starts_with("compute:") { "server" } else { device_owner };
        (!device_id.is_empty()).then(|| format!("{kind} {device_id}"))
    }
}

/// A network.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Network {
    pub(super) id: Uuid,
    pub(super) name: String,
    #[serde(default)]
    pub(super) mtu: Option<u32>,
    #[serde(default)]
    pub(super) project_id: Option<String>,
}

/// A subnet.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Subnet {
    pub(super) cidr: IpNet,
    pub(super) gateway_ip: Option<IpAddr>,
}

/// How a thing of ours at Neutron is known: its description, since that is written in the same call that makes it. A tag would take
/// a second call, and what is made between the two would be nobody's.
#[must_use]
pub fn pool_mark(pool: &PoolName) -> String {
    format!("lbsidecar:pool={pool}")
}

#[derive(Deserialize)]
struct FloatingIpBody {
    floatingip: FloatingIp,
}

impl Cloud {
    /// The ports of a server, in no order.
    ///
    /// # Errors
    /// When Neutron does not answer well.
    pub async fn ports_of(&self, id: ServerId) -> Result<Vec<Port>, CloudError> {
        let call = Call::get(Neutron, "list ports of server", id, &["ports"]).with("device_id", id);
        self.client.list(call, "ports").await
    }

    /// The floating IP with this address; `None` when the project has none.
    ///
    /// # Errors
    /// When Neutron does not answer well.
    pub async fn floating_ip(&self, address: Ipv4Addr) -> Result<Option<FloatingIp>, CloudError> {
        let call = Call::get(Neutron, "find floating IP", address, &["floatingips"])
            .with("floating_ip_address", address);
        let found: Vec<FloatingIp> = self.client.list(call, "floatingips").await?;
        Ok(found.into_iter().find(|floating| floating.address == address))
    }

    /// The floating IP with this id; `None` when it is gone.
    ///
    /// # Errors
    /// When Neutron does not answer well.
    pub async fn floating_ip_by_id(&self, id: FloatingIpId) -> Result<Option<FloatingIp>, CloudError> {
        let call = Call::get(Neutron, "look at floating IP", id, &["floatingips", &id.to_string()]);
        Ok(or_none(self.client.json::<FloatingIpBody>(&call).await)?.map(|body| body.floatingip))
    }

    /// The floating IPs that lead to a server.
    ///
    /// # Errors
    /// When Neutron does not answer well.
    pub async fn floating_ips_of(&self, id: ServerId) -> Result<Vec<FloatingIp>, CloudError> {
        let ports = self.ports_of(id).await?;
        if ports.is_empty() {
            return Ok(Vec::new());
        }
        let mut call = Call::get(Neutron, "list floating IPs of server", id, &["floatingips"]);
        for port in &ports {
            call = call.with("port_id", port.id);
        }
        self.client.list(call, "floatingips").await
    }

    /// The floating IPs that lead to a port.
    ///
    /// # Errors
    /// When Neutron does not answer well.
    pub async fn floating_ips_on(&self, port: PortId) -> Result<Vec<FloatingIp>, CloudError> {
        let call =
            Call::get(Neutron, "list floating IPs of port", port, &["floatingips"]).with("port_id", port);
        self.client.list(call, "floatingips").await
    }

    /// The floating IPs that carry the pool's mark.
    ///
    /// # Errors
    /// When Neutron does not answer well.
    pub async fn floating_ips_of_pool(&self, pool: &PoolName) -> Result<Vec<FloatingIp>, CloudError> {
        let call = Call::get(Neutron, "list floating IPs of pool", pool, &["floatingips"]);
        let mut all: Vec<FloatingIp> = self.client.list(call, "floatingips").await?;
        all.retain(|floating| floating.is_of(pool));
        Ok(all)
    }

    /// Makes a floating IP lead to a port, in one step also when it led elsewhere.
    ///
    /// # Errors
    /// When Neutron refuses (a port can have one of each external network), or does not answer well.
    pub async fn associate(&self, id: FloatingIpId, port: PortId) -> Result<(), CloudError> {
        self.lead(id, Some(port), "associate floating IP").await
    }

    /// Makes a floating IP lead nowhere.
    ///
    /// # Errors
    /// When Neutron refuses, or does not answer well.
    pub async fn disassociate(&self, id: FloatingIpId) -> Result<(), CloudError> {
        self.lead(id, None, "disassociate floating IP").await
    }

    async fn lead(
        &self,
        id: FloatingIpId,
        port: Option<PortId>,
        operation: &'static str,
    ) -> Result<(), CloudError> {
        let body = json!({"floatingip": {"port_id": port}});
        let call = Call::put(Neutron, operation, id, &["floatingips", &id.to_string()], body);
        let now = self.client.json::<FloatingIpBody>(&call).await?.floatingip;
        if now.port == port {
            return Ok(());
        }
        let port = now.port.map_or("no port".to_owned(), |port| format!("port {port}"));
        Err(CloudError::new(
            FailureKind::Conflict,
            operation,
            id.to_string(),
            format!("it leads to {port} now"),
        ))
    }

    /// Deletes a floating IP. One that is gone already is fine.
    ///
    /// # Errors
    /// When Neutron refuses, or does not answer well.
    pub async fn release_floating_ip(&self, id: FloatingIpId) -> Result<(), CloudError> {
        let call = Call::delete(Neutron, "delete floating IP", id, &["floatingips", &id.to_string()]);
        or_none(self.client.send(&call).await).map(drop)
    }

    /// A floating IP of our own that leads nowhere and is not in use; made when there is none. After a lost answer it may be asked for again.
    ///
    /// # Errors
    /// When the quota or the network is used up, or Neutron does not answer well.
    pub async fn spare_floating_ip(
        &self,
        pool: &PoolName,
        external: Uuid,
        in_use: &[IpAddr],
    ) -> Result<FloatingIp, CloudError> {
        let all = self.floating_ips_of_pool(pool).await?;
        if let Some(spare) = all
            .into_iter()
            .find(|f| f.port.is_none() && f.network == external && !in_use.contains(&IpAddr::V4(f.address)))
        {
            return Ok(spare);
        }
        let mark = pool_mark(pool);
        let body = json!({"floatingip": {"floating_network_id": external, "description": mark}});
        let call = Call::post(Neutron, "make a floating IP for pool", pool, &["floatingips"], body);
        Ok(self.client.json::<FloatingIpBody>(&call).await?.floatingip)
    }

    /// The floating IP of our own that leads to a server's first network card; made when there is none. After a lost answer it may
    /// be asked for again: what the first call made is then found.
    ///
    /// # Errors
    /// When the server has no port yet, the quota is used up, or Neutron does not answer well.
    pub async fn give_floating_ip(
        &self,
        id: ServerId,
        pool: &PoolName,
        external: Uuid,
    ) -> Result<FloatingIp, CloudError> {
        const GIVE: &str = "give a floating IP to server";
        let there = self.floating_ips_of(id).await?;
        if let Some(ours) = there.into_iter().find(|floating| floating.is_of(pool)) {
            return Ok(ours);
        }
        let (ports, server) = tokio::try_join!(self.ports_of(id), self.server(id))?;
        let no_port = || CloudError::new(FailureKind::Transient, GIVE, id.to_string(), "it has no port yet");
        let ports = server.map_or_else(Vec::new, |server| in_order_of_cards(ports, &server));
        let port = ports.first().ok_or_else(no_port)?;
        let mark = pool_mark(pool);
        let body =
            json!({"floatingip": {"floating_network_id": external, "port_id": port.id, "description": mark}});
        let call = Call::post(Neutron, GIVE, id, &["floatingips"], body);
        Ok(self.client.json::<FloatingIpBody>(&call).await?.floatingip)
    }
}
