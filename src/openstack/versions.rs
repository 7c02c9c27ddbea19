//! Versions of the services' APIs, and Nova's microversion.
//!
//! We ask for the lowest microversion that has what we need and never for more than the server offers.

use std::{cmp::Ordering, fmt, str::FromStr};

use reqwest::{Url, header::HeaderMap};
use serde::Deserialize;

use super::{
    auth::Session,
    call::{Call, Service},
    catalog,
    client::Client,
    error::CloudError,
};
use crate::core::cloud::FailureKind;

/// The microversion that we want: 2.3 shows user data, 2.9 shows whether a server is locked. Higher ones take things away (2.47 hides
/// the flavor's id) or demand more (2.37 the networks), and Ussuri ends at 2.87.
const WANTED: Microversion = Microversion { major: 2, minor: 9 };

/// A version of Nova's API, `2.9`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Microversion {
    major: u32,
    minor: u32,
}

impl fmt::Display for Microversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Microversion {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (major, minor) = text.split_once('.').ok_or(())?;
        Ok(Self { major: major.parse().map_err(drop)?, minor: minor.parse().map_err(drop)? })
    }
}

/// A version document, of one version or of all.
#[derive(Deserialize)]
struct Document {
    version: Option<Version>,
    #[serde(default)]
    versions: Vec<Version>,
}

/// One version of an API.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Version {
    #[serde(default)]
    status: String,
    /// The highest microversion, or nothing.
    #[serde(default)]
    version: String,
    /// The lowest microversion, or nothing.
    #[serde(default)]
    min_version: String,
}

impl Document {
    /// The version that the document is about, or the current one of several.
    fn current(self) -> Option<Version> {
        let rank = |v: &Version| match v.status.to_ascii_uppercase().as_str() {
            "CURRENT" | "STABLE" => 2,
            "SUPPORTED" => 1,
            _ => 0,
        };
        self.version.or_else(|| {
            self.versions.into_iter().max_by(|a, b| rank(a).cmp(&rank(b)).then(Ordering::Greater))
        })
    }
}

impl Version {
    /// The highest microversion.
    pub(super) fn highest(&self) -> Option<Microversion> {
        self.version.parse().ok()
    }
}

/// What is asked of a server that offers `version`.
fn choose(version: &Version) -> Result<Microversion, String> {
    // An old "v2" has no microversions at all.
    let base = Microversion { major: 2, minor: 1 };
    let (lowest, highest) = match (version.min_version.parse(), version.version.parse()) {
        (Ok(lowest), Ok(highest)) => (lowest, highest),
        _ => (base, base),
    };
    if highest.major != WANTED.major {
        return Err(format!("it offers API {lowest} to {highest}, and we speak 2.1 and later"));
    }
    Ok(WANTED.clamp(lowest, highest))
}

/// The microversion by which Nova says that it answered.
pub(super) fn granted(answer: &HeaderMap) -> Option<Microversion> {
    answer.get("openstack-api-version")?.to_str().ok()?.strip_prefix("compute ")?.parse().ok()
}

impl Client {
    /// The microversion that this Nova is asked for, found out once.
    pub(super) async fn microversion(
        &self,
        session: &Session,
        endpoint: &Url,
    ) -> Result<Microversion, CloudError> {
        let found = async {
            let version = self.version(session, Service::Compute, endpoint).await?;
            choose(&version)
                .map_err(|why| CloudError::new(FailureKind::Permanent, "use", "compute service", why))
        };
        self.microversion.get_or_try_init(|| found).await.copied()
    }

    /// The version document of an endpoint.
    pub(super) async fn version(
        &self,
        session: &Session,
        service: Service,
        endpoint: &Url,
    ) -> Result<Version, CloudError> {
        let call = Call::get(service, "read version", format!("of {}", service.kind()), &[]);
        let mut headers = HeaderMap::new();
        headers.insert("x-auth-token", session.token.clone());
        let answer = self.exchange(&call, &catalog::version_document(endpoint), headers).await?;
        answer
            .json::<Document>(&call)?
            .current()
            .ok_or_else(|| CloudError::unreadable(&call, answer.request_id(), "it lists no version"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(document: &str) -> Option<String> {
        let document: Document = serde_json::from_str(document).ok()?;
        choose(&document.current()?).ok().map(|v| v.to_string())
    }

    #[test]
    fn never_more_than_the_server_offers_and_never_more_than_we_need() {
        let nova = |min: &str, max: &str| {
            chosen(&format!(
                r#"{{"version":{{"id":"v2.1","status":"CURRENT","min_version":"{min}","version":"{max}"}}}}"#
            ))
        };
        assert_eq!(nova("2.1", "2.93").as_deref(), Some("2.9"));
        assert_eq!(nova("2.1", "2.87").as_deref(), Some("2.9"));
        assert_eq!(nova("2.1", "2.4").as_deref(), Some("2.4"));
        assert_eq!(nova("2.20", "2.120").as_deref(), Some("2.20"));
        assert_eq!(nova("", "").as_deref(), Some("2.1"));
        assert_eq!(nova("3.0", "3.7"), None);
    }

    #[test]
    fn lists_give_the_current_version() {
        let list = r#"{"versions":[{"id":"v2.0","status":"SUPPORTED","version":"","min_version":""},
            {"id":"v2.1","status":"CURRENT","version":"2.93","min_version":"2.1"}]}"#;
        assert_eq!(chosen(list).as_deref(), Some("2.9"));
        assert!(serde_json::from_str::<Document>("{}").is_ok_and(|d| d.current().is_none()));
    }
}
