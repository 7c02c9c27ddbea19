//! The service address: which floating IP it is, where it leads now, and how it is taken and given back.
//!
//! This joins Neutron (whose record says where a floating IP leads) and the host's own network. A floating IP moves when a
//! running service is adopted and when it is released, and never in a handover.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tracing::{info, warn};

pub(crate) use super::address_error::AddressError;
use crate::{
    core::{
        event::VipSeen,
        ids::{FloatingIpId, PoolName, PortId, ServerId},
    },
    haproxy::{self, HaproxySettings},
    openstack::{Cloud, FloatingIp, LbPort, LbPortRequest, Reach, Server},
    vip::{
        Holder,
        settings::{VipMode, VipSettings},
    },
};

/// A gratuitous ARP may be lost, and nobody answers it.
const ANNOUNCEMENTS: u32 = 3;
const BETWEEN_ANNOUNCEMENTS: Duration = Duration::from_millis(150);

/// The service address of one pool.
#[derive(Debug)]
pub(crate) struct ServiceAddress {
    cloud: Cloud,
    settings: VipSettings,
    /// Which it was when it was with us last; what is on the load balancer port goes before it.
    stored: Option<Ipv4Addr>,
    /// What was found out at Neutron; `None` until it could be asked.
    found: Mutex<Option<Arc<Found>>>,
}

/// A floating IP, and how it reaches HAProxy.
#[derive(Debug)]
pub(crate) struct Found {
    pub(super) floating_ip: FloatingIp,
    pub(super) way: Way,
}

/// How a floating IP reaches HAProxy.
#[derive(Debug)]
pub(crate) enum Way {
    /// It is associated with a load balancer port of ours.
    Port(LbPort),
    /// It is associated with nothing, and an interface of the host has it; members have floating IPs of their own.
    Host(Holder),
}

/// What taking the service address led to.
pub(super) enum Taken {
    /// It leads to HAProxy.
    Done,
    /// A member shall have another floating IP, at which HAProxy must look for it before we go on.
    Moved { server: ServerId, address: Ipv4Addr, floating_ip: FloatingIpId },
}

impl ServiceAddress {
    /// In `host` mode the base's own floating IP goes to the host, and the base gets another one: which one was meant is known by
    /// HAProxy's file then, when no setting says it.
    pub(crate) fn new(cloud: Cloud, mut settings: VipSettings, haproxy: &HaproxySettings) -> Self {
        if let (VipMode::Host { .. }, None) = (&settings.mode, settings.address)
            && let Some(SocketAddr::V4(remembered)) = haproxy::remembered_address(&haproxy.config_dir)
        {
            settings.address = Some(*remembered.ip());
        }
        Self { cloud, settings, stored: None, found: Mutex::new(None) }
    }

    /// The same, with the address that it was when it was with us last.
    pub(crate) fn stored(self, stored: Option<Ipv4Addr>) -> Self {
        Self { stored, ..self }
    }

    pub(super) fn cloud(&self) -> &Cloud {
        &self.cloud
    }

    fn pool(&self) -> &PoolName {
        &self.settings.pool
    }

    /// The address itself, for people.
    pub(super) fn address(&self) -> Option<Ipv4Addr> {
        self.found().map(|found| found.floating_ip.address).or(self.settings.address).or(self.stored)
    }

    /// Its way, for people.
    pub(super) fn way(&self) -> &'static str {
        match self.settings.mode {
            VipMode::Port { .. } => "port",
            VipMode::Host { .. } => "host",
            VipMode::Static => "static",
        }
    }

    /// Whether HAProxy's way to a member changes when the service address moves.
    pub(super) fn is_on_host(&self) -> bool {
        matches!(self.settings.mode, VipMode::Host { .. })
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
        match self.found().as_deref() {
            Some(Found { way: Way::Port(port), .. }) => {
                Reach::Fixed { network: Some(port.network_name.clone()) }
            }
            Some(Found { way: Way::Host(_), .. }) => Reach::Floating,
            None => Reach::Fixed { network: None },
        }
    }

    /// Finds the floating IP and the load balancer port; changes nothing. A stranger's floating IP is refused while there is a base that
    /// it should be on.
    pub(crate) async fn look(&self, base: Option<&Server>) -> Result<Option<FloatingIp>, AddressError> {
        if self.is_static() {
            return Ok(None);
        }
        let port = match self.settings.mode {
            VipMode::Port { .. } => self.cloud.lb_port(self.pool()).await?,
            VipMode::Host { .. } | VipMode::Static => None,
        };
        let floating_ip = match self.settings.address {
            Some(address) => self.cloud.floating_ip(address).await?.ok_or(AddressError::Unknown(address))?,
            None => self.own_floating_ip(port.as_ref(), base).await?,
        };
        if let Some(holder) = floating_ip.port
            && port.as_ref().is_none_or(|port| port.id != holder)
            && let Some(base) = base
            && !self.has_port(base.id, holder).await?
        {
            return Err(AddressError::Strange(floating_ip.address, holder, floating_ip.holder()));
        }
        let way = match (&self.settings.mode, port) {
            (VipMode::Host { interface, socket }, _) => {
                Some(Way::Host(Holder::new(interface.clone(), socket.clone())))
            }
            (_, port) => port.map(Way::Port),
        };
        if let Some(way) = way {
            let found = Found { floating_ip: floating_ip.clone(), way };
            *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(found));
        }
        Ok(Some(floating_ip))
    }

    /// The same for a pool that has served before: its address may be with any member, and the base's name with a stranger.
    pub(super) async fn look_again(&self, base: Option<&Server>) -> Result<(), AddressError> {
        match self.look(None).await {
            Err(AddressError::NoBase | AddressError::None(_)) if base.is_some() => {
                self.look(base).await.map(drop)
            }
            other => other.map(drop),
        }
    }

    async fn has_port(&self, server: ServerId, port: PortId) -> Result<bool, AddressError> {
        Ok(self.cloud.ports_of(server).await?.iter().any(|p| p.id == port))
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
        // Given back to a VM, it is told from that VM's other ones by what is stored only; unless it was deleted since.
        if let Some(stored) = self.stored
            && let Some(ours) = self.cloud.floating_ip(stored).await?
        {
            return Ok(ours);
        }
        let on_port = |port: &LbPort| AddressError::None(format!("load balancer port {}", port.id));
        let base = base.ok_or_else(|| port.map_or(AddressError::NoBase, on_port))?;
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
        match self.leads().await {
            Err(error) => VipSeen::Unknown(error.to_string()),
            Ok(seen) => seen,
        }
    }

    async fn leads(&self) -> Result<VipSeen, AddressError> {
        let found = self.known().await?;
        let Some(now) = self.cloud.floating_ip_by_id(found.floating_ip.id).await? else {
            return Ok(VipSeen::Elsewhere("nowhere: Neutron does not know it any more".to_owned()));
        };
        Ok(match (&found.way, now.port) {
            (Way::Port(port), Some(holder)) if holder == port.id => VipSeen::Ours,
            (Way::Host(holder), None) if holder.present(now.address).await? => VipSeen::Ours,
            (_, None) => VipSeen::Free,
            (_, Some(holder)) => VipSeen::Elsewhere(format!("on port {holder}")),
        })
    }

    /// Moves it to HAProxy, from one of the members or from nobody. From a stranger it is not taken.
    pub(super) async fn take(&self, members: &[(ServerId, SocketAddr)]) -> Result<Taken, AddressError> {
        if self.is_static() {
            return Ok(Taken::Done);
        }
        let found = self.known().await?;
        let address = found.floating_ip.address;
        let now = self.cloud.floating_ip_by_id(found.floating_ip.id).await?;
        let now = now.ok_or(AddressError::Unknown(address))?;
        if let (Way::Port(port), Some(holder)) = (&found.way, now.port)
            && port.id == holder
        {
            return Ok(Taken::Done);
        }
        if let Some(holder) = now.port
            && !self.is_with(members, holder).await?
        {
            return Err(AddressError::Strange(address, holder, now.holder()));
        }
        match &found.way {
            Way::Port(port) => self.cloud.associate(now.id, port.id).await?,
            Way::Host(holder) => {
                if let Some(moved) = self.away_from(&now, members).await? {
                    return Ok(moved);
                }
                let own = self.own_ways(&now, members).await?;
                self.take_to_host(holder, &now, &own).await?;
            }
        }
        Ok(Taken::Done)
    }

    async fn is_with(
        &self,
        members: &[(ServerId, SocketAddr)],
        holder: PortId,
    ) -> Result<bool, AddressError> {
        for (member, _) in members {
            if self.has_port(*member, holder).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// At the service address HAProxy would reach itself once the host has it: a member that is known by no other one gets one first,
    /// which leads there later, since a port can have one floating IP of an external network.
    async fn away_from(
        &self,
        service: &FloatingIp,
        members: &[(ServerId, SocketAddr)],
    ) -> Result<Option<Taken>, AddressError> {
        for (server, at) in members {
            if self.own_address(service, at).await?.is_none() {
                let mut in_use: Vec<IpAddr> = members.iter().map(|(_, at)| at.ip()).collect();
                // `provision` marks it as it marks the others.
                in_use.push(service.address.into());
                let spare = self.cloud.spare_floating_ip(self.pool(), service.network, &in_use).await?;
                let (server, address) = (*server, spare.address);
                return Ok(Some(Taken::Moved { server, address, floating_ip: spare.id }));
            }
        }
        Ok(None)
    }

    async fn own_address(
        &self,
        service: &FloatingIp,
        at: &SocketAddr,
    ) -> Result<Option<FloatingIp>, AddressError> {
        match at.ip() {
            IpAddr::V4(ip) if ip != service.address => Ok(self.cloud.floating_ip(ip).await?),
            _ => Ok(None),
        }
    }

    /// The members' own floating IPs that lead nowhere yet, each with the port that it is for.
    async fn own_ways(
        &self,
        service: &FloatingIp,
        members: &[(ServerId, SocketAddr)],
    ) -> Result<Vec<(FloatingIpId, PortId)>, AddressError> {
        let mut own = Vec::new();
        for (server, at) in members {
            if let Some(FloatingIp { id, port: None, .. }) = self.own_address(service, at).await? {
                let ports = self.cloud.ports_of(*server).await?;
                let port = ports.iter().find(|port| Some(port.id) == service.port).or(ports.first());
                own.push((id, port.ok_or(AddressError::NoPort(*server))?.id));
            }
        }
        Ok(own)
    }

    /// Everything that takes long was done before: between these steps requests wait, at HAProxy for a way to the member.
    async fn take_to_host(
        &self,
        holder: &Holder,
        service: &FloatingIp,
        own: &[(FloatingIpId, PortId)],
    ) -> Result<(), AddressError> {
        holder.add(service.address).await?;
        if service.port.is_some() {
            self.cloud.disassociate(service.id).await?;
        }
        // Now at once: whom the router still gets to see, it may send on with another sender's address.
        holder.announce(service.address).await?;
        for (floating_ip, port) in own {
            if let Err(error) = self.cloud.associate(*floating_ip, *port).await {
                if let Some(before) = service.port {
                    self.cloud.associate(service.id, before).await?;
                    holder.remove(service.address).await?;
                }
                return Err(error.into());
            }
        }
        for _ in 1..ANNOUNCEMENTS {
            tokio::time::sleep(BETWEEN_ANNOUNCEMENTS).await;
            holder.announce(service.address).await?;
        }
        Ok(())
    }

    /// Moves it to a VM.
    pub(super) async fn give(&self, id: ServerId) -> Result<(), AddressError> {
        if self.is_static() {
            return Ok(());
        }
        let found = self.known().await?;
        let ports = self.cloud.ports_of(id).await?;
        let target = match &found.way {
            Way::Port(port) => ports.iter().find(|p| p.network == port.network),
            Way::Host(_) => ports.first(),
        };
        let target = target.ok_or(AddressError::NoPort(id))?.id;
        match &found.way {
            Way::Port(_) => Ok(self.cloud.associate(found.floating_ip.id, target).await?),
            Way::Host(holder) => self.give_from_host(holder, &found.floating_ip, target).await,
        }
    }

    /// The host lets go of it first: what is new then waits for an answer to its first packet, and is not with a HAProxy that has no way
    /// to the VM while one address goes off its port and the other one on.
    async fn give_from_host(
        &self,
        holder: &Holder,
        service: &FloatingIp,
        target: PortId,
    ) -> Result<(), AddressError> {
        let mut own = self.cloud.floating_ips_on(target).await?;
        own.retain(|floating_ip| floating_ip.id != service.id);
        holder.remove(service.address).await?;
        let moved = async {
            for floating_ip in &own {
                self.cloud.disassociate(floating_ip.id).await?;
            }
            self.cloud.associate(service.id, target).await
        };
        let Err(error) = moved.await else { return Ok(()) };
        // What was answered with an error may have been done.
        if let Ok(Some(now)) = self.cloud.floating_ip_by_id(service.id).await
            && now.port == Some(target)
        {
            return Ok(());
        }
        // As it was, as far as the cloud lets us: HAProxy with a way to the VM before clients come to it. They come back in any case:
        // a cloud that refused the one may refuse the other, and what was refused first took nothing away.
        for floating_ip in &own {
            if let Err(error) = self.cloud.associate(floating_ip.id, target).await {
                warn!(address = %floating_ip.address, reason = %error, "the VM does not have its own floating IP back");
            }
        }
        let (added, announced) = (holder.add(service.address).await, holder.announce(service.address).await);
        if let Err(why) = added.and(announced) {
            warn!(address = %service.address, reason = %error, "the service address was not given back");
            return Err(why.into());
        }
        Err(error.into())
    }

    /// Where HAProxy reaches a VM, and the floating IP that it was given for that.
    pub(super) async fn address_of(
        &self,
        id: ServerId,
    ) -> Result<(IpAddr, Option<FloatingIpId>), AddressError> {
        if let Some(found) = self.found()
            && matches!(found.way, Way::Host(_))
        {
            let own = self.cloud.floating_ips_of(id).await?.into_iter().next();
            return Ok(match own {
                Some(own) => {
                    // Not the service address, as long as that is on the base, and not one that somebody else gave it. Ours is there
                    // already when the answer to its creation was lost, and leaves with the VM as any other.
                    let given = own.id != found.floating_ip.id && own.is_of(self.pool());
                    (own.address.into(), given.then_some(own.id))
                }
                None => {
                    let own = self.cloud.give_floating_ip(id, self.pool(), found.floating_ip.network).await?;
                    (own.address.into(), Some(own.id))
                }
            });
        }
        let server = self.cloud.server(id).await?;
        let address = server.and_then(|server| server.address(&self.reach()));
        Ok((address.ok_or(AddressError::NoAddress(id))?, None))
    }
}
