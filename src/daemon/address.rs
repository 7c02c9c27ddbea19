//! The service address: which floating IP it is, where it leads now, and how it is taken and given back.
//!
//! This joins Neutron (whose record says where a floating IP leads) and the host's own network. A floating IP moves when a
//! running service is adopted and when it is released, and never in a handover.

use std::net::{IpAddr, Ipv4Addr};

use crate::{
    core::{
        cloud::FailureKind,
        event::VipSeen,
        ids::{FloatingIpId, ServerId},
    },
    openstack::{Cloud, CloudError, FloatingIp, Port, Reach},
};

/// The service address of one pool.
#[derive(Debug)]
pub(super) struct ServiceAddress {
    cloud: Cloud,
    way: Way,
}

/// How it reaches HAProxy.
#[derive(Debug)]
pub(super) enum Way {
    /// A floating IP on a load balancer port of ours.
    Port {
        /// The floating IP.
        floating_ip: FloatingIp,
        /// The port that HAProxy lives behind.
        port: Port,
        /// The VM that it may be taken from: the base that the operator named.
        from: Option<ServerId>,
    },
    /// An address that the host has; nothing is moved.
    Static(Option<Ipv4Addr>),
}

/// Why the service address cannot be moved.
#[derive(Debug, thiserror::Error)]
pub(super) enum AddressError {
    /// A call failed.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// It is somebody else's now.
    #[error("floating IP {address} is on {holder}, which is neither ours nor the base: it is left there")]
    Strange {
        /// The floating IP.
        address: Ipv4Addr,
        /// Who has it.
        holder: String,
    },
    /// It was deleted.
    #[error("floating IP {0} is gone from Neutron: make it again, or choose another with --vip")]
    Gone(Ipv4Addr),
    /// The VM has no port where we need one.
    #[error("server {0} has no port in network {1}")]
    NoPort(ServerId, String),
    /// The VM has no address where we need one.
    #[error("server {0} has no address yet that HAProxy could reach")]
    NoAddress(ServerId),
}

impl AddressError {
    /// What the core wants to know.
    pub(super) fn kind(&self) -> FailureKind {
        match self {
            Self::Cloud(error) => error.kind(),
            Self::Strange { .. } => FailureKind::Conflict,
            Self::Gone(_) | Self::NoPort(..) => FailureKind::Permanent,
            Self::NoAddress(_) => FailureKind::Transient,
        }
    }
}

impl ServiceAddress {
    pub(super) fn new(cloud: Cloud, way: Way) -> Self {
        Self { cloud, way }
    }

    pub(super) fn cloud(&self) -> &Cloud {
        &self.cloud
    }

    /// The address itself, for people.
    pub(super) fn address(&self) -> Option<Ipv4Addr> {
        match &self.way {
            Way::Port { floating_ip, .. } => Some(floating_ip.address),
            Way::Static(address) => *address,
        }
    }

    /// Its way, for people.
    pub(super) fn way(&self) -> &'static str {
        match &self.way {
            Way::Port { .. } => "port",
            Way::Static(_) => "static",
        }
    }

    /// Which of a VM's addresses HAProxy reaches it at.
    pub(super) fn reach(&self) -> Reach {
        match &self.way {
            Way::Port { port, .. } => Reach::Fixed { network: Some(port.network) },
            Way::Static(_) => Reach::Fixed { network: None },
        }
    }

    /// Where it leads now.
    pub(super) async fn seen(&self) -> VipSeen {
        let Way::Port { floating_ip, port, .. } = &self.way else { return VipSeen::Ours };
        match self.cloud.floating_ip_by_id(floating_ip.id).await {
            Err(error) => VipSeen::Unknown(error.to_string()),
            Ok(None) => VipSeen::Elsewhere("nowhere: Neutron does not know it any more".to_owned()),
            Ok(Some(now)) => match now.port {
                None => VipSeen::Free,
                Some(holder) if holder == port.id => VipSeen::Ours,
                Some(holder) => VipSeen::Elsewhere(format!("on port {holder}")),
            },
        }
    }

    /// Moves it to HAProxy. From a stranger it is not taken.
    pub(super) async fn take(&self) -> Result<(), AddressError> {
        let Way::Port { floating_ip, port, from } = &self.way else { return Ok(()) };
        let now = self.cloud.floating_ip_by_id(floating_ip.id).await?;
        let now = now.ok_or(AddressError::Gone(floating_ip.address))?;
        match now.port {
            Some(holder) if holder == port.id => return Ok(()),
            None => {}
            Some(holder) => {
                let of_base = match from {
                    Some(base) => self.cloud.ports_of(*base).await?.iter().any(|p| p.id == holder),
                    None => false,
                };
                if !of_base {
                    let holder = format!("port {holder}");
                    return Err(AddressError::Strange { address: floating_ip.address, holder });
                }
            }
        }
        Ok(self.cloud.associate(floating_ip.id, port.id).await?)
    }

    /// Moves it to a VM.
    pub(super) async fn give(&self, id: ServerId) -> Result<(), AddressError> {
        let Way::Port { floating_ip, port, .. } = &self.way else { return Ok(()) };
        let ports = self.cloud.ports_of(id).await?;
        let target = ports
            .iter()
            .find(|p| p.network == port.network)
            .ok_or_else(|| AddressError::NoPort(id, port.network.to_string()))?;
        Ok(self.cloud.associate(floating_ip.id, target.id).await?)
    }

    /// Where HAProxy reaches a VM, and the floating IP that it was given for that.
    pub(super) async fn address_of(&self, id: ServerId) -> Result<(IpAddr, Option<FloatingIpId>), AddressError> {
        let server = self.cloud.server(id).await?;
        let address = server.and_then(|server| server.facts(&self.reach()).address);
        Ok((address.ok_or(AddressError::NoAddress(id))?, None))
    }
}
