//! Application credentials, users and projects.

use axum::{Json, extract::Path, http::StatusCode, response::IntoResponse};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::{
        call::{Call, Input, text},
        errors::{Answer, ApiError},
    },
    records::{ApplicationCredential, Identity, Project, Role, User},
    tokens::{moment, secret},
};

fn not_found(what: &str, id: &str) -> ApiError {
    ApiError::keystone(StatusCode::NOT_FOUND, &format!("Could not find {what}: {id}."))
}

/// `GET /v3/projects`, which an administrator may ask, and `GET /v3/auth/projects`, which are the caller's own.
pub(super) async fn projects(call: Call) -> Answer {
    let state = call.state();
    let own = call.uri.path().starts_with("/v3/auth/");
    if !own && !call.admin() {
        return Err(forbidden("identity:list_projects"));
    }
    let home = state.identity.users.iter().find(|user| user.id == call.caller.user).map(|user| user.project);
    let shown = state.identity.projects.iter().filter(|project| {
        (!own || Some(project.id) == home) && call.query.get("name").is_none_or(|name| name == project.name)
    });
    let shown: Vec<Value> = shown.map(|project| project_view(&call, project)).collect();
    Ok(Json(json!({"projects": shown, "links": links(&call)})).into_response())
}

/// `GET /v3/projects/{id}`.
pub(super) async fn project(call: Call, Path(id): Path<String>) -> Answer {
    let state = call.state();
    let project = state.identity.projects.iter().find(|project| project.id.simple().to_string() == id);
    let project = project.filter(|project| call.sees(project.id)).ok_or_else(|| not_found("project", &id))?;
    Ok(Json(json!({"project": project_view(&call, project)})).into_response())
}

/// `GET /v3/users`.
pub(super) async fn users(call: Call) -> Answer {
    if !call.admin() {
        return Err(forbidden("identity:list_users"));
    }
    let state = call.state();
    let shown = state.identity.users.iter();
    let shown = shown.filter(|user| call.query.get("name").is_none_or(|name| name == user.name));
    let shown: Vec<Value> = shown.map(|user| user_view(&call, user)).collect();
    Ok(Json(json!({"users": shown, "links": links(&call)})).into_response())
}

/// `GET /v3/users/{id}`.
pub(super) async fn user(call: Call, Path(id): Path<String>) -> Answer {
    let state = call.state();
    let user = state.identity.users.iter().find(|user| user.id.simple().to_string() == id);
    let user = user.filter(|user| call.admin() || user.id == call.caller.user);
    let user = user.ok_or_else(|| not_found("user", &id))?;
    Ok(Json(json!({"user": user_view(&call, user)})).into_response())
}

fn forbidden(rule: &str) -> ApiError {
    ApiError::keystone(
        StatusCode::FORBIDDEN,
        &format!("You are not authorized to perform the requested action: {rule}."),
    )
}

fn links(call: &Call) -> Value {
    json!({"next": null, "self": format!("{}{}", call.cloud.urls.keystone.trim_end_matches("/v3"), call.uri.path()), "previous": null})
}

fn project_view(call: &Call, project: &Project) -> Value {
    json!({
        "id": project.id.simple(),
        "name": project.name,
        "domain_id": "default",
        "description": "",
        "enabled": true,
        "parent_id": "default",
        "is_domain": false,
        "tags": [],
        "options": {},
        "links": {"self": format!("{}/projects/{}", call.cloud.urls.keystone, project.id.simple())},
    })
}

fn user_view(call: &Call, user: &User) -> Value {
    json!({
        "id": user.id.simple(),
        "name": user.name,
        "domain_id": "default",
        "enabled": true,
        "password_expires_at": null,
        "options": {},
        "links": {"self": format!("{}/users/{}", call.cloud.urls.keystone, user.id.simple())},
    })
}

/// `GET /v3/users/{user}/application_credentials`.
pub(super) async fn list(call: Call, Path(user): Path<String>) -> Answer {
    let user = own(&call, &user)?;
    let state = call.state();
    let shown = state.identity.credentials.iter().filter(|credential| {
        credential.user == user && call.query.get("name").is_none_or(|name| name == credential.name)
    });
    let shown: Vec<Value> = shown.map(|credential| view(&call, &state.identity, credential)).collect();
    Ok(Json(json!({"application_credentials": shown, "links": links(&call)})).into_response())
}

/// `GET /v3/users/{user}/application_credentials/{id}`.
pub(super) async fn show(call: Call, Path((user, id)): Path<(String, String)>) -> Answer {
    let user = own(&call, &user)?;
    let state = call.state();
    let credential = find(&state.identity, user, &id)?;
    Ok(Json(json!({"application_credential": view(&call, &state.identity, credential)})).into_response())
}

/// `POST /v3/users/{user}/application_credentials`: the one answer that has the secret.
pub(super) async fn create(call: Call, Path(user): Path<String>, Input(body): Input) -> Answer {
    let user = own(&call, &user)?;
    let given = body.get("application_credential").unwrap_or(&Value::Null);
    let name = text(given, "name")
        .ok_or_else(|| ApiError::keystone(StatusCode::BAD_REQUEST, "'name' is a required property"))?;
    let mut state = call.state();
    let records = &mut state.identity;
    if records.credentials.iter().any(|credential| credential.user == user && credential.name == name) {
        return Err(ApiError::keystone(
            StatusCode::CONFLICT,
            &format!(
                "Conflict occurred attempting to store application_credential - Duplicate entry found with name {name}."
            ),
        ));
    }
    let held =
        records.users.iter().find(|own| own.id == user).map(|own| own.roles.clone()).unwrap_or_default();
    let wanted = given.get("roles").and_then(Value::as_array);
    let asked = |role: &Role| {
        wanted.is_none_or(|wanted| wanted.iter().any(|one| text(one, "name") == Some(role.name())))
    };
    let credential = ApplicationCredential {
        id: Uuid::new_v4(),
        name: name.to_owned(),
        description: text(given, "description").unwrap_or_default().to_owned(),
        secret: text(given, "secret").map_or_else(|| secret(""), str::to_owned),
        user,
        project: call.project(),
        roles: held.into_iter().filter(asked).collect(),
        expires: text(given, "expires_at")
            .and_then(|at| format!("{}Z", at.trim_end_matches('Z')).parse().ok()),
    };
    let mut shown = view(&call, records, &credential);
    if let Some(members) = shown.as_object_mut() {
        members.insert("secret".into(), credential.secret.clone().into());
    }
    records.credentials.push(credential);
    Ok((StatusCode::CREATED, Json(json!({"application_credential": shown}))).into_response())
}

/// `DELETE /v3/users/{user}/application_credentials/{id}`, which ends the tokens that it was used for, too.
pub(super) async fn delete(call: Call, Path((user, id)): Path<(String, String)>) -> Answer {
    let user = own(&call, &user)?;
    let mut state = call.state();
    let id = find(&state.identity, user, &id)?.id;
    state.identity.credentials.retain(|credential| credential.id != id);
    state.identity.tokens.retain(|_, token| token.credential != Some(id));
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn find<'a>(records: &'a Identity, user: Uuid, id: &str) -> Result<&'a ApplicationCredential, ApiError> {
    let matches = |one: &&ApplicationCredential| one.user == user && one.id.simple().to_string() == id;
    records.credentials.iter().find(matches).ok_or_else(|| not_found("Application Credential", id))
}

/// The user in the path, who must be the caller.
fn own(call: &Call, user: &str) -> Result<Uuid, ApiError> {
    let caller = call.caller.user;
    (caller.simple().to_string() == user)
        .then_some(caller)
        .ok_or_else(|| forbidden("identity:application_credentials"))
}

fn view(call: &Call, records: &Identity, credential: &ApplicationCredential) -> Value {
    let url = &call.cloud.urls.keystone;
    let (user, id) = (credential.user.simple(), credential.id.simple());
    json!({
        "id": id,
        "name": credential.name,
        "description": credential.description,
        "user_id": user,
        "project_id": credential.project.simple(),
        "system": null,
        "expires_at": credential.expires.map(moment),
        "unrestricted": false,
        "roles": records.roles(&credential.roles),
        "links": {"self": format!("{url}/users/{user}/application_credentials/{id}")},
    })
}
