//! What a service says in the body of an error, in any of OpenStack's four shapes, made fit for one line of a log.

use serde_json::Value;

/// The longest message that we pass on, in characters.
const LONGEST: usize = 400;

/// The body of an error answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ErrorBody {
    /// What it says.
    pub(super) message: String,
    /// Neutron's name of the error (`OverQuota`); empty elsewhere.
    pub(super) name: String,
    /// Whether it has one of OpenStack's shapes, so that it is the service that speaks and not something before it.
    pub(super) from_openstack: bool,
}

impl ErrorBody {
    /// Reads a body:
    /// - Keystone, and its middleware before every service: `{"error": {"code", "message", "title"}}`
    /// - Nova: `{"<kind>": {"code", "message"}}`, the kind being `badRequest`, `itemNotFound`, `forbidden`, …
    /// - Neutron: `{"NeutronError": {"type", "message", "detail"}}`
    /// - Glance: `{"message", "code": "404 Not Found", "title"}`
    ///
    /// Anything else (a proxy's page) is given as text.
    pub(super) fn read(body: &[u8]) -> Self {
        let parsed: Option<Value> = serde_json::from_slice(body).ok();
        if let Some(Value::Object(fields)) = &parsed {
            let inner = match fields.get("message") {
                Some(Value::String(_)) => Some(fields),
                _ if fields.len() == 1 => fields.values().next().and_then(Value::as_object),
                _ => None,
            };
            let text = |key: &str| inner.and_then(|i| i.get(key)).and_then(Value::as_str).unwrap_or_default();
            if !text("message").is_empty() {
                let message = match text("detail") {
                    "" => text("message").to_owned(),
                    detail => format!("{} ({detail})", text("message")),
                };
                return Self {
                    // Glance writes for browsers.
                    message: one_line(&message.replace("<br />", " ")),
                    name: one_line(text("type")),
                    from_openstack: true,
                };
            }
        }
        let text = String::from_utf8_lossy(body.get(..4 * LONGEST).unwrap_or(body));
        let text = one_line(&if text.trim_start().starts_with('<') {
            without_tags(&text)
        } else {
            text.into_owned()
        });
        let message = if text.is_empty() { "no explanation was given".to_owned() } else { text };
        Self { message, name: String::new(), from_openstack: false }
    }

    /// Whether it is a quota, or a pool of addresses, that is used up.
    pub(super) fn speaks_of_quota(&self) -> bool {
        const NAMES: [&str; 4] =
            ["OverQuota", "IpAddressGenerationFailure", "ExternalIpAddressExhausted", "NoMoreIps"];
        let message = self.message.to_ascii_lowercase();
        NAMES.contains(&self.name.as_str()) || message.contains("quota") || message.contains("exceeded")
    }
}

/// The text without control characters and runs of spaces, and not too long: a hostile name must not break a log or a terminal.
pub(super) fn one_line(text: &str) -> String {
    let mut out = String::new();
    let mut length = 0;
    let mut gap = false;
    for c in text.chars() {
        if c.is_whitespace() || c.is_control() || is_direction(c) {
            gap = !out.is_empty();
            continue;
        }
        if length >= LONGEST {
            out.push('…');
            break;
        }
        if std::mem::take(&mut gap) {
            out.push(' ');
            length += 1;
        }
        out.push(c);
        length += 1;
    }
    out
}

/// The text of a page of HTML.
fn without_tags(page: &str) -> String {
    let mut out = String::new();
    let mut in_tag = false;
    for c in page.chars() {
        match c {
            '<' => in_tag = true,
            '>' if in_tag => {
                in_tag = false;
                out.push(' ');
            }
            c if !in_tag => out.push(c),
            _ => {}
        }
    }
    out
}

/// Characters that make a terminal write backwards.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_the_four_shapes_gives_its_message() {
        let cases = [
            (
                r#"{"error":{"code":401,"message":"needs authentication","title":"Unauthorized"}}"#,
                "needs authentication",
            ),
            (
                r#"{"itemNotFound":{"code":404,"message":"Instance x could not be found."}}"#,
                "Instance x could not be found.",
            ),
            (
                r#"{"NeutronError":{"type":"OverQuota","message":"Quota exceeded","detail":"d"}}"#,
                "Quota exceeded (d)",
            ),
            (
                r#"{"message":"Failed to find image<br /><br />\n\n\n","code":"404 Not Found","title":"Not Found"}"#,
                "Failed to find image",
            ),
        ];
        for (body, message) in cases {
            let read = ErrorBody::read(body.as_bytes());
            assert_eq!((read.message.as_str(), read.from_openstack), (message, true), "{body}");
        }
        assert!(ErrorBody::read(cases[2].0.as_bytes()).speaks_of_quota());
        assert!(!ErrorBody::read(cases[1].0.as_bytes()).speaks_of_quota());
    }

    #[test]
    fn a_proxys_page_is_not_taken_for_openstack() {
        let page = b"<html><body><h1>503 Service Unavailable</h1>\nNo server is available.</body></html>";
        let read = ErrorBody::read(page);
        assert_eq!(read.message, "503 Service Unavailable No server is available.");
        for strange in [&page[..], b"", b"[]", b"{}", b"null", br#"{"a":{"message":1}}"#, b"\xff\xfe"] {
            assert!(!ErrorBody::read(strange).from_openstack, "{strange:?}");
        }
    }

    #[test]
    fn a_message_stays_on_its_line() {
        assert_eq!(one_line("a\n\x1b[31mb\u{202e}c\t d"), "a [31mb c d");
        assert_eq!(one_line(&"x".repeat(10_000)).chars().count(), LONGEST + 1);
    }
}
