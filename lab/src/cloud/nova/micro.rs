//! Microversions: the header is read, refused when out of range, and repeated in the answer.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::super::errors::ApiError;

/// The highest microversion: 2.93, Zed's.
pub(super) const HIGHEST: u16 = 93;

/// The microversion of a request: N of 2.N.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct Micro(pub(super) u16);

impl Default for Micro {
    fn default() -> Self {
        Self(1)
    }
}

/// Reads the microversion, and answers with it.
pub(super) async fn negotiate(mut request: Request, next: Next) -> Response {
    let asked = asked(request.headers());
    let (shown, mut response) = match asked.as_deref().map_or(Ok(Micro::default()), parse) {
        Ok(micro) => {
            request.extensions_mut().insert(micro);
            (format!("2.{}", micro.0), next.run(request).await)
        }
        Err(refusal) => (asked.unwrap_or_default(), refusal.into_response()),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        ("openstack-api-version", format!("compute {shown}")),
        ("x-openstack-nova-api-version", shown.clone()),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    headers.append("vary", HeaderValue::from_static("OpenStack-API-Version"));
    headers.append("vary", HeaderValue::from_static("X-OpenStack-Nova-API-Version"));
    response
}

fn asked(headers: &HeaderMap) -> Option<String> {
    let value = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let common = value("openstack-api-version").and_then(|value| value.strip_prefix("compute "));
    common.or_else(|| value("x-openstack-nova-api-version")).map(|text| text.trim().to_owned())
}

fn parse(text: &str) -> Result<Micro, ApiError> {
    if text == "latest" {
        return Ok(Micro(HIGHEST));
    }
    let numbers = text
        .split_once('.')
        .and_then(|(major, minor)| Some((major.parse::<u16>().ok()?, minor.parse::<u16>().ok()?)));
    match numbers {
        Some((2, minor @ 1..=HIGHEST)) => Ok(Micro(minor)),
        Some(_) => Err(ApiError::nova(
            StatusCode::NOT_ACCEPTABLE,
            format!("Version {text} is not supported by the API. Minimum is 2.1 and maximum is 2.{HIGHEST}."),
        )),
        None => Err(ApiError::nova(
            StatusCode::BAD_REQUEST,
            format!("API Version String {text} is of invalid format. Must be of format MajorNum.MinorNum."),
        )),
    }
}
