//! Why a call to the cloud failed: which object, which operation, what the service answered, and what that means.
//!
//! It must not hold secrets: neither request bodies nor headers go in here.

use std::fmt;

use reqwest::StatusCode;

use super::{
    call::Call,
    message::{ErrorBody, one_line},
};
use crate::core::cloud::FailureKind;

/// A failed operation. Its text reads after "failed to …", for example
/// `create server web-clone: POST compute/servers answered 403: Quota exceeded for cores: … (request req-…)`.
#[derive(Debug, Clone)]
pub struct CloudError(Box<Failure>);

/// What is known about the failure.
#[derive(Debug, Clone)]
struct Failure {
    operation: &'static str,
    object: String,
    /// Method and path of the HTTP call, when there was one.
    call: Option<String>,
    status: Option<u16>,
    message: String,
    request_id: Option<String>,
    kind: FailureKind,
}

impl CloudError {
    /// A failure that we found out ourselves, without or after a call.
    pub(super) fn new(
        kind: FailureKind,
        operation: &'static str,
        object: impl Into<String>,
        message: impl AsRef<str>,
    ) -> Self {
        Self(Box::new(Failure {
            operation,
            object: one_line(&object.into()),
            call: None,
            status: None,
            message: one_line(message.as_ref()),
            request_id: None,
            kind,
        }))
    }

    fn of(call: &Call, kind: FailureKind, message: &str) -> Self {
        let mut error = Self::new(kind, call.operation, call.object.as_str(), message);
        error.0.call = Some(call.to_string());
        error
    }

    /// The service answered with an error status.
    pub(super) fn answered(call: &Call, status: StatusCode, body: &[u8], request_id: Option<String>) -> Self {
        let body = ErrorBody::read(body);
        let mut error = Self::of(call, kind_of(status, call.repeatable, &body), &body.message);
        error.0.status = Some(status.as_u16());
        error.0.request_id = request_id;
        if status == StatusCode::NOT_FOUND && !body.from_openstack {
            error.0.message.push_str(
                "; this is not how OpenStack says that something is not there: is the endpoint right?",
            );
        }
        error
    }

    /// The request could not be sent, or its answer did not come, or not as a whole.
    ///
    /// `sent` tells whether a byte of the request may have reached the service.
    pub(super) fn no_answer(call: &Call, sent: bool, cause: &str) -> Self {
        let kind = if sent && !call.repeatable { FailureKind::Unknown } else { FailureKind::Transient };
        Self::of(call, kind, cause)
    }

    /// The service answered with success, and with something that we cannot read.
    pub(super) fn unreadable(call: &Call, request_id: Option<String>, why: &str) -> Self {
        let kind = if call.repeatable { FailureKind::Permanent } else { FailureKind::Unknown };
        let mut error = Self::of(call, kind, &format!("the answer cannot be read: {why}"));
        error.0.request_id = request_id;
        error
    }

    /// What the core wants to know.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        self.0.kind
    }

    /// The HTTP status, when the service answered.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// The service's own number for the request, to be looked for in its log.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// The cause alone, in the service's words.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The same failure with a sentence about what to do next.
    pub(crate) fn advise(mut self, advice: &str) -> Self {
        let message = self.0.message.trim_end_matches('.').len();
        self.0.message.truncate(message);
        self.0.message.push_str("; ");
        self.0.message.push_str(advice);
        self
    }
}

impl fmt::Display for CloudError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { operation, object, call, status, message, request_id, .. } = &*self.0;
        write!(f, "{operation} {object}: ")?;
        match (call, status) {
            (Some(call), Some(status)) => write!(f, "{call} answered {status}: {message}")?,
            (Some(call), None) => write!(f, "{call}: {message}")?,
            (None, _) => f.write_str(message)?,
        }
        match request_id {
            Some(id) => write!(f, " (request {id})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for CloudError {}

/// What a status means. A request that is not repeatable and ends in a 5xx may have been carried out all the same: Nova was
/// seen to answer 503 and to make the server.
fn kind_of(status: StatusCode, repeatable: bool, body: &ErrorBody) -> FailureKind {
    match status.as_u16() {
        401 => FailureKind::Unauthorized,
        403 if body.speaks_of_quota() => FailureKind::Capacity,
        // A proxy's 404, or that of a wrong endpoint, says nothing about the object.
        404 if body.from_openstack => FailureKind::NotFound,
        409 if body.speaks_of_quota() => FailureKind::Capacity,
        409 => FailureKind::Conflict,
        413 => FailureKind::Capacity,
        408 | 429 => FailureKind::Transient,
        501 => FailureKind::Permanent,
        500..=599 if repeatable => FailureKind::Transient,
        500..=599 => FailureKind::Unknown,
        _ => FailureKind::Permanent,
    }
}

/// The answer, or `None` when the service says that the object is not there.
pub(super) fn or_none<T>(result: Result<T, CloudError>) -> Result<Option<T>, CloudError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == FailureKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
