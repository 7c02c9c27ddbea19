//! Servers: list, show, rename, delete, metadata, and what hangs on them.

use axum::{
    Json,
    extract::Path,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use regex::Regex;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    super::{
        call::{Call, Input, text},
        errors::{Answer, ApiError},
        faults::What,
        store::State,
    },
    create::{action, bad, conflict, metadata},
    lifecycle,
    records::{Server, VmState},
    view::{Form, brief, full, long_moment},
};

/// How many servers a page has at most: `[api] max_limit`.
const PAGE: usize = 1000;

pub(super) fn not_found(id: &str) -> ApiError {
    ApiError::nova(StatusCode::NOT_FOUND, format!("Instance {id} could not be found."))
}

/// The server with this id, if the caller may see it.
pub(super) fn find<'a>(call: &Call, state: &'a mut State, id: &str) -> Result<&'a mut Server, ApiError> {
    let server = Uuid::parse_str(id).ok().and_then(|id| state.compute.servers.get_mut(&id));
    server.filter(|server| call.sees(server.project)).ok_or_else(|| not_found(id))
}

/// The same, if it is not just deleted.
pub(super) fn find_alive<'a>(
    call: &Call,
    state: &'a mut State,
    id: &str,
) -> Result<&'a mut Server, ApiError> {
    let server = find(call, state, id)?;
    if server.vm == VmState::Deleted {
        return Err(not_found(id));
    }
    Ok(server)
}

pub(super) async fn list(call: Call) -> Answer {
    page(&call, false)
}

pub(super) async fn list_detail(call: Call) -> Answer {
    page(&call, true)
}

fn page(call: &Call, detail: bool) -> Answer {
    let everyone = call.query.truthy("all_tenants");
    if everyone && !call.admin() {
        let form = if detail { "detail" } else { "index" };
        return Err(ApiError::policy(&format!("os_compute_api:servers:{form}:get_all_tenants")));
    }
    let state = call.state();
    let matches = filter(call, &state)?;
    let mut found: Vec<&Server> = state.compute.servers.values().collect();
    found.retain(|server| (everyone || server.project == call.project()) && matches(server));
    // Newest first, as Nova sorts.
    found.sort_by_key(|server| std::cmp::Reverse((server.created, server.id)));
    if let Some(marker) = call.query.get("marker") {
        let at = found.iter().position(|server| server.id.to_string() == marker);
        let at = at.ok_or_else(|| bad(format!("marker [{marker}] not found")))?;
        found.drain(..=at);
    }
    let limit = call.query.get("limit").map(|limit| {
        limit
            .parse::<usize>()
            .map_err(|_| bad(format!("Invalid input for query parameters limit. Value: {limit}.")))
    });
    let limit = limit.transpose()?.unwrap_or(PAGE).min(PAGE);
    let more = limit > 0 && found.len() > limit;
    found.truncate(limit);
    let shown: Vec<Value> = found
        .iter()
        .map(
            |server| {
                if detail { full(call, &state, server, Form::Listed) } else { brief(&call.cloud, server) }
            },
        )
        .collect();
    let mut answer = json!({"servers": shown});
    if let Some(last) = found.last().filter(|_| more) {
        answer["servers_links"] = json!([{"rel": "next", "href": next(call, last.id)}]);
    }
    Ok(Json(answer).into_response())
}

/// This request's address with another marker.
fn next(call: &Call, last: Uuid) -> String {
    let kept = call.query.0.iter().filter(|(name, _)| name != "marker");
    let kept: String = kept.map(|(name, value)| format!("{name}={value}&")).collect();
    let path = call.uri.path().trim_start_matches("/v2.1");
    format!("{}{path}?{kept}marker={last}", call.cloud.urls.nova)
}

type Matches<'a> = Box<dyn Fn(&Server) -> bool + 'a>;

/// The filters that are known; Nova ignores the others, for users who are no administrators as well.
fn filter<'a>(call: &'a Call, state: &'a State) -> Result<Matches<'a>, ApiError> {
    let name = call.query.get("name").map(|name| {
        Regex::new(name).map_err(|_| bad(format!("Invalid input for query parameters name. Value: {name}.")))
    });
    let name = name.transpose()?;
    let own = |server: &Server, address: &str| {
        let mut ports = state.network.ports_of_device(server.id);
        ports.any(|port| port.addresses.iter().any(|own| own.address.to_string().contains(address)))
    };
    Ok(Box::new(move |server| {
        let query = |name: &str| call.query.get(name);
        let deleted = call.admin() && call.query.truthy("deleted");
        (server.vm == VmState::Deleted) == deleted
            && call.listed(server.created)
            && name.as_ref().is_none_or(|name| name.is_match(&server.name))
            && query("status").is_none_or(|status| server.status().eq_ignore_ascii_case(status))
            && query("vm_state").is_none_or(|state| server.vm.name() == state)
            && query("uuid").is_none_or(|id| server.id.to_string() == id)
            && query("image").is_none_or(|id| server.image.to_string() == id)
            && query("flavor").is_none_or(|id| server.flavor.id == id)
            && query("host")
                .is_none_or(|host| server.number.is_some() && host == call.cloud.options.host.name)
            && query("ip").is_none_or(|pattern| own(server, pattern.trim_matches(['^', '$'])))
            && query("tags")
                .is_none_or(|tags| tags.split(',').all(|tag| server.tags.iter().any(|own| own == tag)))
    }))
}

pub(super) async fn show(call: Call, Path(id): Path<String>) -> Answer {
    let mut state = call.state();
    let server = find(&call, &mut state, &id)?.clone();
    Ok(Json(json!({"server": full(&call, &state, &server, Form::One)})).into_response())
}

/// `PUT /servers/{id}`: name and description.
pub(super) async fn update(call: Call, Path(id): Path<String>, Input(body): Input) -> Answer {
    let mut state = call.state();
    let server = find_alive(&call, &mut state, &id)?;
    let wanted = body.get("server").ok_or_else(|| bad("'server' is a required property"))?;
    if let Some(name) = text(wanted, "name") {
        server.name = name.to_owned();
    }
    if wanted.get("description").is_some() {
        server.description = text(wanted, "description").map(str::to_owned);
    }
    server.updated = call.now();
    let server = server.clone();
    Ok(Json(json!({"server": full(&call, &state, &server, Form::Updated)})).into_response())
}

pub(super) async fn delete(call: Call, Path(id): Path<String>) -> Answer {
    let uuid = {
        let mut state = call.state();
        let server = find_alive(&call, &mut state, &id)?;
        if server.locked && !call.admin() {
            return Err(conflict(format!("Instance {id} is locked")));
        }
        let uuid = server.id;
        if server.vm == VmState::Error && server.number.is_none() {
            // It never had a host: there is nothing to wait for.
            state.compute.servers.remove(&uuid);
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        server.task = Some("deleting");
        server.updated = call.now();
        server.actions.push(action(&call, "delete"));
        uuid
    };
    if !matches!(call.played, Some(What::StuckDelete)) {
        lifecycle::delete(&call.cloud, uuid);
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn show_metadata(call: Call, Path(id): Path<String>) -> Answer {
    let mut state = call.state();
    Ok(Json(json!({"metadata": find(&call, &mut state, &id)?.metadata})).into_response())
}

/// `POST`: adds to the metadata. `PUT`: replaces all.
pub(super) async fn add_metadata(call: Call, Path(id): Path<String>, Input(body): Input) -> Answer {
    write_metadata(&call, &id, &body, false)
}

pub(super) async fn replace_metadata(call: Call, Path(id): Path<String>, Input(body): Input) -> Answer {
    write_metadata(&call, &id, &body, true)
}

fn write_metadata(call: &Call, id: &str, body: &Value, replace: bool) -> Answer {
    let given = body.get("metadata").ok_or_else(|| bad("'metadata' is a required property"))?;
    let given = metadata(Some(given))?;
    let mut state = call.state();
    let server = find_alive(call, &mut state, id)?;
    let mut merged = if replace { Map::new() } else { server.metadata.clone() };
    merged.extend(given);
    if merged.len() > 128 {
        return Err(ApiError::nova(StatusCode::FORBIDDEN, "Maximum number of metadata items exceeds 128"));
    }
    server.metadata = merged;
    Ok(Json(json!({"metadata": server.metadata})).into_response())
}

pub(super) async fn show_meta(call: Call, Path((id, key)): Path<(String, String)>) -> Answer {
    let mut state = call.state();
    let value = find(&call, &mut state, &id)?.metadata.get(&key).cloned();
    let value = value.ok_or_else(no_item)?;
    Ok(Json(json!({"meta": {key: value}})).into_response())
}

pub(super) async fn put_meta(
    call: Call,
    Path((id, key)): Path<(String, String)>,
    Input(body): Input,
) -> Answer {
    let meta = metadata(body.get("meta"))?;
    if meta.len() != 1 || !meta.contains_key(&key) {
        return Err(bad("Request body and URI mismatch"));
    }
    let mut state = call.state();
    find_alive(&call, &mut state, &id)?.metadata.extend(meta.clone());
    Ok(Json(json!({"meta": meta})).into_response())
}

pub(super) async fn delete_meta(call: Call, Path((id, key)): Path<(String, String)>) -> Answer {
    let mut state = call.state();
    let removed = find_alive(&call, &mut state, &id)?.metadata.shift_remove(&key);
    removed.map(|_| StatusCode::NO_CONTENT.into_response()).ok_or_else(no_item)
}

fn no_item() -> ApiError {
    ApiError::nova(StatusCode::NOT_FOUND, "Metadata item was not found")
}

pub(super) async fn interfaces(call: Call, Path(id): Path<String>) -> Answer {
    let mut state = call.state();
    let server = find(&call, &mut state, &id)?.id;
    let shown: Vec<Value> = state
        .network
        .ports_of_device(server)
        .map(|port| {
            let ips: Vec<Value> = port
                .addresses
                .iter()
                .map(|own| json!({"subnet_id": own.subnet, "ip_address": own.address}))
                .collect();
            let mut view = json!({
                "net_id": port.network,
                "port_id": port.base.id,
                "mac_addr": port.mac,
                "port_state": port.status(),
                "fixed_ips": ips,
            });
            if call.micro.0 >= 70 {
                view["tag"] = Value::Null;
            }
            view
        })
        .collect();
    Ok(Json(json!({"interfaceAttachments": shown})).into_response())
}

/// There are no volumes here.
pub(super) async fn volumes(call: Call, Path(id): Path<String>) -> Answer {
    find(&call, &mut call.state(), &id)?;
    Ok(Json(json!({"volumeAttachments": []})).into_response())
}

pub(super) async fn security_groups(call: Call, Path(id): Path<String>) -> Answer {
    let mut state = call.state();
    let server = find(&call, &mut state, &id)?.id;
    let shown: Vec<Value> = state
        .network
        .groups_of_device(server)
        .map(|group| {
            json!({
                "id": group.base.id,
                "name": group.base.name,
                "description": group.base.description,
                "tenant_id": group.base.project.simple(),
                "rules": [],
            })
        })
        .collect();
    Ok(Json(json!({"security_groups": shown})).into_response())
}

pub(super) async fn instance_actions(call: Call, Path(id): Path<String>) -> Answer {
    let mut state = call.state();
    let server = find(&call, &mut state, &id)?;
    let view = |one: &super::records::Action| {
        let mut view = json!({
            "action": one.name,
            "instance_uuid": server.id,
            "request_id": one.request_id,
            "user_id": one.user.simple(),
            "project_id": server.project.simple(),
            "start_time": long_moment(one.started),
            "message": null,
        });
        if call.micro.0 >= 58 {
            view["updated_at"] = json!(long_moment(one.started));
        }
        view
    };
    let shown: Vec<Value> = server.actions.iter().rev().map(view).collect();
    Ok(Json(json!({"instanceActions": shown})).into_response())
}

/// An answer without a body.
pub(super) fn accepted() -> Response {
    StatusCode::ACCEPTED.into_response()
}
