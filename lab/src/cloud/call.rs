//! What handlers get of a request: who asks, with which microversion, query and body.

use std::sync::{Arc, MutexGuard};

use axum::{
    body::{Bytes, to_bytes},
    extract::{FromRequest, FromRequestParts, Query as AxumQuery, Request},
    http::{StatusCode, Uri, request::Parts},
};
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::{
    Cloud,
    errors::{ApiError, Service},
    faults::What,
    keystone::Caller,
    nova::Micro,
    server::{Played, RequestId},
    store::State,
};

/// The state of every router.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) cloud: Arc<Cloud>,
    pub(super) service: Service,
}

/// A request whose token is good.
pub(super) struct Call {
    pub(super) cloud: Arc<Cloud>,
    pub(super) caller: Caller,
    pub(super) micro: Micro,
    pub(super) query: Query,
    pub(super) uri: Uri,
    pub(super) request_id: String,
    /// The behaviour that a fault asks for.
    pub(super) played: Option<What>,
}

impl Call {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.cloud.state()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.cloud.now()
    }

    pub(super) fn admin(&self) -> bool {
        self.caller.admin
    }

    pub(super) fn project(&self) -> Uuid {
        self.caller.project
    }

    /// Whether the caller may see what belongs to `project`.
    pub(super) fn sees(&self, project: Uuid) -> bool {
        self.admin() || project == self.project()
    }

    /// Whether a list may show what was made at `created`, as the fault [`What::ListLag`] has it.
    pub(super) fn listed(&self, created: Timestamp) -> bool {
        match self.played {
            Some(What::ListLag { seconds }) => self.cloud.clock().since(created).as_secs() >= seconds,
            _ => true,
        }
    }
}

impl FromRequestParts<Desk> for Call {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<Self, ApiError> {
        let token =
            parts.headers.get("x-auth-token").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let caller = desk.cloud.state().identity.caller(token, desk.cloud.now());
        // A token without a project is good for Keystone only.
        let good = caller.filter(|caller| desk.service == Service::Keystone || !caller.project.is_nil());
        let caller = good.ok_or_else(|| {
            ApiError::unauthorized(desk.service, &desk.cloud.urls.keystone_root(desk.service))
        })?;
        Ok(Self {
            cloud: desk.cloud.clone(),
            caller,
            micro: parts.extensions.get::<Micro>().copied().unwrap_or_default(),
            query: Query::of(&parts.uri),
            uri: parts.uri.clone(),
            request_id: parts.extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default(),
            played: parts.extensions.get::<Played>().map(|played| played.0.clone()),
        })
    }
}

/// The query of a request: names may come more than once.
#[derive(Debug, Default, Clone)]
pub(super) struct Query(pub(super) Vec<(String, String)>);

impl Query {
    fn of(uri: &Uri) -> Self {
        AxumQuery::try_from_uri(uri).map(|AxumQuery(pairs)| Self(pairs)).unwrap_or_default()
    }

    /// The last value of a name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// All values of a name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Whether a name stands for yes.
    pub(super) fn truthy(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes"))
    }
}

/// The JSON body; `Null` when there is none.
pub(super) struct Input(pub(super) Value);

impl FromRequest<Desk> for Input {
    type Rejection = ApiError;

    async fn from_request(request: Request, desk: &Desk) -> Result<Self, ApiError> {
        const LIMIT: usize = 1 << 20;
        let bytes: Bytes = to_bytes(request.into_body(), LIMIT).await.unwrap_or_default();
        if bytes.is_empty() {
            return Ok(Self(Value::Null));
        }
        serde_json::from_slice(&bytes).map(Self).map_err(|_| {
            let words = match desk.service {
                Service::Keystone => {
                    "Expecting to find valid JSON in request body. The server could not comply with the request since it is \
                     either malformed or otherwise incorrect. The client is assumed to be in error."
                }
                Service::Nova => "Malformed request body",
                Service::Neutron | Service::Glance => "Body contains invalid data",
            };
            ApiError::of(desk.service, StatusCode::BAD_REQUEST, words)
        })
    }
}

/// Reads a text member of an object.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}
