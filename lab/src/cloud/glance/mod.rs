//! Glance, the image API v2: list, show, change, delete. Uploads are not there: the lab's guests boot what the world has.

mod records;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, put},
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use self::records::Image;
pub(super) use self::records::Images;
use super::{
    call::{Call, Desk, Input, text},
    errors::{Answer, ApiError},
    store,
};

/// How many images a page has when the client does not say.
const PAGE: usize = 25;

/// Names in a query that are not names of properties; some of them are not filtered by here.
const FIELDS: [&str; 16] = [
    "id",
    "name",
    "status",
    "owner",
    "visibility",
    "tag",
    "os_hidden",
    "limit",
    "marker",
    "sort",
    "sort_key",
    "sort_dir",
    "member_status",
    "size_min",
    "size_max",
    "protected",
];

pub(super) fn routes() -> Router<Desk> {
    Router::new()
        .route("/", get(versions))
        .route("/versions", get(versions))
        .route("/v2/images", get(list))
        .route("/v2/images/{id}", get(show).patch(update).delete(delete))
        .route("/v2/images/{id}/tags/{tag}", put(add_tag).delete(remove_tag))
        .route("/v2/images/{id}/members", get(members))
        .fallback(unknown)
}

async fn unknown(_: Call) -> Answer {
    Err(ApiError::glance(StatusCode::NOT_FOUND, "The resource could not be found."))
}

async fn versions(State(desk): State<Desk>) -> Response {
    let href = format!("{}/v2/", desk.cloud.urls.glance);
    let version = |number: &str| {
        let status = if number == "15" { "CURRENT" } else { "SUPPORTED" };
        json!({"id": format!("v2.{number}"), "status": status, "links": [{"rel": "self", "href": href}]})
    };
    let all = ["15", "13", "12", "11", "10", "9", "8", "7", "6", "5", "4", "3", "2", "1", "0"].map(version);
    (StatusCode::MULTIPLE_CHOICES, Json(json!({"versions": all}))).into_response()
}

fn visible(call: &Call, image: &Image) -> bool {
    image.public || call.sees(image.owner)
}

async fn list(call: Call) -> Answer {
    let state = call.state();
    let query = &call.query;
    let ids = query.get("id").map(|ids| ids.trim_start_matches("in:").to_owned());
    let mut found: Vec<&Image> = state.images.images.values().collect();
    found.retain(|image| {
        let visibility = if image.public { "public" } else { "private" };
        visible(&call, image)
            && call.listed(image.created)
            && query.get("name").is_none_or(|name| name == image.name)
            && ids.as_ref().is_none_or(|ids| ids.split(',').any(|id| id == image.id.to_string()))
            && query.get("status").is_none_or(|status| status == image.status)
            && query.get("owner").is_none_or(|owner| owner == image.owner.simple().to_string())
            && query.get("visibility").is_none_or(|wanted| wanted == visibility || wanted == "all")
            && query.all("tag").all(|tag| image.tags.iter().any(|own| own == tag))
            && !query.truthy("os_hidden")
            && query
                .0
                .iter()
                .filter(|(name, _)| !FIELDS.contains(&name.as_str()))
                .all(|(name, value)| image.properties.get(name).and_then(Value::as_str) == Some(value))
    });
    // Newest first, as Glance sorts.
    found.sort_by_key(|image| std::cmp::Reverse((image.created, image.id)));
    if let Some(marker) = query.get("marker") {
        let at = found.iter().position(|image| image.id.to_string() == marker);
        let at = at.ok_or_else(|| ApiError::glance(StatusCode::BAD_REQUEST, "Invalid marker."))?;
        found.drain(..=at);
    }
    let limit = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(PAGE);
    let more = limit > 0 && found.len() > limit;
    found.truncate(limit);
    let kept: Vec<String> = query
        .0
        .iter()
        .filter(|(name, _)| name != "marker")
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let address = |extra: Option<String>| {
        let all: Vec<String> = kept.iter().cloned().chain(extra).collect();
        if all.is_empty() { "/v2/images".to_owned() } else { format!("/v2/images?{}", all.join("&")) }
    };
    let shown: Vec<Value> = found.iter().map(|image| view(image)).collect();
    let mut answer = json!({"images": shown, "first": address(None), "schema": "/v2/schemas/images"});
    if let Some(last) = found.last().filter(|_| more) {
        answer["next"] = json!(address(Some(format!("marker={}", last.id))));
    }
    Ok(Json(answer).into_response())
}

fn find<'a>(
    call: &Call,
    state: &'a mut store::State,
    id: &str,
    words: &str,
) -> Result<&'a mut Image, ApiError> {
    let image = Uuid::parse_str(id).ok().and_then(|id| state.images.images.get_mut(&id));
    let image = image.filter(|image| visible(call, image));
    image.ok_or_else(|| ApiError::glance(StatusCode::NOT_FOUND, words))
}

async fn show(call: Call, Path(id): Path<String>) -> Answer {
    let mut state = call.state();
    let image = find(&call, &mut state, &id, &format!("No image found with ID {id}"))?;
    Ok(Json(view(image)).into_response())
}

/// An image that the caller may change.
fn own<'a>(
    call: &Call,
    state: &'a mut store::State,
    id: &str,
    words: &str,
) -> Result<&'a mut Image, ApiError> {
    let image = find(call, state, id, words)?;
    if call.sees(image.owner) {
        return Ok(image);
    }
    Err(ApiError::glance(StatusCode::FORBIDDEN, "You are not authorized to complete this action."))
}

async fn delete(call: Call, Path(id): Path<String>) -> Answer {
    let mut state = call.state();
    let image = own(&call, &mut state, &id, &format!("Failed to find image {id} to delete"))?;
    if image.protected {
        let words = format!("Image {id} is protected and cannot be deleted.");
        return Err(ApiError::glance(StatusCode::FORBIDDEN, &words));
    }
    let id = image.id;
    state.images.remove(id);
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `PATCH` with a JSON patch of members at the top.
async fn update(call: Call, Path(id): Path<String>, Input(body): Input) -> Answer {
    let mut state = call.state();
    let image = own(&call, &mut state, &id, &format!("No image found with ID {id}"))?;
    for step in body.as_array().into_iter().flatten() {
        let name = text(step, "path").unwrap_or_default().trim_start_matches('/').to_owned();
        let value = step.get("value").unwrap_or(&Value::Null);
        match (name.as_str(), value) {
            ("name", Value::String(name)) => name.clone_into(&mut image.name),
            ("protected", Value::Bool(flag)) => image.protected = *flag,
            ("visibility", Value::String(word)) => image.public = word == "public",
            ("tags", tags @ Value::Array(_)) => image.tags = super::nova::strings(Some(tags)),
            (_, _) if text(step, "op") == Some("remove") => {
                image.properties.shift_remove(&name);
            }
            (_, Value::String(_)) => {
                image.properties.insert(name, value.clone());
            }
            _ => {
                let words = format!("Invalid JSON patch: {step}");
                return Err(ApiError::glance(StatusCode::BAD_REQUEST, &words));
            }
        }
    }
    image.updated = call.now();
    Ok(Json(view(image)).into_response())
}

async fn add_tag(call: Call, Path((id, tag)): Path<(String, String)>) -> Answer {
    let mut state = call.state();
    let image = own(&call, &mut state, &id, &format!("No image found with ID {id}"))?;
    if !image.tags.contains(&tag) {
        image.tags.push(tag);
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn remove_tag(call: Call, Path((id, tag)): Path<(String, String)>) -> Answer {
    let mut state = call.state();
    let image = own(&call, &mut state, &id, &format!("No image found with ID {id}"))?;
    let before = image.tags.len();
    image.tags.retain(|own| *own != tag);
    if image.tags.len() == before {
        return Err(ApiError::glance(StatusCode::NOT_FOUND, &format!("Tag {tag} not found")));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Nothing is shared with single projects here.
async fn members(_: Call) -> Answer {
    Ok(Json(json!({"members": [], "schema": "/v2/schemas/members"})).into_response())
}

fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn view(image: &Image) -> Value {
    let own = format!("/v2/images/{}", image.id);
    let there = image.size.is_some();
    // Digests nobody compares: as long as real ones.
    let digest = |length: usize| {
        there.then(|| image.id.simple().to_string().repeat(4).chars().take(length).collect::<String>())
    };
    let mut view: Map<String, Value> = image.properties.clone();
    let fixed = json!({
        "name": image.name,
        "disk_format": there.then_some("qcow2"),
        "container_format": there.then_some("bare"),
        "visibility": if image.public { "public" } else { "private" },
        "size": image.size.map(|size| size.0),
        "virtual_size": image.size.map(|size| size.1),
        "status": image.status,
        "checksum": digest(32),
        "protected": image.protected,
        "min_ram": 0,
        "min_disk": image.min_disk_gib,
        "owner": image.owner.simple(),
        "os_hidden": false,
        "os_hash_algo": there.then_some("sha512"),
        "os_hash_value": digest(128),
        "id": image.id,
        "created_at": moment(image.created),
        "updated_at": moment(image.updated),
        "tags": image.tags,
        "self": own,
        "file": format!("{own}/file"),
        "schema": "/v2/schemas/image",
    });
    if let Value::Object(fixed) = fixed {
        view.extend(fixed);
    }
    if there {
        view.insert("stores".to_owned(), json!("file"));
    }
    Value::Object(view)
}
