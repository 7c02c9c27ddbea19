//! The error answers of the four services. Each has a shape of its own, and clients tell causes apart by it.
//!
//! Keystone `{"error": {code, message, title}}`, Nova `{"<kind>": {code, message}}`, Neutron
//! `{"NeutronError": {type, message, detail}}`, Glance `{message, code: "404 Not Found", title}`.

use axum::{
    Json,
    http::{StatusCode, header::WWW_AUTHENTICATE},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// One of the four services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// Identity.
    Keystone,
    /// Compute.
    Nova,
    /// Network.
    Neutron,
    /// Image.
    Glance,
}

/// A refusal, already in the shape of the service that speaks it.
#[derive(Debug, Clone)]
pub(super) struct ApiError {
    status: StatusCode,
    body: Value,
    /// Keystone's address, for a 401.
    authenticate: Option<String>,
}

/// What a handler answers.
pub(super) type Answer = Result<Response, ApiError>;

impl ApiError {
    fn new(status: StatusCode, body: Value) -> Self {
        Self { status, body, authenticate: None }
    }

    pub(super) fn keystone(status: StatusCode, message: &str) -> Self {
        let title = status.canonical_reason().unwrap_or_default();
        Self::new(status, json!({"error": {"code": status.as_u16(), "message": message, "title": title}}))
    }

    pub(super) fn nova(status: StatusCode, message: impl Into<String>) -> Self {
        let kind = match status {
            StatusCode::BAD_REQUEST => "badRequest",
            StatusCode::FORBIDDEN => "forbidden",
            StatusCode::NOT_FOUND => "itemNotFound",
            StatusCode::CONFLICT => "conflictingRequest",
            StatusCode::TOO_MANY_REQUESTS => "overLimit",
            StatusCode::SERVICE_UNAVAILABLE => "serviceUnavailable",
            _ => "computeFault",
        };
        Self::new(status, json!({kind: {"code": status.as_u16(), "message": message.into()}}))
    }

    pub(super) fn neutron(status: StatusCode, kind: &str, message: impl Into<String>) -> Self {
        Self::new(status, json!({"NeutronError": {"type": kind, "message": message.into(), "detail": ""}}))
    }

    pub(super) fn glance(status: StatusCode, message: &str) -> Self {
        let title = status.canonical_reason().unwrap_or_default();
        Self::new(
            status,
            json!({
                "message": format!("{message}<br /><br />\n\n\n"),
                "code": format!("{} {title}", status.as_u16()),
                "title": title,
            }),
        )
    }

    /// An answer of `status` for which the service has no words of its own.
    pub(super) fn of(service: Service, status: StatusCode, message: &str) -> Self {
        match service {
            Service::Keystone => Self::keystone(status, message),
            Service::Nova => Self::nova(status, message),
            Service::Neutron => Self::neutron(status, &kind_of(status), message),
            Service::Glance => Self::glance(status, message),
        }
    }

    /// No token, or none that is good. Behind Keystone's middleware this has Keystone's shape, except at Glance.
    pub(super) fn unauthorized(service: Service, keystone: &str) -> Self {
        let mut error = match service {
            Service::Glance => Self::glance(
                StatusCode::UNAUTHORIZED,
                "This server could not verify that you are authorized to access the document you requested. Either you \
                 supplied the wrong credentials (e.g., bad password), or your browser does not understand how to supply \
                 the credentials required.",
            ),
            _ => {
                Self::keystone(StatusCode::UNAUTHORIZED, "The request you have made requires authentication.")
            }
        };
        error.authenticate = Some(format!("Keystone uri=\"{keystone}\""));
        error
    }

    /// Nova's answer to a role that may not do `rule`.
    pub(super) fn policy(rule: &str) -> Self {
        Self::nova(StatusCode::FORBIDDEN, format!("Policy doesn't allow {rule} to be performed."))
    }
}

/// `Not Found` as Neutron writes it: `HTTPNotFound`.
fn kind_of(status: StatusCode) -> String {
    let words = status.canonical_reason().unwrap_or_default();
    format!("HTTP{}", words.replace(' ', ""))
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if let Some(value) = self.authenticate.and_then(|text| text.parse().ok()) {
            response.headers_mut().insert(WWW_AUTHENTICATE, value);
        }
        response
    }
}
