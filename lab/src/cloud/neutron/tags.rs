//! Tags of any object: the extension `standard-attr-tag`.

use std::collections::BTreeSet;

use axum::{Json, extract::Path, http::StatusCode, response::IntoResponse};
use serde_json::json;
use uuid::Uuid;

use super::{
    super::{
        call::{Call, Input},
        errors::{Answer, ApiError},
        nova,
        store::State,
    },
    list::{bad, not_found},
    records::Base,
};

/// The collections whose objects have tags.
pub(super) const COLLECTIONS: [&str; 6] =
    ["networks", "subnets", "routers", "ports", "floatingips", "security-groups"];

/// The object that a path like `/v2.0/ports/<id>/tags` names.
fn object<'a>(call: &Call, state: &'a mut State, id: &str) -> Result<&'a mut Base, ApiError> {
    let collection = call.uri.path().split('/').nth(2).unwrap_or_default().to_owned();
    let uuid = Uuid::parse_str(id).unwrap_or_default();
    let network = &mut state.network;
    let base = match collection.as_str() {
        "networks" => network.networks.get_mut(&uuid).map(|one| &mut one.base),
        "subnets" => network.subnets.get_mut(&uuid).map(|one| &mut one.base),
        "routers" => network.routers.get_mut(&uuid).map(|one| &mut one.base),
        "ports" => network.ports.get_mut(&uuid).map(|one| &mut one.base),
        "floatingips" => network.floating_ips.get_mut(&uuid).map(|one| &mut one.base),
        "security-groups" => network.groups.get_mut(&uuid).map(|one| &mut one.base),
        _ => None,
    };
    let base = base.filter(|base| call.sees(base.project));
    base.ok_or_else(|| not_found("TagResourceNotFound", &format!("Resource {collection}"), id))
}

pub(super) async fn list(call: Call, Path(id): Path<String>) -> Answer {
    let mut state = call.state();
    Ok(Json(json!({"tags": object(&call, &mut state, &id)?.tags})).into_response())
}

pub(super) async fn replace(call: Call, Path(id): Path<String>, Input(body): Input) -> Answer {
    if !body.get("tags").is_some_and(serde_json::Value::is_array) {
        return Err(bad("Invalid tags body"));
    }
    let tags: BTreeSet<String> = nova::strings(body.get("tags")).into_iter().collect();
    let mut state = call.state();
    let base = object(&call, &mut state, &id)?;
    base.tags = tags;
    base.touch(call.now());
    Ok(Json(json!({"tags": base.tags})).into_response())
}

pub(super) async fn clear(call: Call, Path(id): Path<String>) -> Answer {
    let mut state = call.state();
    let base = object(&call, &mut state, &id)?;
    base.tags.clear();
    base.touch(call.now());
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn has(call: Call, Path((id, tag)): Path<(String, String)>) -> Answer {
    let mut state = call.state();
    if object(&call, &mut state, &id)?.tags.contains(&tag) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Err(not_found("TagNotFound", "Tag", tag))
}

pub(super) async fn add(call: Call, Path((id, tag)): Path<(String, String)>) -> Answer {
    let mut state = call.state();
    let base = object(&call, &mut state, &id)?;
    base.tags.insert(tag);
    base.touch(call.now());
    Ok(StatusCode::CREATED.into_response())
}

pub(super) async fn remove(call: Call, Path((id, tag)): Path<(String, String)>) -> Answer {
    let mut state = call.state();
    let base = object(&call, &mut state, &id)?;
    if !base.tags.remove(&tag) {
        return Err(not_found("TagNotFound", "Tag", tag));
    }
    base.touch(call.now());
    Ok(StatusCode::NO_CONTENT.into_response())
}
