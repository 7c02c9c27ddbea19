//! One operation at one service: what is asked, and what was answered.

use std::fmt;

use reqwest::{Method, StatusCode, header::HeaderMap};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::CloudError;

/// The services that we speak to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Keystone.
    Identity,
    /// Nova.
    Compute,
    /// Neutron.
    Network,
    /// Glance.
    Image,
}

impl Service {
    /// Its type in the catalog.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Compute => "compute",
            Self::Network => "network",
            Self::Image => "image",
        }
    }
}

/// What is asked.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) service: Service,
    /// A verb and a noun, for people and as a label of metrics: `create server`.
    pub(super) operation: &'static str,
    /// Which one: a name or an id.
    pub(super) object: String,
    pub(super) method: Method,
    /// Below the service's versioned endpoint; each is encoded as it is put into the URL.
    pub(super) path: Vec<String>,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) body: Option<Value>,
    /// Whether a second time does no harm, so that it may be repeated when the first answer was lost.
    pub(super) repeatable: bool,
}

impl Call {
    fn new(
        method: Method,
        service: Service,
        operation: &'static str,
        object: impl ToString,
        path: &[&str],
    ) -> Self {
        let repeatable = method != Method::POST;
        Self {
            service,
            operation,
            object: object.to_string(),
            method,
            path: path.iter().map(ToString::to_string).collect(),
            query: Vec::new(),
            body: None,
            repeatable,
        }
    }

    pub(super) fn get(s: Service, operation: &'static str, object: impl ToString, path: &[&str]) -> Self {
        Self::new(Method::GET, s, operation, object, path)
    }

    pub(super) fn delete(s: Service, operation: &'static str, object: impl ToString, path: &[&str]) -> Self {
        Self::new(Method::DELETE, s, operation, object, path)
    }

    pub(super) fn put(
        s: Service,
        operation: &'static str,
        object: impl ToString,
        path: &[&str],
        body: Value,
    ) -> Self {
        Self { body: Some(body), ..Self::new(Method::PUT, s, operation, object, path) }
    }

    pub(super) fn post(
        s: Service,
        operation: &'static str,
        object: impl ToString,
        path: &[&str],
        body: Value,
    ) -> Self {
        Self { body: Some(body), ..Self::new(Method::POST, s, operation, object, path) }
    }

    /// Adds a filter.
    pub(super) fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.query.push((key, value.to_string()));
        self
    }

    /// Says that a second time does no harm though it is a POST.
    pub(super) fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }
}

/// Method and path, as shown in errors; without the query, which may be long.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.service.kind())?;
        self.path.iter().try_for_each(|segment| write!(f, "/{}", segment.escape_debug()))
    }
}

/// What was answered, with a status of success.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The service's own number for the request.
    pub(super) fn request_id(&self) -> Option<String> {
        request_id(&self.headers)
    }

    /// The body as `T`; an error names the path inside the body at which it is wrong.
    pub(super) fn json<T: DeserializeOwned>(&self, call: &Call) -> Result<T, CloudError> {
        let mut body = serde_json::Deserializer::from_slice(&self.body);
        serde_path_to_error::deserialize(&mut body)
            .map_err(|why| CloudError::unreadable(call, self.request_id(), &why.to_string()))
    }
}

/// The service's own number for a request.
pub(super) fn request_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("x-openstack-request-id").or_else(|| headers.get("x-compute-request-id"))?;
    Some(super::message::one_line(id.to_str().ok()?))
}
