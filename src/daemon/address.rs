//! The service address: which floating IP it is, where it leads now, and how it is taken and given back.
//!
//! This joins Neutron (whose record says where a floating IP leads) and the host's own network. A floating IP moves when a
//! running service is adopted and when it is released, and never in a handover.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, PoisonError},
};

use tracing::info;

use crate::{
    core::{
        cloud::FailureKind,
        event::VipSeen,
        ids::{FloatingIpId, PoolName, PortId, ServerId},
    },
    openstack::{Cloud, CloudError, FloatingIp, LbPort, LbPortRequest, Reach, Server},
    vip::settings::{VipMode, VipSettings},
};

/// The service address of one pool.
#[derive(Debug)]
pub(crate) struct ServiceAddress {
    cloud: Cloud,
    settings: VipSettings,
    /// What was found out at Neutron; `None` until it could be asked.
    found: Mutex<Option<Arc<Found>>>,
}

/// A floating IP and the load balancer port that it belongs on.
#[derive(Debug)]
pub(crate) struct Found {
    pub(super) floating_ip: FloatingIp,
    pub(super) port: LbPort,
    /// The ports that it may be taken from: those of the VM that the operator named as base.
    from: Vec<PortId>,
}

/// What is wrong with the service address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    /// A call failed.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// Nobody said which.
    #[error("{0} has no floating IP, and none is given: associate one with it, or say which with --vip")]
    None(String),
    /// Neutron does not know it.
    #[error("there is no floating IP {0} in this project: make it, or choose another with --vip")]
    Unknown(Ipv4Addr),
    /// It is somebody else's now.
    #[error(
        "floating IP {0} is on port {1}, which is neither ours nor the base's: it is left there; choose another with --vip, or move it"
    )]
    Strange(Ipv4Addr, PortId),
    /// The VM has no port where we need one.
    #[error("server {0} has no port in network {1}")]
    NoPort(ServerId, String),
    /// The VM has no address where we need one.
    #[error("server {0} has no address yet that HAProxy could reach")]
    NoAddress(ServerId),
    /// Only a base shows which network, host and security groups the load balancer port needs.
    #[error(
        "the load balancer port is missing, and so is a base that shows where it belongs: `lbsidecar provision` makes it"
    )]
    NoBase,
    /// This way is not built.
    #[error("vip mode \"host\" cannot be run yet: use \"port\" or \"static\"")]
    HostMode,
}

impl AddressError {
    /// What the core wants to know.
    pub(crate) fn kind(&self) -> FailureKind {
        match self {
            Self::Cloud(error) => error.kind(),
            Self::Strange(..) => FailureKind::Conflict,
            Self::None(_) | Self::Unknown(_) | Self::NoPort(..) | Self::NoBase | Self::HostMode => {
                FailureKind::Permanent
            }
            Self::NoAddress(_) => FailureKind::Transient,
        }
    }
}

impl ServiceAddress {
    pub(crate) fn new(cloud: Cloud, settings: VipSettings) -> Self {
        Self { cloud, settings, found: Mutex::new(None) }
    }

    pub(super) fn cloud(&self) -> &Cloud {
        &self.cloud
    }

    fn pool(&self) -> &PoolName {
        &self.settings.pool
    }

    /// The address itself, for people.
    pub(super) fn address(&self) -> Option<Ipv4Addr> {
        self.found().map(|found| found.floating_ip.address).or(self.settings.address)
    }

    /// Its way, for people.
    pub(super) fn way(&self) -> &'static str {
        match self.settings.mode {
            VipMode::Port { .. } => "port",
            VipMode::Host { .. } => "host",
            VipMode::Static => "static",
        }
    }

    fn is_static(&self) -> bool {
        matches!(self.settings.mode, VipMode::Static)
    }

    /// What was found out, if it was.
    pub(crate) fn found(&self) -> Option<Arc<Found>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Which of a VM's addresses HAProxy reaches it at.
    pub(crate) fn reach(&self) -> Reach {
        Reach::Fixed { network: self.found().map(|found| found.port.network_name.clone()) }
    }

    /// Finds the floating IP and the load balancer port; changes nothing. With `base`, a port that is still missing is described so
    /// that [`ServiceAddress::ensure`] can make it.
    pub(crate) async fn look(&self, base: Option<&Server>) -> Result<Option<FloatingIp>, AddressError> {
        match self.settings.mode {
            VipMode::Static => return Ok(None),
            VipMode::Host { .. } => return Err(AddressError::HostMode),
            VipMode::Port { .. } => {}
        }
        let port = self.cloud.lb_port(self.pool()).await?;
        let from: Vec<PortId> = match base {
            Some(base) => self.cloud.ports_of(base.id).await?.iter().map(|p| p.id).collect(),
            None => Vec::new(),
        };
        let floating_ip = match self.settings.address {
            Some(address) => self.cloud.floating_ip(address).await?.ok_or(AddressError::Unknown(address))?,
            None => self.own_floating_ip(port.as_ref(), base).await?,
        };
        if let Some(holder) = floating_ip.port
            && port.as_ref().is_none_or(|port| port.id != holder)
            && !from.contains(&holder)
            // Without a base nothing is taken over; where it leads is then shown, not refused.
            && base.is_some()
        {
            return Err(AddressError::Strange(floating_ip.address, holder));
        }
        if let Some(port) = port {
            let found = Found { floating_ip: floating_ip.clone(), port, from };
            *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(found));
        }
        Ok(Some(floating_ip))
    }

    async fn own_floating_ip(
        &self,
        port: Option<&LbPort>,
        base: Option<&Server>,
    ) -> Result<FloatingIp, AddressError> {
        if let Some(port) = port
            && let Some(ours) = self.cloud.floating_ips_on(port.id).await?.into_iter().next()
        {
            return Ok(ours);
        }
        let base = base.ok_or(AddressError::NoBase)?;
        let of_base = self.cloud.floating_ips_of(base.id).await?.into_iter().next();
        of_base.ok_or_else(|| AddressError::None(format!("base {} ({})", base.name, base.id)))
    }

    /// Makes the load balancer port when it is missing: like the base's port, in its network, with its security groups, on its host.
    pub(super) async fn ensure(&self, base: Option<&Server>, host: &str) -> Result<(), AddressError> {
        if self.is_static() || self.found().is_some() {
            return Ok(());
        }
        let base = base.ok_or(AddressError::NoBase)?;
        let ports = self.cloud.ports_of(base.id).await?;
        let like = ports.first().ok_or(AddressError::NoAddress(base.id))?;
        let request = LbPortRequest {
            pool: self.pool().clone(),
            network: like.network,
            host: base.host.clone().unwrap_or_else(|| host.to_owned()),
            security_groups: like.security_groups.clone(),
        };
        let port = self.cloud.ensure_lb_port(&request).await?;
        info!(port = %port.id, address = %port.address, network = %port.network_name, "load balancer port is there");
        self.look(Some(base)).await.map(drop)
    }

    /// What was found out, or is found out now: the cloud may have been away when we started.
    async fn known(&self) -> Result<Arc<Found>, AddressError> {
        if let Some(found) = self.found() {
            return Ok(found);
        }
        self.look(None).await?;
        self.found().ok_or(AddressError::NoBase)
    }

    /// Where it leads now.
    pub(crate) async fn seen(&self) -> VipSeen {
        if self.is_static() {
            return VipSeen::Ours;
        }
        let asked = async {
            let found = self.known().await?;
            let now = self.cloud.floating_ip_by_id(found.floating_ip.id).await?;
            Ok::<_, AddressError>((found, now))
        };
        match asked.await {
            Err(error) => VipSeen::Unknown(error.to_string()),
            Ok((_, None)) => VipSeen::Elsewhere("nowhere: Neutron does not know it any more".to_owned()),
            Ok((found, Some(now))) => match now.port {
                None => VipSeen::Free,
                Some(holder) if holder == found.port.id => VipSeen::Ours,
                Some(holder) => VipSeen::Elsewhere(format!("on port {holder}")),
            },
        }
    }

    /// Moves it to HAProxy. From a stranger it is not taken.
    pub(super) async fn take(&self) -> Result<(), AddressError> {
        if self.is_static() {
            return Ok(());
        }
        let found = self.known().await?;
        let address = found.floating_ip.address;
        let now = self.cloud.floating_ip_by_id(found.floating_ip.id).await?;
        match now.ok_or(AddressError::Unknown(address))?.port {
            Some(holder) if holder == found.port.id => return Ok(()),
            Some(holder) if !found.from.contains(&holder) => {
                return Err(AddressError::Strange(address, holder));
            }
            Some(_) | None => {}
        }
        Ok(self.cloud.associate(found.floating_ip.id, found.port.id).await?)
    }

    /// Moves it to a VM.
    pub(super) async fn give(&self, id: ServerId) -> Result<(), AddressError> {
        if self.is_static() {
            return Ok(());
        }
        let found = self.known().await?;
        let ports = self.cloud.ports_of(id).await?;
        let target = ports
            .iter()
            .find(|p| p.network == found.port.network)
            .ok_or_else(|| AddressError::NoPort(id, found.port.network_name.clone()))?;
        Ok(self.cloud.associate(found.floating_ip.id, target.id).await?)
    }

    /// Where HAProxy reaches a VM, and the floating IP that it was given for that.
    pub(super) async fn address_of(
        &self,
        id: ServerId,
    ) -> Result<(IpAddr, Option<FloatingIpId>), AddressError> {
        let server = self.cloud.server(id).await?;
        let address = server.and_then(|server| server.address(&self.reach()));
        Ok((address.ok_or(AddressError::NoAddress(id))?, None))
    }
}
