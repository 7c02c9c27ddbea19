//! Bad input: `lbsidecar run` on a world with one thing wrong says what is wrong, why, and what to do, in one message; ends
//! with the documented code; and has changed nothing: no call to the cloud but for a token and reading, no HAProxy, no file
//! but in its own state directory.
//!
//! The whole message is compared, so that this file can be read as the list of what an operator may meet.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[allow(dead_code, reason = "the cloud's own tests use the rest of it")]
#[path = "cloud/rig.rs"]
mod rig;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use lbsidecar_lab::cloud::faults::What;
use regex::Regex;
use reqwest::Method;
use rig::Rig;
use serde_json::json;
use tempfile::TempDir;

/// `run` would serve for ever if it did not refuse.
const DEADLINE: Duration = Duration::from_secs(60);

/// A host and a cloud on which `run` would start, until something is made wrong.
struct World {
    rig: Rig,
    dir: TempDir,
    flags: BTreeMap<&'static str, String>,
    variables: BTreeMap<&'static str, String>,
}

impl World {
    /// With a running base that has a floating IP.
    async fn new() -> Self {
        let world = Self::without_base().await;
        let base = world.rig.server("vm-test").await;
        let port = world.rig.port_of(&base).await;
        world.rig.floating_ip(&port["id"]).await;
        world
    }

    async fn without_base() -> Self {
        let rig = Rig::start().await;
        let dir = TempDir::new().unwrap();
        let keystone = rig.cloud.urls().keystone.clone();
        let variables = [
            ("OS_AUTH_URL", keystone),
            ("OS_USERNAME", "admin".into()),
            ("OS_PASSWORD", "lab-admin".into()),
            ("OS_PROJECT_NAME", "admin".into()),
            ("OS_USER_DOMAIN_NAME", "Default".into()),
            ("OS_PROJECT_DOMAIN_NAME", "Default".into()),
            ("LBSIDECAR_HAPROXY_STATS_BIND", free().to_string()),
            ("LBSIDECAR_LOG", "error".into()),
        ];
        let flags = [
            ("--base", "vm-test".to_owned()),
            ("--clone", "vm-test-clone".to_owned()),
            ("--vip-mode", "static".to_owned()),
            ("--bind", free().to_string()),
            ("--libvirt-uri", "test:///default".to_owned()),
            ("--state-dir", "state".to_owned()),
            ("--run-dir", "run".to_owned()),
        ];
        Self { rig, dir, flags: flags.into(), variables: variables.into() }
    }

    fn flag(mut self, name: &'static str, value: &str) -> Self {
        self.flags.insert(name, value.to_owned());
        self
    }

    fn variable(mut self, name: &'static str, value: &str) -> Self {
        self.variables.insert(name, value.to_owned());
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(self, name: &str, mode: u32, text: &str) -> Self {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn config(self, text: &str) -> Self {
        self.file("config.toml", 0o644, text).flag("--config", "config.toml")
    }

    /// Credentials from a clouds.yaml in place of the variables.
    fn clouds(mut self, mode: u32, password: &str) -> Self {
        let auth_url = self.variables["OS_AUTH_URL"].clone();
        self.variables.retain(|name, _| !name.starts_with("OS_"));
        let text = format!(
            "clouds:\n  lab:\n    auth:\n      auth_url: {auth_url}\n      username: admin\n      password: {password}\n      \
             project_name: admin\n      user_domain_name: Default\n      project_domain_name: Default\n"
        );
        self.file("clouds.yaml", mode, &text)
    }

    /// `run` ends with this code and says this and nothing else, and all is as it was.
    async fn refuses(self, code: i32, message: &str) {
        let before = self.rig.cloud.journal().entries().len();
        let files = self.files();
        let mut command = program();
        command.arg("run").current_dir(self.dir.path()).env_clear().envs(&self.variables);
        command.args(self.flags.iter().flat_map(|(name, value)| [*name, value.as_str()]));
        let output = tokio::task::spawn_blocking(move || within_deadline(&mut command)).await.unwrap();
        let said = self.shortened(&output.stderr);
        assert_eq!(said, format!("lbsidecar: failed to {message}\n"));
        assert_eq!(output.status.code(), Some(code), "{said}");

        let written: Vec<String> = self.rig.cloud.journal().entries()[before..]
            .iter()
            .filter(|entry| entry.method != "GET" && entry.path != "/v3/auth/tokens")
            .map(|entry| format!("{} {}", entry.method, entry.path))
            .collect();
        assert_eq!(written, Vec::<String>::new(), "the cloud was changed");
        assert_eq!(self.files(), files, "a file is left");
        assert_eq!(haproxies(self.dir.path()), Vec::<String>::new(), "an HAProxy was started");
    }

    /// All files below the directory but those of the state directory that every start makes: its lock and the password.
    fn files(&self) -> BTreeSet<PathBuf> {
        fn walk(dir: &Path, found: &mut BTreeSet<PathBuf>) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, found);
                } else {
                    found.insert(path);
                }
            }
        }
        let mut found = BTreeSet::new();
        walk(self.dir.path(), &mut found);
        for made in ["lock", "stats-password"] {
            found.remove(&self.path("state/default").join(made));
        }
        found
    }

    /// What differs from run to run gets a name.
    fn shortened(&self, said: &[u8]) -> String {
        let mut text = String::from_utf8(said.to_vec()).unwrap();
        let dir = fs::canonicalize(self.dir.path()).unwrap();
        text =
            text.replace(&self.rig.cloud.urls().keystone, "KEYSTONE").replace(dir.to_str().unwrap(), "DIR");
        for (pattern, name) in [
            ("req-[0-9a-f-]{36}", "REQUEST"),
            ("[0-9a-f]{8}-[0-9a-f-]{27}", "ID"),
            (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
            ("usermod -aG [^ ]+ [^ ,]+", "usermod -aG GROUP USER"),
            ("Available variables: .*", "Available variables: VARIABLES"),
        ] {
            text = Regex::new(pattern).unwrap().replace_all(&text, name).into_owned();
        }
        text
    }
}

/// The program; without root's right to open what is closed to it.
fn program() -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_lbsidecar-lab")).with_file_name("lbsidecar");
    assert!(program.exists(), "{} is missing: build the workspace's programs first", program.display());
    if !nix::unistd::Uid::effective().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.arg("--bounding-set=-dac_override,-dac_read_search").arg(program);
    command
}

fn within_deadline(command: &mut Command) -> Output {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let until = Instant::now() + DEADLINE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            child.kill().unwrap();
            panic!("it was not refused: {:?}", child.wait_with_output().unwrap());
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

/// Processes of HAProxy that work in this directory.
fn haproxies(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap() {
        let Ok(line) = fs::read(process.unwrap().path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(dir.to_str().unwrap()) {
            found.push(line);
        }
    }
    found
}

/// An address that is free.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The message of one mistake in the configuration.
fn mistake(text: &str) -> String {
    format!("read the configuration: one problem\n  {text}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_cannot_be_meant() {
    for (file, message) in [
        ("[policy]\nhihg = 60\n", "policy.hihg: there is no such key: is policy.high meant?"),
        ("[polisy]\nhigh = 60\n", "polisy.high: there is no such key: is policy.high meant?"),
        (
            "[policy]\nhigh = 20\n",
            "policy.high = 20: it must be above policy.low (20): else one value would vote for a clone and for the handover at once",
        ),
        ("[policy]\nhigh = 101\n", "policy.high = 101: not a percentage: use a number from 0 to 100"),
        ("[policy]\nlow = nan\n", "policy.low = nan: not a percentage: use a number from 0 to 100"),
        ("[policy]\nmin_up = 0\n", "policy.min_up = 0: not a whole number from 1 to 4294967295"),
    ] {
        let world = World::without_base().await.config(file);
        world.refuses(78, &mistake(&format!("DIR/config.toml:2: {message}"))).await;
    }
    for (name, value, message) in [
        (
            "--low",
            "60",
            "policy.low = 60: it must be below policy.high (60): else one value would vote for a clone and for the handover at once",
        ),
        ("--high", "101", "policy.high = \"101\": not a percentage: use a number from 0 to 100"),
        ("--low", "NaN", "policy.low = \"NaN\": not a percentage: use a number from 0 to 100"),
        ("--min-up", "0", "policy.min_up = \"0\": not a whole number from 1 to 4294967295"),
    ] {
        let world = World::without_base().await.flag(name, value);
        world.refuses(64, &mistake(&format!("{name}: {message}"))).await;
    }
    let message =
        "LBSIDECAR_POLICY_HIGH: policy.high = \"inf\": not a percentage: use a number from 0 to 100";
    World::without_base().await.variable("LBSIDECAR_POLICY_HIGH", "inf").refuses(78, &mistake(message)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_cannot_be_read_or_that_everybody_can_read() {
    let message = "DIR/clouds.yaml: it may not be read by this user: run as root or as the service's user, or change its owner";
    World::without_base().await.clouds(0o000, "lab-admin").refuses(78, &mistake(message)).await;

    let message = "DIR/clouds.yaml: it holds a secret and every user of this machine may read it: chmod 600 DIR/clouds.yaml";
    World::without_base().await.clouds(0o644, "lab-admin").refuses(78, &mistake(message)).await;

    let message = "--os-cloud: cloud \"lba\": DIR/clouds.yaml has no such cloud: it has lab";
    let world = World::without_base().await.clouds(0o600, "lab-admin").flag("--os-cloud", "lba");
    world.refuses(64, &mistake(message)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keystone_that_refuses_or_is_not_there() {
    let refused = |origin| {
        format!(
            "get token for user admin: POST identity/auth/tokens answered 401: The request you have made requires authentication; \
             check user, password and project in {origin} (request REQUEST)"
        )
    };
    World::new().await.variable("OS_PASSWORD", "wrong").refuses(77, &refused("the OS_* variables")).await;
    World::new().await.clouds(0o600, "wrong").refuses(77, &refused("cloud \"lab\" in DIR/clouds.yaml")).await;

    let nobody = "get token for user admin: POST identity/auth/tokens: tcp connect error: Connection refused (os error 111); \
         Keystone is at http://127.0.0.1:PORT/v3, says the OS_* variables: is that right, does it run, and can this host reach it?";
    // Nothing listens on the discard port.
    World::new().await.variable("OS_AUTH_URL", "http://127.0.0.1:9/v3").refuses(69, nobody).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_is_not_there_or_not_the_only_one() {
    let id = "00000000-1111-4222-8333-444444444444";
    for (name, shown) in [("vm-tset", "vm-tset"), (id, "ID")] {
        let message = format!(
            "find server {shown}: no server of project admin has this name or id (it has vm-test); \
             say which VM is the base with --base (pool.base)"
        );
        World::new().await.flag("--base", name).refuses(69, &message).await;
    }
    let message = "find server vm-test: project admin has no server at all (is it the right project?); \
         say which VM is the base with --base (pool.base)";
    World::without_base().await.refuses(69, message).await;

    let world = World::new().await;
    world.rig.server("vm-test").await;
    let message = "find server vm-test: 2 servers have this name (ID, ID): give the id; \
         say which VM is the base with --base (pool.base)";
    world.refuses(69, message).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_does_not_run() {
    let world = World::new().await;
    let servers = world.rig.get(&world.rig.nova("/servers?name=vm-test")).await;
    let url = world.rig.nova(&format!("/servers/{}", servers["servers"][0]["id"].as_str().unwrap()));
    world.rig.call(Method::POST, &format!("{url}/action"), json!({"os-stop": null})).await;
    world.rig.until(&url, "/server/status", json!("SHUTOFF")).await;
    let message = "take over server vm-test (ID): it is SHUTOFF, and must be ACTIVE: start it with `openstack server start ID`";
    world.refuses(69, message).await;

    let world = World::without_base().await;
    world.rig.fault("POST", "/servers$", What::BuildError { message: None });
    let url = world.rig.ask("vm-test").await;
    world.rig.until(&url, "/server/status", json!("ERROR")).await;
    let message = "take over server vm-test (ID): it is ERROR, and must be ACTIVE: Nova says \"No valid host was found.\"; mend or replace it";
    world.refuses(69, message).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_address_that_is_not_ours() {
    let port_mode = |world: World| world.flag("--vip-mode", "port");
    let message =
        "find floating IP 10.20.20.250: there is none in this project: make it, or choose another with --vip";
    port_mode(World::new().await).flag("--vip", "10.20.20.250").refuses(69, message).await;

    let world = port_mode(World::new().await);
    let other = world.rig.server("vm-other").await;
    let port = world.rig.port_of(&other).await;
    let address =
        world.rig.floating_ip(&port["id"]).await["floating_ip_address"].as_str().unwrap().to_owned();
    let message = format!(
        "take floating IP {address}: it is on port ID of server ID, which is neither ours nor the base's, and it is left there: \
         choose another with --vip, or disassociate it"
    );
    world.flag("--vip", &address).refuses(69, &message).await;

    let world = port_mode(World::without_base().await);
    world.rig.server("vm-test").await;
    let message = "find the service address: base vm-test (ID) has no floating IP, and none is given: \
         associate one with it, or say which with --vip";
    world.refuses(69, message).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_haproxy_that_is_missing_too_old_or_none() {
    const BINARY: &str = "LBSIDECAR_HAPROXY_BINARY";
    let message =
        "run /nonexistent/haproxy: it is not there; install the package haproxy or set haproxy.binary";
    World::new().await.variable(BINARY, "/nonexistent/haproxy").refuses(69, message).await;
    for (version, message) in [
        (
            "HA-Proxy version 2.2.9-2+deb11u6 2023/08/11 - https://haproxy.org/",
            "version 2.2.9-2+deb11u6 is too old: 2.4 or later is needed; install one, or set haproxy.binary",
        ),
        ("nginx version: nginx/1.22.1", "it does not say that it is HAProxy; correct haproxy.binary"),
    ] {
        let world = World::new().await.file("haproxy", 0o755, &format!("#!/bin/sh\necho '{version}'\n"));
        world.variable(BINARY, "haproxy").refuses(69, &format!("run DIR/haproxy: {message}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_does_not_render_or_that_haproxy_refuses() {
    const TEMPLATE: &str = "LBSIDECAR_HAPROXY_TEMPLATE";
    for (text, message) in [
        (
            "global\n    description {{ description }}\n    no-such-word\n",
            "HAProxy refuses what it renders: parsing [haproxy.cfg:3] : unknown keyword 'no-such-word' in 'global' section; \
             `lbsidecar render` shows it",
        ),
        (
            "global\n    description {{ descriptoin }}\n",
            "line 2, column 20: Variable `descriptoin` is not defined. Available variables: VARIABLES",
        ),
    ] {
        let world = World::new().await.file("haproxy.tera", 0o644, text).variable(TEMPLATE, "haproxy.tera");
        world.refuses(78, &format!("render template DIR/haproxy.tera: {message}")).await;
    }
    let message = "LBSIDECAR_HAPROXY_TEMPLATE: haproxy.template = \"haproxy.tera\": there is no such file";
    World::new().await.variable(TEMPLATE, "haproxy.tera").refuses(78, &mistake(message)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = &listener.local_addr().unwrap().to_string();
    let message = |key: &str| {
        format!(
            "listen on 127.0.0.1:PORT: another program listens there (`ss -ltnp` shows which); stop it, or choose another \
             address with {key}"
        )
    };
    World::new().await.flag("--bind", taken).refuses(69, &message("haproxy.bind")).await;
    let world = World::new().await.variable("LBSIDECAR_HAPROXY_STATS_BIND", taken);
    world.refuses(69, &message("haproxy.stats_bind")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_libvirt_that_is_not_there_or_forbids_us() {
    let uri = "qemu+unix:///system?socket=/nonexistent/libvirt-sock-ro";
    let message = format!(
        "open libvirt at {uri}: Failed to connect socket to '/nonexistent/libvirt-sock-ro': No such file or directory; \
         its socket is not there: install and start libvirt, or correct the URI"
    );
    World::new().await.flag("--libvirt-uri", uri).refuses(69, &message).await;

    let world = World::new().await;
    let socket = world.path("libvirt-sock-ro");
    let _listener = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o000)).unwrap();
    let uri = format!("qemu+unix:///system?socket={}", socket.display());
    let message = "open libvirt at qemu+unix:///system?socket=DIR/libvirt-sock-ro: Failed to connect socket to \
         'DIR/libvirt-sock-ro': Permission denied; let this user in: usermod -aG GROUP USER, then log in again or restart the service";
    world.flag("--libvirt-uri", &uri).refuses(77, message).await;
}
