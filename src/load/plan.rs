//! What to send, where and how: the input of the counting client. Pure data; nothing here opens a connection, except for
//! looking a host name up.

use std::{net::SocketAddr, ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

/// Why a load cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The URL is not one that the client can use.
    #[error("use {url:?} as the target: {why}")]
    Target {
        /// The URL as given.
        url: String,
        /// What is wrong with it and what to write instead.
        why: String,
    },
    /// A part of the plan does not make a request.
    #[error("start the load: {0}")]
    Plan(String),
    /// The latency histogram was refused its bounds.
    #[error("start the load: latency histogram: {0}")]
    Histogram(#[from] hdrhistogram::CreationError),
}

/// Where the requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The address that is connected to.
    pub address: SocketAddr,
    /// The `Host` header.
    pub host: String,
    /// The path of groups that have none of their own; starts with `/`.
    pub path: String,
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self { address, host: address.to_string(), path: "/".to_owned() }
    }
}

impl Target {
    /// Reads `http://host[:port][/path]` and looks the host up once; every request then goes to that one address.
    ///
    /// # Errors
    /// [`LoadError::Target`] for another scheme, a malformed URL or a name that has no address.
    pub async fn resolve(url: &str) -> Result<Self, LoadError> {
        let bad = |why: &str| LoadError::Target { url: url.chars().take(200).collect(), why: why.to_owned() };
        let rest = url
            .strip_prefix("http://")
            .ok_or_else(|| bad("write http://host[:port][/path]; TLS is not supported"))?;
        let (host, path) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        if host.is_empty() || host.contains('@') || !is_field(host) || !is_field(&path) {
            return Err(bad("write http://host[:port][/path], without user, spaces or control characters"));
        }
        // An IPv6 literal ends with its bracket when it has no port.
        let has_port = host.rsplit(']').next().is_some_and(|tail| tail.contains(':'));
        let lookup = if has_port { host.to_owned() } else { format!("{host}:80") };
        let mut found = tokio::net::lookup_host(&lookup).await.map_err(|e| bad(&e.to_string()))?;
        let address = found.next().ok_or_else(|| bad("the name has no address"))?;
        Ok(Self { address, host: host.to_owned(), path })
    }
}

/// A whole load.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    /// Where the requests go.
    pub target: Target,
    /// The clients to start with; more can be started and stopped later.
    pub groups: Vec<ClientGroup>,
    /// Upper bound of requests a second over all clients; `None` is as fast as the clients go.
    pub rate: Option<f64>,
    /// When to end by itself; `None` is when told.
    pub duration: Option<Duration>,
    /// How long a connection may take to open.
    pub connect_timeout: Duration,
    /// How long a whole request may take, connecting included.
    pub request_timeout: Duration,
    /// How the member that answered is told.
    pub attribution: Attribution,
}

impl LoadPlan {
    /// A plan with the usual limits: no rate, no end, 5 s to connect, 15 s for a request.
    #[must_use]
    pub fn new(target: Target, groups: Vec<ClientGroup>) -> Self {
        Self {
            target,
            groups,
            rate: None,
            duration: None,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(15),
            attribution: Attribution::default(),
        }
    }
}

/// How an answer tells which member gave it: the header if it is there, else the body's first line if wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribution {
    /// Name of a response header that carries the member's name.
    pub header: Option<String>,
    /// Whether the first line of the body is the member's name.
    pub body_first_line: bool,
}

impl Default for Attribution {
    fn default() -> Self {
        Self { header: Some("x-served-by".to_owned()), body_first_line: true }
    }
}

/// Clients that behave alike; each has at most one connection and one request at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClientGroup {
    /// Its name in reports; unique within a load.
    pub name: String,
    /// How many clients.
    pub clients: usize,
    /// What becomes of a connection after an answer.
    pub reuse: Reuse,
    /// Pause between an answer and the next request, drawn evenly from the range.
    pub think: RangeInclusive<Duration>,
    /// What is sent.
    pub method: Method,
    /// Path and query; `None` is the target's.
    pub path: Option<String>,
    /// What a good answer's body must contain.
    pub expect: Option<String>,
}

/// What becomes of a connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reuse {
    /// It is kept for the next request, as long as the server agrees.
    KeepAlive,
    /// The request says `Connection: close`.
    AskToClose,
    /// The request says nothing and the client closes.
    JustClose,
}

/// The request's method.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// `GET`.
    Get,
    /// `POST` with this body.
    Post(Vec<u8>),
}

impl ClientGroup {
    /// Busy clients that keep their connection.
    #[must_use]
    pub fn keep_alive(clients: usize, think: Duration) -> Self {
        Self {
            name: "keep-alive".to_owned(),
            clients,
            reuse: Reuse::KeepAlive,
            think: think..=think,
            method: Method::Get,
            path: None,
            expect: None,
        }
    }

    /// Clients that let their connection rest between requests: the ones that a careless reload breaks.
    #[must_use]
    pub fn idle(clients: usize, think: RangeInclusive<Duration>) -> Self {
        Self { name: "idle".to_owned(), think, ..Self::keep_alive(clients, Duration::ZERO) }
    }

    /// Clients that open a connection for each request and ask the server to close it.
    #[must_use]
    pub fn new_connection(clients: usize, think: Duration) -> Self {
        Self {
            name: "new-connection".to_owned(),
            reuse: Reuse::AskToClose,
            ..Self::keep_alive(clients, think)
        }
    }

    /// Busy clients that send a body and keep their connection: nothing on the way may repeat such a request.
    #[must_use]
    pub fn post(clients: usize, think: Duration, body: Vec<u8>) -> Self {
        Self { name: "post".to_owned(), method: Method::Post(body), ..Self::keep_alive(clients, think) }
    }

    /// Checks what would otherwise turn into a malformed request.
    ///
    /// # Errors
    /// [`LoadError::Plan`] with the field and the rule.
    pub(super) fn check(&self) -> Result<(), LoadError> {
        if self.name.is_empty() {
            return Err(LoadError::Plan("a client group has no name".to_owned()));
        }
        if self.think.start() > self.think.end() {
            return Err(LoadError::Plan(format!(
                "group {}: the think time's bounds are the wrong way round",
                self.name
            )));
        }
        match &self.path {
            Some(path) if !path.starts_with('/') || !is_field(path) => Err(LoadError::Plan(format!(
                "group {}: path {path:?} must start with '/' and have no spaces or control characters",
                self.name
            ))),
            _ => Ok(()),
        }
    }
}

/// Whether `text` may stand in a request line or a header as it is.
pub(super) fn is_field(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn urls_become_targets() {
        let t = Target::resolve("http://127.0.0.1").await.unwrap();
        assert_eq!((t.address.to_string().as_str(), t.path.as_str()), ("127.0.0.1:80", "/"));
        let t = Target::resolve("http://127.0.0.1:8080/a?b=c").await.unwrap();
        assert_eq!(
            (t.address.to_string().as_str(), t.host.as_str(), t.path.as_str()),
            ("127.0.0.1:8080", "127.0.0.1:8080", "/a?b=c")
        );
        assert_eq!(Target::resolve("http://[::1]?x").await.unwrap().address.to_string(), "[::1]:80");
        assert_eq!(Target::resolve("http://[::1]:81?x").await.unwrap().path, "/?x");
        for bad in [
            "https://127.0.0.1/",
            "127.0.0.1",
            "http://",
            "http://a@127.0.0.1/",
            "http://127.0.0.1/a b",
            "http://127.0.0.1/\r\nX: y",
        ] {
            assert!(
                matches!(Target::resolve(bad).await, Err(LoadError::Target { .. })),
                "{bad:?} must be refused"
            );
        }
    }

    #[test]
    fn a_path_cannot_carry_a_header() {
        let mut group = ClientGroup::keep_alive(1, Duration::ZERO);
        assert!(group.check().is_ok());
        group.path = Some("/ HTTP/1.1\r\nX: y".to_owned());
        assert!(group.check().is_err());
    }
}
