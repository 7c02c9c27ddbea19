//! `POST /servers`: what is asked for is checked, in the order and with the words of Nova.

use std::{net::Ipv4Addr, sync::Arc};

use axum::{Json, http::StatusCode, response::IntoResponse};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    super::{
        call::{Call, Input, text},
        errors::{Answer, ApiError},
        store::State,
    },
    lifecycle, quotas,
    records::{Action, Attachment, Server, VmState},
    view::links,
};

/// What a server may be asked for with; all else is refused, as by Nova's schema.
const KNOWN: [&str; 23] = [
    "name",
    "imageRef",
    "flavorRef",
    "networks",
    "security_groups",
    "key_name",
    "metadata",
    "user_data",
    "availability_zone",
    "config_drive",
    "min_count",
    "max_count",
    "description",
    "tags",
    "adminPass",
    "accessIPv4",
    "accessIPv6",
    "OS-DCF:diskConfig",
    "block_device_mapping_v2",
    "personality",
    "hostname",
    "locked",
    "trusted_image_certificates",
];

pub(super) fn bad(message: impl Into<String>) -> ApiError {
    ApiError::nova(StatusCode::BAD_REQUEST, message)
}

pub(super) fn conflict(message: impl Into<String>) -> ApiError {
    ApiError::nova(StatusCode::CONFLICT, message)
}

pub(super) async fn create(call: Call, Input(body): Input) -> Answer {
    let (server, groups) = {
        let mut state = call.state();
        let server = draft(&call, &mut state, &body)?;
        let groups: Vec<Value> = match body["server"].get("security_groups").and_then(Value::as_array) {
            Some(groups) if !groups.is_empty() => groups.clone(),
            _ => vec![json!({"name": "default"})],
        };
        state.compute.servers.insert(server.id, server.clone());
        (server, groups)
    };
    lifecycle::build(&call.cloud, server.id, call.played.clone());
    let id = server.id.to_string();
    let password: String = Uuid::new_v4().simple().to_string().chars().take(12).collect();
    let answer = json!({"server": {
        "id": id,
        "links": links(&call.cloud, "servers", &id),
        "OS-DCF:diskConfig": "MANUAL",
        "security_groups": groups,
        "adminPass": password,
    }});
    let location = format!("{}/servers/{id}", call.cloud.urls.nova);
    Ok((StatusCode::ACCEPTED, [("Location", location)], Json(answer)).into_response())
}

/// The server that is asked for, or why it cannot be.
fn draft(call: &Call, state: &mut State, body: &Value) -> Result<Server, ApiError> {
    let asked = body.get("server").and_then(Value::as_object).ok_or_else(|| missing("'server'", body))?;
    let wanted = Value::Object(asked.clone());
    if let Some(unknown) = asked.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        return Err(bad(format!(
            "Invalid input for field/attribute server. Additional properties are not allowed ('{unknown}' was unexpected)"
        )));
    }
    let name = text(&wanted, "name").map(str::trim).filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| missing("'name'", &wanted))?.to_owned();
    let flavor_id = wanted.get("flavorRef").ok_or_else(|| missing("'flavorRef'", &wanted))?;
    let flavor_id = flavor_id.as_str().map_or_else(|| flavor_id.to_string(), str::to_owned);
    let networks = wanted.get("networks");
    if networks.is_none() && call.micro.0 >= 37 {
        return Err(missing("'networks'", &wanted));
    }
    let user_data = text(&wanted, "user_data").map(str::to_owned);
    if user_data.as_ref().is_some_and(|data| STANDARD.decode(data).is_err()) {
        return Err(bad("Invalid input for field/attribute user_data. Value is not a 'base64'"));
    }
    let zone = text(&wanted, "availability_zone").unwrap_or("nova");
    // `zone:host` pins the host, which an administrator may.
    if zone.split(':').next() != Some("nova") {
        return Err(bad("The requested availability zone is not available"));
    }
    let metadata = metadata(wanted.get("metadata"))?;

    let flavor = state.compute.flavor(&flavor_id).cloned();
    let flavor = flavor.ok_or_else(|| bad(format!("Flavor {flavor_id} could not be found.")))?;
    let (image, boot_files) = image(call, state, &wanted)?;
    let key_name = text(&wanted, "key_name").map(str::to_owned);
    let has_key = |name: &String| {
        state.compute.keypairs.iter().any(|key| key.user == call.caller.user && key.name == *name)
    };
    if key_name.as_ref().is_some_and(|name| !has_key(name)) {
        return Err(bad("Invalid key_name provided."));
    }
    let attachments = attachments(call, state, networks)?;
    let groups = groups(call, state, &wanted)?;
    quotas::check_servers(call, &state.compute, &flavor)?;
    let new_ports = attachments.iter().filter(|one| matches!(one, Attachment::Network(..))).count();
    if !state.network.has_room_for_ports(call.project(), new_ports) {
        return Err(ApiError::nova(StatusCode::FORBIDDEN, "Maximum number of ports exceeded"));
    }

    let now = call.now();
    let reservation: String = Uuid::new_v4().simple().to_string().chars().take(8).collect();
    let description = text(&wanted, "description").map(str::to_owned);
    Ok(Server {
        id: Uuid::new_v4(),
        host_name: name
            .to_lowercase()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect(),
        // Before 2.19 the description is the name.
        description: if call.micro.0 < 19 { Some(name.clone()) } else { description },
        name,
        project: call.project(),
        user: call.caller.user,
        created: now,
        updated: now,
        launched: None,
        terminated: None,
        vm: VmState::Building,
        task: Some("scheduling"),
        power: 0,
        image,
        boot_files,
        flavor,
        key_name,
        metadata,
        user_data,
        config_drive: call_for_drive(&wanted),
        tags: strings(wanted.get("tags")),
        number: None,
        reservation: format!("r-{reservation}"),
        attachments,
        groups,
        made_ports: Vec::new(),
        fault: None,
        locked: false,
        locked_reason: None,
        actions: vec![action(call, "create")],
        gate: Arc::default(),
    })
}

/// An entry of the server's history for this request.
pub(super) fn action(call: &Call, name: &'static str) -> Action {
    Action { name, request_id: call.request_id.clone(), user: call.caller.user, started: call.now() }
}

fn missing(what: &str, value: &Value) -> ApiError {
    // Nova prints the value as Python would.
    let shown = value.to_string().replace('"', "'").replace("':", "': ").replace(",'", ", '");
    bad(format!("Invalid input for field/attribute server. Value: {shown}. {what} is a required property"))
}

fn call_for_drive(wanted: &Value) -> bool {
    let drive = wanted.get("config_drive").unwrap_or(&Value::Null);
    drive.as_bool().unwrap_or_else(|| drive.as_str().is_some_and(|text| text.eq_ignore_ascii_case("true")))
}

pub(in super::super) fn strings(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Metadata: an object of texts.
pub(super) fn metadata(value: Option<&Value>) -> Result<Map<String, Value>, ApiError> {
    let Some(value) = value else { return Ok(Map::new()) };
    let object = value.as_object().filter(|object| {
        object
            .iter()
            .all(|(key, value)| key.len() <= 255 && value.as_str().is_some_and(|text| text.len() <= 255))
    });
    object.cloned().ok_or_else(|| {
        bad(format!("Invalid input for field/attribute metadata. Value: {value}. It is not a mapping of texts of at most 255 characters"))
    })
}

/// The image, active and visible, with its kernel and ramdisk.
fn image(call: &Call, state: &State, wanted: &Value) -> Result<(Uuid, (String, String)), ApiError> {
    let mappings = wanted.get("block_device_mapping_v2").and_then(Value::as_array).into_iter().flatten();
    if mappings.clone().any(|one| {
        text(one, "source_type") != Some("image") || text(one, "destination_type") == Some("volume")
    }) {
        return Err(bad("Block Device Mapping is Invalid: this cloud has no volume service."));
    }
    let from_mapping = mappings.clone().next().and_then(|one| text(one, "uuid"));
    let id = text(wanted, "imageRef").filter(|id| !id.is_empty()).or(from_mapping);
    let id = id.ok_or_else(|| bad("Invalid input received: Missing imageRef attribute"))?;
    let image = Uuid::parse_str(id).ok().and_then(|id| state.images.get(id));
    let image = image.filter(|image| image.public || call.sees(image.owner));
    let image = image.ok_or_else(|| bad("Can not find requested image"))?;
    if image.status != "active" {
        return Err(bad(format!("Image {id} is unacceptable: Image is not active")));
    }
    let property =
        |name: &str| image.properties.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok((image.id, (property("kernel_id"), property("ramdisk_id"))))
}

/// The network cards.
fn attachments(call: &Call, state: &State, networks: Option<&Value>) -> Result<Vec<Attachment>, ApiError> {
    let network = &state.network;
    let list = match networks {
        Some(Value::String(word)) if call.micro.0 >= 37 && word == "none" => return Ok(Vec::new()),
        Some(Value::Array(list)) if !list.is_empty() => list,
        _ => {
            let own =
                network.networks.values().filter(|net| net.base.project == call.project() || net.shared);
            let own: Vec<Uuid> = own.map(|net| net.base.id).collect();
            return match own.as_slice() {
                [] => Ok(Vec::new()),
                [only] => Ok(vec![Attachment::Network(*only, None)]),
                _ => Err(conflict("Multiple possible networks found, use a Network ID to be more specific.")),
            };
        }
    };
    let mut attachments = Vec::new();
    for one in list {
        if let Some(id) = text(one, "port") {
            let port = Uuid::parse_str(id).ok().and_then(|id| network.ports.get(&id));
            let port = port.filter(|port| call.sees(port.base.project));
            let port = port.ok_or_else(|| bad(format!("Port {id} could not be found.")))?;
            let taken =
                attachments.iter().any(|own| matches!(own, Attachment::Port(own) if *own == port.base.id));
            if !port.device.is_empty() || taken {
                return Err(conflict(format!("Port {id} is still in use.")));
            }
            if port.addresses.is_empty() {
                return Err(bad(format!("Port {id} requires a FixedIP in order to be used.")));
            }
            attachments.push(Attachment::Port(port.base.id));
            continue;
        }
        let id = text(one, "uuid").ok_or_else(|| bad("Network has neither 'uuid' nor 'port'."))?;
        let net = Uuid::parse_str(id).ok().and_then(|id| network.networks.get(&id));
        let net = net.filter(|net| net.visible(call.admin(), call.project()));
        let net = net.ok_or_else(|| bad(format!("Network {id} could not be found.")))?;
        if net.external && !call.admin() {
            let words = format!("It is not allowed to create an interface on external network {id}");
            return Err(ApiError::nova(StatusCode::FORBIDDEN, words));
        }
        if !network.subnets.values().any(|subnet| subnet.network == net.base.id) {
            return Err(bad(format!("Network {id} requires a subnet in order to boot instances on.")));
        }
        let fixed = text(one, "fixed_ip").map(|address| {
            address.parse::<Ipv4Addr>().map_err(|_| bad(format!("Invalid fixed IP address ({address})")))
        });
        let fixed = fixed.transpose()?;
        if let Some(address) = fixed.filter(|address| network.taken(net.base.id, *address)) {
            return Err(bad(format!("Fixed IP address {address} is already in use.")));
        }
        attachments.push(Attachment::Network(net.base.id, fixed));
    }
    Ok(attachments)
}

/// The security groups for new ports, by name or id.
fn groups(call: &Call, state: &mut State, wanted: &Value) -> Result<Vec<Uuid>, ApiError> {
    let default = state.network.default_group(call.project(), call.now());
    let mut groups = Vec::new();
    for one in wanted.get("security_groups").and_then(Value::as_array).into_iter().flatten() {
        let name = text(one, "name").unwrap_or_default();
        let own = state.network.groups.values().filter(|group| group.base.project == call.project());
        let found: Vec<Uuid> = own
            .filter(|group| group.base.name == name || group.base.id.to_string() == name)
            .map(|group| group.base.id)
            .collect();
        match found.as_slice() {
            [only] => groups.push(*only),
            [] => return Err(bad(format!("Unable to find security_group with name or id '{name}'"))),
            _ => {
                return Err(conflict(format!(
                    "Multiple security_group matches found for name '{name}', use an ID to be more specific."
                )));
            }
        }
    }
    Ok(if groups.is_empty() { vec![default] } else { groups })
}
