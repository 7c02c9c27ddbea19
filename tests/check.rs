//! `check` and `render` on a host with libvirt's test driver, the real HAProxy, and a cloud of recorded answers: what is all
//! right, and each thing that may be wrong, with its exit code and what to do. Nothing may be changed by looking.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test that is how a check fails"
)]

#[allow(dead_code, unused_imports, reason = "the OpenStack client's tests use the rest of it")]
#[path = "openstack/stage.rs"]
mod stage;

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt, path::PathBuf};

use assert_cmd::Command;
use serde_json::{Value, json};
use stage::{BASE, Stage, answer, recorded};
use tempfile::TempDir;
use wiremock::ResponseTemplate;

const FLAVOR: &str = "6422be10-f117-4b66-a505-59f80bc70223";

/// A host and a cloud on which `run` would start.
struct Place {
    dir: TempDir,
    stage: Stage,
    /// Flags beyond those of the good world.
    flags: Vec<String>,
}

/// What a command said.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Place {
    async fn new() -> Self {
        let stage = Stage::new().await.with_base().await;
        for (what, name) in [
            ("compute/flavors", "flavors"),
            ("network/networks", "networks"),
            ("image/images", "images"),
            ("compute/limits", "limits"),
            ("compute/servers/detail", "servers"),
        ] {
            stage.on("GET", what, answer(200, name)).await;
        }
        let flavors = recorded("flavors");
        let flavor = flavors["flavors"].as_array().unwrap().iter().find(|f| f["id"] == FLAVOR).unwrap();
        let flavor = ResponseTemplate::new(200).set_body_json(json!({ "flavor": flavor }));
        stage.on("GET", &format!("compute/flavors/{FLAVOR}"), flavor).await;
        let place = Self { dir: TempDir::new().unwrap(), stage, flags: Vec::new() };
        place.write("node.xml", &node(BASE), 0o644);
        place.write("clouds.yaml", &place.clouds(), 0o600);
        let stats = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let bind = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        place.config(&format!("[haproxy]\nstats_bind = \"{stats}\"\nbind = [\"{bind}\"]\n"));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn config(&self, text: &str) {
        self.write("config.toml", text, 0o644);
    }

    fn clouds(&self) -> String {
        format!(
            "clouds:\n  it:\n    auth:\n      auth_url: {}/identity\n      username: admin\n      password: a-secret\n      \
             project_name: admin\n      user_domain_name: Default\n      project_domain_id: default\n    region_name: microstack\n",
            self.stage.server.uri()
        )
    }

    /// Runs it where the servers of the stage can answer meanwhile.
    async fn run(&self, command: &str, args: &[&str]) -> Said {
        let dir = self.dir.path();
        let uri = format!("test://{}", self.path("node.xml").display());
        let mut process = Command::cargo_bin("lbsidecar").unwrap();
        process.env_clear().env("COLUMNS", "160").current_dir(dir).arg(command);
        process.args(["--config", "config.toml", "--base", BASE, "--clone", "vm-test-clone"]);
        process.args([
            "--vip-mode",
            "static",
            "--libvirt-uri",
            &uri,
            "--state-dir",
            "state",
            "--run-dir",
            "run",
        ]);
        process.args(&self.flags).args(args);
        let output = tokio::task::spawn_blocking(move || process.output().unwrap()).await.unwrap();
        for made in ["state", "run"] {
            assert!(
                !self.path(made).exists() || self.path(made).join("mine").exists(),
                "{command} made {made}"
            );
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let said = Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) };
        assert!(!said.out.contains("a-secret") && !said.err.contains("a-secret"), "a password was shown");
        said
    }

    /// Runs `check` and has it end so, with a line that begins and goes on so.
    #[track_caller]
    fn checks(said: &Said, code: i32, line: &str, words: &str) {
        // Lines are wrapped; words are not.
        let flat = said.out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(said.code, Some(code), "{}{}", said.out, said.err);
        assert!(flat.contains(line), "{line:?} is missing in:\n{}", said.out);
        assert!(flat.contains(words), "{words:?} is missing in:\n{}", said.out);
    }
}

/// A node for libvirt's test driver, with one running domain of this id.
fn node(id: &str) -> String {
    format!(
        "<node><domain type='test'><name>instance-00000001</name><uuid>{id}</uuid><memory>131072</memory>\
         <vcpu>1</vcpu><os><type>hvm</type></os></domain></node>"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_world_without_faults_is_ok_line_by_line() {
    let place = Place::new().await;
    let said = place.run("check", &[]).await;
    Place::checks(&said, 0, "ok config pool default", "`lbsidecar run` can start");
    for about in [
        "credentials",
        "state",
        "directories",
        "libvirt",
        "haproxy",
        "keystone",
        "compute",
        "network",
        "image",
        "base",
        "vip",
        "host",
    ] {
        assert!(said.out.contains(&format!("ok    {about}")), "{about} is missing in:\n{}", said.out);
    }
    assert!(said.out.contains("its CPU can be read: domain instance-00000001"), "{}", said.out);
    assert_eq!(said.err, "");
    let json = place.run("check", &["--output", "json"]).await;
    let report: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((json.code, &report["exit"]), (Some(0), &json!(0)));
    assert!(report["findings"].as_array().unwrap().iter().all(|finding| finding["grade"] != "FAIL"));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_mistakes_of_a_configuration_are_told_at_once() {
    let mut place = Place::new().await;
    place.config("[policy]\nhihg = 60\nmin_up = 0\n");
    place.flags = ["--low", "90"].map(str::to_owned).to_vec();
    let said = place.run("check", &[]).await;
    for words in ["config.toml:2: policy.hihg", "policy.min_up = 0", "--low: policy.low = 90"] {
        Place::checks(&said, 78, "FAIL config", words);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_everybody_may_read_are_refused() {
    let place = Place::new().await;
    place.write("clouds.yaml", &place.clouds(), 0o644);
    let said = place.run("check", &[]).await;
    Place::checks(&said, 78, "FAIL config", "chmod 600");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_password_is_a_matter_of_rights_and_a_silent_keystone_is_not() {
    let place = Place::new().await;
    place.stage.server.reset().await;
    place.stage.on("POST", "identity/auth/tokens", answer(401, "error-keystone-401")).await;
    let said = place.run("check", &[]).await;
    Place::checks(&said, 77, "FAIL keystone failed to get token", "answered 401");
    place.write(
        "clouds.yaml",
        &place.clouds().replace(&place.stage.server.uri(), "http://127.0.0.1:9"),
        0o600,
    );
    let said = place.run("check", &[]).await;
    Place::checks(&said, 69, "FAIL keystone failed to get token", "Connection refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_cannot_be_taken_over_is_told_with_what_to_do() {
    let place = Place::new().await;
    place.stage.server.reset().await;
    place.stage.token("", recorded("token")).await;
    for (verb, what, name) in [
        ("GET", "compute/", "nova-version"),
        ("GET", "compute/flavors", "flavors"),
        ("GET", "network/networks", "networks"),
        ("GET", "image/images", "images"),
    ] {
        place.stage.on(verb, what, answer(200, name)).await;
    }
    let server = format!("compute/servers/{BASE}");
    place.stage.once("GET", &server, answer(200, "server-shutoff")).await;
    let said = place.run("check", &[]).await;
    Place::checks(&said, 69, "FAIL base", "openstack server start");
    place.stage.on("GET", &server, answer(404, "error-nova-404")).await;
    place
        .stage
        .on("GET", "compute/servers/detail", ResponseTemplate::new(200).set_body_json(json!({"servers": []})))
        .await;
    let said = place.run("check", &[]).await;
    Place::checks(&said, 69, "FAIL base", "has no server at all");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_whose_cpu_cannot_be_read_here_is_told() {
    let place = Place::new().await;
    place.write("node.xml", &node("11111111-2222-3333-4444-555555555555"), 0o644);
    let said = place.run("check", &[]).await;
    Place::checks(&said, 69, "FAIL base libvirt does not know", "run on that host");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_libvirt_is_told_with_what_to_do() {
    let mut place = Place::new().await;
    place.flags =
        ["--libvirt-uri", "qemu+unix:///system?socket=/nonexistent/libvirt-sock"].map(str::to_owned).to_vec();
    // The test driver's place is the first of the two, so only a doubt is left.
    let said = place.run("check", &[]).await;
    assert_eq!(said.code, Some(0), "{}", said.out);
    fs::remove_file(place.path("node.xml")).unwrap();
    let said = place.run("check", &[]).await;
    Place::checks(&said, 69, "FAIL libvirt failed to", "node.xml");
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_that_is_missing_or_refuses_or_has_no_address_is_told() {
    let place = Place::new().await;
    place.config("[haproxy]\nbinary = \"/nonexistent/haproxy\"\nbind = [\"127.0.0.1:1\"]\n");
    let said = place.run("check", &[]).await;
    Place::checks(
        &said,
        69,
        "FAIL haproxy failed to run /nonexistent/haproxy",
        "install the package haproxy",
    );

    for (template, words) in [
        ("{{ no_such_value }}", "failed to render template"),
        ("global\n    description {{ description }}\n    no-such-word\n", "unknown keyword 'no-such-word'"),
    ] {
        place.write("haproxy.tera", template, 0o644);
        place.config("[haproxy]\ntemplate = \"haproxy.tera\"\nbind = [\"127.0.0.1:1\"]\n");
        let said = place.run("check", &[]).await;
        Place::checks(&said, 78, "FAIL haproxy", words);
    }

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    place.config(&format!("[haproxy]\nbind = [\"{}\"]\n", taken.local_addr().unwrap()));
    let said = place.run("check", &[]).await;
    Place::checks(&said, 69, "FAIL haproxy failed to listen on", "another program listens there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_that_is_open_to_others_is_told() {
    let place = Place::new().await;
    fs::create_dir_all(place.path("state/default")).unwrap();
    fs::write(place.path("state/mine"), "").unwrap();
    fs::set_permissions(place.path("state/default"), fs::Permissions::from_mode(0o755)).unwrap();
    let said = place.run("check", &[]).await;
    Place::checks(&said, 78, "FAIL directories", "chmod 700");
}

#[tokio::test(flavor = "multi_thread")]
async fn render_prints_what_haproxy_would_get_without_its_password() {
    let place = Place::new().await;
    fs::create_dir_all(place.path("state/default")).unwrap();
    fs::write(place.path("state/mine"), "").unwrap();
    place.write("state/default/stats-password", "the-stats-password\n", 0o600);
    let said = place.run("render", &["--check"]).await;
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{}", said.out);
    assert!(said.out.contains("backend app") && said.out.contains("lbsidecar:***"), "{}", said.out);
    assert!(!said.out.contains("the-stats-password"));

    place.write("haproxy.tera", "global\n    description {{ description }}\n    no-such-word\n", 0o644);
    place.config("[haproxy]\ntemplate = \"haproxy.tera\"\nbind = [\"127.0.0.1:1\"]\n");
    assert_eq!(place.run("render", &[]).await.code, Some(0));
    let said = place.run("render", &["--check"]).await;
    assert_eq!((said.code, said.out.as_str()), (Some(78), ""), "{}", said.err);
    assert!(said.err.contains("unknown keyword 'no-such-word'"), "{}", said.err);
}
