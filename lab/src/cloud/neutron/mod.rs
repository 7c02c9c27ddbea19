//! Neutron, the network API v2.0.

mod addresses;
mod agents;
mod floating_ips;
mod groups;
mod list;
mod networks;
mod ports;
mod quotas;
mod records;
mod routers;
mod seed;
mod server_ports;
mod subnets;
mod tags;

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, put},
};
use serde_json::{Value, json};

pub(super) use self::{records::Network, routers::bring_up, server_ports::release_device};
use super::{
    call::{Call, Desk},
    errors::Answer,
};

pub(super) fn routes() -> Router<Desk> {
    let mut router = Router::new()
        .route("/", get(versions))
        .route("/v2.0", get(version))
        .route("/v2.0/", get(version))
        .route("/v2.0/networks", get(networks::list).post(networks::create))
        .route("/v2.0/networks/{id}", get(networks::show).put(networks::update).delete(networks::delete))
        .route("/v2.0/subnets", get(subnets::list).post(subnets::create))
        .route("/v2.0/subnets/{id}", get(subnets::show).put(subnets::update).delete(subnets::delete))
        .route("/v2.0/ports", get(ports::list).post(ports::create))
        .route("/v2.0/ports/{id}", get(ports::show).put(ports::update).delete(ports::delete))
        .route("/v2.0/routers", get(routers::list).post(routers::create))
        .route("/v2.0/routers/{id}", get(routers::show).put(routers::update).delete(routers::delete))
        .route("/v2.0/routers/{id}/add_router_interface", put(routers::add_interface))
        .route("/v2.0/routers/{id}/remove_router_interface", put(routers::remove_interface))
        .route("/v2.0/floatingips", get(floating_ips::list).post(floating_ips::create))
        .route(
            "/v2.0/floatingips/{id}",
            get(floating_ips::show).put(floating_ips::update).delete(floating_ips::delete),
        )
        .route("/v2.0/security-groups", get(groups::list).post(groups::create))
        .route("/v2.0/security-groups/{id}", get(groups::show).put(groups::update).delete(groups::delete))
        .route("/v2.0/security-group-rules", get(groups::list_rules).post(groups::create_rule))
        .route("/v2.0/security-group-rules/{id}", get(groups::show_rule).delete(groups::delete_rule))
        .route("/v2.0/quotas/{id}", get(quotas::show).put(quotas::update).delete(quotas::reset))
        .route("/v2.0/quotas/{id}/default", get(quotas::show_default))
        .route("/v2.0/quotas/{id}/details", get(quotas::show_details))
        .route("/v2.0/quotas/{id}/details.json", get(quotas::show_details))
        .route("/v2.0/agents", get(agents::agents))
        .route("/v2.0/extensions", get(agents::extensions))
        .route("/v2.0/extensions/{alias}", get(agents::show_extension))
        .route("/v2.0/subnetpools", get(agents::nothing))
        .route("/v2.0/address-scopes", get(agents::nothing));
    for collection in tags::COLLECTIONS {
        router = router
            .route(
                &format!("/v2.0/{collection}/{{id}}/tags"),
                get(tags::list).put(tags::replace).delete(tags::clear),
            )
            .route(
                &format!("/v2.0/{collection}/{{id}}/tags/{{tag}}"),
                get(tags::has).put(tags::add).delete(tags::remove),
            );
    }
    router.fallback(unknown)
}

async fn unknown(_: Call) -> Answer {
    Err(list::refuse(StatusCode::NOT_FOUND, "HTTPNotFound", "The resource could not be found."))
}

fn document(desk: &Desk) -> Value {
    json!({
        "id": "v2.0",
        "status": "CURRENT",
        "links": [{"rel": "self", "href": format!("{}/v2.0/", desk.cloud.urls.neutron)}],
    })
}

async fn versions(State(desk): State<Desk>) -> Response {
    Json(json!({"versions": [document(&desk)]})).into_response()
}

async fn version(State(desk): State<Desk>) -> Response {
    let resource = |name: &str| {
        let href = format!("{}/v2.0/{}s", desk.cloud.urls.neutron, name.replace('_', "-"));
        json!({"name": name, "collection": format!("{name}s"), "links": [{"rel": "self", "href": href}]})
    };
    let resources = ["network", "subnet", "port"].map(resource);
    Json(json!({"resources": resources})).into_response()
}
