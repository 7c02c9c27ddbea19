//! Networks.

use axum::{extract::Path, http::StatusCode, response::IntoResponse};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::{
        call::{Call, Input, text},
        errors::{Answer, ApiError},
        store::State,
    },
    list::{asked, bad, conflict, created, not_found, one, page, project, refuse},
    quotas,
    records::{Base, Net, Network},
};

pub(super) async fn list(call: Call) -> Answer {
    let state = call.state();
    let seen = state
        .network
        .networks
        .values()
        .filter(|net| net.visible(call.admin(), call.project()) && call.listed(net.base.created));
    page(&call, "networks", seen.map(|net| view(&call, &state.network, net)).collect())
}

pub(super) async fn show(call: Call, Path(id): Path<String>) -> Answer {
    let mut state = call.state();
    let net = find(&call, &mut state, &id)?.clone();
    one(&call, "network", view(&call, &state.network, &net))
}

fn find<'a>(call: &Call, state: &'a mut State, id: &str) -> Result<&'a mut Net, ApiError> {
    let net = Uuid::parse_str(id).ok().and_then(|id| state.network.networks.get_mut(&id));
    let net = net.filter(|net| net.visible(call.admin(), call.project()));
    net.ok_or_else(|| not_found("NetworkNotFound", "Network", id))
}

const KNOWN: [&str; 16] = [
    "name",
    "description",
    "admin_state_up",
    "shared",
    "router:external",
    "project_id",
    "tenant_id",
    "mtu",
    "port_security_enabled",
    "provider:network_type",
    "provider:physical_network",
    "provider:segmentation_id",
    "availability_zone_hints",
    "is_default",
    "dns_domain",
    "qos_policy_id",
];

pub(super) async fn create(call: Call, Input(body): Input) -> Answer {
    let wanted = asked(&body, "network", &KNOWN)?;
    let flag = |name: &str| wanted.get(name).and_then(Value::as_bool);
    let external = flag("router:external").unwrap_or(false);
    if external && !call.admin() {
        let words = "(rule:create_network and rule:create_network:router:external) is disallowed by policy";
        return Err(refuse(StatusCode::FORBIDDEN, "PolicyNotAuthorized", words));
    }
    let _wiring = call.cloud.wiring.lock().await;
    let net = {
        let mut state = call.state();
        let owner = project(&call, wanted)?;
        quotas::check(&state.network, owner, "network")?;
        state.network.default_group(owner, call.now());
        let mut base = Base::new(owner, text(wanted, "name").unwrap_or_default(), call.now());
        base.description = text(wanted, "description").unwrap_or_default().to_owned();
        base.touch(call.now());
        let net = Net {
            base,
            external,
            shared: flag("shared").unwrap_or(false),
            admin_up: flag("admin_state_up").unwrap_or(true),
            segment: 100 + state.network.count(),
        };
        state.network.networks.insert(net.base.id, net.clone());
        net
    };
    // The external network is the host's own bridge.
    let made = if external { Ok(()) } else { call.cloud.driver.network_up(net.base.id).await };
    if let Err(why) = made {
        call.state().network.networks.remove(&net.base.id);
        return Err(driver_failed(&why));
    }
    let state = call.state();
    let mut shown = view(&call, &state.network, &net);
    // No agent has taken it yet.
    shown["availability_zones"] = json!([]);
    shown["is_default"] = json!(false);
    created("network", shown)
}

/// The world under the cloud did not do it.
pub(super) fn driver_failed(why: &str) -> ApiError {
    refuse(StatusCode::INTERNAL_SERVER_ERROR, "HTTPInternalServerError", format!("Request Failed: {why}"))
}

pub(super) async fn update(call: Call, Path(id): Path<String>, Input(body): Input) -> Answer {
    let wanted = asked(&body, "network", &KNOWN)?;
    let mut state = call.state();
    let net = find(&call, &mut state, &id)?;
    if !call.sees(net.base.project) {
        return Err(not_found("NetworkNotFound", "Network", &id));
    }
    rename(&mut net.base, wanted);
    net.admin_up = wanted.get("admin_state_up").and_then(Value::as_bool).unwrap_or(net.admin_up);
    net.shared = wanted.get("shared").and_then(Value::as_bool).unwrap_or(net.shared);
    net.base.touch(call.now());
    let net = net.clone();
    one(&call, "network", view(&call, &state.network, &net))
}

/// Takes over name and description, which all objects have.
pub(super) fn rename(base: &mut Base, wanted: &Value) {
    if let Some(name) = text(wanted, "name") {
        base.name = name.to_owned();
    }
    if let Some(description) = text(wanted, "description") {
        base.description = description.to_owned();
    }
}

pub(super) async fn delete(call: Call, Path(id): Path<String>) -> Answer {
    let _wiring = call.cloud.wiring.lock().await;
    let net = {
        let mut state = call.state();
        let net = find(&call, &mut state, &id)?.clone();
        if !call.sees(net.base.project) {
            return Err(not_found("NetworkNotFound", "Network", &id));
        }
        let uuid = net.base.id;
        let holding =
            state.network.ports.values().filter(|port| port.network == uuid && port.owner != "network:dhcp");
        let holding: Vec<String> = holding.map(|port| port.base.id.to_string()).collect();
        if !holding.is_empty() {
            let words = format!(
                "Unable to complete operation on network {id}. There are one or more ports still in use on the network, id for \
                 these ports is: {}.",
                holding.join(",")
            );
            return Err(conflict("NetworkInUse", words));
        }
        state.network.ports.retain(|_, port| port.network != uuid);
        state.network.subnets.retain(|_, subnet| subnet.network != uuid);
        state.network.networks.remove(&uuid);
        net
    };
    if !net.external {
        call.cloud.driver.network_down(net.base.id).await.map_err(|why| driver_failed(&why))?;
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The network that an object in a body is to be on.
pub(super) fn of_body<'a>(
    call: &Call,
    state: &'a mut State,
    object: &Value,
) -> Result<&'a mut Net, ApiError> {
    let id = text(object, "network_id")
        .ok_or_else(|| bad("Failed to parse request. Required attribute 'network_id' not specified"))?;
    find(call, state, id)
}

fn view(call: &Call, network: &Network, net: &Net) -> Value {
    let subnets: Vec<Uuid> = network
        .subnets
        .values()
        .filter(|subnet| subnet.network == net.base.id)
        .map(|subnet| subnet.base.id)
        .collect();
    // As DHCP and L3 agents take a network up when it has a subnet.
    let zones = if subnets.is_empty() { json!([]) } else { json!(["nova"]) };
    let mut own = json!({
        "admin_state_up": net.admin_up,
        // What VXLAN leaves of 1500.
        "mtu": if net.external { 1500 } else { 1450 },
        "status": "ACTIVE",
        "subnets": subnets,
        "shared": net.shared,
        "availability_zone_hints": [],
        "availability_zones": zones,
        "ipv4_address_scope": null,
        "ipv6_address_scope": null,
        "router:external": net.external,
        "port_security_enabled": true,
    });
    if net.external {
        own["is_default"] = json!(false);
    }
    if call.admin() {
        own["provider:network_type"] = json!(if net.external { "flat" } else { "vxlan" });
        own["provider:physical_network"] = json!(net.external.then_some("physnet1"));
        own["provider:segmentation_id"] = json!((!net.external).then_some(net.segment));
    }
    net.base.view(own)
}
