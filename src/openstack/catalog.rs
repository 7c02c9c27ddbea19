//! The catalog that comes with a token: which service answers where.

use reqwest::Url;
use serde::Deserialize;

use super::call::Service;

/// One service of the catalog.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Entry {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    endpoints: Vec<Endpoint>,
}

/// One of its endpoints.
#[derive(Debug, Clone, Deserialize)]
struct Endpoint {
    interface: String,
    region: Option<String>,
    url: String,
}

/// The endpoint of `service`, with its version at the end: compute `…/v2.1` (or `…/v2.1/<project>` as the catalog has it),
/// network `…/v2.0`, image `…/v2`.
///
/// # Errors
/// A sentence that says what the catalog has instead.
pub(super) fn endpoint(
    catalog: &[Entry],
    service: Service,
    interface: &str,
    region: Option<&str>,
) -> Result<Url, String> {
    let kind = service.kind();
    let all: Vec<&Endpoint> = catalog.iter().filter(|e| e.kind == kind).flat_map(|e| &e.endpoints).collect();
    let fitting: Vec<&&Endpoint> = all
        .iter()
        .filter(|e| e.interface == interface && (region.is_none() || e.region.as_deref() == region))
        .collect();
    let what = match region {
        Some(region) => format!("endpoint of type {kind}, interface {interface}, region {region}"),
        None => format!("endpoint of type {kind}, interface {interface}"),
    };
    let found = match fitting.as_slice() {
        [] if all.is_empty() => {
            let mut kinds: Vec<&str> = catalog.iter().map(|e| e.kind.as_str()).collect();
            kinds.sort_unstable();
            let kinds = if kinds.is_empty() { "no service at all".into() } else { kinds.join(", ") };
            return Err(format!("the catalog has no {what}; it has {kinds}"));
        }
        [] => return Err(format!("the catalog has no {what}; it has {}", listed(&all))),
        [first, others @ ..] if others.iter().all(|o| o.region == first.region) => first,
        [..] => {
            let regions: Vec<&str> = fitting.iter().filter_map(|e| e.region.as_deref()).collect();
            return Err(format!(
                "the catalog has an {what} in several regions ({}): set region_name or OS_REGION_NAME",
                regions.join(", ")
            ));
        }
    };
    let url = base_url(&found.url).map_err(|why| format!("the catalog's {what} is unusable: {why}"))?;
    Ok(versioned(url, service))
}

/// What the catalog has of one type, for a message.
fn listed(endpoints: &[&Endpoint]) -> String {
    let one = |e: &&Endpoint| format!("{} in {}", e.interface, e.region.as_deref().unwrap_or("no region"));
    endpoints.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A URL that paths can be added to.
pub(super) fn base_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text.trim()).map_err(|why| format!("{text:?} is not a URL: {why}"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err(format!("{text:?} is not an http or https URL")),
    }
}

/// Adds the version when the path names none.
fn versioned(mut url: Url, service: Service) -> Url {
    let has_one = url.path_segments().is_some_and(|mut path| path.any(is_version));
    let version = match service {
        Service::Identity => "v3",
        Service::Compute => "v2.1",
        Service::Network => "v2.0",
        Service::Image => "v2",
    };
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty();
        if !has_one {
            path.push(version);
        }
    }
    url
}

/// `v2`, `v2.1`, `v3`.
fn is_version(segment: &str) -> bool {
    segment.strip_prefix('v').is_some_and(|rest| {
        rest.starts_with(|c: char| c.is_ascii_digit()) && rest.chars().all(|c| c.is_ascii_digit() || c == '.')
    })
}

/// The part of an endpoint up to its version, where the version document is, and the part before it.
pub(super) fn version_document(endpoint: &Url) -> Url {
    let mut url = endpoint.clone();
    let kept = endpoint
        .path_segments()
        .map(|path| path.collect::<Vec<_>>())
        .and_then(|path| path.iter().position(|segment| is_version(segment)).map(|at| at + 1));
    if let (Some(kept), Ok(mut path)) = (kept, url.path_segments_mut()) {
        let all = endpoint.path_segments().map_or(0, Iterator::count);
        (kept..all).for_each(|_| {
            path.pop();
        });
        // The document is at `…/v2.1/`; without the slash services redirect.
        path.push("");
    }
    url
}

/// Keystone's URL from what the operator gave: with or without a version.
pub(super) fn keystone(auth_url: &str) -> Result<Url, String> {
    let mut url = base_url(auth_url)?;
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty();
    }
    let last = url.path_segments().and_then(|mut path| path.next_back()).unwrap_or_default().to_owned();
    if let Ok(mut path) = url.path_segments_mut() {
        if is_version(&last) {
            path.pop();
        }
        path.push("v3");
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Vec<Entry> {
        let text = r#"[
            {"type":"network","endpoints":[
                {"interface":"public","region":"one","url":"http://a:9696"},
                {"interface":"internal","region":"one","url":"http://b/networking/"}]},
            {"type":"compute","endpoints":[
                {"interface":"public","region":"one","url":"http://a:8774/v2.1/95b1"},
                {"interface":"public","region":"two","url":"http://c:8774/v2.1"}]},
            {"type":"image","endpoints":[{"interface":"public","region":"one","url":"ftp://a"}]}]"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn urls_get_their_version() {
        let find =
            |service, interface, region| endpoint(&catalog(), service, interface, region).map(String::from);
        assert_eq!(find(Service::Network, "public", None), Ok("http://a:9696/v2.0".into()));
        assert_eq!(find(Service::Network, "internal", Some("one")), Ok("http://b/networking/v2.0".into()));
        assert_eq!(find(Service::Compute, "public", Some("one")), Ok("http://a:8774/v2.1/95b1".into()));
    }

    #[test]
    fn what_is_absent_is_answered_with_what_is_there() {
        let fail = |service, interface, region| endpoint(&catalog(), service, interface, region).err();
        for (error, words) in [
            (fail(Service::Compute, "public", None), "several regions (one, two)"),
            (fail(Service::Compute, "admin", None), "it has public in one, public in two"),
            (
                fail(Service::Network, "public", Some("three")),
                "region three; it has public in one, internal in one",
            ),
            (fail(Service::Identity, "public", None), "it has compute, image, network"),
            (fail(Service::Image, "public", None), "is not an http or https URL"),
        ] {
            let error = error.unwrap_or_default();
            assert!(error.contains(words), "{error:?} does not say {words:?}");
        }
        assert!(
            endpoint(&[], Service::Compute, "public", None).is_err_and(|e| e.contains("no service at all"))
        );
    }

    #[test]
    fn keystone_is_found_with_and_without_its_version() {
        for given in
            ["http://k:5000", "http://k:5000/", "http://k:5000/v3", "http://k:5000/v3/", "http://k:5000/v2.0"]
        {
            assert_eq!(keystone(given).map(String::from), Ok("http://k:5000/v3".into()), "{given}");
        }
        assert_eq!(keystone("https://k/identity").map(String::from), Ok("https://k/identity/v3".into()));
        assert!(keystone("k:5000").is_err());
    }

    #[test]
    fn version_documents_are_at_the_version() {
        for (endpoint, document) in [
            ("http://a:8774/v2.1/95b1", "http://a:8774/v2.1/"),
            ("http://a:8774/v2.1", "http://a:8774/v2.1/"),
            ("http://a/compute/v2.1", "http://a/compute/v2.1/"),
        ] {
            let url = base_url(endpoint).unwrap();
            assert_eq!(String::from(version_document(&url)), document);
        }
    }
}
