//! A lab of a test's own: started, asked, entered, ended.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{runtime::Runtime, task::JoinSet};

/// Ports of Keystone, Nova, Neutron and Glance.
const SERVICES: [u16; 4] = [5000, 8774, 9696, 9292];

/// What a new lab's first floating IP is.
pub(crate) const FIRST_FLOATING_IP: &str = "10.20.20.11";

/// A lab, ended with the test however that ends.
pub(crate) struct Lab {
    home: TempDir,
    runtime: Runtime,
    /// What is inside, for the cloud's services only their port: URL outside.
    published: BTreeMap<String, String>,
    token: String,
}

impl Lab {
    /// Starts a lab. Nothing, said plainly, where it cannot run; in CI that is a failure.
    pub(crate) fn up() -> Option<Self> {
        Self::up_with(&[])
    }

    /// The same, whose cloud has neither networks nor keys.
    pub(crate) fn up_empty() -> Option<Self> {
        Self::up_with(&["--empty"])
    }

    fn up_with(flags: &[&str]) -> Option<Self> {
        let home = tempfile::Builder::new().prefix("lab-").tempdir().expect("a temporary directory");
        let runtime = Runtime::new().expect("a runtime");
        let mut lab = Self { home, runtime, published: BTreeMap::new(), token: String::new() };
        let mut up = vec!["up".to_owned()];
        up.extend(flags.iter().map(ToString::to_string));
        for port in SERVICES {
            up.extend(["--publish".to_owned(), format!("0:10.20.20.1:{port}")]);
        }
        up.extend(["--publish".to_owned(), format!("0:client/{FIRST_FLOATING_IP}:80")]);
        let output = lab.run(&up.iter().map(String::as_str).collect::<Vec<_>>());
        if output.status.code() == Some(69) {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(std::env::var("CI").is_err(), "the lab must run in CI: {why}");
            eprintln!("SKIPPED: no lab can run here: {why}");
            return None;
        }
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stdout);
        eprintln!("{said}");
        for line in said.lines() {
            if let Some((outside, inside)) = line.trim().split_once(" leads to ") {
                lab.published.insert(inside.trim_start_matches("10.20.20.1:").to_owned(), outside.to_owned());
            }
        }
        lab.token = lab.issue_token();
        Some(lab)
    }

    /// Runs `lbsidecar-lab` on this lab.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_lbsidecar-lab"))
            .arg("--dir")
            .arg(self.directory())
            .args(arguments)
            .output()
            .expect("lbsidecar-lab starts")
    }

    /// The lab's directory.
    pub(crate) fn directory(&self) -> PathBuf {
        self.home.path().join("lab")
    }

    /// The lab's first process, as the host numbers it.
    pub(crate) fn init(&self) -> i32 {
        let text = fs::read_to_string(self.directory().join("init.pid")).expect("init.pid");
        text.split(' ').next().and_then(|pid| pid.parse().ok()).expect("a number")
    }

    /// Runs a command in the lab and gives what it printed.
    pub(crate) fn exec(&self, command: &[&str]) -> Result<String, String> {
        let output = self.run(&[&["exec", "--"], command].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            Ok(text)
        } else {
            Err(format!("{command:?}: {} {text} {}", output.status, String::from_utf8_lossy(&output.stderr)))
        }
    }

    /// Asks a URL from the namespace `client`, which is outside of the tenant networks.
    pub(crate) fn get(&self, url: &str) -> Result<String, String> {
        self.exec(&["ip", "netns", "exec", "client", "timeout", "5", "busybox", "wget", "-q", "-O", "-", url])
    }

    /// Asks the first floating IP on a new connection: status, headers and body.
    pub(crate) fn service(&self) -> Result<(StatusCode, HeaderMap, String), reqwest::Error> {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        let url = &self.published[&format!("client/{FIRST_FLOATING_IP}:80")];
        self.runtime.block_on(async {
            let answer = client.get(url).send().await?;
            Ok((answer.status(), answer.headers().clone(), answer.text().await?))
        })
    }

    /// Asks a URL until it answers.
    pub(crate) fn get_soon(&self, url: &str, within: Duration) -> String {
        eventually(within, url, || self.get(url).ok())
    }

    /// Calls the cloud's API with a body, or without one; `path` begins with the service's port.
    pub(crate) fn cloud(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let answer = self.call(method, path, body);
        let (status, text) = (answer.0, answer.2);
        assert!(status.is_success(), "{path}: {status} {text}");
        if text.is_empty() { Value::Null } else { serde_json::from_str(&text).expect("JSON") }
    }

    /// The same, whatever is answered.
    pub(crate) fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> (StatusCode, HeaderMap, String) {
        let (service, rest) = path.split_once('/').expect("a service and a path");
        let mut request = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client")
            .request(method, format!("{}/{rest}", self.published[service]));
        request = request.header("X-Auth-Token", &self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.runtime.block_on(async {
            let answer = request.send().await.expect("the cloud answers");
            (answer.status(), answer.headers().clone(), answer.text().await.expect("a body"))
        })
    }

    fn issue_token(&self) -> String {
        let domain = json!({"name": "Default"});
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": {"name": "admin", "domain": domain, "password": self.password()}}},
            "scope": {"project": {"name": "admin", "domain": domain}}}});
        let (status, headers, text) = self.call(Method::POST, "5000/v3/auth/tokens", Some(&body));
        assert!(status.is_success(), "{status} {text}");
        headers["X-Subject-Token"].to_str().expect("a token").to_owned()
    }

    fn password(&self) -> String {
        self.exec(&["sh", "-c", "printf %s \"$OS_PASSWORD\""]).expect("a password")
    }

    /// Boots a server with a floating IP; gives its id and the address.
    pub(crate) fn server(&self, name: &str) -> (String, String) {
        self.server_with(name, &json!({}))
    }

    /// The same, with more or other fields in the request.
    pub(crate) fn server_with(&self, name: &str, fields: &Value) -> (String, String) {
        let image = self.cloud(Method::GET, "9292/v2/images?name=cirros", None)["images"][0]["id"].clone();
        let flavors = self.cloud(Method::GET, "8774/v2.1/flavors", None);
        let flavor =
            flavors["flavors"].as_array().expect("flavors").iter().find(|flavor| flavor["name"] == "m1.nano");
        let network = |name: &str| {
            self.cloud(Method::GET, &format!("9696/v2.0/networks?name={name}"), None)["networks"][0]["id"]
                .clone()
        };
        let mut server = json!({"server": {"name": name, "imageRef": image, "flavorRef": flavor.expect("m1.nano")["id"],
            "networks": [{"uuid": network("lab-net")}], "security_groups": [{"name": "lab-sg"}], "key_name": "lab-key"}});
        for (field, value) in fields.as_object().expect("fields") {
            server["server"][field] = value.clone();
        }
        let answer = self.cloud(Method::POST, "8774/v2.1/servers", Some(&server));
        let id = answer["server"]["id"].as_str().expect("an id").to_owned();
        let url = format!("8774/v2.1/servers/{id}");
        eventually(Duration::from_secs(30), "ACTIVE", || {
            let server = self.cloud(Method::GET, &url, None);
            assert_ne!(server["server"]["status"], "ERROR", "{server}");
            (server["server"]["status"] == "ACTIVE").then_some(())
        });
        let body =
            json!({"floatingip": {"floating_network_id": network("external"), "port_id": self.port(&id)}});
        let address = self.cloud(Method::POST, "9696/v2.0/floatingips", Some(&body));
        (id, address["floatingip"]["floating_ip_address"].as_str().expect("an address").to_owned())
    }

    /// The port of a server.
    pub(crate) fn port(&self, server: &str) -> Value {
        self.cloud(Method::GET, &format!("9696/v2.0/ports?device_id={server}"), None)["ports"][0]["id"]
            .clone()
    }

    /// Asks the first floating IP from the namespace `client`, over 16 connections that stay, GET and POST in turn, each answer
    /// checked; gives the requests per second.
    pub(crate) fn load(&self, time: Duration) -> f64 {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let url = self.published[&format!("client/{FIRST_FLOATING_IP}:80")].clone();
        let counts = self.runtime.block_on(async {
            let workers: JoinSet<u32> = (0..16).map(|_| ask(client.clone(), url.clone(), time)).collect();
            workers.join_all().await
        });
        f64::from(counts.into_iter().sum::<u32>()) / time.as_secs_f64()
    }

    /// CPU time that a server's vCPUs got, and that they waited for because the host was busy.
    pub(crate) fn cpu(&self, server: &str) -> (Duration, Duration) {
        let stats = self.exec(&["virsh", "domstats", "--vcpu", server]).expect("domstats");
        let sum = |ending: &str| {
            let values = stats
                .lines()
                .filter_map(|line| line.trim().split_once('='))
                .filter(|(key, _)| key.ends_with(ending));
            Duration::from_nanos(values.map(|(_, value)| value.parse::<u64>().expect("nanoseconds")).sum())
        };
        (sum(".time"), sum(".delay"))
    }
}

/// One connection's work: how many requests were answered within a time.
async fn ask(client: reqwest::Client, url: String, time: Duration) -> u32 {
    let (begin, mut count) = (Instant::now(), 0_u32);
    while begin.elapsed() < time {
        let echo = client.post(format!("{url}/echo")).body("x".repeat(1000)).send().await.expect("an answer");
        assert_eq!(echo.text().await.expect("a body"), "1000\n");
        let name = client.get(&url).send().await.expect("an answer");
        assert!(name.text().await.expect("a body").starts_with("vm-"));
        count += 2;
    }
    count
}

impl Drop for Lab {
    fn drop(&mut self) {
        let log = fs::read_to_string(self.directory().join("lab.log")).unwrap_or_default();
        if thread::panicking() {
            eprintln!("the lab's log:\n{log}");
        }
        self.run(&["down"]);
    }
}

/// The namespaces of a lab, to look for them when it is gone.
pub(crate) struct Namespaces(Vec<PathBuf>);

impl Namespaces {
    /// Those of the lab's first process.
    pub(crate) fn of(init: i32) -> Self {
        let link = |name: &str| fs::read_link(format!("/proc/{init}/ns/{name}")).expect("a namespace");
        Self(["pid", "net", "mnt"].map(link).to_vec())
    }

    /// Processes that are in one of them, or that hold one open.
    pub(crate) fn inhabitants(&self) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").expect("/proc").filter_map(Result::ok) {
            let process = entry.path();
            let links = ["ns/pid", "ns/net", "ns/mnt"].map(|name| process.join(name));
            if links.iter().any(|link| fs::read_link(link).is_ok_and(|space| self.0.contains(&space))) {
                let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
                found.push(format!("{} {}", process.display(), name.trim()));
            }
        }
        found
    }
}

/// Tries until there is an answer.
pub(crate) fn eventually<T>(within: Duration, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(answer) = attempt() {
            return answer;
        }
        assert!(Instant::now() < end, "{what}: not within {within:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Processes of this machine whose command line names a directory.
pub(crate) fn processes_with(directory: &Path) -> Vec<String> {
    let needle = directory.to_string_lossy().into_owned();
    fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(Result::ok)
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&needle))
        .collect()
}
