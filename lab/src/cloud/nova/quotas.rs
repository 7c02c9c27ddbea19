//! Limits and quotas.

use std::collections::BTreeMap;

use axum::{Json, extract::Path, http::StatusCode, response::IntoResponse};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    super::{
        call::{Call, Input},
        errors::{Answer, ApiError},
    },
    create::bad,
    records::{Compute, Flavor},
    servers::accepted,
};

/// Nova's defaults; -1 is no limit.
const DEFAULTS: [(&str, i64); 14] = [
    ("cores", 20),
    ("fixed_ips", -1),
    ("floating_ips", -1),
    ("injected_file_content_bytes", 10240),
    ("injected_file_path_bytes", 255),
    ("injected_files", 5),
    ("instances", 10),
    ("key_pairs", 100),
    ("metadata_items", 128),
    ("ram", 51200),
    ("security_group_rules", -1),
    ("security_groups", -1),
    ("server_group_members", 10),
    ("server_groups", 10),
];

/// The three limits that a server counts against.
const COUNTED: [&str; 3] = ["instances", "cores", "ram"];

fn limit(compute: &Compute, project: Uuid, name: &str) -> i64 {
    let own = compute.quotas.get(&project).and_then(|own| own.get(name)).copied();
    own.unwrap_or_else(|| DEFAULTS.iter().find(|(known, _)| *known == name).map_or(-1, |(_, value)| *value))
}

fn used(compute: &Compute, project: Uuid) -> BTreeMap<&'static str, i64> {
    let servers = compute.servers.values().filter(|server| server.project == project && server.counts());
    let mut used = BTreeMap::from([("instances", 0), ("cores", 0), ("ram", 0)]);
    for server in servers {
        *used.entry("instances").or_default() += 1;
        *used.entry("cores").or_default() += i64::from(server.flavor.vcpus);
        *used.entry("ram").or_default() += i64::from(server.flavor.memory_mib);
    }
    used
}

/// Refuses one more server of this flavor when a quota would be exceeded.
pub(super) fn check_servers(call: &Call, compute: &Compute, flavor: &Flavor) -> Result<(), ApiError> {
    let project = call.project();
    let used = used(compute, project);
    let wanted = [1, i64::from(flavor.vcpus), i64::from(flavor.memory_mib)];
    let over: Vec<(&str, i64, i64, i64)> = COUNTED
        .iter()
        .zip(wanted)
        .map(|(name, wanted)| {
            (*name, wanted, used.get(name).copied().unwrap_or(0), limit(compute, project, name))
        })
        .filter(|(_, wanted, used, limit)| *limit >= 0 && used + wanted > *limit)
        .collect();
    if over.is_empty() {
        return Ok(());
    }
    let names = over.iter().map(|one| one.0).collect::<Vec<_>>().join(", ");
    let values = |pick: fn(&(&str, i64, i64, i64)) -> i64| {
        over.iter().map(|one| pick(one).to_string()).collect::<Vec<_>>().join(", ")
    };
    let (wanted, used, limits) = (values(|one| one.1), values(|one| one.2), values(|one| one.3));
    Err(ApiError::nova(
        StatusCode::FORBIDDEN,
        format!(
            "Quota exceeded for {names}: Requested {wanted}, but already used {used} of {limits} {names}"
        ),
    ))
}

pub(super) async fn limits(call: Call) -> Answer {
    let state = call.state();
    let project = call.project();
    let limit = |name| limit(&state.compute, project, name);
    let used = used(&state.compute, project);
    let mut absolute = json!({
        "maxTotalInstances": limit("instances"),
        "maxTotalCores": limit("cores"),
        "maxTotalRAMSize": limit("ram"),
        "maxServerMeta": limit("metadata_items"),
        "maxTotalKeypairs": limit("key_pairs"),
        "maxServerGroups": limit("server_groups"),
        "maxServerGroupMembers": limit("server_group_members"),
        "totalRAMUsed": used.get("ram"),
        "totalCoresUsed": used.get("cores"),
        "totalInstancesUsed": used.get("instances"),
        "totalServerGroupsUsed": 0,
    });
    // Proxies of other services, gone in later microversions.
    if call.micro.0 < 36 {
        for name in ["maxTotalFloatingIps", "maxSecurityGroups", "maxSecurityGroupRules"] {
            absolute[name] = json!(-1);
        }
        absolute["totalFloatingIpsUsed"] = json!(0);
        absolute["totalSecurityGroupsUsed"] = json!(0);
    }
    if call.micro.0 < 39 {
        absolute["maxImageMeta"] = json!(limit("metadata_items"));
    }
    if call.micro.0 < 57 {
        absolute["maxPersonality"] = json!(limit("injected_files"));
        absolute["maxPersonalitySize"] = json!(limit("injected_file_content_bytes"));
    }
    Ok(Json(json!({"limits": {"rate": [], "absolute": absolute}})).into_response())
}

/// The names of a quota set at this microversion.
fn names(micro: u16) -> impl Iterator<Item = &'static str> {
    let hidden = move |name: &str| match name {
        "fixed_ips" | "floating_ips" | "security_groups" | "security_group_rules" => micro >= 36,
        "injected_files" | "injected_file_content_bytes" | "injected_file_path_bytes" => micro >= 57,
        _ => false,
    };
    DEFAULTS.iter().map(|(name, _)| *name).filter(move |name| !hidden(name))
}

fn project(id: &str) -> Result<Uuid, ApiError> {
    Uuid::parse_str(id).map_err(|_| bad(format!("Project ID {id} is not a valid project.")))
}

pub(super) async fn show(call: Call, Path(id): Path<String>) -> Answer {
    let own = project(&id)?;
    let state = call.state();
    let mut set = Map::from_iter([("id".to_owned(), json!(id))]);
    set.extend(names(call.micro.0).map(|name| (name.to_owned(), json!(limit(&state.compute, own, name)))));
    Ok(Json(json!({"quota_set": set})).into_response())
}

pub(super) async fn show_defaults(call: Call, Path(id): Path<String>) -> Answer {
    let mut set = Map::from_iter([("id".to_owned(), json!(id))]);
    let default =
        |name: &str| DEFAULTS.iter().find(|(known, _)| *known == name).map_or(-1, |(_, value)| *value);
    set.extend(names(call.micro.0).map(|name| (name.to_owned(), json!(default(name)))));
    Ok(Json(json!({"quota_set": set})).into_response())
}

pub(super) async fn show_detail(call: Call, Path(id): Path<String>) -> Answer {
    let own = project(&id)?;
    let state = call.state();
    let used = used(&state.compute, own);
    let mut set = Map::from_iter([("id".to_owned(), json!(id))]);
    for name in names(call.micro.0) {
        let in_use = used.get(name).copied().unwrap_or(0);
        let value = json!({"limit": limit(&state.compute, own, name), "in_use": in_use, "reserved": 0});
        set.insert(name.to_owned(), value);
    }
    Ok(Json(json!({"quota_set": set})).into_response())
}

pub(super) async fn update(call: Call, Path(id): Path<String>, Input(body): Input) -> Answer {
    if !call.admin() {
        return Err(ApiError::policy("os_compute_api:os-quota-sets:update"));
    }
    let own = project(&id)?;
    let mut state = call.state();
    let wanted = body.get("quota_set").and_then(Value::as_object);
    for (name, value) in wanted.ok_or_else(|| bad("'quota_set' is a required property"))? {
        if name == "force" {
            continue;
        }
        let value = value.as_i64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
        let value = value.ok_or_else(|| bad(format!("Invalid input for field/attribute {name}.")))?;
        if !names(call.micro.0).any(|known| known == name) {
            return Err(bad(format!("Additional properties are not allowed ('{name}' was unexpected)")));
        }
        state.compute.quotas.entry(own).or_default().insert(name.clone(), value);
    }
    let all = names(call.micro.0).map(|name| (name.to_owned(), json!(limit(&state.compute, own, name))));
    Ok(Json(json!({"quota_set": Map::from_iter(all)})).into_response())
}

pub(super) async fn reset(call: Call, Path(id): Path<String>) -> Answer {
    if !call.admin() {
        return Err(ApiError::policy("os_compute_api:os-quota-sets:delete"));
    }
    call.state().compute.quotas.remove(&project(&id)?);
    Ok(accepted())
}
