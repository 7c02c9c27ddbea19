//! Ports.

use std::net::Ipv4Addr;

use axum::{extract::Path, http::StatusCode, response::IntoResponse};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::{
        Cloud,
        call::{Call, Input, text},
        errors::{Answer, ApiError},
        nova,
        store::State,
    },
    addresses::Wish,
    floating_ips,
    list::{asked, bad, conflict, created, id_in, not_found, one, page, project, refuse},
    networks::{driver_failed, of_body, rename},
    quotas,
    records::{Network, Port},
};

pub(super) async fn list(call: Call) -> Answer {
    let state = call.state();
    let seen = state.network.ports.values();
    let seen = seen.filter(|port| call.sees(port.base.project) && call.listed(port.base.created));
    page(&call, "ports", seen.map(|port| view(&call, port)).collect())
}

pub(super) async fn show(call: Call, Path(id): Path<String>) -> Answer {
    let mut state = call.state();
    let shown = view(&call, find(&call, &mut state, &id)?);
    one(&call, "port", shown)
}

fn find<'a>(call: &Call, state: &'a mut State, id: &str) -> Result<&'a mut Port, ApiError> {
    let port = Uuid::parse_str(id).ok().and_then(|id| state.network.ports.get_mut(&id));
    let port = port.filter(|port| call.sees(port.base.project));
    port.ok_or_else(|| not_found("PortNotFound", "Port", id))
}

const KNOWN: [&str; 21] = [
    "network_id",
    "name",
    "description",
    "admin_state_up",
    "mac_address",
    "fixed_ips",
    "device_id",
    "device_owner",
    "security_groups",
    "allowed_address_pairs",
    "extra_dhcp_opts",
    "port_security_enabled",
    "binding:host_id",
    "binding:vnic_type",
    "binding:profile",
    "project_id",
    "tenant_id",
    "tags",
    "qos_policy_id",
    "dns_name",
    "propagate_uplink_status",
];

pub(super) async fn create(call: Call, Input(body): Input) -> Answer {
    let wanted = asked(&body, "port", &KNOWN)?;
    let _wiring = call.cloud.wiring.lock().await;
    let id = {
        let mut state = call.state();
        let network = of_body(&call, &mut state, wanted)?.base.id;
        let owner = project(&call, wanted)?;
        quotas::check(&state.network, owner, "port")?;
        let default = state.network.default_group(owner, call.now());
        let mut port =
            Network::blank_port(owner, network, text(wanted, "name").unwrap_or_default(), call.now());
        port.base.tags = nova::strings(wanted.get("tags")).into_iter().collect();
        port.groups = vec![default];
        take_over(&call, &mut state, &mut port, wanted)?;
        if port.addresses.is_empty() && wanted.get("fixed_ips").is_none() {
            port.addresses = state.network.choose(network, &[], &[])?;
        }
        if let Some(mac) = text(wanted, "mac_address") {
            port.mac = mac.to_lowercase();
        }
        if !port.security {
            port.groups.clear();
        }
        port.base.touch(call.now());
        let id = port.base.id;
        state.network.ports.insert(id, port);
        id
    };
    let outcome = plug(&call.cloud, id, None).await;
    let mut state = call.state();
    if let Err(why) = outcome {
        state.network.ports.remove(&id);
        return Err(driver_failed(&why));
    }
    let shown = view(&call, find(&call, &mut state, &id.to_string())?);
    created("port", shown)
}

/// Takes over what creation and update have in common.
fn take_over(call: &Call, state: &mut State, port: &mut Port, wanted: &Value) -> Result<(), ApiError> {
    rename(&mut port.base, wanted);
    let flag = |name: &str, own| wanted.get(name).and_then(Value::as_bool).unwrap_or(own);
    port.admin_up = flag("admin_state_up", port.admin_up);
    port.security = flag("port_security_enabled", port.security);
    for (name, own) in [("device_id", &mut port.device), ("device_owner", &mut port.owner)] {
        if let Some(given) = text(wanted, name) {
            given.clone_into(own);
        }
    }
    if let Some(host) = wanted.get("binding:host_id") {
        if !call.admin() {
            let words = "(rule:create_port and rule:create_port:binding:host_id) is disallowed by policy";
            return Err(refuse(StatusCode::FORBIDDEN, "PolicyNotAuthorized", words));
        }
        host.as_str().unwrap_or_default().clone_into(&mut port.host);
    }
    if let Some(kind) = text(wanted, "binding:vnic_type") {
        kind.clone_into(&mut port.vnic);
    }
    if let Some(profile) = wanted.get("binding:profile").filter(|profile| profile.is_object()) {
        port.profile = profile.clone();
    }
    if let Some(groups) = wanted.get("security_groups") {
        let ids = nova::strings(Some(groups));
        let group = |id: &String| {
            let known = Uuid::parse_str(id).ok().filter(|id| state.network.groups.contains_key(id));
            known.ok_or_else(|| not_found("SecurityGroupNotFound", "Security group", id))
        };
        port.groups = ids.iter().map(group).collect::<Result<_, _>>()?;
    }
    if let Some(pairs) = wanted.get("allowed_address_pairs").and_then(Value::as_array) {
        let pair = |pair: &Value| {
            let address =
                text(pair, "ip_address").ok_or_else(|| bad("AllowedAddressPair must contain ip_address"))?;
            Ok(json!({"ip_address": address, "mac_address": text(pair, "mac_address").unwrap_or(&port.mac)}))
        };
        port.address_pairs = pairs.iter().map(pair).collect::<Result<Vec<_>, ApiError>>()?.into();
    }
    if let Some(fixed) = wanted.get("fixed_ips").and_then(Value::as_array) {
        let wish = |one: &Value| {
            let address = text(one, "ip_address").map(|address| {
                let words =
                    || format!("Invalid input for fixed_ips. Reason: '{address}' is not a valid IP address.");
                address.parse::<Ipv4Addr>().map_err(|_| bad(words()))
            });
            Ok(Wish { subnet: id_in(one, "subnet_id")?, address: address.transpose()? })
        };
        let wishes = fixed.iter().map(wish).collect::<Result<Vec<_>, ApiError>>()?;
        // No wish at all is the wish for no address.
        let chosen = if wishes.is_empty() {
            Ok(Vec::new())
        } else {
            state.network.choose(port.network, &wishes, &port.addresses)
        };
        port.addresses = chosen?;
    }
    Ok(())
}

/// Whether the world is to make a port pluggable: what is bound to our host and is neither Nova's nor Neutron's own.
fn pluggable(cloud: &Cloud, port: &Port) -> bool {
    port.host == cloud.options.host.name
        && !port.owner.starts_with("compute:")
        && !port.owner.starts_with("network:")
}

/// Tells the driver when a port became pluggable, or is no more; it then counts as up, or down.
async fn plug(cloud: &Cloud, id: Uuid, before: Option<&Port>) -> Result<(), String> {
    let Some(port) = cloud.state().network.ports.get(&id).cloned() else { return Ok(()) };
    let was = before.is_some_and(|before| pluggable(cloud, before));
    let up = match (was, pluggable(cloud, &port)) {
        (false, true) => {
            cloud.driver.port_up(id, port.network).await?;
            true
        }
        (true, false) => {
            cloud.driver.port_down(id).await?;
            false
        }
        _ => return Ok(()),
    };
    if let Some(port) = cloud.state().network.ports.get_mut(&id) {
        port.up = up;
    }
    Ok(())
}

pub(super) async fn update(call: Call, Path(id): Path<String>, Input(body): Input) -> Answer {
    let wanted = asked(&body, "port", &KNOWN)?;
    let _wiring = call.cloud.wiring.lock().await;
    let before = {
        let mut state = call.state();
        let before = find(&call, &mut state, &id)?.clone();
        let mut port = before.clone();
        take_over(&call, &mut state, &mut port, wanted)?;
        port.base.touch(call.now());
        state.network.ports.insert(port.base.id, port);
        before
    };
    let outcome = plug(&call.cloud, before.base.id, Some(&before)).await;
    let mut state = call.state();
    if let Err(why) = outcome {
        state.network.ports.insert(before.base.id, before);
        return Err(driver_failed(&why));
    }
    let shown = view(&call, find(&call, &mut state, &id)?);
    one(&call, "port", shown)
}

pub(super) async fn delete(call: Call, Path(id): Path<String>) -> Answer {
    let _wiring = call.cloud.wiring.lock().await;
    let (port, freed) = {
        let mut state = call.state();
        let port = find(&call, &mut state, &id)?.clone();
        if matches!(
            port.owner.as_str(),
            "network:router_interface" | "network:router_gateway" | "network:floatingip"
        ) {
            let words = format!(
                "Port {id} cannot be deleted directly via the port API: has device owner {}.",
                port.owner
            );
            return Err(conflict("ServicePortInUse", words));
        }
        state.network.ports.remove(&port.base.id);
        (port.clone(), state.network.free_floating_ips(port.base.id, call.now()))
    };
    floating_ips::lead_nowhere(&call.cloud, &freed).await;
    if pluggable(&call.cloud, &port) {
        call.cloud.driver.port_down(port.base.id).await.map_err(|why| driver_failed(&why))?;
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn view(call: &Call, port: &Port) -> Value {
    let addresses: Vec<Value> = port
        .addresses
        .iter()
        .map(|own| json!({"subnet_id": own.subnet, "ip_address": own.address}))
        .collect();
    let mut own = json!({
        "network_id": port.network,
        "mac_address": port.mac,
        "admin_state_up": port.admin_up,
        "status": port.status(),
        "device_id": port.device,
        "device_owner": port.owner,
        "fixed_ips": addresses,
        "allowed_address_pairs": port.address_pairs,
        "extra_dhcp_opts": [],
        "security_groups": port.groups,
        "binding:vnic_type": port.vnic,
        "port_security_enabled": port.security,
    });
    if call.admin() {
        let (kind, details) = match port.host.as_str() {
            "" => ("unbound", json!({})),
            host if host == call.cloud.options.host.name => {
                let details =
                    json!({"connectivity": "l2", "port_filter": true, "bound_drivers": {"0": "linuxbridge"}});
                ("bridge", details)
            }
            // No agent lives there.
            _ => ("binding_failed", json!({})),
        };
        own["binding:profile"] = port.profile.clone();
        own["binding:host_id"] = json!(port.host);
        own["binding:vif_type"] = json!(kind);
        own["binding:vif_details"] = details;
    }
    port.base.view(own)
}
