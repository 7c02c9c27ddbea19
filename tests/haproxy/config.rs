//! What is written into the file, and what is kept out of it.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use lbsidecar::{
    core::{
        cloud::FailureKind,
        ids::BackendName,
        lb::{LbMode, LbModel, LbServer},
        units::Weight,
    },
    haproxy::{
        Haproxy, HaproxyError, HaproxySettings, remembered_address,
        settings::{ServiceMode, StatsPage},
    },
};
use secrecy::SecretString;

use crate::support::{Member, Rig, get, model, request, settings};

/// Settings that are the same on every machine.
fn fixed() -> HaproxySettings {
    let mut settings = settings(Path::new("/nonexistent/lbsidecar/web"));
    settings.binds = vec!["203.0.113.10:80".parse().unwrap(), "[2001:db8::10]:80".parse().unwrap()];
    settings.stats = StatsPage {
        bind: "127.0.0.1:8404".parse().unwrap(),
        user: "operator".into(),
        password: SecretString::from("a $ecret \"word\""),
    };
    settings.check.interval = Duration::from_secs(1);
    settings.server_timeout = Duration::from_secs(300);
    settings.keep_alive_timeout = Duration::from_secs(5);
    settings.hard_stop_after = Duration::from_secs(330);
    settings
}

fn two_servers() -> LbModel {
    serde_json::from_value(serde_json::json!({ "servers": [
        { "name": "vm-test-1a2b3c4d", "address": "10.20.20.11:80", "weight": 0, "mode": "drain" },
        { "name": "vm-test-clone-5e6f7a8b", "address": "[2001:db8::12]:8080", "weight": 100, "mode": "ready" },
    ]}))
    .unwrap()
}

/// The rendered file, after HAProxy itself has accepted it without a warning.
fn rendered(settings: HaproxySettings, model: &LbModel) -> String {
    let binary = settings.binary.clone();
    let text = Haproxy::new(settings).unwrap().render(model).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("haproxy.cfg");
    fs::write(&path, text.replace("/nonexistent/lbsidecar/web/run", &dir.path().display().to_string()))
        .unwrap();
    fs::write(dir.path().join("servers.state"), "1\n").unwrap();
    let output = Command::new(binary).arg("-W").arg("-c").arg("-f").arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("[WARNING]"), "{said}");
    text
}

#[tokio::test]
async fn the_file_remembers_an_address_that_the_host_need_not_have() {
    let mut rig = Rig::with(|settings| settings.bind_nonlocal = true);
    let base = Member::start("base-1").await;
    assert_eq!(remembered_address(&rig.settings.config_dir), None, "there is no file yet");
    rig.haproxy.ensure_running(&model([base.ready(100)])).await.unwrap();
    assert_eq!(remembered_address(&rig.settings.config_dir), rig.settings.binds.first().copied());
    let mut ordinary = Rig::new();
    ordinary.haproxy.ensure_running(&model([base.ready(100)])).await.unwrap();
    assert_eq!(remembered_address(&ordinary.settings.config_dir), None);
}

#[test]
fn http() {
    insta::assert_snapshot!(rendered(fixed(), &two_servers()));
}

#[test]
fn tcp() {
    insta::assert_snapshot!(rendered(HaproxySettings { mode: ServiceMode::Tcp, ..fixed() }, &two_servers()));
}

#[test]
fn nobody_to_serve() {
    rendered(fixed(), &LbModel::default());
    rendered(HaproxySettings { mode: ServiceMode::Tcp, ..fixed() }, &LbModel::default());
}

#[test]
fn the_same_input_gives_the_same_text() {
    assert_eq!(rendered(fixed(), &two_servers()), rendered(fixed(), &two_servers()));
}

type Change = fn(&mut HaproxySettings);

#[test]
fn nothing_from_outside_becomes_a_directive() {
    for evil in ["a\n    server x 1.2.3.4:80", "a b", "a#b", "a\"b", "a'b", "a{b", "", "a\\b", "a$b", "ä"] {
        assert!(BackendName::try_new(evil).is_err(), "{evil:?} must not name a server");
    }
    let changes: [(&str, Change); 10] = [
        ("check.path", |s| s.check.path = "/\n    server x 1.2.3.4:80".into()),
        ("check.path", |s| s.check.path = "/a b".into()),
        ("check.path", |s| s.check.path = "healthz".into()),
        ("stats.user", |s| s.stats.user = "a:b".into()),
        ("stats.password", |s| s.stats.user = "a\nb".into()),
        ("stats.password", |s| s.stats.password = SecretString::from("a\nb")),
        ("run_dir", |s| s.run_dir = "/run/a,level,admin".into()),
        ("run_dir", |s| s.run_dir = "run/web".into()),
        ("run_dir", |s| s.run_dir = "/run/a\nb".into()),
        ("binds", |s| s.binds.clear()),
    ];
    for (key, change) in changes {
        let mut settings = fixed();
        change(&mut settings);
        let error = Haproxy::new(settings).unwrap_err();
        assert!(matches!(&error, HaproxyError::Setting { key: found, .. } if *found == key), "{error}");
        assert_eq!(error.kind(), FailureKind::Permanent);
    }
}

#[test]
fn odd_names_are_only_names() {
    let servers = ["-f-00000001", "--", ".", "_", "if", "{", "app", "probe"]
        .iter()
        .filter_map(|name| BackendName::try_new(*name).ok())
        .map(|name| LbServer {
            name,
            address: "192.0.2.1:80".parse().unwrap(),
            weight: Weight::FULL,
            mode: LbMode::Ready,
        });
    rendered(fixed(), &LbModel { servers: servers.collect(), closing: false });
}

#[tokio::test]
async fn a_password_is_never_shown() {
    let mut rig = Rig::new();
    rig.haproxy.ensure_running(&LbModel::default()).await.unwrap();
    let written = fs::read_to_string(rig.config()).unwrap();
    assert!(written.contains("pass word"));
    for shown in [format!("{:?} {:?}", rig.haproxy, rig.settings), rig.haproxy.render(&model([])).unwrap()] {
        assert!(!shown.contains("pass word"), "{shown}");
    }
}

#[tokio::test]
async fn the_stats_page_and_the_exporter() {
    let mut rig = Rig::new();
    let base = Member::start("vm-test-1a2b3c4d").await;
    rig.haproxy.ensure_running(&model([base.ready(100)])).await.unwrap();
    let stats = rig.settings.stats.bind;
    assert_eq!(get(stats, "/stats").await.unwrap().0, 401);
    // operator:pass word $HOME "quoted" \ #1
    let login = "b3BlcmF0b3I6cGFzcyB3b3JkICRIT01FICJxdW90ZWQiIFwgIzE=";
    let ask = format!(
        "GET /stats HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {login}\r\nConnection: close\r\n\r\n"
    );
    let (status, page) = request(stats, &ask).await.unwrap();
    assert_eq!(status, 200, "{page}");
    assert!(page.contains("vm-test-1a2b3c4d") && page.contains("pool web"));
    assert!(!page.contains("probe."), "the probes' backends are of no interest there");
    let (status, metrics) = get(stats, "/metrics").await.unwrap();
    assert_eq!(status, 200);
    assert!(metrics.contains("haproxy_server_status{proxy=\"app\",server=\"vm-test-1a2b3c4d\""), "{metrics}");
}

#[tokio::test]
async fn an_empty_pool_asks_to_come_back_later() {
    let mut rig = Rig::new();
    rig.haproxy.ensure_running(&LbModel::default()).await.unwrap();
    let (status, answer) = get(rig.service(), "/").await.unwrap();
    assert_eq!(status, 503);
    assert!(answer.to_lowercase().contains("retry-after: 5"), "{answer}");
    assert!(answer.contains("pool web is degraded") && answer.contains("(0 of 0 in service)"), "{answer}");
    assert_eq!(rig.haproxy.apply(&LbModel::default(), false).await.unwrap(), 1);
}

/// HAProxy says 503 for more reasons than one: what it says of the pool is true each time.
#[tokio::test]
async fn a_503_says_how_the_pool_is() {
    let mut rig = Rig::new();
    rig.settings.check.interval = Duration::from_secs(3);
    rig.restart();
    let base = Member::start("vm-test-1a2b3c4d").await;
    rig.haproxy.ensure_running(&model([base.ready(100)])).await.unwrap();
    rig.until_up(&base).await;
    // Gone, and still up until HAProxy has found that out.
    drop(base);
    let said = async |what: &str| {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let (status, answer) = get(rig.service(), "/").await.unwrap();
            assert_eq!(status, 503);
            assert!(answer.to_lowercase().contains("retry-after: 5"), "{answer}");
            if answer.contains(what) {
                break;
            }
            assert!(Instant::now() < deadline, "{what}: {answer}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    said(
        "pool web is serving: no member could take this request (1 of 1 in service); try again in 5 seconds",
    )
    .await;
    said(
        "pool web is degraded: no member could take this request (0 of 1 in service); try again in 5 seconds",
    )
    .await;
}

/// Writes a template of the operator's own.
fn with_template(settings: &mut HaproxySettings, change: impl FnOnce(String) -> String) {
    let embedded = include_str!("../../templates/haproxy.cfg.tera");
    let path = settings.config_dir.parent().unwrap().join("own.tera");
    fs::write(&path, change(embedded.to_owned())).unwrap();
    settings.template = Some(path);
}

#[test]
fn a_template_error_names_file_line_and_reason() {
    let dir = tempfile::tempdir().unwrap();
    let broken = |change: fn(String) -> String| {
        let mut settings = settings(dir.path());
        with_template(&mut settings, change);
        let error = Haproxy::new(settings).unwrap_err();
        assert_eq!(error.kind(), FailureKind::Permanent);
        error.to_string()
    };
    let error = broken(|text| text.replace("{{ description }}", "{{ descriptoin }}"));
    assert!(
        error.contains("own.tera") && error.contains("line 6") && error.contains("descriptoin"),
        "{error}"
    );
    let error = broken(|text| text.replace("{%- endfor %}", ""));
    assert!(error.contains("own.tera") && error.contains("line "), "{error}");
    let error = broken(|text| text.replace("description {{ description }}", ""));
    assert!(error.contains("`description {{ description }}`"), "{error}");

    let mut settings = settings(dir.path());
    settings.template = Some(dir.path().join("none.tera"));
    let error = Haproxy::new(settings).unwrap_err().to_string();
    assert!(error.contains("none.tera") && error.contains("No such file"), "{error}");
}

#[tokio::test]
async fn a_refused_file_changes_nothing_and_is_kept() {
    let mut rig = Rig::new();
    let base = Member::start("base-1").await;
    let all = model([base.ready(100)]);
    rig.haproxy.ensure_running(&all).await.unwrap();
    let (before, file) = (rig.haproxy.observe().await.unwrap(), fs::read_to_string(rig.config()).unwrap());

    with_template(&mut rig.settings, |text| text.replace("nbthread 2", "nbthread 2\n    nbtread 3"));
    rig.restart();
    let error = rig.haproxy.apply(&all, false).await.unwrap_err();
    let HaproxyError::Rejected { kept, why } = &error else { panic!("{error}") };
    assert!(why.contains("unknown keyword 'nbtread'") && why.contains("haproxy.cfg:"), "{why}");
    assert!(fs::read_to_string(kept).unwrap().contains("nbtread"));
    assert!(fs::read_to_string(kept.with_extension("rejected.log")).unwrap().contains("nbtread"));

    assert_eq!(fs::read_to_string(rig.config()).unwrap(), file);
    let after = rig.haproxy.observe().await.unwrap();
    assert_eq!((after.worker_pid, after.generation), (before.worker_pid, Some(1)));
    assert!(
        fs::read_dir(&rig.settings.config_dir)
            .unwrap()
            .all(|entry| { !entry.unwrap().file_name().to_string_lossy().starts_with('.') })
    );
}

#[tokio::test]
async fn a_file_edited_by_hand_is_left_alone_until_told_otherwise() {
    let mut rig = Rig::new();
    let (base, clone) = (Member::start("base-1").await, Member::start("clone-2").await);
    rig.haproxy.ensure_running(&model([base.ready(100)])).await.unwrap();
    let edited = fs::read_to_string(rig.config()).unwrap().replace("nbthread 2", "nbthread 1");
    fs::write(rig.config(), &edited).unwrap();
    // Also after a restart of ours, which remembers nothing.
    for _ in 0..2 {
        assert!(rig.haproxy.observe().await.unwrap().file_edited);
        let error = rig.haproxy.apply(&model([base.ready(100), clone.ready(0)]), false).await.unwrap_err();
        assert!(matches!(error, HaproxyError::Edited { .. }), "{error}");
        assert_eq!(error.kind(), FailureKind::Conflict);
        assert!(error.to_string().contains("--force"));
        assert_eq!(fs::read_to_string(rig.config()).unwrap(), edited);
        rig.restart();
    }
    assert_eq!(rig.haproxy.apply(&model([base.ready(100), clone.ready(0)]), true).await.unwrap(), 2);
    assert!(!rig.haproxy.observe().await.unwrap().file_edited);
    assert_eq!(fs::read_to_string(rig.settings.config_dir.join("haproxy.cfg.edited")).unwrap(), edited);

    // An older version put back by hand is ours, but not the last one; a missing file is no edit to be kept.
    fs::copy(rig.config(), rig.config().with_extension("old")).unwrap();
    rig.haproxy.apply(&model([base.ready(100), clone.ready(100)]), false).await.unwrap();
    fs::copy(rig.config().with_extension("old"), rig.config()).unwrap();
    assert!(rig.haproxy.observe().await.unwrap().file_edited);
    assert!(rig.haproxy.apply(&model([base.ready(100)]), false).await.is_err());
    fs::remove_file(rig.config()).unwrap();
    assert!(rig.haproxy.observe().await.unwrap().file_edited);
    assert_eq!(rig.haproxy.apply(&model([base.ready(100)]), false).await.unwrap(), 3);
}
