//! Keystone v3: what is sent to get a token, and what comes with it.

use jiff::Timestamp;
use reqwest::header::HeaderValue;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::{
    call::{Answer, Call, Service},
    catalog::Entry,
    error::CloudError,
    settings::{Credentials, Domain, Project},
};
use crate::core::cloud::FailureKind;

/// A token and what came with it.
pub(super) struct Session {
    /// The header's value, marked as sensitive, so that it is never shown.
    pub(super) token: HeaderValue,
    /// Counts the tokens of this process; the newest has the highest.
    pub(super) generation: u64,
    /// When to renew it.
    due: Instant,
    /// When it is worthless.
    over: Instant,
    pub(super) catalog: Vec<Entry>,
    pub(super) identity: Identity,
}

/// Who the cloud takes us for.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The user's name.
    pub user: String,
    /// The project's id.
    pub project_id: String,
    /// The project's name.
    pub project: String,
    /// Names of our roles in it.
    pub roles: Vec<String>,
}

impl Session {
    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.due
    }

    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.over
    }

    #[cfg(test)]
    pub(super) fn for_test(generation: u64, life: Duration) -> Self {
        Self {
            token: HeaderValue::from_static("token"),
            generation,
            due: Instant::now() + life / 5 * 4,
            over: Instant::now() + life,
            catalog: Vec::new(),
            identity: Identity {
                user: String::new(),
                project_id: String::new(),
                project: String::new(),
                roles: Vec::new(),
            },
        }
    }
}

/// The request for a token. A token too many does no harm, so it may be repeated.
pub(super) fn token_call(credentials: &Credentials) -> Call {
    let (identity, scope) = match credentials {
        Credentials::Password { username, user_domain, password, project } => {
            let user = json!({"name": username, "domain": domain(user_domain), "password": password.expose_secret()});
            let scope = match project {
                Project::Id(id) => json!({"project": {"id": id}}),
                Project::Name(name, of) => json!({"project": {"name": name, "domain": domain(of)}}),
            };
            (json!({"methods": ["password"], "password": {"user": user}}), Some(scope))
        }
        // An application credential has its project in itself; Keystone refuses a scope beside it.
        Credentials::ApplicationCredential { id, secret } => {
            (application(json!({"id": id, "secret": secret.expose_secret()})), None)
        }
        Credentials::NamedApplicationCredential { name, secret, username, user_domain } => {
            let user = json!({"name": username, "domain": domain(user_domain)});
            (application(json!({"name": name, "user": user, "secret": secret.expose_secret()})), None)
        }
    };
    let mut auth = json!({"identity": identity});
    if let (Some(scope), Some(auth)) = (scope, auth.as_object_mut()) {
        auth.insert("scope".into(), scope);
    }
    let who = match credentials {
        Credentials::Password { username, .. } | Credentials::NamedApplicationCredential { username, .. } => {
            format!("for user {username}")
        }
        Credentials::ApplicationCredential { id, .. } => format!("for application credential {id}"),
    };
    let body = json!({"auth": auth});
    Call::post(Service::Identity, "get token", who, &["auth", "tokens"], body).repeatable()
}

fn application(credential: Value) -> Value {
    json!({"methods": ["application_credential"], "application_credential": credential})
}

fn domain(domain: &Domain) -> Value {
    match domain {
        Domain::Id(id) => json!({"id": id}),
        Domain::Name(name) => json!({"name": name}),
    }
}

#[derive(Deserialize)]
struct TokenBody {
    token: Token,
}

#[derive(Deserialize)]
struct Token {
    issued_at: Timestamp,
    expires_at: Timestamp,
    user: Named,
    project: Option<Named>,
    #[serde(default)]
    roles: Vec<Named>,
    #[serde(default)]
    catalog: Vec<Entry>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
}

/// Reads the answer to [`token_call`]. `asked` is when it was sent; the token's life is taken as the difference of two of Keystone's
/// own times, so that its clock and ours need not agree.
pub(super) fn read_token(
    call: &Call,
    answer: &Answer,
    asked: Instant,
    generation: u64,
) -> Result<Session, CloudError> {
    let unusable =
        |why: &str| CloudError::new(FailureKind::Permanent, call.operation, call.object.as_str(), why);
    let header = answer.headers.get("x-subject-token").ok_or_else(|| {
        unusable("the answer has no X-Subject-Token: is the authentication URL that of Keystone?")
    })?;
    let mut token_header = header.clone();
    token_header.set_sensitive(true);
    let TokenBody { token } = answer.json(call)?;
    let project = token
        .project
        .ok_or_else(|| unusable("the token is for no project: give one (project_name, OS_PROJECT_NAME)"))?;
    let life = Duration::try_from(token.expires_at.duration_since(token.issued_at)).unwrap_or_default();
    Ok(Session {
        token: token_header,
        generation,
        // Renewed after four fifths of its life.
        due: asked.checked_add(life / 5 * 4).unwrap_or(asked),
        over: asked.checked_add(life).unwrap_or(asked),
        catalog: token.catalog,
        identity: Identity {
            user: token.user.name,
            project_id: project.id,
            project: project.name,
            roles: token.roles.into_iter().map(|role| role.name).collect(),
        },
    })
}

#[cfg(test)]
mod tests {
    use reqwest::{StatusCode, header::HeaderMap};

    use super::*;

    #[test]
    fn a_token_prints_nothing() {
        let domain = || Domain::Name("Default".into());
        let credentials = Credentials::Password {
            username: "admin".into(),
            user_domain: domain(),
            password: "hush".into(),
            project: Project::Name("admin".into(), domain()),
        };
        let mut headers = HeaderMap::new();
        headers.insert("x-subject-token", HeaderValue::from_static("a-token"));
        let body = include_bytes!("../../tests/fixtures/openstack/token.json").to_vec();
        let answer = Answer { status: StatusCode::CREATED, headers, body };
        let session = read_token(&token_call(&credentials), &answer, Instant::now(), 1).unwrap();
        assert_eq!(session.token, "a-token");
        assert_eq!(format!("{:?}", session.token), "Sensitive");
    }
}
