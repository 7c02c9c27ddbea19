//! Nova, the compute API 2.1 to 2.93.

mod actions;
mod create;
mod flavors;
mod host;
mod keypairs;
mod lifecycle;
mod micro;
mod quotas;
mod records;
mod servers;
mod view;

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

pub(super) use self::{
    create::strings,
    keypairs::fingerprint,
    lifecycle::keep_in_step,
    micro::Micro,
    records::{Compute, Flavor, KeyPair},
};
use super::{
    call::{Call, Desk},
    errors::{Answer, ApiError},
};

pub(super) fn routes() -> Router<Desk> {
    let api = Router::new()
        .route("/", get(version))
        .route("/servers", get(servers::list).post(create::create))
        .route("/servers/detail", get(servers::list_detail))
        .route("/servers/{id}", get(servers::show).put(servers::update).delete(servers::delete))
        .route("/servers/{id}/action", post(actions::act))
        .route(
            "/servers/{id}/metadata",
            get(servers::show_metadata).post(servers::add_metadata).put(servers::replace_metadata),
        )
        .route(
            "/servers/{id}/metadata/{key}",
            get(servers::show_meta).put(servers::put_meta).delete(servers::delete_meta),
        )
        .route("/servers/{id}/os-interface", get(servers::interfaces))
        .route("/servers/{id}/os-volume_attachments", get(servers::volumes))
        .route("/servers/{id}/os-security-groups", get(servers::security_groups))
        .route("/servers/{id}/os-instance-actions", get(servers::instance_actions))
        .route("/flavors", get(flavors::list).post(flavors::create))
        .route("/flavors/detail", get(flavors::list_detail))
        .route("/flavors/{id}", get(flavors::show).delete(flavors::delete))
        .route("/flavors/{id}/os-extra_specs", get(flavors::extra_specs))
        .route("/os-keypairs", get(keypairs::list).post(keypairs::create))
        .route("/os-keypairs/{name}", get(keypairs::show).delete(keypairs::delete))
        .route("/limits", get(quotas::limits))
        .route("/os-quota-sets/{id}", get(quotas::show).put(quotas::update).delete(quotas::reset))
        .route("/os-quota-sets/{id}/detail", get(quotas::show_detail))
        .route("/os-quota-sets/{id}/defaults", get(quotas::show_defaults))
        .route("/os-hypervisors", get(host::hypervisors))
        .route("/os-hypervisors/detail", get(host::hypervisors_detail))
        .route("/os-hypervisors/{id}", get(host::hypervisor))
        .route("/os-aggregates", get(host::aggregates))
        .route("/os-services", get(host::services))
        .route("/os-availability-zone", get(host::zones))
        .route("/os-availability-zone/detail", get(host::zones))
        .route("/os-server-groups", get(host::server_groups))
        .fallback(unknown)
        .layer(middleware::from_fn(micro::negotiate));
    Router::new()
        .route("/", get(versions))
        // A router nested at a path does not answer that path with a slash after it.
        .route("/v2.1/", get(version).layer(middleware::from_fn(micro::negotiate)))
        .nest("/v2.1", api)
        .fallback(unknown)
}

async fn unknown(_: Call) -> Answer {
    Err(ApiError::nova(StatusCode::NOT_FOUND, "The resource could not be found."))
}

async fn versions(State(desk): State<Desk>) -> Response {
    let root = desk.cloud.urls.nova.trim_end_matches(".1");
    let link = |href: String| json!([{"rel": "self", "href": href}]);
    let entry = |id: &str, status: &str, versions: (&str, &str), updated: &str, links: Value| {
        json!({
            "id": id,
            "status": status,
            "version": versions.0,
            "min_version": versions.1,
            "updated": updated,
            "links": links,
        })
    };
    let highest = format!("2.{}", micro::HIGHEST);
    Json(json!({"versions": [
        entry("v2.0", "SUPPORTED", ("", ""), "2011-01-21T11:33:21Z", link(format!("{root}/"))),
        entry("v2.1", "CURRENT", (&highest, "2.1"), "2013-07-23T11:33:21Z", link(format!("{root}.1/"))),
    ]}))
    .into_response()
}

async fn version(State(desk): State<Desk>) -> Response {
    Json(json!({"version": {
        "id": "v2.1",
        "status": "CURRENT",
        "version": format!("2.{}", micro::HIGHEST),
        "min_version": "2.1",
        "updated": "2013-07-23T11:33:21Z",
        "links": [
            {"rel": "self", "href": format!("{}/", desk.cloud.urls.nova)},
            {"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"},
        ],
        "media-types": [
            {"base": "application/json", "type": "application/vnd.openstack.compute+json;version=2.1"},
        ],
    }}))
    .into_response()
}
