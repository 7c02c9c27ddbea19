//! Servers as the API shows them, by microversion and role.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    super::{Cloud, call::Call, neutron::Network, store::State},
    records::{Flavor, Server, VmState},
};

/// In which answer a server is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Show.
    One,
    /// In a list with details.
    Listed,
    /// After an update, which shows less before microversion 2.75.
    Updated,
}

/// `2026-11-24T04:25:42Z`.
pub(super) fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `2026-11-24T04:25:44.000000`.
pub(super) fn long_moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.000000").to_string()
}

/// The links of an object: with version, and without for bookmarks.
pub(super) fn links(cloud: &Cloud, collection: &str, id: &str) -> Value {
    json!([
        {"rel": "self", "href": format!("{}/{collection}/{id}", cloud.urls.nova)},
        {"rel": "bookmark", "href": bookmark(cloud, collection, id)},
    ])
}

fn bookmark(cloud: &Cloud, collection: &str, id: &str) -> String {
    format!("{}/{collection}/{id}", cloud.urls.nova.trim_end_matches("/v2.1"))
}

/// The short form of lists without details.
pub(super) fn brief(cloud: &Cloud, server: &Server) -> Value {
    json!({"id": server.id, "name": server.name, "links": links(cloud, "servers", &server.id.to_string())})
}

/// A server with all that this caller may see at this microversion.
pub(super) fn full(call: &Call, state: &State, server: &Server, form: Form) -> Value {
    let micro = call.micro.0;
    let cloud = &call.cloud;
    let host = &cloud.options.host.name;
    let placed = server.number.is_some();
    let reduced = form == Form::Updated && micro < 75;
    let mut view = Map::new();
    let mut put = |name: &str, value: Value| {
        view.insert(name.to_owned(), value);
    };

    put("id", json!(server.id));
    put("name", json!(server.name));
    put("status", json!(server.status()));
    put("tenant_id", json!(server.project.simple()));
    put("user_id", json!(server.user.simple()));
    put("metadata", Value::Object(server.metadata.clone()));
    put("hostId", json!(if placed { host_id(server.project, host) } else { String::new() }));
    let image = server.image.to_string();
    put(
        "image",
        json!({"id": image, "links": [{"rel": "bookmark", "href": bookmark(cloud, "images", &image)}]}),
    );
    put("flavor", flavor(cloud, &server.flavor, micro));
    put("created", json!(moment(server.created)));
    put("updated", json!(moment(server.updated)));
    put("addresses", addresses(&state.network, server, !reduced));
    put("accessIPv4", json!(""));
    put("accessIPv6", json!(""));
    put("links", links(cloud, "servers", &server.id.to_string()));
    put("OS-DCF:diskConfig", json!("MANUAL"));
    if matches!(server.vm, VmState::Active | VmState::Building) && !server.status().contains("REBOOT") {
        put("progress", json!(0));
    }
    // A list leaves out the faults of servers that no host took.
    if let Some(fault) = server.fault.as_ref().filter(|_| placed || form != Form::Listed) {
        let code = 500;
        let mut shown = json!({"code": code, "created": moment(fault.created), "message": fault.message});
        if call.admin() {
            shown["details"] = json!(format!("Traceback (most recent call last):\n{}\n", fault.message));
        }
        put("fault", shown);
    }
    if micro >= 9 {
        put("locked", json!(server.locked));
    }
    if micro >= 73 {
        put("locked_reason", json!(server.locked_reason));
    }
    if micro >= 19 {
        put("description", json!(server.description));
    }
    if micro >= 26 {
        put("tags", json!(server.tags));
    }
    if micro >= 63 {
        put("trusted_image_certificates", Value::Null);
    }
    if micro >= 71 && form != Form::Listed {
        put("server_groups", json!([]));
    }
    if reduced {
        return Value::Object(view);
    }

    put("OS-EXT-AZ:availability_zone", json!(if placed { "nova" } else { "" }));
    put("config_drive", json!(if server.config_drive { "True" } else { "" }));
    put("key_name", json!(server.key_name));
    put("OS-SRV-USG:launched_at", json!(server.launched.map(long_moment)));
    put("OS-SRV-USG:terminated_at", json!(server.terminated.map(long_moment)));
    let groups = state.network.group_names_of_device(server.id);
    if !groups.is_empty() {
        put("security_groups", groups.into_iter().map(|name| json!({"name": name})).collect());
    }
    if call.admin() {
        let host = placed.then_some(host);
        put("OS-EXT-SRV-ATTR:host", json!(host));
        let name = server.number.map(|number| format!("instance-{number:08x}")).unwrap_or_default();
        put("OS-EXT-SRV-ATTR:instance_name", json!(name));
        put("OS-EXT-SRV-ATTR:hypervisor_hostname", json!(host));
        if micro >= 3 {
            put("OS-EXT-SRV-ATTR:reservation_id", json!(server.reservation));
            put("OS-EXT-SRV-ATTR:launch_index", json!(0));
            put("OS-EXT-SRV-ATTR:kernel_id", json!(server.boot_files.0));
            put("OS-EXT-SRV-ATTR:ramdisk_id", json!(server.boot_files.1));
            // The host has it and knows no disk yet.
            let bare = server.vm == VmState::Building && server.task.is_none();
            put("OS-EXT-SRV-ATTR:root_device_name", json!((placed && !bare).then_some("/dev/vda")));
            put("OS-EXT-SRV-ATTR:user_data", json!(server.user_data));
        }
        if micro >= 16 {
            put("host_status", json!(if placed { "UP" } else { "" }));
        }
    }
    if micro >= 90 || (micro >= 3 && call.admin()) {
        put("OS-EXT-SRV-ATTR:hostname", json!(server.host_name));
    }
    put("OS-EXT-STS:task_state", json!(server.task));
    put("OS-EXT-STS:vm_state", json!(server.vm.name()));
    put("OS-EXT-STS:power_state", json!(server.power));
    put("os-extended-volumes:volumes_attached", json!([]));
    Value::Object(view)
}

/// The flavor in a server: a reference, or from 2.47 on its values without an id.
fn flavor(cloud: &Cloud, flavor: &Flavor, micro: u16) -> Value {
    if micro < 47 {
        return json!({
            "id": flavor.id,
            "links": [{"rel": "bookmark", "href": bookmark(cloud, "flavors", &flavor.id)}],
        });
    }
    json!({
        "vcpus": flavor.vcpus,
        "ram": flavor.memory_mib,
        "disk": flavor.disk_gib,
        "ephemeral": 0,
        "swap": 0,
        "original_name": flavor.name,
        "extra_specs": {},
    })
}

/// Addresses by network name, once it ran; fixed ones first, then the floating IPs that lead to them.
fn addresses(network: &Network, server: &Server, extended: bool) -> Value {
    let mut by_network: Map<String, Value> = Map::new();
    if server.vm == VmState::Deleted || server.launched.is_none() {
        return Value::Object(by_network);
    }
    for port in network.ports_of_device(server.id) {
        let Some(net) = network.networks.get(&port.network) else { continue };
        let entry = |address: String, kind: &str| {
            let mut entry = json!({"version": 4, "addr": address});
            if extended {
                entry["OS-EXT-IPS:type"] = json!(kind);
                entry["OS-EXT-IPS-MAC:mac_addr"] = json!(port.mac);
            }
            entry
        };
        let floating = network.floating_ips.values().filter(|ip| ip.port == Some(port.base.id));
        let mut shown: Vec<Value> =
            port.addresses.iter().map(|own| entry(own.address.to_string(), "fixed")).collect();
        shown.extend(floating.map(|ip| entry(ip.address.to_string(), "floating")));
        if let Some(list) = by_network.entry(&net.base.name).or_insert_with(|| json!([])).as_array_mut() {
            list.extend(shown);
        }
    }
    Value::Object(by_network)
}

/// A digest of project and host, in the 56 digits that Nova shows.
fn host_id(project: Uuid, host: &str) -> String {
    let host: String = host.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{}{host:0<24}", project.simple()).chars().take(56).collect()
}
