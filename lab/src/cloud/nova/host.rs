//! What an administrator sees of the one compute host: hypervisors, services, zones.

use axum::{Json, extract::Path, http::StatusCode, response::IntoResponse};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::{
        call::Call,
        errors::{Answer, ApiError},
    },
    records::VmState,
    view::long_moment,
};

/// The hypervisor's id from 2.53 on.
const UUID: Uuid = Uuid::from_u128(0x6c61_6200_0000_4000_8000_0000_0000_0001);

pub(super) async fn hypervisors(call: Call) -> Answer {
    if !call.admin() {
        return Err(ApiError::policy("os_compute_api:os-hypervisors:list"));
    }
    let brief = json!({
        "id": id(&call),
        "hypervisor_hostname": call.cloud.options.host.name,
        "state": "up",
        "status": "enabled",
    });
    Ok(Json(json!({"hypervisors": [brief]})).into_response())
}

pub(super) async fn hypervisors_detail(call: Call) -> Answer {
    if !call.admin() {
        return Err(ApiError::policy("os_compute_api:os-hypervisors:list-detail"));
    }
    Ok(Json(json!({"hypervisors": [view(&call)]})).into_response())
}

pub(super) async fn hypervisor(call: Call, Path(asked): Path<String>) -> Answer {
    if !call.admin() {
        return Err(ApiError::policy("os_compute_api:os-hypervisors:show"));
    }
    if asked != UUID.to_string() && asked != "1" {
        return Err(ApiError::nova(
            StatusCode::NOT_FOUND,
            format!("Hypervisor with ID '{asked}' could not be found."),
        ));
    }
    Ok(Json(json!({"hypervisor": view(&call)})).into_response())
}

fn id(call: &Call) -> Value {
    if call.micro.0 >= 53 { json!(UUID) } else { json!(1) }
}

fn view(call: &Call) -> Value {
    /// Memory that Nova keeps for the host itself.
    const RESERVED: u32 = 512;
    let host = &call.cloud.options.host;
    let state = call.state();
    let placed: Vec<_> =
        state.compute.servers.values().filter(|server| server.number.is_some() && server.counts()).collect();
    let vcpus: u32 = placed.iter().map(|server| server.flavor.vcpus).sum();
    let disk: u32 = placed.iter().map(|server| server.flavor.disk_gib).sum();
    let memory = state.compute.memory_in_use() + RESERVED;
    let free = |all: u32, used: u32| i64::from(all) - i64::from(used);
    let service = if call.micro.0 >= 53 { json!(UUID) } else { json!(5) };
    let mut view = json!({
        "id": id(call),
        "hypervisor_hostname": host.name,
        "state": "up",
        "status": "enabled",
        "hypervisor_type": "QEMU",
        "hypervisor_version": 7_002_022,
        "host_ip": host.address,
        "service": {"id": service, "host": host.name, "disabled_reason": null},
    });
    if call.micro.0 >= 53 {
        view["servers"] = json!([]);
    }
    if call.micro.0 < 88 {
        view["vcpus"] = json!(host.vcpus);
        view["memory_mb"] = json!(host.memory_mib);
        view["local_gb"] = json!(host.disk_gib);
        view["vcpus_used"] = json!(vcpus);
        view["memory_mb_used"] = json!(memory);
        view["local_gb_used"] = json!(disk);
        view["free_ram_mb"] = json!(free(host.memory_mib, memory));
        view["free_disk_gb"] = json!(free(host.disk_gib, disk));
        view["current_workload"] = json!(placed.iter().filter(|server| server.task.is_some()).count());
        view["running_vms"] = json!(placed.iter().filter(|server| server.vm == VmState::Active).count());
        view["disk_available_least"] = json!(free(host.disk_gib, disk));
        let cpu = json!({"arch": "x86_64", "model": "kvm64", "vendor": "AMD", "topology": {"cells": 1, "sockets": 1, "cores": host.vcpus, "threads": 1}});
        // A JSON text in a JSON text, until 2.28.
        view["cpu_info"] = if call.micro.0 < 28 { json!(cpu.to_string()) } else { cpu };
    } else {
        view["uptime"] = Value::Null;
    }
    view
}

pub(super) async fn services(call: Call) -> Answer {
    if !call.admin() {
        return Err(ApiError::policy("os_compute_api:os-services:list"));
    }
    let now = call.now();
    let all =
        [("nova-scheduler", 2, "internal"), ("nova-conductor", 4, "internal"), ("nova-compute", 5, "nova")];
    let view = |(binary, number, zone): (&str, u128, &str)| {
        let id =
            if call.micro.0 >= 53 { json!(Uuid::from_u128(UUID.as_u128() + number)) } else { json!(number) };
        let mut view = json!({
            "binary": binary,
            "host": call.cloud.options.host.name,
            "id": id,
            "zone": zone,
            "status": "enabled",
            "state": "up",
            "updated_at": long_moment(now),
            "disabled_reason": null,
        });
        if call.micro.0 >= 11 {
            view["forced_down"] = json!(false);
        }
        view
    };
    Ok(Json(json!({"services": all.map(view)})).into_response())
}

pub(super) async fn zones(_: Call) -> Answer {
    let zone = json!({"zoneName": "nova", "zoneState": {"available": true}, "hosts": null});
    Ok(Json(json!({"availabilityZoneInfo": [zone]})).into_response())
}

pub(super) async fn aggregates(_: Call) -> Answer {
    Ok(Json(json!({"aggregates": []})).into_response())
}

pub(super) async fn server_groups(_: Call) -> Answer {
    Ok(Json(json!({"server_groups": []})).into_response())
}
