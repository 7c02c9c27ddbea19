//! `POST /servers/{id}/action`.

use axum::{Json, extract::Path, http::StatusCode, response::IntoResponse};
use serde_json::{Value, json};

use super::{
    super::{
        call::{Call, Input, text},
        errors::{Answer, ApiError},
    },
    create::{action, bad, conflict},
    lifecycle,
    records::{Server, VmState},
    servers::{accepted, find_alive},
};

pub(super) async fn act(call: Call, Path(id): Path<String>, Input(body): Input) -> Answer {
    let given = body.as_object().and_then(|object| object.iter().next());
    let (name, arguments) = given.ok_or_else(|| bad("Malformed request body"))?;
    match name.as_str() {
        "os-stop" => {
            begin(&call, &id, "stop", "powering-off", &[VmState::Active, VmState::Error])
                .map(|server| lifecycle::stop(&call.cloud, server.id))?;
        }
        "os-start" => {
            begin(&call, &id, "start", "powering-on", &[VmState::Stopped])
                .map(|server| lifecycle::start(&call.cloud, server.id))?;
        }
        "reboot" => {
            let hard = match text(arguments, "type").map(str::to_ascii_uppercase).as_deref() {
                Some("HARD") => true,
                Some("SOFT") => false,
                _ => return Err(bad("Invalid input for field/attribute type.")),
            };
            let states: &[VmState] = match hard {
                true => &[VmState::Active, VmState::Stopped, VmState::Error],
                false => &[VmState::Active],
            };
            let task = if hard { "rebooting_hard" } else { "rebooting" };
            begin(&call, &id, "reboot", task, states)
                .map(|server| lifecycle::reboot(&call.cloud, server.id, hard))?;
        }
        "createImage" => return create_image(&call, &id, arguments),
        "lock" | "unlock" => {
            let mut state = call.state();
            let server = find_alive(&call, &mut state, &id)?;
            server.locked = name == "lock";
            server.locked_reason =
                text(arguments, "locked_reason").filter(|_| server.locked).map(str::to_owned);
        }
        "os-getConsoleOutput" => {
            let server = find_alive(&call, &mut call.state(), &id)?.id;
            let lines = arguments.get("length").and_then(|value| {
                value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()))
            });
            let output = call.cloud.driver.console(server).await;
            let output = output.map_err(|why| ApiError::nova(StatusCode::NOT_FOUND, why))?;
            let all: Vec<&str> = output.split_inclusive('\n').collect();
            let skipped = lines
                .map_or(0, |lines| all.len().saturating_sub(usize::try_from(lines).unwrap_or(usize::MAX)));
            return Ok(
                Json(json!({"output": all.get(skipped..).unwrap_or_default().concat()})).into_response()
            );
        }
        "os-resetState" => {
            if !call.admin() {
                return Err(ApiError::policy("os_compute_api:os-admin-actions:reset_state"));
            }
            let mut state = call.state();
            let server = find_alive(&call, &mut state, &id)?;
            server.vm =
                if text(arguments, "state") == Some("active") { VmState::Active } else { VmState::Error };
            server.task = None;
        }
        other => return Err(bad(format!("There is no such action: {other}"))),
    }
    Ok(accepted())
}

/// Sets the task, if the server's state allows the action.
fn begin(
    call: &Call,
    id: &str,
    name: &'static str,
    task: &'static str,
    states: &[VmState],
) -> Result<Server, ApiError> {
    let mut state = call.state();
    let server = find_alive(call, &mut state, id)?;
    if server.locked && !call.admin() {
        return Err(conflict(format!("Instance {id} is locked")));
    }
    let refuse = |what: &str, value: &str| {
        conflict(format!("Cannot '{name}' instance {id} while it is in {what} {value}"))
    };
    if !states.contains(&server.vm) {
        return Err(refuse("vm_state", server.vm.name()));
    }
    if let Some(task) = server.task {
        return Err(refuse("task_state", task));
    }
    server.task = Some(task);
    server.updated = call.now();
    server.actions.push(action(call, name));
    Ok(server.clone())
}

/// Before 2.45 the image's id is only in the `Location`, with the double slash that Nova writes; from then on in the body.
fn create_image(call: &Call, id: &str, arguments: &Value) -> Answer {
    let name = text(arguments, "name").ok_or_else(|| bad("'name' is a required property"))?;
    let states = [VmState::Active, VmState::Stopped];
    let server = begin(call, id, "createImage", "image_snapshot_pending", &states)?;
    let properties = super::create::metadata(arguments.get("metadata"))?;
    let image = {
        let mut state = call.state();
        let names = (call.caller.user_name.as_str(), call.caller.project_name.as_str());
        let owner = (server.user, server.project);
        state.images.snapshot(
            name,
            server.image,
            server.id,
            owner,
            names,
            server.flavor.disk_gib,
            properties,
            call.now(),
        )
    };
    lifecycle::snapshot(&call.cloud, server.id, image);
    if call.micro.0 >= 45 {
        return Ok((StatusCode::ACCEPTED, Json(json!({"image_id": image}))).into_response());
    }
    let location = format!("{}//images/{image}", call.cloud.urls.glance);
    Ok((StatusCode::ACCEPTED, [("Location", location)]).into_response())
}
