//! Routers: their gateways and legs.

use std::net::Ipv4Addr;

use axum::{Json, extract::Path, http::StatusCode, response::IntoResponse};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::{
        Cloud,
        call::{Call, Input, text},
        driver,
        errors::{Answer, ApiError},
        store::State,
    },
    addresses::Wish,
    list::{asked, bad, conflict, created, id_in, not_found, one, page, project, refuse},
    networks::{driver_failed, rename},
    quotas,
    records::{Base, Fixed, Gateway, Network, Router},
};

const LEG: &str = "network:router_interface";

pub(super) async fn list(call: Call) -> Answer {
    let state = call.state();
    let seen = state.network.routers.values();
    let seen = seen.filter(|router| call.sees(router.base.project) && call.listed(router.base.created));
    page(&call, "routers", seen.map(|router| view(&state.network, router)).collect())
}

pub(super) async fn show(call: Call, Path(id): Path<String>) -> Answer {
    let mut state = call.state();
    let router = find(&call, &mut state, &id)?.clone();
    one(&call, "router", view(&state.network, &router))
}

fn find<'a>(call: &Call, state: &'a mut State, id: &str) -> Result<&'a mut Router, ApiError> {
    let router = Uuid::parse_str(id).ok().and_then(|id| state.network.routers.get_mut(&id));
    let router = router.filter(|router| call.sees(router.base.project));
    router.ok_or_else(|| not_found("RouterNotFound", "Router", id))
}

const KNOWN: [&str; 11] = [
    "name",
    "description",
    "admin_state_up",
    "external_gateway_info",
    "routes",
    "project_id",
    "tenant_id",
    "distributed",
    "ha",
    "availability_zone_hints",
    "flavor_id",
];

pub(super) async fn create(call: Call, Input(body): Input) -> Answer {
    let wanted = asked(&body, "router", &KNOWN)?;
    let _wiring = call.cloud.wiring.lock().await;
    let id = {
        let mut state = call.state();
        let owner = project(&call, wanted)?;
        quotas::check(&state.network, owner, "router")?;
        let mut router = Router {
            base: Base::new(owner, text(wanted, "name").unwrap_or_default(), call.now()),
            admin_up: wanted.get("admin_state_up").and_then(Value::as_bool).unwrap_or(true),
            gateway: None,
            routes: json!([]),
        };
        rename(&mut router.base, wanted);
        set_gateway(&call, &mut state, &mut router, wanted)?;
        let id = router.base.id;
        state.network.routers.insert(id, router);
        id
    };
    tell(&call.cloud, id).await?;
    let mut state = call.state();
    let router = find(&call, &mut state, &id.to_string())?.clone();
    let mut shown = view(&state.network, &router);
    // No agent has taken it yet.
    shown["availability_zones"] = json!([]);
    created("router", shown)
}

pub(super) async fn update(call: Call, Path(id): Path<String>, Input(body): Input) -> Answer {
    let wanted = asked(&body, "router", &KNOWN)?;
    let _wiring = call.cloud.wiring.lock().await;
    let uuid = {
        let mut state = call.state();
        let mut router = find(&call, &mut state, &id)?.clone();
        set_gateway(&call, &mut state, &mut router, wanted)?;
        rename(&mut router.base, wanted);
        router.admin_up = wanted.get("admin_state_up").and_then(Value::as_bool).unwrap_or(router.admin_up);
        if let Some(routes) = wanted.get("routes") {
            router.routes = routes.clone();
        }
        router.base.touch(call.now());
        let uuid = router.base.id;
        state.network.routers.insert(uuid, router);
        uuid
    };
    tell(&call.cloud, uuid).await?;
    let mut state = call.state();
    let router = find(&call, &mut state, &id)?.clone();
    one(&call, "router", view(&state.network, &router))
}

/// Brings the gateway to what `external_gateway_info` says; nothing is said when it is not there.
fn set_gateway(call: &Call, state: &mut State, router: &mut Router, wanted: &Value) -> Result<(), ApiError> {
    let Some(info) = wanted.get("external_gateway_info") else { return Ok(()) };
    let network = id_in(info, "network_id")?;
    let snat = info.get("enable_snat").and_then(Value::as_bool);
    if let Some(gateway) = router.gateway.as_mut().filter(|gateway| network == Some(gateway.network)) {
        gateway.snat = snat.unwrap_or(gateway.snat);
        return Ok(());
    }
    if let Some(gateway) = router.gateway {
        let own = router.base.id;
        if state.network.floating_ips.values().any(|ip| ip.router == Some(own)) {
            let words = format!(
                "Gateway cannot be updated for router {own}, since a gateway to external network {} is required by one or more \
                 floating IPs.",
                gateway.network
            );
            return Err(conflict("RouterExternalGatewayInUseByFloatingIp", words));
        }
        state.network.ports.remove(&gateway.port);
        router.gateway = None;
    }
    let Some(network) = network else { return Ok(()) };
    if !state.network.networks.get(&network).is_some_and(|net| net.external) {
        let words = format!("Bad router request: Network {network} is not an external network.");
        return Err(refuse(StatusCode::BAD_REQUEST, "BadRequest", words));
    }
    let fixed = info.get("external_fixed_ips").and_then(Value::as_array).into_iter().flatten();
    let wish = |one: &Value| {
        let address = text(one, "ip_address").and_then(|address| address.parse::<Ipv4Addr>().ok());
        Ok(Wish { subnet: id_in(one, "subnet_id")?, address })
    };
    let wishes = fixed.map(wish).collect::<Result<Vec<_>, ApiError>>()?;
    let device = router.base.id.to_string();
    let owner = "network:router_gateway";
    let port = state.network.own_port(network, owner, &device, &wishes, Uuid::nil(), call.now())?;
    router.gateway = Some(Gateway { network, port, snat: snat.unwrap_or(true) });
    router.base.touch(call.now());
    Ok(())
}

pub(super) async fn delete(call: Call, Path(id): Path<String>) -> Answer {
    let _wiring = call.cloud.wiring.lock().await;
    let router = {
        let mut state = call.state();
        let router = find(&call, &mut state, &id)?.clone();
        let legs: Vec<String> =
            state.network.legs(router.base.id).map(|(port, _)| port.to_string()).collect();
        if !legs.is_empty() {
            let words = format!("Router {id} has ports still attached: {}", legs.join(", "));
            return Err(conflict("RouterInUse", words));
        }
        if let Some(gateway) = router.gateway {
            state.network.ports.remove(&gateway.port);
        }
        state.network.routers.remove(&router.base.id);
        router.base.id
    };
    call.cloud.driver.router_down(router).await.map_err(|why| driver_failed(&why))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The subnet that is named, directly or by a port.
fn subnet_of(call: &Call, state: &State, body: &Value) -> Result<Uuid, ApiError> {
    let by_port = id_in(body, "port_id")?.map(|id| {
        let port = state.network.ports.get(&id).filter(|port| call.sees(port.base.project));
        let own = port.and_then(|port| port.addresses.first()).map(|own| own.subnet);
        own.ok_or_else(|| not_found("PortNotFound", "Port", id))
    });
    let subnet = match by_port {
        Some(subnet) => Some(subnet?),
        None => id_in(body, "subnet_id")?,
    };
    let subnet =
        subnet.ok_or_else(|| bad("Bad router request: Either subnet_id or port_id must be specified."))?;
    let known = state.network.subnets.get(&subnet).is_some_and(|own| call.sees(own.base.project));
    known.then_some(subnet).ok_or_else(|| not_found("SubnetNotFound", "Subnet", subnet))
}

pub(super) async fn add_interface(call: Call, Path(id): Path<String>, Input(body): Input) -> Answer {
    let _wiring = call.cloud.wiring.lock().await;
    let answer = {
        let mut state = call.state();
        let router = find(&call, &mut state, &id)?.clone();
        let subnet = subnet_of(&call, &state, &body)?;
        let refused = |words: String| {
            refuse(StatusCode::BAD_REQUEST, "BadRequest", format!("Bad router request: {words}"))
        };
        if state.network.legs(router.base.id).any(|(_, leg)| leg.subnet == subnet) {
            return Err(refused(format!("Router already has a port on subnet {subnet}.")));
        }
        let record = state.network.subnets.get(&subnet).cloned();
        let record = record.ok_or_else(|| not_found("SubnetNotFound", "Subnet", subnet))?;
        let overlaps = |other: Uuid| {
            state
                .network
                .subnets
                .get(&other)
                .filter(|other| other.cidr.contains(&record.cidr) || record.cidr.contains(&other.cidr))
        };
        if let Some(other) = state.network.legs(router.base.id).find_map(|(_, leg)| overlaps(leg.subnet)) {
            return Err(refused(format!(
                "Cidr {} of subnet {subnet} overlaps with cidr {} of subnet {}.",
                record.cidr, other.cidr, other.base.id
            )));
        }
        let given = id_in(&body, "port_id")?;
        let port = if let Some(port) = given {
            let port =
                state.network.ports.get_mut(&port).ok_or_else(|| not_found("PortNotFound", "Port", port))?;
            if !port.device.is_empty() {
                let words = format!(
                    "Unable to complete operation on port {} for network {}. Port already has an attached device {}.",
                    port.base.id, port.network, port.device
                );
                return Err(conflict("PortInUse", words));
            }
            port.device = router.base.id.to_string();
            LEG.clone_into(&mut port.owner);
            port.up = true;
            port.base.id
        } else {
            let gateway = record.gateway;
            let gateway = gateway
                .ok_or_else(|| refused("Subnet for router interface must have a gateway IP.".to_owned()))?;
            let wish = Wish { subnet: Some(subnet), address: Some(gateway) };
            let device = router.base.id.to_string();
            state.network.own_port(record.network, LEG, &device, &[wish], router.base.project, call.now())?
        };
        find(&call, &mut state, &id)?.base.touch(call.now());
        interface(&router, port, record.network, subnet)
    };
    tell_by_id(&call.cloud, &id).await?;
    Ok(Json(answer).into_response())
}

pub(super) async fn remove_interface(call: Call, Path(id): Path<String>, Input(body): Input) -> Answer {
    let _wiring = call.cloud.wiring.lock().await;
    let answer = {
        let mut state = call.state();
        let router = find(&call, &mut state, &id)?.clone();
        let subnet = subnet_of(&call, &state, &body)?;
        let leg = state.network.legs(router.base.id).find(|(_, leg)| leg.subnet == subnet);
        let (port, _) = leg.ok_or_else(|| {
            let words = format!("Router {id} has no interface on subnet {subnet}");
            refuse(StatusCode::NOT_FOUND, "RouterInterfaceNotFoundForSubnet", words)
        })?;
        let on_it = |port: Uuid| {
            let port = state.network.ports.get(&port);
            port.is_some_and(|port| port.addresses.iter().any(|own| own.subnet == subnet))
        };
        let needed =
            |ip: &super::records::FloatingIp| ip.router == Some(router.base.id) && ip.port.is_some_and(on_it);
        if state.network.floating_ips.values().any(needed) {
            let words = format!(
                "Router interface for subnet {subnet} on router {id} cannot be deleted, as it is required by one or more floating \
                 IPs."
            );
            return Err(conflict("RouterInterfaceInUseByFloatingIP", words));
        }
        let network = state.network.ports.remove(&port).map(|port| port.network).unwrap_or_default();
        find(&call, &mut state, &id)?.base.touch(call.now());
        interface(&router, port, network, subnet)
    };
    tell_by_id(&call.cloud, &id).await?;
    Ok(Json(answer).into_response())
}

fn interface(router: &Router, port: Uuid, network: Uuid, subnet: Uuid) -> Value {
    json!({
        "id": router.base.id,
        "tenant_id": router.base.project.simple(),
        "port_id": port,
        "network_id": network,
        "subnet_id": subnet,
        "subnet_ids": [subnet],
    })
}

impl Network {
    /// A router's legs: port and address of each.
    pub(super) fn legs(&self, router: Uuid) -> impl Iterator<Item = (Uuid, Fixed)> {
        let legs = self.ports_of_device(router).filter(|port| port.owner == LEG);
        legs.filter_map(|port| Some((port.base.id, *port.addresses.first()?)))
    }
}

async fn tell_by_id(cloud: &Cloud, id: &str) -> Result<(), ApiError> {
    match Uuid::parse_str(id) {
        Ok(id) => tell(cloud, id).await,
        Err(_) => Ok(()),
    }
}

/// Tells the driver what a router is like now.
pub(in super::super) async fn bring_up(cloud: &Cloud, id: Uuid) -> Result<(), String> {
    let wanted = {
        let network = &cloud.state().network;
        let gateway = network.routers.get(&id).and_then(|router| router.gateway);
        let leg = |(_, leg): (Uuid, Fixed)| {
            let subnet = network.subnets.get(&leg.subnet)?;
            Some((subnet.network, leg.address, subnet.cidr.prefix_len()))
        };
        driver::Router {
            id,
            external: gateway.and_then(|gateway| network.address_of(gateway.port)),
            legs: network.legs(id).filter_map(leg).collect(),
        }
    };
    cloud.driver.router_up(wanted).await
}

async fn tell(cloud: &Cloud, id: Uuid) -> Result<(), ApiError> {
    bring_up(cloud, id).await.map_err(|why| driver_failed(&why))
}

fn view(network: &Network, router: &Router) -> Value {
    let info = router.gateway.map(|gateway| {
        let own = network.ports.get(&gateway.port).map(|port| port.addresses.clone()).unwrap_or_default();
        let ips: Vec<Value> =
            own.iter().map(|own| json!({"subnet_id": own.subnet, "ip_address": own.address})).collect();
        json!({"network_id": gateway.network, "external_fixed_ips": ips, "enable_snat": gateway.snat})
    });
    router.base.view(json!({
        "admin_state_up": router.admin_up,
        "status": "ACTIVE",
        "external_gateway_info": info,
        "availability_zones": ["nova"],
        "distributed": false,
        "ha": false,
        "availability_zone_hints": [],
        "routes": router.routes,
        "flavor_id": null,
    }))
}
