//! The agents of a single-node cloud with Linux bridges, and the list of extensions.

use axum::{Json, extract::Path, http::StatusCode, response::IntoResponse};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::{call::Call, errors::Answer},
    list::{not_found, one, page, refuse},
};

pub(super) async fn agents(call: Call) -> Answer {
    if !call.admin() {
        return Err(refuse(
            StatusCode::FORBIDDEN,
            "PolicyNotAuthorized",
            "(rule:get_agent) is disallowed by policy",
        ));
    }
    let host = &call.cloud.options.host;
    let now = call.now().strftime("%Y-%m-%d %H:%M:%S").to_string();
    let agent = |number: u128, kind: &str, binary: &str, topic: &str, zone: Value, configuration: Value| {
        json!({
            "id": Uuid::from_u128(0x6c61_6200_0000_4000_8000_0000_0001_0000 + number),
            "agent_type": kind,
            "binary": binary,
            "topic": topic,
            "host": host.name,
            "admin_state_up": true,
            "created_at": now,
            "started_at": now,
            "heartbeat_timestamp": now,
            "description": null,
            "resources_synced": null,
            "availability_zone": zone,
            "alive": true,
            "configurations": configuration,
        })
    };
    let (networks, subnets, ports, routers, floating) = {
        let network = &call.state().network;
        let dhcp = network.subnets.values().filter(|subnet| subnet.dhcp).count();
        let gateways = network.routers.values().filter(|router| router.gateway.is_some()).count();
        (network.networks.len(), dhcp, network.ports.len(), gateways, network.floating_ips.len())
    };
    let dhcp = json!({
        "dhcp_driver": "neutron.agent.linux.dhcp.Dnsmasq",
        "dhcp_lease_duration": 86400,
        "log_agent_heartbeats": false,
        "networks": networks,
        "ports": ports,
        "subnets": subnets,
    });
    let l3 = json!({
        "agent_mode": "legacy",
        "ex_gw_ports": routers,
        "extensions": [],
        "floating_ips": floating,
        "handle_internal_only_routers": true,
        "interface_driver": "linuxbridge",
        "interfaces": routers,
        "log_agent_heartbeats": false,
        "routers": routers,
    });
    let bridge = json!({
        "bridge_mappings": {"physnet1": "br-ex"},
        "devices": ports,
        "extensions": [],
        "interface_mappings": {},
        "l2_population": false,
        "tunnel_types": ["vxlan"],
        "tunneling_ip": host.address,
    });
    let metadata = json!({
        "log_agent_heartbeats": false,
        "metadata_proxy_socket": "/var/lib/neutron/metadata_proxy",
        "nova_metadata_host": host.address,
        "nova_metadata_port": 8775,
    });
    let all = vec![
        agent(1, "DHCP agent", "neutron-dhcp-agent", "dhcp_agent", json!("nova"), dhcp),
        agent(2, "L3 agent", "neutron-l3-agent", "l3_agent", json!("nova"), l3),
        agent(3, "Linux bridge agent", "neutron-linuxbridge-agent", "N/A", Value::Null, bridge),
        agent(4, "Metadata agent", "neutron-metadata-agent", "N/A", Value::Null, metadata),
    ];
    page(&call, "agents", all)
}

/// Alias and name of what this API has beyond networks, subnets and ports.
const EXTENSIONS: [(&str, &str); 22] = [
    ("agent", "agent"),
    ("allowed-address-pairs", "Allowed Address Pairs"),
    ("availability_zone", "Availability Zone"),
    ("binding", "Port Binding"),
    ("ext-gw-mode", "Neutron L3 Configurable external gateway mode"),
    ("external-net", "Neutron external network"),
    ("fip-port-details", "Floating IP Port Details Extension"),
    ("net-mtu", "Network MTU"),
    ("pagination", "Pagination support"),
    ("port-security", "Port Security"),
    ("project-id", "project_id field enabled"),
    ("provider", "Provider Network"),
    ("quota_details", "Quota details management support"),
    ("quotas", "Quota management support"),
    ("router", "Neutron L3 Router"),
    ("security-group", "security-group"),
    ("sorting", "Sorting support"),
    ("standard-attr-description", "standard-attr-description"),
    ("standard-attr-revisions", "Resource revision numbers"),
    ("standard-attr-tag", "Tag support for resources with standard attribute"),
    ("standard-attr-timestamp", "Resource timestamps"),
    ("tag-ports-during-bulk-creation", "Tag Ports During Bulk Creation"),
];

fn extension((alias, name): (&str, &str)) -> Value {
    json!({"alias": alias, "name": name, "description": name, "updated": "2017-01-01T00:00:00-00:00", "links": []})
}

pub(super) async fn extensions(_: Call) -> Answer {
    Ok(Json(json!({"extensions": EXTENSIONS.map(extension)})).into_response())
}

pub(super) async fn show_extension(call: Call, Path(alias): Path<String>) -> Answer {
    let known = EXTENSIONS.iter().find(|(own, _)| *own == alias);
    let known = known.ok_or_else(|| not_found("ExtensionNotFound", "Extension", alias))?;
    one(&call, "extension", extension(*known))
}

/// An empty collection of something that this cloud never has.
pub(super) async fn nothing(call: Call) -> Answer {
    let name = call.uri.path().rsplit('/').next().unwrap_or_default().replace('-', "_");
    page(&call, &name, Vec::new())
}
