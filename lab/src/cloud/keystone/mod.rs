//! Keystone, the identity API v3: versions, tokens, the catalog, application credentials.

mod credentials;
mod records;
mod tokens;

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use uuid::Uuid;

pub(super) use self::records::{Caller, Identity};
use super::{
    Urls,
    call::{Call, Desk},
    errors::{Answer, ApiError},
};

pub(super) fn routes() -> Router<Desk> {
    let own = "/v3/users/{user}/application_credentials";
    Router::new()
        .route("/", get(versions))
        .route("/v3", get(version))
        .route("/v3/", get(version))
        .route("/v3/auth/tokens", post(tokens::issue).get(tokens::validate).delete(tokens::revoke))
        .route("/v3/auth/catalog", get(tokens::catalog))
        .route("/v3/auth/projects", get(credentials::projects))
        .route("/v3/projects", get(credentials::projects))
        .route("/v3/projects/{id}", get(credentials::project))
        .route("/v3/users", get(credentials::users))
        .route("/v3/users/{id}", get(credentials::user))
        .route(own, get(credentials::list).post(credentials::create))
        .route(&format!("{own}/{{id}}"), get(credentials::show).delete(credentials::delete))
        .fallback(unknown)
}

async fn unknown(_: Call) -> Answer {
    Err(ApiError::keystone(StatusCode::NOT_FOUND, "The resource could not be found."))
}

fn document(desk: &Desk) -> Value {
    json!({
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": format!("{}/", desk.cloud.urls.keystone)}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    })
}

async fn versions(State(desk): State<Desk>) -> Response {
    let location = [("Location", format!("{}/", desk.cloud.urls.keystone))];
    let body = Json(json!({"versions": {"values": [document(&desk)]}}));
    (StatusCode::MULTIPLE_CHOICES, location, body).into_response()
}

async fn version(State(desk): State<Desk>) -> Response {
    Json(json!({"version": document(&desk)})).into_response()
}

/// The service catalog: three interfaces for each service, all at one address.
pub(super) fn catalog(urls: &Urls, region: &str) -> Value {
    let services = [
        ("image", "glance", urls.glance.clone()),
        ("identity", "keystone", format!("{}/", urls.keystone)),
        ("compute", "nova", urls.nova.clone()),
        ("network", "neutron", urls.neutron.clone()),
    ];
    let entry = |(kind, name, url): (&str, &str, String)| {
        let endpoint = |interface: &str| {
            json!({
                "id": Uuid::new_v4().simple(),
                "interface": interface,
                "region_id": region,
                "url": url,
                "region": region,
            })
        };
        let endpoints = ["internal", "public", "admin"].map(endpoint);
        json!({"endpoints": endpoints, "id": Uuid::new_v4().simple(), "type": kind, "name": name})
    };
    services.map(entry).to_vec().into()
}
