//! HAProxy is started, adopted, killed, started again, and not confused with a stranger's.

use std::{fs, net::TcpListener, process::Command};

use lbsidecar::{
    core::{cloud::FailureKind, ids::PoolName, lb::LbAdmin},
    haproxy::{Haproxy, HaproxyError, preflight, settings::Supervisor, version},
};
use nix::sys::signal::Signal;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Member, Netns, Rig, converse_with, get, model, server};

#[tokio::test]
async fn a_running_one_is_adopted_as_it_is() {
    let mut rig = Rig::new();
    let base = Member::start("base-1").await;
    rig.haproxy.ensure_running(&model([base.ready(100)])).await.unwrap();
    let before = rig.haproxy.observe().await.unwrap();
    rig.restart();
    rig.haproxy.ensure_running(&model([])).await.unwrap();
    assert_eq!(rig.haproxy.apply(&model([base.ready(100)]), false).await.unwrap(), 1);
    let after = rig.haproxy.observe().await.unwrap();
    assert_eq!((after.worker_pid, after.generation, after.file_edited), (before.worker_pid, Some(1), false));
}

#[tokio::test]
async fn a_killed_one_starts_again_with_its_file() {
    let mut rig = Rig::new();
    let (base, clone) = (Member::start("base-1").await, Member::start("clone-2").await);
    let all = model([base.drain(), clone.ready(100)]);
    rig.haproxy.ensure_running(&model([base.ready(100), clone.ready(100)])).await.unwrap();
    rig.haproxy.apply(&all, false).await.unwrap();
    let before = rig.haproxy.observe().await.unwrap();

    rig.signal(Signal::SIGKILL);
    rig.until_gone(before.worker_pid).await;
    let error = rig.haproxy.observe().await.unwrap_err();
    assert!(matches!(error, HaproxyError::Unreachable { .. }), "{error}");
    assert_eq!(error.kind(), FailureKind::Transient);

    rig.haproxy.ensure_running(&model([])).await.unwrap();
    let after = rig.haproxy.observe().await.unwrap();
    assert_eq!((after.generation, after.servers.len()), (Some(1), 2));
    // A drain cannot be written down, but its weight of 0 can.
    let drained = server(&after, &base).unwrap();
    assert_eq!((drained.weight, drained.admin), (0, LbAdmin::Ready));
    assert_eq!(rig.haproxy.apply(&all, false).await.unwrap(), 1);
    let after = rig.haproxy.observe().await.unwrap();
    assert_eq!(server(&after, &base).unwrap().admin, LbAdmin::Drain);

    // `apply` alone does it as well.
    rig.signal(Signal::SIGKILL);
    rig.until_gone(after.worker_pid).await;
    assert_eq!(rig.haproxy.apply(&model([clone.ready(100)]), false).await.unwrap(), 2);
    assert_eq!(get(rig.service(), "/").await.unwrap().0, 200);
}

#[tokio::test]
async fn an_unusable_file_does_not_keep_the_service_down() {
    let mut rig = Rig::new();
    let base = Member::start("base-1").await;
    fs::create_dir_all(&rig.settings.config_dir).unwrap();
    fs::write(rig.config(), "global\n    description lbsidecar-web-gen-7-00000000\n    nonsense\n").unwrap();
    rig.haproxy.ensure_running(&model([base.ready(100)])).await.unwrap();
    assert_eq!(rig.haproxy.observe().await.unwrap().generation, Some(8));
    assert!(fs::read_to_string(rig.config().with_extension("cfg.edited")).unwrap().contains("nonsense"));
    assert_eq!(get(rig.service(), "/").await.unwrap().0, 200);
}

#[tokio::test]
async fn an_edited_file_is_better_than_no_service() {
    let mut rig = Rig::new();
    let base = Member::start("base-1").await;
    rig.haproxy.ensure_running(&model([base.ready(100)])).await.unwrap();
    let edited = fs::read_to_string(rig.config()).unwrap().replace("nbthread 2", "nbthread 1");
    fs::write(rig.config(), &edited).unwrap();
    let worker = rig.haproxy.observe().await.unwrap().worker_pid;
    rig.signal(Signal::SIGKILL);
    rig.until_gone(worker).await;
    let error = rig.haproxy.apply(&model([]), false).await.unwrap_err();
    assert!(matches!(error, HaproxyError::Edited { .. }), "{error}");
    assert_eq!(get(rig.service(), "/").await.unwrap().0, 200);
    assert!(rig.haproxy.observe().await.unwrap().file_edited);
    assert_eq!(fs::read_to_string(rig.config()).unwrap(), edited);
}

#[tokio::test]
async fn a_strangers_haproxy_is_not_touched() {
    let mut rig = Rig::new();
    let base = Member::start("base-1").await;
    rig.haproxy.ensure_running(&model([base.ready(100)])).await.unwrap();
    let before = fs::read_to_string(rig.config()).unwrap();
    let mut settings = rig.settings.clone();
    settings.pool = PoolName::try_new("other").unwrap();
    let mut other = Haproxy::new(settings).unwrap();
    for error in [
        other.ensure_running(&model([])).await.unwrap_err(),
        other.apply(&model([]), true).await.unwrap_err(),
    ] {
        assert!(matches!(error, HaproxyError::Foreign { .. }), "{error}");
        assert_eq!(error.kind(), FailureKind::Conflict);
        let text = error.to_string();
        assert!(text.contains("lbsidecar-web-gen-1-") && text.contains("pool other"), "{text}");
    }
    assert_eq!(other.observe().await.unwrap().generation, None);
    assert_eq!(fs::read_to_string(rig.config()).unwrap(), before);
}

#[tokio::test]
async fn a_taken_address_is_told_before_anything_is_changed() {
    let mut rig = Rig::new();
    let taken = TcpListener::bind(rig.service()).unwrap();
    let error = rig.haproxy.ensure_running(&model([])).await.unwrap_err();
    assert!(
        matches!(error, HaproxyError::Bind { address, .. } if address == taken.local_addr().unwrap()),
        "{error}"
    );
    assert!(!rig.settings.config_dir.exists() && !rig.settings.run_dir.exists());
    drop(taken);
    rig.haproxy.ensure_running(&model([])).await.unwrap();
}

#[tokio::test]
async fn a_dead_one_does_not_share_its_address_with_a_stranger() {
    let mut rig = Rig::new();
    rig.haproxy.ensure_running(&model([])).await.unwrap();
    let worker = rig.haproxy.observe().await.unwrap().worker_pid;
    rig.signal(Signal::SIGKILL);
    rig.until_gone(worker).await;
    let mut stranger = Rig::with(|settings| settings.binds = rig.settings.binds.clone());
    stranger.haproxy.ensure_running(&model([])).await.unwrap();
    let error = rig.haproxy.ensure_running(&model([])).await.unwrap_err();
    assert!(matches!(error, HaproxyError::Bind { .. }), "{error}");
}

#[tokio::test]
async fn one_that_hangs_gets_no_second_one_beside_it() {
    let mut rig = Rig::new();
    rig.haproxy.ensure_running(&model([])).await.unwrap();
    rig.signal(Signal::SIGSTOP);
    let error = rig.haproxy.apply(&model([]), false).await.unwrap_err();
    rig.signal(Signal::SIGCONT);
    assert!(matches!(error, HaproxyError::Unreachable { .. }), "{error}");
    rig.haproxy.apply(&model([]), false).await.unwrap();
}

#[tokio::test]
async fn a_missing_or_foreign_program_is_named() {
    for (binary, why) in
        [("/nonexistent/haproxy", "it is not there"), ("/bin/true", "does not say that it is HAProxy")]
    {
        let mut rig = Rig::with(|settings| settings.binary = binary.into());
        let error = rig.haproxy.ensure_running(&model([])).await.unwrap_err();
        assert!(matches!(error, HaproxyError::Binary { .. }), "{error}");
        assert!(error.to_string().contains(binary) && error.to_string().contains(why), "{error}");
    }
}

#[tokio::test]
async fn an_old_program_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let old = dir.path().join("haproxy");
    for (says, fine) in
        [("2.2.9-2+deb11u6", false), ("2.4.0", true), ("3.2-dev1-abc", true), ("1.8.4", false)]
    {
        fs::write(
            &old,
            format!("#!/bin/sh\necho 'HA-Proxy version {says} 2023/02/14 - https://haproxy.org/'\n"),
        )
        .unwrap();
        Command::new("chmod").arg("+x").arg(&old).status().unwrap();
        match version(&old).await {
            Ok(version) => assert!(fine && version == says, "{version} must be refused"),
            Err(error) => assert!(!fine && error.to_string().contains("2.4"), "{error}"),
        }
    }
}

#[tokio::test]
async fn it_outlives_us_and_inherits_nothing() {
    let mut rig = Rig::new();
    rig.haproxy.ensure_running(&model([])).await.unwrap();
    let master = rig.master_pid();
    let session = nix::unistd::getsid(Some(master)).unwrap();
    assert_eq!(session, master, "it must lead a session of its own");
    let environment = fs::read_to_string(format!("/proc/{master}/environ")).unwrap();
    assert!(environment.split('\0').all(|entry| !entry.starts_with("CARGO") && !entry.starts_with("HOME=")));
    for entry in fs::read_dir(format!("/proc/{master}/fd")).unwrap() {
        let target = fs::read_link(entry.unwrap().path()).unwrap_or_default();
        assert!(!target.to_string_lossy().starts_with("/dev/pts"), "{target:?}");
    }
}

#[tokio::test]
async fn it_can_be_driven_from_a_task() {
    let mut rig = Rig::new();
    let base = Member::start("base-1").await;
    let task = tokio::spawn(async move {
        rig.haproxy.ensure_running(&model([])).await?;
        rig.haproxy.apply(&model([base.ready(100)]), false).await?;
        rig.haproxy.probe(&base.name).await;
        rig.haproxy.cut_sessions(&base.name).await?;
        rig.haproxy.observe().await
    });
    assert_eq!(task.await.unwrap().unwrap().generation, Some(2));
}

#[tokio::test]
async fn it_lives_in_a_network_namespace_of_its_own() {
    let Some(netns) = Netns::new() else { return };
    let mut rig = Rig::with(|settings| {
        settings.netns = Some(netns.name.clone());
        settings.binds = vec!["0.0.0.0:80".parse().unwrap()];
    });
    let base = Member::start_in(&netns, "base-1").await;
    rig.haproxy.ensure_running(&model([base.ready(100)])).await.unwrap();
    rig.until_up(&base).await;
    // We cannot reach the member, but our probe can.
    assert!(get(base.address, "/").await.is_err());
    assert_eq!(rig.haproxy.probe(&base.name).await, (true, "GET /healthz answers 200".into()));
    let stream = netns.enter(|| std::net::TcpStream::connect("127.0.0.1:80").unwrap());
    stream.set_nonblocking(true).unwrap();
    let stream = tokio::net::TcpStream::from_std(stream).unwrap();
    let text = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert_eq!(converse_with(stream, text).await.unwrap().0, 200);
    // Addresses are tried where HAProxy is: ours is taken there, and free here.
    let findings = preflight(&rig.settings).await;
    assert!(findings.iter().all(|finding| finding.outcome.is_ok()), "{findings:?}");
    let mut stranger = rig.settings.clone();
    stranger.run_dir = stranger.run_dir.join("other");
    let findings = preflight(&stranger).await;
    let address = findings.iter().find(|finding| finding.what.ends_with("0.0.0.0:80")).unwrap();
    assert!(
        address.outcome.as_ref().unwrap_err().to_string().contains("another program listens there"),
        "{address:?}"
    );
    // The statistics page can be read from outside.
    let socket = rig.settings.run_dir.join("stats.sock");
    let mut stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    stream.write_all(text.replace("GET /", "GET /metrics").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_unit_that_does_not_start_is_named() {
    let unit = "lbsidecar-no-such-unit.service";
    let mut rig = Rig::with(|settings| settings.supervisor = Supervisor::Systemd(unit.into()));
    let error = rig.haproxy.ensure_running(&model([])).await.unwrap_err();
    assert!(matches!(error, HaproxyError::Start { .. }), "{error}");
    assert!(error.to_string().contains(unit), "{error}");
}
