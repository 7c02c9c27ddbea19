//! Subnets.

use std::net::Ipv4Addr;

use axum::{extract::Path, http::StatusCode, response::IntoResponse};
use ipnet::Ipv4Net;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::{
        call::{Call, Input, text},
        errors::{Answer, ApiError},
        nova,
        store::State,
    },
    list::{asked, bad, conflict, created, not_found, one, page, project, refuse},
    networks::{of_body, rename},
    quotas,
    records::{Base, Subnet},
};

fn visible(call: &Call, state: &State, subnet: &Subnet) -> bool {
    call.sees(subnet.base.project)
        || state.network.networks.get(&subnet.network).is_some_and(|net| net.shared)
}

pub(super) async fn list(call: Call) -> Answer {
    let state = call.state();
    let seen = state.network.subnets.values();
    let seen = seen.filter(|subnet| visible(&call, &state, subnet) && call.listed(subnet.base.created));
    page(&call, "subnets", seen.map(view).collect())
}

pub(super) async fn show(call: Call, Path(id): Path<String>) -> Answer {
    let state = call.state();
    one(&call, "subnet", view(find(&call, &state, &id)?))
}

fn find<'a>(call: &Call, state: &'a State, id: &str) -> Result<&'a Subnet, ApiError> {
    let subnet = Uuid::parse_str(id).ok().and_then(|id| state.network.subnets.get(&id));
    subnet
        .filter(|subnet| visible(call, state, subnet))
        .ok_or_else(|| not_found("SubnetNotFound", "Subnet", id))
}

const KNOWN: [&str; 18] = [
    "network_id",
    "ip_version",
    "cidr",
    "name",
    "description",
    "gateway_ip",
    "enable_dhcp",
    "allocation_pools",
    "dns_nameservers",
    "host_routes",
    "project_id",
    "tenant_id",
    "ipv6_ra_mode",
    "ipv6_address_mode",
    "service_types",
    "subnetpool_id",
    "use_default_subnetpool",
    "dns_publish_fixed_ip",
];

pub(super) async fn create(call: Call, Input(body): Input) -> Answer {
    let wanted = asked(&body, "subnet", &KNOWN)?;
    let mut state = call.state();
    let network = of_body(&call, &mut state, wanted)?.base.id;
    if wanted.get("ip_version").and_then(Value::as_u64) != Some(4) {
        return Err(bad("This cloud speaks IPv4 only: ip_version must be 4"));
    }
    let cidr = text(wanted, "cidr").and_then(|cidr| cidr.parse::<Ipv4Net>().ok());
    let cidr =
        cidr.ok_or_else(|| bad("Invalid input for cidr. Reason: it is not a valid IP subnet."))?.trunc();
    let overlaps = |subnet: &Subnet| {
        subnet.network == network && (subnet.cidr.contains(&cidr) || cidr.contains(&subnet.cidr))
    };
    if state.network.subnets.values().any(overlaps) {
        let words = format!(
            "Invalid input for operation: Requested subnet with cidr: {cidr} for network: {network} overlaps with another subnet."
        );
        return Err(refuse(StatusCode::BAD_REQUEST, "InvalidInput", words));
    }
    let owner = project(&call, wanted)?;
    quotas::check(&state.network, owner, "subnet")?;
    let address = |value: &Value| {
        let parsed = value.as_str().and_then(|text| text.parse::<Ipv4Addr>().ok());
        parsed.ok_or_else(|| bad(format!("Invalid input: {value} is not a valid IP address.")))
    };
    let gateway = match wanted.get("gateway_ip") {
        None => cidr.hosts().next(),
        Some(Value::Null) => None,
        Some(given) => Some(address(given)?),
    };
    let pools = match wanted.get("allocation_pools").and_then(Value::as_array) {
        Some(pools) => pools
            .iter()
            .map(|pool| Ok((address(&pool["start"])?, address(&pool["end"])?)))
            .collect::<Result<_, ApiError>>()?,
        None => default_pools(cidr, gateway),
    };
    let mut base = Base::new(owner, text(wanted, "name").unwrap_or_default(), call.now());
    base.description = text(wanted, "description").unwrap_or_default().to_owned();
    let subnet = Subnet {
        base,
        network,
        cidr,
        gateway,
        dhcp: wanted.get("enable_dhcp").and_then(Value::as_bool).unwrap_or(true),
        pools,
        nameservers: nova::strings(wanted.get("dns_nameservers")),
        host_routes: wanted.get("host_routes").cloned().unwrap_or_else(|| json!([])),
        last: None,
    };
    let shown = view(&subnet);
    state.network.add_subnet(subnet, call.now())?;
    created("subnet", shown)
}

/// All host addresses beside the gateway's.
pub(super) fn default_pools(cidr: Ipv4Net, gateway: Option<Ipv4Addr>) -> Vec<(Ipv4Addr, Ipv4Addr)> {
    let mut hosts = cidr.hosts();
    let (Some(first), Some(last)) = (hosts.next(), hosts.next_back()) else { return Vec::new() };
    let (first, last) = (u32::from(first), u32::from(last));
    let pool = |from: u32, to: u32| (from <= to).then(|| (Ipv4Addr::from(from), Ipv4Addr::from(to)));
    match gateway.map(u32::from).filter(|gateway| (first..=last).contains(gateway)) {
        None => pool(first, last).into_iter().collect(),
        Some(gateway) => [pool(first, gateway - 1), pool(gateway + 1, last)].into_iter().flatten().collect(),
    }
}

pub(super) async fn update(call: Call, Path(id): Path<String>, Input(body): Input) -> Answer {
    let wanted = asked(&body, "subnet", &KNOWN)?;
    let mut state = call.state();
    let uuid = find(&call, &state, &id)?.base.id;
    let subnet =
        state.network.subnets.get_mut(&uuid).ok_or_else(|| not_found("SubnetNotFound", "Subnet", &id))?;
    rename(&mut subnet.base, wanted);
    if let Some(nameservers) = wanted.get("dns_nameservers") {
        subnet.nameservers = nova::strings(Some(nameservers));
    }
    subnet.dhcp = wanted.get("enable_dhcp").and_then(Value::as_bool).unwrap_or(subnet.dhcp);
    subnet.base.touch(call.now());
    one(&call, "subnet", view(subnet))
}

pub(super) async fn delete(call: Call, Path(id): Path<String>) -> Answer {
    let mut state = call.state();
    let subnet = find(&call, &state, &id)?.base.id;
    let on_it = |port: &super::records::Port| port.addresses.iter().any(|own| own.subnet == subnet);
    if state.network.ports.values().any(|port| port.owner != "network:dhcp" && on_it(port)) {
        let words = format!(
            "Unable to complete operation on subnet {id}: One or more ports have an IP allocation from this subnet."
        );
        return Err(conflict("SubnetInUse", words));
    }
    state.network.ports.retain(|_, port| !on_it(port));
    state.network.subnets.remove(&subnet);
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn view(subnet: &Subnet) -> Value {
    let pools: Vec<Value> =
        subnet.pools.iter().map(|(start, end)| json!({"start": start, "end": end})).collect();
    subnet.base.view(json!({
        "network_id": subnet.network,
        "ip_version": 4,
        "subnetpool_id": null,
        "enable_dhcp": subnet.dhcp,
        "ipv6_ra_mode": null,
        "ipv6_address_mode": null,
        "gateway_ip": subnet.gateway,
        "cidr": subnet.cidr,
        "allocation_pools": pools,
        "host_routes": subnet.host_routes,
        "dns_nameservers": subnet.nameservers,
        "service_types": [],
    }))
}
