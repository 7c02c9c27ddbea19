//! Flavors.

use axum::{Json, extract::Path, http::StatusCode, response::IntoResponse};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::{
        Cloud,
        call::{Call, Input, text},
        errors::{Answer, ApiError},
    },
    create::{bad, conflict},
    records::Flavor,
    view::links,
};

pub(super) async fn list(call: Call) -> Answer {
    let mut flavors = call.state().compute.flavors.clone();
    flavors.sort_by(|a, b| a.id.cmp(&b.id));
    let brief = |flavor: &Flavor| json!({"id": flavor.id, "name": flavor.name, "links": links(&call.cloud, "flavors", &flavor.id)});
    let shown: Vec<Value> = flavors.iter().map(brief).collect();
    Ok(Json(json!({"flavors": shown})).into_response())
}

pub(super) async fn list_detail(call: Call) -> Answer {
    let mut flavors = call.state().compute.flavors.clone();
    flavors.sort_by(|a, b| a.id.cmp(&b.id));
    let shown: Vec<Value> = flavors.iter().map(|flavor| view(&call.cloud, flavor, call.micro.0)).collect();
    Ok(Json(json!({"flavors": shown})).into_response())
}

pub(super) async fn show(call: Call, Path(id): Path<String>) -> Answer {
    let state = call.state();
    let flavor = state.compute.flavor(&id).ok_or_else(|| not_found(&id))?;
    Ok(Json(json!({"flavor": view(&call.cloud, flavor, call.micro.0)})).into_response())
}

fn not_found(id: &str) -> ApiError {
    ApiError::nova(StatusCode::NOT_FOUND, format!("Flavor {id} could not be found."))
}

pub(super) async fn create(call: Call, Input(body): Input) -> Answer {
    if !call.admin() {
        return Err(ApiError::policy("os_compute_api:os-flavor-manage:create"));
    }
    let wanted = body.get("flavor").ok_or_else(|| bad("'flavor' is a required property"))?;
    let number = |name: &str| {
        let value = wanted.get(name);
        let value = value.and_then(|value| value.as_u64().or_else(|| value.as_str()?.parse().ok()));
        value
            .and_then(|value| u32::try_from(value).ok())
            .ok_or_else(|| bad(format!("'{name}' is a required property")))
    };
    let name = text(wanted, "name").ok_or_else(|| bad("'name' is a required property"))?;
    let id = text(wanted, "id").filter(|id| *id != "auto");
    let flavor = Flavor {
        id: id.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned),
        name: name.to_owned(),
        vcpus: number("vcpus")?,
        memory_mib: number("ram")?,
        disk_gib: number("disk")?,
    };
    let mut state = call.state();
    if state.compute.flavors.iter().any(|own| own.name == flavor.name || own.id == flavor.id) {
        return Err(conflict(format!("Flavor with name {name} already exists.")));
    }
    state.compute.flavors.push(flavor.clone());
    Ok(Json(json!({"flavor": view(&call.cloud, &flavor, call.micro.0)})).into_response())
}

pub(super) async fn delete(call: Call, Path(id): Path<String>) -> Answer {
    if !call.admin() {
        return Err(ApiError::policy("os_compute_api:os-flavor-manage:delete"));
    }
    let mut state = call.state();
    state.compute.flavor(&id).ok_or_else(|| not_found(&id))?;
    state.compute.flavors.retain(|flavor| flavor.id != id);
    Ok(StatusCode::ACCEPTED.into_response())
}

/// Extra specs: this cloud has none.
pub(super) async fn extra_specs(call: Call, Path(id): Path<String>) -> Answer {
    call.state().compute.flavor(&id).ok_or_else(|| not_found(&id))?;
    Ok(Json(json!({"extra_specs": {}})).into_response())
}

fn view(cloud: &Cloud, flavor: &Flavor, micro: u16) -> Value {
    let mut view = json!({
        "id": flavor.id,
        "name": flavor.name,
        "ram": flavor.memory_mib,
        "disk": flavor.disk_gib,
        "swap": "",
        "OS-FLV-EXT-DATA:ephemeral": 0,
        "OS-FLV-DISABLED:disabled": false,
        "vcpus": flavor.vcpus,
        "os-flavor-access:is_public": true,
        "rxtx_factor": 1.0,
        "links": links(cloud, "flavors", &flavor.id),
    });
    if micro >= 55 {
        view["description"] = Value::Null;
    }
    if micro >= 61 {
        view["extra_specs"] = json!({});
    }
    if micro >= 75 {
        view["swap"] = json!(0);
    }
    view
}
