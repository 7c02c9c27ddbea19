//! Neutron's quotas.

use axum::{Json, extract::Path, http::StatusCode, response::IntoResponse};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    super::{
        call::{Call, Input},
        errors::{Answer, ApiError},
    },
    list::{asked, bad, conflict, not_found, refuse},
    records::Network,
};

/// Neutron's defaults; -1 is no limit.
const DEFAULTS: [(&str, i64); 9] = [
    ("network", 100),
    ("subnet", 100),
    ("subnetpool", -1),
    ("port", 500),
    ("router", 10),
    ("floatingip", 50),
    ("rbac_policy", 10),
    ("security_group", 10),
    ("security_group_rule", 100),
];

fn limit(network: &Network, project: Uuid, name: &str) -> i64 {
    let own = network.quotas.get(&project).and_then(|own| own.get(name)).copied();
    own.unwrap_or_else(|| DEFAULTS.iter().find(|(known, _)| *known == name).map_or(-1, |(_, value)| *value))
}

fn used(network: &Network, project: Uuid, name: &str) -> usize {
    match name {
        "network" => network.networks.values().filter(|one| one.base.project == project).count(),
        "subnet" => network.subnets.values().filter(|one| one.base.project == project).count(),
        "port" => network.ports.values().filter(|one| one.base.project == project).count(),
        "router" => network.routers.values().filter(|one| one.base.project == project).count(),
        "floatingip" => network.floating_ips.values().filter(|one| one.base.project == project).count(),
        "security_group" => network.groups.values().filter(|one| one.base.project == project).count(),
        "security_group_rule" => network.rules.values().filter(|one| one.base.project == project).count(),
        // An external network is one, shared with everybody.
        "rbac_policy" => {
            network.networks.values().filter(|one| one.external && one.base.project == project).count()
        }
        _ => 0,
    }
}

/// How many more of a resource a project may have.
pub(super) fn room(network: &Network, project: Uuid, name: &str) -> usize {
    let limit = usize::try_from(limit(network, project, name)).unwrap_or(usize::MAX);
    limit.saturating_sub(used(network, project, name))
}

/// Refuses one more of a resource when the quota is used up.
pub(super) fn check(network: &Network, project: Uuid, name: &str) -> Result<(), ApiError> {
    if room(network, project, name) == 0 {
        return Err(conflict("OverQuota", format!("Quota exceeded for resources: ['{name}'].")));
    }
    Ok(())
}

fn project(call: &Call, id: &str) -> Result<Uuid, ApiError> {
    let project = Uuid::parse_str(id).ok().filter(|project| call.sees(*project));
    project.ok_or_else(|| not_found("HTTPNotFound", "Project", id))
}

fn admin(call: &Call, rule: &str) -> Result<(), ApiError> {
    if call.admin() {
        return Ok(());
    }
    Err(refuse(
        StatusCode::FORBIDDEN,
        "PolicyNotAuthorized",
        format!("(rule:{rule}) is disallowed by policy"),
    ))
}

fn whole(network: &Network, project: Uuid) -> Value {
    let set = DEFAULTS.iter().map(|(name, _)| ((*name).to_owned(), json!(limit(network, project, name))));
    json!({"quota": Map::from_iter(set)})
}

pub(super) async fn show(call: Call, Path(id): Path<String>) -> Answer {
    let project = project(&call, &id)?;
    Ok(Json(whole(&call.state().network, project)).into_response())
}

pub(super) async fn show_default(call: Call, Path(id): Path<String>) -> Answer {
    project(&call, &id)?;
    let set = DEFAULTS.iter().map(|(name, value)| ((*name).to_owned(), json!(value)));
    Ok(Json(json!({"quota": Map::from_iter(set)})).into_response())
}

pub(super) async fn show_details(call: Call, Path(id): Path<String>) -> Answer {
    let project = project(&call, &id)?;
    let state = call.state();
    let detail = |name: &str| {
        json!({
            "limit": limit(&state.network, project, name),
            "used": used(&state.network, project, name),
            "reserved": 0,
        })
    };
    let set = DEFAULTS.iter().map(|(name, _)| ((*name).to_owned(), detail(name)));
    Ok(Json(json!({"quota": Map::from_iter(set)})).into_response())
}

pub(super) async fn update(call: Call, Path(id): Path<String>, Input(body): Input) -> Answer {
    admin(&call, "update_quota")?;
    let project = project(&call, &id)?;
    let names: Vec<&str> = DEFAULTS.iter().map(|(name, _)| *name).collect();
    let wanted = asked(&body, "quota", &names)?;
    let mut state = call.state();
    for (name, value) in wanted.as_object().into_iter().flatten() {
        let value = value.as_i64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
        let value = value.ok_or_else(|| bad(format!("Invalid input for {name}.")))?;
        state.network.quotas.entry(project).or_default().insert(name.clone(), value);
    }
    Ok(Json(whole(&state.network, project)).into_response())
}

pub(super) async fn reset(call: Call, Path(id): Path<String>) -> Answer {
    admin(&call, "delete_quota")?;
    let project = project(&call, &id)?;
    call.state().network.quotas.remove(&project);
    Ok(StatusCode::NO_CONTENT.into_response())
}
