//! A cloud of canned answers, and a client of it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use lbsidecar::{
    core::{
        cloud::Mark,
        ids::PoolName,
        settings::{CloneSettings, CloneSource},
    },
    openstack::{
        Cloud, CopyRequest, Exchange,
        settings::{CloudSettings, Credentials, Domain, Project, Tls},
    },
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use wiremock::{
    Mock, MockBuilder, MockServer, Request, ResponseTemplate,
    matchers::{method, path},
};

/// The base's id in the recordings.
pub(crate) const BASE: &str = "81b4c196-a1fc-40ee-803d-8672ee6df71f";
/// Its port.
pub(crate) const PORT: &str = "677593bd-86f2-4eb5-a774-024788cc4ed9";
/// Its floating IP.
pub(crate) const FLOATING: &str = "023195c5-0bdf-477b-9165-432ae668743f";

/// The recorded body of an answer.
pub(crate) fn recorded(name: &str) -> Value {
    let file = format!("{}/tests/fixtures/openstack/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(&file).expect(&file)).expect(&file)
}

/// An answer with a recorded body.
pub(crate) fn answer(status: u16, name: &str) -> ResponseTemplate {
    ResponseTemplate::new(status)
        .set_body_json(recorded(name))
        .insert_header("x-openstack-request-id", format!("req-of-{name}").as_str())
}

/// A request for this path of a service: `compute/servers`, `network/ports`, …; the version is added here.
pub(crate) fn to(verb: &str, what: &str) -> MockBuilder {
    Mock::given(method(verb)).and(path(full(what)))
}

fn full(what: &str) -> String {
    let (service, rest) = what.split_once('/').unwrap();
    let version = match service {
        "identity" => "v3",
        "compute" => "v2.1",
        "network" => "v2.0",
        _ => "v2",
    };
    format!("/{service}/{version}/{rest}")
}

/// The server and its client.
pub(crate) struct Stage {
    pub(crate) server: MockServer,
    pub(crate) cloud: Cloud,
}

impl Stage {
    /// Keystone and Nova's version document answer; the rest is mounted by the test.
    pub(crate) async fn new() -> Self {
        let stage = Self::silent().await;
        stage.token("", recorded("token")).await;
        stage
    }

    /// Only Nova's version document answers.
    pub(crate) async fn silent() -> Self {
        let server = MockServer::start().await;
        to("GET", "compute/").respond_with(answer(200, "nova-version")).mount(&server).await;
        let cloud = Cloud::new(settings(&server.uri())).unwrap();
        Self { server, cloud }
    }

    /// Keystone answers with this token, whose value is `token-<name>`.
    pub(crate) async fn token(&self, name: &str, body: Value) {
        self.token_with_compute(name, body, &format!("{}/compute", self.server.uri())).await;
    }

    /// The same, with Nova somewhere else.
    pub(crate) async fn token_with_compute(&self, name: &str, body: Value, compute: &str) {
        let here = self.server.uri();
        let body = body
            .to_string()
            .replace("http://10.20.20.1:5000", &format!("{here}/identity"))
            .replace("http://10.20.20.1:8774", compute)
            .replace("http://10.20.20.1:9696", &format!("{here}/network"))
            .replace("http://10.20.20.1:9292", &format!("{here}/image"));
        let answer = ResponseTemplate::new(201)
            .set_body_raw(body, "application/json")
            .insert_header("x-subject-token", format!("token-{name}").as_str());
        let mock = to("POST", "identity/auth/tokens").respond_with(answer);
        // A named token is handed out once, so that the next may be another.
        if name.is_empty() {
            mock.mount(&self.server).await
        } else {
            mock.up_to_n_times(1).mount(&self.server).await
        }
    }

    pub(crate) fn settings(&self) -> CloudSettings {
        settings(&self.server.uri())
    }

    /// A client of its own for these settings.
    pub(crate) fn client(&self, change: impl FnOnce(&mut CloudSettings)) -> Cloud {
        let mut settings = self.settings();
        change(&mut settings);
        Cloud::new(settings).unwrap()
    }

    /// A client that tells of its exchanges.
    pub(crate) fn observed(&self, observer: impl Fn(&Exchange) + Send + Sync + 'static) -> Cloud {
        Cloud::observed(self.settings(), observer).unwrap()
    }

    /// A cloud whose Nova is a [`rude_nova`].
    pub(crate) async fn rude(bytes: &str) -> (Self, Arc<AtomicUsize>) {
        let (address, count) = rude_nova(bytes.as_bytes().to_vec()).await;
        let stage = Self::silent().await;
        stage.token_with_compute("", recorded("token"), &format!("http://{address}")).await;
        stage.on("GET", "network/ports", answer(200, "ports")).await;
        (stage, count)
    }

    /// The base and its port can be looked at.
    pub(crate) async fn with_base(self) -> Self {
        self.on("GET", &format!("compute/servers/{BASE}"), answer(200, "server-active")).await;
        self.on("GET", "network/ports", answer(200, "ports")).await;
        self
    }

    pub(crate) async fn on(&self, verb: &str, what: &str, answer: ResponseTemplate) {
        to(verb, what).respond_with(answer).mount(&self.server).await;
    }

    /// An answer for the first such request only.
    pub(crate) async fn once(&self, verb: &str, what: &str, answer: ResponseTemplate) {
        to(verb, what).respond_with(answer).up_to_n_times(1).mount(&self.server).await;
    }

    /// The requests for this path that came.
    pub(crate) async fn came(&self, verb: &str, what: &str) -> Vec<Request> {
        let (verb, what) = (verb.to_owned(), full(what));
        let all = self.server.received_requests().await.unwrap();
        all.into_iter().filter(|r| r.method.as_str() == verb && r.url.path() == what).collect()
    }
}

fn settings(uri: &str) -> CloudSettings {
    CloudSettings {
        auth_url: format!("{uri}/identity"),
        credentials: Credentials::Password {
            username: "admin".into(),
            user_domain: Domain::Name("Default".into()),
            password: "a-secret".to_owned().into(),
            project: Project::Name("admin".into(), Domain::Id("default".into())),
        },
        region: Some("microstack".into()),
        interface: "public".into(),
        tls: Tls::System,
        timeout: Duration::from_secs(10),
        origin: "the test".into(),
    }
}

/// A copy of the base, exactly as it is.
pub(crate) fn copy_request() -> CopyRequest {
    CopyRequest {
        base: BASE.parse().unwrap(),
        name: "vm-test-clone".into(),
        mark: Mark {
            pool: PoolName::try_new("web").unwrap(),
            intent: "5f3b1c9e-0000-4000-8000-000000000001".parse().unwrap(),
            generation: 1,
        },
        settings: CloneSettings {
            source: CloneSource::Image,
            image: None,
            flavor: None,
            network: None,
            key_name: None,
            security_groups: None,
            user_data: None,
        },
    }
}

/// A Nova below HTTP: it answers each connection's one request with these bytes and hangs up. Only its version document and the
/// base are answered properly. Returns its address and the number of requests for anything else.
pub(crate) async fn rude_nova(bytes: Vec<u8>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let Some(request) = read_request(&mut stream).await else { continue };
            let good = match request.split(' ').take(2).collect::<Vec<_>>().as_slice() {
                ["GET", "/v2.1/"] => Some("nova-version"),
                ["GET", path] if path.ends_with(BASE) => Some("server-active"),
                _ => None,
            };
            let answer = match good {
                Some(name) => {
                    let body = recorded(name).to_string();
                    let length = body.len();
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
                        .into_bytes()
                }
                None => {
                    counter.fetch_add(1, Ordering::SeqCst);
                    bytes.clone()
                }
            };
            // The client may hang up before it has all.
            let _ = stream.write_all(&answer).await;
        }
    });
    (address, count)
}

/// Reads a request's head and body.
pub(crate) async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut all = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let n = stream.read(&mut chunk).await.ok()?;
        if n == 0 {
            return None;
        }
        all.extend_from_slice(&chunk[..n]);
        let text = String::from_utf8_lossy(&all).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length:").map(|v| v.trim().to_owned())
            });
            if body.len() >= length.and_then(|l| l.parse().ok()).unwrap_or(0) {
                return Some(text);
            }
        }
    }
}
