//! Floating IPs. An answer to an association means that the driver has done it.

use std::net::Ipv4Addr;

use axum::{extract::Path, http::StatusCode, response::IntoResponse};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::{
        Cloud,
        call::{Call, Input, text},
        errors::{Answer, ApiError},
        store::State,
    },
    addresses::Wish,
    list::{asked, bad, conflict, created, id_in, not_found, one, page, project, refuse},
    networks::{driver_failed, rename},
    quotas,
    records::{Base, FloatingIp, Network},
};

pub(super) async fn list(call: Call) -> Answer {
    let state = call.state();
    let seen = state.network.floating_ips.values();
    let seen = seen.filter(|ip| call.sees(ip.base.project) && call.listed(ip.base.created));
    page(&call, "floatingips", seen.map(|ip| view(&call.cloud, &state.network, ip)).collect())
}

pub(super) async fn show(call: Call, Path(id): Path<String>) -> Answer {
    let state = call.state();
    let ip = find(&call, &state, &id)?;
    one(&call, "floatingip", view(&call.cloud, &state.network, ip))
}

fn find<'a>(call: &Call, state: &'a State, id: &str) -> Result<&'a FloatingIp, ApiError> {
    let ip = Uuid::parse_str(id).ok().and_then(|id| state.network.floating_ips.get(&id));
    let ip = ip.filter(|ip| call.sees(ip.base.project));
    ip.ok_or_else(|| not_found("FloatingIPNotFound", "Floating IP", id))
}

const KNOWN: [&str; 12] = [
    "floating_network_id",
    "port_id",
    "fixed_ip_address",
    "floating_ip_address",
    "subnet_id",
    "description",
    "project_id",
    "tenant_id",
    "dns_name",
    "dns_domain",
    "qos_policy_id",
    "tags",
];

pub(super) async fn create(call: Call, Input(body): Input) -> Answer {
    let wanted = asked(&body, "floatingip", &KNOWN)?;
    let _wiring = call.cloud.wiring.lock().await;
    let (ip, target) = {
        let mut state = call.state();
        let network = id_in(wanted, "floating_network_id")?;
        let network = network.ok_or_else(|| {
            bad("Failed to parse request. Required attribute 'floating_network_id' not specified")
        })?;
        match state.network.networks.get(&network) {
            None => return Err(not_found("NetworkNotFound", "Network", network)),
            Some(net) if !net.external => {
                let words =
                    format!("Bad floatingip request: Network {network} is not a valid external network.");
                return Err(refuse(StatusCode::BAD_REQUEST, "BadRequest", words));
            }
            Some(_) => {}
        }
        let owner = project(&call, wanted)?;
        quotas::check(&state.network, owner, "floatingip")?;
        let target = id_in(wanted, "port_id")?;
        let target =
            target.map(|port| target_of(&call, &state.network, port, wanted, network, None)).transpose()?;
        let address = text(wanted, "floating_ip_address").map(|address| {
            if !call.admin() {
                let words = "(rule:create_floatingip and rule:create_floatingip:floating_ip_address) is disallowed by policy";
                return Err(refuse(StatusCode::FORBIDDEN, "PolicyNotAuthorized", words));
            }
            address.parse().map_err(|_| bad(format!("Invalid input for floating_ip_address: {address}")))
        });
        let mut base = Base::new(owner, "", call.now());
        rename(&mut base, wanted);
        let wish = Wish { subnet: id_in(wanted, "subnet_id")?, address: address.transpose()? };
        let device = base.id.to_string();
        let own_port = state.network.own_port(
            network,
            "network:floatingip",
            &device,
            &[wish],
            Uuid::nil(),
            call.now(),
        )?;
        let address = state.network.address_of(own_port).unwrap_or(Ipv4Addr::UNSPECIFIED);
        let ip = FloatingIp {
            base,
            address,
            network,
            own_port,
            port: None,
            fixed: None,
            router: None,
            was: "DOWN",
            changed: call.now(),
        };
        state.network.floating_ips.insert(ip.base.id, ip.clone());
        (ip, target)
    };
    let led = if target.is_some() { point(&call.cloud, &ip, target).await } else { Ok(()) };
    if let Err(why) = led {
        let mut state = call.state();
        state.network.floating_ips.remove(&ip.base.id);
        state.network.ports.remove(&ip.own_port);
        return Err(driver_failed(&why));
    }
    let state = call.state();
    let shown = find(&call, &state, &ip.base.id.to_string())?;
    created("floatingip", view(&call.cloud, &state.network, shown))
}

/// Where a floating IP can lead: port, fixed address, router.
type Target = (Uuid, Ipv4Addr, Uuid);

/// Finds out whether a floating IP of `network` can lead to a port.
fn target_of(
    call: &Call,
    network: &Network,
    id: Uuid,
    wanted: &Value,
    external: Uuid,
    ip: Option<&FloatingIp>,
) -> Result<Target, ApiError> {
    let port = network.ports.get(&id).filter(|port| call.sees(port.base.project));
    let port = port.ok_or_else(|| not_found("PortNotFound", "Port", id))?;
    let given = text(wanted, "fixed_ip_address");
    let own = port.addresses.iter().find(|own| given.is_none_or(|given| own.address.to_string() == given));
    let own = own.ok_or_else(|| {
        let words = match given {
            Some(given) => format!("Bad floatingip request: Port {id} does not have fixed ip {given}."),
            None => format!("Bad floatingip request: Cannot add floating IP to port {id} that has no fixed IPv4 addresses."),
        };
        refuse(StatusCode::BAD_REQUEST, "BadRequest", words)
    })?;
    let holds = |other: &&FloatingIp| {
        other.port == Some(id)
            && other.fixed == Some(own.address)
            && ip.is_none_or(|ip| ip.base.id != other.base.id)
    };
    if network.floating_ips.values().any(|other| holds(&other)) {
        let (address, own_id) =
            ip.map(|ip| (ip.address.to_string(), ip.base.id.to_string())).unwrap_or_default();
        let words = format!(
            "Cannot associate floating IP {address} ({own_id}) with port {id} using fixed IP {}, as that fixed IP already has a \
             floating IP on external network {external}.",
            own.address
        );
        return Err(conflict("FloatingIPPortAlreadyAssociated", words));
    }
    let leads = |router: &&super::records::Router| {
        router.gateway.is_some_and(|gateway| gateway.network == external)
            && network.legs(router.base.id).any(|(_, leg)| leg.subnet == own.subnet)
    };
    let router = network.routers.values().find(leads).ok_or_else(|| {
        let words = format!(
            "External network {external} is not reachable from subnet {}.  Therefore, cannot associate Port {id} with a Floating IP.",
            own.subnet
        );
        refuse(StatusCode::NOT_FOUND, "ExternalGatewayForFloatingIPNotFound", words)
    })?;
    Ok((id, own.address, router.base.id))
}

/// Makes a floating IP lead to a target, or nowhere: in the records, and in the world. When the world refuses, neither is
/// changed.
async fn point(cloud: &Cloud, before: &FloatingIp, target: Option<Target>) -> Result<(), String> {
    let now = cloud.now();
    let mut ip = before.clone();
    ip.was = status(cloud, before);
    ip.changed = now;
    ip.port = target.map(|target| target.0);
    ip.fixed = target.map(|target| target.1);
    ip.router = target.map(|target| target.2);
    ip.base.touch(now);
    cloud.state().network.floating_ips.insert(ip.base.id, ip);
    let done = match target {
        Some((_, fixed, router)) => cloud.driver.associate(before.address, fixed, router).await,
        None => cloud.driver.disassociate(before.address).await,
    };
    if done.is_err() {
        cloud.state().network.floating_ips.insert(before.base.id, before.clone());
    }
    done
}

pub(super) async fn update(call: Call, Path(id): Path<String>, Input(body): Input) -> Answer {
    let wanted = asked(&body, "floatingip", &["port_id", "fixed_ip_address", "description"])?;
    let _wiring = call.cloud.wiring.lock().await;
    let (ip, move_to) = {
        let mut state = call.state();
        let ip = find(&call, &state, &id)?.clone();
        let target = id_in(wanted, "port_id")?;
        let target = target.map(|port| target_of(&call, &state.network, port, wanted, ip.network, Some(&ip)));
        let target = target.transpose()?;
        let mut changed = ip.clone();
        rename(&mut changed.base, wanted);
        state.network.floating_ips.insert(ip.base.id, changed.clone());
        (changed, wanted.get("port_id").is_some().then_some(target))
    };
    if let Some(target) = move_to {
        point(&call.cloud, &ip, target).await.map_err(|why| driver_failed(&why))?;
    }
    let state = call.state();
    let shown = find(&call, &state, &id)?;
    one(&call, "floatingip", view(&call.cloud, &state.network, shown))
}

pub(super) async fn delete(call: Call, Path(id): Path<String>) -> Answer {
    let _wiring = call.cloud.wiring.lock().await;
    let ip = find(&call, &call.state(), &id)?.clone();
    if ip.port.is_some() {
        call.cloud.driver.disassociate(ip.address).await.map_err(|why| driver_failed(&why))?;
    }
    let mut state = call.state();
    state.network.floating_ips.remove(&ip.base.id);
    state.network.ports.remove(&ip.own_port);
    Ok(StatusCode::NO_CONTENT.into_response())
}

impl Network {
    /// The floating IPs that led to a port lead nowhere now; answers their addresses, for the driver.
    pub(super) fn free_floating_ips(&mut self, port: Uuid, now: Timestamp) -> Vec<Ipv4Addr> {
        let led = self.floating_ips.values_mut().filter(|ip| ip.port == Some(port));
        led.map(|ip| {
            ip.was = "ACTIVE";
            ip.changed = now;
            (ip.port, ip.fixed, ip.router) = (None, None, None);
            ip.base.touch(now);
            ip.address
        })
        .collect()
    }
}

/// Tells the driver of addresses that lead nowhere.
pub(super) async fn lead_nowhere(cloud: &Cloud, addresses: &[Ipv4Addr]) {
    for address in addresses {
        if let Err(why) = cloud.driver.disassociate(*address).await {
            tracing::warn!(%address, why, "failed to disassociate a floating IP");
        }
    }
}

/// ACTIVE or DOWN: as before for a while, then as the association is.
fn status(cloud: &Cloud, ip: &FloatingIp) -> &'static str {
    if cloud.clock().since(ip.changed) < cloud.options.pace.floating_ip {
        return ip.was;
    }
    if ip.port.is_some() { "ACTIVE" } else { "DOWN" }
}

fn view(cloud: &Cloud, network: &Network, ip: &FloatingIp) -> Value {
    let details = ip.port.and_then(|port| network.ports.get(&port)).map(|port| {
        json!({
            "name": port.base.name,
            "network_id": port.network,
            "mac_address": port.mac,
            "admin_state_up": port.admin_up,
            "status": port.status(),
            "device_id": port.device,
            "device_owner": port.owner,
        })
    });
    let mut view = ip.base.view(json!({
        "floating_ip_address": ip.address,
        "floating_network_id": ip.network,
        "router_id": ip.router,
        "port_id": ip.port,
        "fixed_ip_address": ip.fixed,
        "status": status(cloud, ip),
        "port_details": details,
    }));
    if let Some(members) = view.as_object_mut() {
        members.shift_remove("name");
    }
    view
}
