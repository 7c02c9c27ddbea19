//! Holds the lab's cloud against exchanges that were recorded at a real one (Zed, Linux bridges): status, headers, members,
//! types and values of every answer, in one long story.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod compare;
mod session;
mod story;

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use compare::Ids;
use lbsidecar_lab::cloud::{
    CloudHandle,
    clock::Clock,
    null::NullDriver,
    options::{Host, Options},
    serve,
};
use reqwest::{Client, Method};
use serde_json::Value;
use story::{EXCUSED, LOGIN, STORY, Step};

/// A recorded exchange.
struct Recording {
    request: Value,
    status: u16,
    headers: Vec<(String, String)>,
    body: Value,
}

fn recording(name: &str) -> Recording {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/recordings/{name}.json"));
    let text =
        std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("read {}: {error}", file.display()));
    Recording::read(&text)
}

impl Recording {
    /// From one line, or one file, of JSON.
    fn read(text: &str) -> Self {
        let whole: Value = serde_json::from_str(text).unwrap();
        let response = &whole["response"];
        let headers = response["headers"].as_array().unwrap().iter().map(|header| {
            (header[0].as_str().unwrap().to_lowercase(), header[1].as_str().unwrap().to_owned())
        });
        Self {
            request: whole["request"].clone(),
            status: u16::try_from(response["status"].as_u64().unwrap()).unwrap(),
            headers: headers.collect(),
            body: if response["body"].is_null() { "".into() } else { response["body"].clone() },
        }
    }
}

/// What we answered.
struct Answered {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: Value,
}

struct Stage {
    cloud: CloudHandle,
    client: Client,
    ids: Ids,
    /// Tokens by the recording that brought them.
    tokens: HashMap<&'static str, String>,
    covered: usize,
    failures: Vec<String>,
}

impl Stage {
    /// Sends a recorded request with our ids and this token.
    async fn send(&self, recorded: &Recording, token: &str, subject: &str) -> Answered {
        let request = &recorded.request;
        let text = |value: &Value| self.ids.text(value.as_str().unwrap_or_default());
        let method: Method = request["method"].as_str().unwrap().parse().unwrap();
        let mut call = self.client.request(method, text(&request["url"]));
        for (name, value) in request["headers"].as_object().unwrap() {
            let value = match (name.as_str(), value.as_str().unwrap()) {
                ("X-Auth-Token", "<TOKEN>") => token.to_owned(),
                ("X-Subject-Token", _) => subject.to_owned(),
                (_, value) => value.to_owned(),
            };
            call = call.header(name, value);
        }
        let body = match &request["body"] {
            Value::Null => None,
            Value::String(raw) => Some(raw.clone()),
            body => {
                let demo = body.pointer("/auth/identity/password/user/name") == Some(&"demo".into());
                let password = if demo { "lab-demo" } else { "lab-admin" };
                Some(self.ids.value(body).to_string().replace("<PASSWORD>", password))
            }
        };
        if let Some(body) = body {
            call = call.header("Content-Type", "application/json").body(body);
        }
        let response = call.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.text().await.unwrap();
        let body = serde_json::from_str(&body).unwrap_or(Value::String(body));
        Answered { status, headers, body }
    }

    async fn learn_port_of(&mut self, port: &str, server: &str) {
        let url = format!("{}/v2.0/ports?device_id={}", self.cloud.urls().neutron, self.ids.text(server));
        let call = self.client.get(url).header("X-Auth-Token", self.token(LOGIN));
        let ports: Value = serde_json::from_str(&call.send().await.unwrap().text().await.unwrap()).unwrap();
        self.ids.learn(&port.into(), &ports["ports"][0]["id"]);
    }

    fn token(&self, of: &str) -> String {
        self.tokens.get(of).cloned().unwrap_or_default()
    }

    async fn play(&mut self, name: &'static str, token: &str, subject: &str) {
        let recorded = recording(name);
        let answered = self.send(&recorded, &self.token(token), &self.token(subject)).await;
        self.judge(name, &recorded, &answered);
    }

    /// Repeats a request while the clock goes on, until the answer tells of the recorded state.
    async fn wait_for(&mut self, name: &'static str) {
        let recorded = recording(name);
        for _ in 0..200 {
            let answered = self.send(&recorded, &self.token(LOGIN), "").await;
            if answered.status == recorded.status && state(&answered.body) == state(&recorded.body) {
                return self.judge(name, &recorded, &answered);
            }
            self.cloud.clock().advance(Duration::from_millis(50));
            // The work that the clock woke runs beside us.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.failures.push(format!("{name}: the recorded state {:?} never came", state(&recorded.body)));
    }

    fn judge(&mut self, name: &'static str, recorded: &Recording, answered: &Answered) {
        self.covered += 1;
        if let Some(token) = answered.headers.get("x-subject-token") {
            self.tokens.insert(name, token.to_str().unwrap().to_owned());
        }
        let mut found = compared(&mut self.ids, recorded, answered, true);
        let excused =
            |line: &String| EXCUSED.iter().any(|(own, path, _)| *own == name && line.starts_with(path));
        found.retain(|line| !excused(line));
        self.failures.extend(found.into_iter().map(|line| format!("{name}: {line}")));
    }
}

/// All differences between a recorded answer and ours, in words; learns which ids stand for which.
fn compared(ids: &mut Ids, recorded: &Recording, answered: &Answered, exact: bool) -> Vec<String> {
    if answered.status != recorded.status {
        return vec![format!(
            "status: recorded {}, here {} {}",
            recorded.status, answered.status, answered.body
        )];
    }
    ids.learn(&recorded.body, &answered.body);
    let mut found = ids.differences(&recorded.body, &answered.body, exact);
    // The type of an empty body says nothing.
    let empty = recorded.body == "";
    for (name, value) in &recorded.headers {
        match answered.headers.get(name) {
            // A snapshot's id comes in this header only.
            Some(ours) if name == "location" => {
                let last = |url: &str| Value::from(url.rsplit('/').next().unwrap_or_default());
                ids.learn(&last(value), &last(ours.to_str().unwrap()));
            }
            Some(_) => {}
            None if empty && name == "content-type" => {}
            None => found.push(format!("header {name}: not here")),
        }
    }
    found
}

/// Addresses of the recorded services, and of ours.
fn urls(cloud: &CloudHandle) -> Vec<(String, String)> {
    let urls = cloud.urls();
    let root = |url: &str| url.trim_end_matches("/v3").trim_end_matches("/v2.1").to_owned();
    [
        ("5000", &urls.keystone),
        ("5001", &urls.keystone),
        ("8774", &urls.nova),
        ("9696", &urls.neutron),
        ("9292", &urls.glance),
    ]
    .map(|(port, url)| (format!("http://10.20.20.1:{port}"), root(url)))
    .to_vec()
}

/// What a client waits for: status and task of a server, status of a floating IP or an image.
fn state(body: &Value) -> Vec<Option<&Value>> {
    ["/server/status", "/server/OS-EXT-STS:task_state", "/floatingip/status", "/status"]
        .map(|path| body.pointer(path))
        .to_vec()
}

#[test]
fn every_recording_is_played() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let played = STORY.iter().any(|step| match *step {
            Step::Play(name) | Step::As(name, _) | Step::About(name, _) | Step::Await(name) => {
                file == format!("{name}.json")
            }
            Step::Hold(_) | Step::Pass(_) | Step::PortOf(..) => false,
        });
        assert!(played, "{file} is not in the story");
    }
}

#[tokio::test]
async fn every_recorded_exchange_is_answered_alike() {
    let driver = Arc::new(NullDriver::default());
    let host = Host { name: "vm".into(), memory_mib: 8154, disk_gib: 251, ..Options::default().host };
    let options = Options { host, clock: Arc::new(Clock::manual()), ..Options::default() };
    let cloud = serve(driver.clone(), options).await.unwrap();
    let ids = Ids::new(urls(&cloud));
    let client = Client::new();
    let mut stage = Stage { cloud, client, ids, tokens: HashMap::new(), covered: 0, failures: Vec::new() };
    for step in STORY {
        match *step {
            Step::Play(name) => stage.play(name, LOGIN, LOGIN).await,
            Step::As(name, token) => stage.play(name, token, "").await,
            Step::About(name, subject) => stage.play(name, LOGIN, subject).await,
            Step::Await(name) => stage.wait_for(name).await,
            Step::Hold(held) => driver.hold(held),
            Step::PortOf(port, server) => stage.learn_port_of(port, server).await,
            Step::Pass(millis) => stage.cloud.clock().advance(Duration::from_millis(millis)),
        }
    }
    assert!(stage.failures.is_empty(), "{}", stage.failures.join("\n"));
    eprintln!("{} recorded exchanges answered alike", stage.covered);
}
