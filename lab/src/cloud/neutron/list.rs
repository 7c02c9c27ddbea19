//! What all of Neutron's collections have in common: filters, chosen fields, pages; and the checks of bodies.

use axum::{Json, http::StatusCode, response::IntoResponse};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::super::{
    call::{Call, Query},
    errors::{Answer, ApiError},
};

/// Names in a query that are no filters.
const RESERVED: [&str; 10] = [
    "fields",
    "limit",
    "marker",
    "page_reverse",
    "sort_key",
    "sort_dir",
    "tags",
    "tags-any",
    "not-tags",
    "not-tags-any",
];

pub(super) fn refuse(status: StatusCode, kind: &str, message: impl Into<String>) -> ApiError {
    ApiError::neutron(status, kind, message)
}

pub(super) fn bad(message: impl Into<String>) -> ApiError {
    refuse(StatusCode::BAD_REQUEST, "HTTPBadRequest", message)
}

pub(super) fn conflict(kind: &str, message: impl Into<String>) -> ApiError {
    refuse(StatusCode::CONFLICT, kind, message)
}

/// `Port <id> could not be found.` Floating IPs have no full stop in Neutron's own words.
pub(super) fn not_found(kind: &str, what: &str, id: impl std::fmt::Display) -> ApiError {
    let stop = if kind == "FloatingIPNotFound" { "" } else { "." };
    refuse(StatusCode::NOT_FOUND, kind, format!("{what} {id} could not be found{stop}"))
}

/// A list: `views` filtered, cut to a page and to the fields asked for.
pub(super) fn page(call: &Call, collection: &str, views: Vec<Value>) -> Answer {
    let mut views: Vec<Value> = views.into_iter().filter(|view| matches(&call.query, view)).collect();
    if let Some(key) = call.query.get("sort_key") {
        views.sort_by_key(|view| view.get(key).map(Value::to_string));
        if call.query.get("sort_dir") == Some("desc") {
            views.reverse();
        }
    }
    if let Some(marker) = call.query.get("marker") {
        let at = views.iter().position(|view| view["id"] == marker);
        let at = at.ok_or_else(|| bad(format!("Invalid pagination marker {marker}")))?;
        views.drain(..=at);
    }
    let limit = call.query.get("limit").and_then(|limit| limit.parse::<usize>().ok()).unwrap_or(usize::MAX);
    let more = limit > 0 && views.len() > limit;
    views.truncate(limit.max(1));
    let mut answer = Map::new();
    if let Some(last) = views.last().and_then(|view| view["id"].as_str()).filter(|_| more) {
        let kept = call.query.0.iter().filter(|(name, _)| name != "marker");
        let kept: String = kept.map(|(name, value)| format!("{name}={value}&")).collect();
        let root = &call.cloud.urls.neutron;
        let href = format!("{root}/v2.0/{}?{kept}marker={last}", collection.replace('_', "-"));
        answer.insert(format!("{collection}_links"), json!([{"rel": "next", "href": href}]));
    }
    let shown: Vec<Value> = views.into_iter().map(|view| chosen(&call.query, view)).collect();
    answer.insert(collection.to_owned(), shown.into());
    Ok(Json(Value::Object(answer)).into_response())
}

/// One object, with the fields asked for.
pub(super) fn one(call: &Call, member: &str, view: Value) -> Answer {
    Ok(Json(json!({member: chosen(&call.query, view)})).into_response())
}

/// One object that was just made.
pub(super) fn created(member: &str, view: Value) -> Answer {
    Ok((StatusCode::CREATED, Json(json!({member: view}))).into_response())
}

/// Only the `fields=` of a view, if any were named.
fn chosen(query: &Query, view: Value) -> Value {
    let fields: Vec<&str> = query.all("fields").collect();
    match view {
        Value::Object(members) if !fields.is_empty() => {
            members.into_iter().filter(|(name, _)| fields.contains(&name.as_str())).collect()
        }
        whole => whole,
    }
}

/// Whether a view passes all filters. Several values of one name are alternatives; names that the object has not are ignored.
fn matches(query: &Query, view: &Value) -> bool {
    let tags: Vec<&str> =
        view.get("tags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let named = |name| query.get(name).map(|list| list.split(','));
    let has = |tag: &str| tags.contains(&tag);
    named("tags").is_none_or(|mut list| list.all(has))
        && named("tags-any").is_none_or(|mut list| list.any(has))
        && named("not-tags").is_none_or(|mut list| !list.all(has))
        && named("not-tags-any").is_none_or(|mut list| !list.any(has))
        && query.0.iter().filter(|(name, _)| !RESERVED.contains(&name.as_str())).all(|(name, _)| {
            view.get(name).is_none_or(|value| query.all(name).any(|wanted| equal(value, wanted)))
        })
}

fn equal(value: &Value, wanted: &str) -> bool {
    match value {
        Value::Null => wanted.is_empty() || wanted == "None",
        Value::Bool(flag) => {
            let wanted = matches!(wanted.to_ascii_lowercase().as_str(), "true" | "1" | "t" | "yes");
            *flag == wanted
        }
        Value::String(text) => text == wanted,
        // `fixed_ips=ip_address=10.0.0.5`, and the id in `security_groups=<id>`.
        Value::Array(list) => list.iter().any(|item| match (item, wanted.split_once('=')) {
            (Value::Object(members), Some((key, value))) => {
                members.get(key).and_then(Value::as_str) == Some(value)
            }
            (item, _) => equal(item, wanted),
        }),
        Value::Number(number) => number.to_string() == wanted,
        Value::Object(_) => false,
    }
}

/// The object in a body, if it has no members but these.
pub(super) fn asked<'a>(body: &'a Value, member: &str, known: &[&str]) -> Result<&'a Value, ApiError> {
    let object = body.get(member).filter(|object| object.is_object());
    let object = object.ok_or_else(|| bad(format!("Unable to find '{member}' in request body")))?;
    let unknown = object.as_object().into_iter().flatten().find(|(name, _)| !known.contains(&name.as_str()));
    match unknown {
        Some((name, _)) => Err(bad(format!("Unrecognized attribute(s) '{name}'"))),
        None => Ok(object),
    }
}

/// The UUID in a body's member; `None` when it is null or not there.
pub(super) fn id_in(object: &Value, name: &str) -> Result<Option<Uuid>, ApiError> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let id = value.as_str().and_then(|text| Uuid::parse_str(text).ok());
            let words = || format!("Invalid input for {name}. Reason: {value} is not a valid UUID.");
            id.map(Some).ok_or_else(|| bad(words()))
        }
    }
}

/// The project that a new object belongs to: an administrator may name another.
pub(super) fn project(call: &Call, object: &Value) -> Result<Uuid, ApiError> {
    let named = id_in(object, "project_id")?.or(id_in(object, "tenant_id")?);
    match named {
        Some(project) if !call.sees(project) => Err(bad(
            "Specifying 'project_id' or 'tenant_id' other than the authenticated project in request requires admin privileges",
        )),
        named => Ok(named.unwrap_or(call.project())),
    }
}
