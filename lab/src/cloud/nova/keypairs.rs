//! Key pairs.

use axum::{Json, extract::Path, http::StatusCode, response::IntoResponse};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::process::Command;

use super::{
    super::{
        call::{Call, Input, text},
        errors::{Answer, ApiError},
    },
    create::{bad, conflict},
    records::KeyPair,
    view::long_moment,
};

fn not_found(call: &Call, name: &str) -> ApiError {
    let user = call.caller.user.simple();
    ApiError::nova(StatusCode::NOT_FOUND, format!("Keypair {name} not found for user {user}"))
}

fn brief(key: &KeyPair, micro: u16) -> Value {
    let mut view = json!({"name": key.name, "public_key": key.public_key, "fingerprint": key.fingerprint});
    if micro >= 2 {
        view["type"] = json!("ssh");
    }
    view
}

pub(super) async fn list(call: Call) -> Answer {
    let state = call.state();
    let own = state.compute.keypairs.iter().filter(|key| key.user == call.caller.user);
    let shown: Vec<Value> = own.map(|key| json!({"keypair": brief(key, call.micro.0)})).collect();
    Ok(Json(json!({"keypairs": shown})).into_response())
}

pub(super) async fn show(call: Call, Path(name): Path<String>) -> Answer {
    let state = call.state();
    let key = state.compute.keypairs.iter().find(|key| key.user == call.caller.user && key.name == name);
    let key = key.ok_or_else(|| not_found(&call, &name))?;
    let mut view = brief(key, call.micro.0);
    view["user_id"] = json!(key.user.simple());
    view["created_at"] = json!(long_moment(key.created));
    view["deleted"] = json!(false);
    view["deleted_at"] = Value::Null;
    view["id"] = json!(key.number);
    view["updated_at"] = Value::Null;
    Ok(Json(json!({"keypair": view})).into_response())
}

/// `POST /os-keypairs`: with a public key, or a new pair whose private half is shown this once.
pub(super) async fn create(call: Call, Input(body): Input) -> Answer {
    let wanted = body.get("keypair").ok_or_else(|| bad("'keypair' is a required property"))?;
    let name = text(wanted, "name").ok_or_else(|| bad("'name' is a required property"))?.to_owned();
    let taken = || {
        let state = call.state();
        state.compute.keypairs.iter().any(|key| key.user == call.caller.user && key.name == name)
    };
    if taken() {
        return Err(conflict(format!("Key pair '{name}' already exists.")));
    }
    let (public_key, private_key) = match text(wanted, "public_key") {
        Some(key) => (key.to_owned(), None),
        None => generate().await.map(|(public, private)| (public, Some(private))).map_err(|why| {
            ApiError::nova(StatusCode::INTERNAL_SERVER_ERROR, format!("Keypair data is invalid: {why}"))
        })?,
    };
    let fingerprint = fingerprint(&public_key)
        .ok_or_else(|| bad("Keypair data is invalid: failed to generate fingerprint"))?;
    let mut state = call.state();
    let number = state.compute.keypairs.iter().map(|key| key.number).max().unwrap_or(0) + 1;
    let key = KeyPair { number, user: call.caller.user, name, public_key, fingerprint, created: call.now() };
    let mut view = brief(&key, call.micro.0);
    view["user_id"] = json!(key.user.simple());
    if let Some(private_key) = private_key {
        view["private_key"] = json!(private_key);
    }
    state.compute.keypairs.push(key);
    // 201 from 2.2 on.
    let status = if call.micro.0 >= 2 { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(json!({"keypair": view}))).into_response())
}

pub(super) async fn delete(call: Call, Path(name): Path<String>) -> Answer {
    let mut state = call.state();
    let own = |key: &KeyPair| key.user == call.caller.user && key.name == name;
    if !state.compute.keypairs.iter().any(own) {
        return Err(not_found(&call, &name));
    }
    state.compute.keypairs.retain(|key| !own(key));
    // 204 from 2.2 on.
    let status = if call.micro.0 >= 2 { StatusCode::NO_CONTENT } else { StatusCode::ACCEPTED };
    Ok(status.into_response())
}

/// A new pair by `ssh-keygen`: public and private half.
async fn generate() -> Result<(String, String), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let file = folder.path().join("key");
    let run = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f"])
        .arg(&file)
        .output();
    let output = run.await.map_err(|error| format!("run ssh-keygen: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let read = |file| std::fs::read_to_string(file).map_err(|error| error.to_string());
    Ok((read(file.with_extension("pub"))?, read(file)?))
}

/// Sixteen bytes of the key, in the colon-separated form of a fingerprint. Real ones are MD5; no client computes them.
pub(in super::super) fn fingerprint(public_key: &str) -> Option<String> {
    let blob = STANDARD.decode(public_key.split_whitespace().nth(1)?).ok()?;
    let tail = blob.len().checked_sub(16).and_then(|from| blob.get(from..))?;
    Some(tail.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"))
}
