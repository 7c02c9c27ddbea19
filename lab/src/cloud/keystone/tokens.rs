//! Tokens: issue by password, application credential or older token; validate, revoke; the catalog.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::{
        call::{Call, Desk, Input, text},
        errors::{Answer, ApiError, Service},
    },
    records::{ApplicationCredential, Identity, Role, Token, User},
};

/// Who proved to be whom, and for which project by the very proof.
struct Proof {
    user: Uuid,
    method: &'static str,
    /// The project of an application credential, with its roles there.
    bound: Option<(Uuid, Vec<Role>, Uuid)>,
}

/// `POST /v3/auth/tokens`.
pub(super) async fn issue(State(desk): State<Desk>, Input(body): Input) -> Answer {
    let cloud = &desk.cloud;
    let unauthorized = || ApiError::unauthorized(Service::Keystone, &cloud.urls.keystone);
    let auth = body.get("auth").ok_or_else(|| missing("auth"))?;
    let identity = auth.get("identity").ok_or_else(|| missing("identity"))?;
    let method = identity.get("methods").and_then(|methods| methods.get(0)).and_then(Value::as_str);
    let method = method.ok_or_else(|| missing("methods"))?;
    let given = identity.get(method).ok_or_else(|| missing(method))?;

    let now = cloud.now();
    let mut state = cloud.state();
    let records = &mut state.identity;
    let proof = match method {
        "password" => by_password(records, given),
        "application_credential" => by_credential(records, given, now),
        "token" => text(given, "id").and_then(|token| records.caller(token, now)).map(|caller| Proof {
            user: caller.user,
            method: "token",
            bound: None,
        }),
        _ => None,
    };
    let proof = proof.ok_or_else(unauthorized)?;
    let (project, roles) = match (&proof.bound, auth.get("scope")) {
        (Some((project, roles, _)), None) => (Some(*project), roles.clone()),
        // The project of an application credential cannot be chosen.
        (Some(_), Some(_)) => return Err(unauthorized()),
        (None, Some(scope)) if scope.get("project").is_some() => {
            let (project, roles) = scoped(records, proof.user, scope).ok_or_else(unauthorized)?;
            (Some(project), roles)
        }
        (None, Some(scope)) if *scope != "unscoped" && scope.get("unscoped").is_none() => {
            return Err(unauthorized());
        }
        (None, _) => (None, Vec::new()),
    };
    let token = Token {
        user: proof.user,
        project,
        roles,
        method: proof.method,
        credential: proof.bound.map(|(_, _, credential)| credential),
        audit: URL_SAFE_NO_PAD.encode(Uuid::new_v4().as_bytes()),
        issued: now,
        expires: now + cloud.options.token_ttl,
    };
    let id = secret("gAAAAA");
    let view = view(records, &token, true);
    records.tokens.retain(|_, token| now < token.expires);
    records.tokens.insert(id.clone(), token);
    Ok((StatusCode::CREATED, [("X-Subject-Token", id)], Json(json!({"token": view}))).into_response())
}

fn missing(what: &str) -> ApiError {
    ApiError::keystone(StatusCode::BAD_REQUEST, &format!("'{what}' is a required property"))
}

/// A text that cannot be guessed.
pub(super) fn secret(prefix: &str) -> String {
    let bytes: Vec<u8> = (0..4).flat_map(|_| Uuid::new_v4().into_bytes()).collect();
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// The user that is named, if its domain is ours.
fn named<'a>(records: &'a Identity, user: &Value) -> Option<&'a User> {
    if let Some(id) = text(user, "id") {
        return records.user(id);
    }
    in_domain(user).then(|| text(user, "name").and_then(|name| records.user(name))).flatten()
}

fn in_domain(thing: &Value) -> bool {
    let domain = thing.get("domain");
    domain.is_some_and(|domain| {
        text(domain, "id") == Some("default") || text(domain, "name") == Some("Default")
    })
}

fn by_password(records: &Identity, given: &Value) -> Option<Proof> {
    let given = given.get("user")?;
    let user = named(records, given)?;
    (text(given, "password")? == user.password).then_some(Proof {
        user: user.id,
        method: "password",
        bound: None,
    })
}

fn by_credential(records: &Identity, given: &Value, now: Timestamp) -> Option<Proof> {
    let by_id = text(given, "id").and_then(|id| Uuid::parse_str(id).ok());
    let matches = |credential: &&ApplicationCredential| match by_id {
        Some(id) => credential.id == id,
        None => {
            let owner = given.get("user").and_then(|user| named(records, user));
            owner.is_some_and(|owner| owner.id == credential.user)
                && text(given, "name") == Some(&credential.name)
        }
    };
    let credential = records.credentials.iter().find(matches)?;
    let good =
        text(given, "secret")? == credential.secret && credential.expires.is_none_or(|expires| now < expires);
    good.then(|| Proof {
        user: credential.user,
        method: "application_credential",
        bound: Some((credential.project, credential.roles.clone(), credential.id)),
    })
}

/// The project that is asked for and the user's roles there.
fn scoped(records: &Identity, user: Uuid, scope: &Value) -> Option<(Uuid, Vec<Role>)> {
    let wanted = scope.get("project")?;
    let by_name = || text(wanted, "name").filter(|_| in_domain(wanted));
    let project = records.project(text(wanted, "id").or_else(by_name)?)?;
    let user = records.users.iter().find(|own| own.id == user && own.project == project.id)?;
    Some((project.id, user.roles.clone()))
}

/// `GET /v3/auth/tokens`.
pub(super) async fn validate(call: Call, headers: HeaderMap) -> Answer {
    let id = subject(&headers);
    let state = call.state();
    let token = state.identity.tokens.get(&id).filter(|token| call.now() < token.expires);
    let token = token.ok_or_else(|| ApiError::keystone(StatusCode::NOT_FOUND, "Failed to validate token"))?;
    let view = view(&state.identity, token, !call.query.0.iter().any(|(name, _)| name == "nocatalog"));
    Ok(([("X-Subject-Token", id)], Json(json!({"token": view}))).into_response())
}

/// `DELETE /v3/auth/tokens`.
pub(super) async fn revoke(call: Call, headers: HeaderMap) -> Answer {
    let revoked = call.state().identity.tokens.remove(&subject(&headers));
    revoked
        .map(|_| StatusCode::NO_CONTENT.into_response())
        .ok_or_else(|| ApiError::keystone(StatusCode::NOT_FOUND, "Failed to validate token"))
}

fn subject(headers: &HeaderMap) -> String {
    headers.get("x-subject-token").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// `GET /v3/auth/catalog`.
pub(super) async fn catalog(call: Call) -> Answer {
    let catalog = call.state().identity.catalog.clone();
    let own = format!("{}/auth/catalog", call.cloud.urls.keystone);
    Ok(Json(json!({"catalog": catalog, "links": {"self": own}})).into_response())
}

fn view(records: &Identity, token: &Token, with_catalog: bool) -> Value {
    let user = records.users.iter().find(|user| user.id == token.user).map(|user| {
        json!({
            "domain": {"id": "default", "name": "Default"},
            "id": user.id.simple(),
            "name": user.name,
            "password_expires_at": null,
        })
    });
    let mut view = json!({
        "methods": [token.method],
        "user": user,
        "audit_ids": [token.audit],
        "expires_at": moment(token.expires),
        "issued_at": moment(token.issued),
    });
    let project = token.project.and_then(|id| records.projects.iter().find(|project| project.id == id));
    if let (Some(project), Some(members)) = (project, view.as_object_mut()) {
        let domain = json!({"id": "default", "name": "Default"});
        members.insert(
            "project".into(),
            json!({"domain": domain, "id": project.id.simple(), "name": project.name}),
        );
        members.insert("is_domain".into(), false.into());
        members.insert("roles".into(), records.roles(&token.roles).into());
        if let Some(credential) = token.credential {
            members.insert(
                "application_credential".into(),
                json!({"id": credential.simple(), "restricted": true}),
            );
        }
        if with_catalog {
            members.insert("catalog".into(), records.catalog.clone());
        }
    }
    view
}

/// `2026-11-24T05:25:35.000000Z`.
pub(super) fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string()
}
