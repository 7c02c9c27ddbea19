//! What is seen of the workers, and what the probe says.

use std::time::Duration;

use lbsidecar::{
    core::{
        ids::BackendName,
        lb::{LbAdmin, LbMode, LbServer},
        units::Weight,
    },
    haproxy::settings::ServiceMode,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Member, Rig, get, master_command, model, server};

/// A request that the member answers after `ms`.
async fn long_request(rig: &Rig, ms: u32) -> TcpStream {
    long(rig, "GET", ms).await
}

async fn long(rig: &Rig, method: &str, ms: u32) -> TcpStream {
    let mut stream = TcpStream::connect(rig.service()).await.unwrap();
    let text = format!("{method} /slow/{ms} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

async fn answer(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn an_old_worker_with_a_long_request_is_seen() {
    let mut rig = Rig::new();
    let (base, clone) = (Member::start("base-1").await, Member::start("clone-2").await);
    rig.haproxy.ensure_running(&model([base.ready(100)])).await.unwrap();
    let stream = long_request(&rig, 1500).await;
    let before = rig.until("busy", |seen| server(seen, &base).is_some_and(|s| s.sessions == 1)).await;
    assert!(before.old_workers.is_empty() && before.sessions == 1);

    rig.haproxy.apply(&model([base.ready(100), clone.ready(0)]), false).await.unwrap();
    let seen = rig.haproxy.observe().await.unwrap();
    assert_eq!(seen.old_workers, [before.worker_pid]);
    let state = server(&seen, &base).unwrap();
    assert_eq!((state.sessions, state.usable_by_old_worker, seen.sessions), (1, true, 1));
    assert_eq!(state.requests, 0, "counters are the current worker's");
    assert!(!server(&seen, &clone).unwrap().usable_by_old_worker, "it does not know it");

    assert!(answer(stream).await.ends_with("base-1\n"));
    let seen = rig.until("alone", |seen| seen.old_workers.is_empty()).await;
    let state = server(&seen, &base).unwrap();
    assert_eq!((state.sessions, state.usable_by_old_worker), (0, false));
}

#[tokio::test]
async fn a_server_that_left_is_counted_in_the_old_worker_but_not_usable() {
    let mut rig = Rig::new();
    let (base, clone) = (Member::start("base-1").await, Member::start("clone-2").await);
    rig.haproxy.ensure_running(&model([base.ready(100), clone.ready(0)])).await.unwrap();
    let stream = long_request(&rig, 1500).await;
    rig.until("busy", |seen| server(seen, &base).is_some_and(|s| s.sessions == 1)).await;
    rig.haproxy.apply(&model([base.drain(), clone.ready(100)]), false).await.unwrap();
    rig.haproxy.apply(&model([clone.ready(100)]), false).await.unwrap();
    let seen = rig.haproxy.observe().await.unwrap();
    let state = server(&seen, &base).unwrap();
    assert_eq!((state.listed, state.sessions, state.usable_by_old_worker), (false, 1, false));
    assert!(answer(stream).await.ends_with("base-1\n"));
    rig.until("gone", |seen| server(seen, &base).is_none()).await;
}

#[tokio::test]
async fn sessions_are_cut_in_every_worker() {
    let mut rig = Rig::new();
    let (base, clone) = (Member::start("base-1").await, Member::start("clone-2").await);
    let both = model([base.ready(100), clone.ready(0)]);
    rig.haproxy.ensure_running(&model([base.ready(100)])).await.unwrap();
    // One that must not be repeated, in what will be the old worker; and one that may, in the current one.
    let old = long(&rig, "POST", 20_000).await;
    rig.until("busy", |seen| server(seen, &base).is_some_and(|s| s.sessions == 1)).await;
    rig.haproxy.apply(&both, false).await.unwrap();
    rig.until_up(&clone).await;
    let current = long(&rig, "GET", 500).await;
    let seen = rig.until("busy twice", |seen| server(seen, &base).is_some_and(|s| s.sessions == 2)).await;
    assert_eq!(seen.old_workers.len(), 1);
    rig.haproxy.apply(&model([base.drain(), clone.ready(100)]), false).await.unwrap();
    rig.haproxy.cut_sessions(&base.name).await.unwrap();
    let seen = rig.until("empty", |seen| server(seen, &base).is_some_and(|s| s.sessions == 0)).await;
    assert_eq!(seen.old_workers, [0; 0]);
    // What may be asked again is asked of another member by some versions, and answered with an error by others.
    for stream in [old, current] {
        assert!(!answer(stream).await.contains("base-1"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_never_fails_while_workers_come_and_go() {
    let mut rig = Rig::new();
    let base = Member::start("base-1").await;
    rig.haproxy.ensure_running(&model([base.ready(100)])).await.unwrap();
    let mut workers = std::collections::BTreeSet::new();
    for round in 0..300 {
        if round % 15 == 0 {
            rig.signal(nix::sys::signal::Signal::SIGUSR2);
        }
        let seen = rig.haproxy.observe().await.unwrap();
        assert_eq!(seen.generation, Some(1));
        assert!(server(&seen, &base).unwrap().listed);
        workers.insert(seen.worker_pid);
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    assert!(workers.len() > 10, "{workers:?}");
}

#[tokio::test]
async fn a_new_member_that_is_not_ready_gets_no_request() {
    let mut rig = Rig::new();
    let (base, clone) = (Member::start("base-1").await, Member::start_sick("clone-2").await);
    rig.haproxy.ensure_running(&model([base.ready(100)])).await.unwrap();
    rig.haproxy.apply(&model([base.ready(100), clone.ready(0)]), false).await.unwrap();
    let first = rig.haproxy.observe().await.unwrap();
    assert!(!server(&first, &clone).unwrap().check_ok, "nothing was checked yet, or it was bad");
    for _ in 0..50 {
        assert_eq!(get(rig.service(), "/").await.unwrap().0, 200);
    }
    rig.until("down", |seen| server(seen, &clone).is_some_and(|s| !s.up && s.check == "L7STS")).await;
    assert_eq!(rig.haproxy.probe(&clone.name).await, (false, "GET /healthz answers 503".into()));
    assert_eq!(clone.requests(), 0);
    clone.set_healthy(true);
    rig.until_up(&clone).await;
    assert!(rig.haproxy.probe(&clone.name).await.0);
}

#[tokio::test]
async fn what_haproxy_assumes_before_its_first_check_is_told_apart() {
    let mut rig = Rig::with(|settings| settings.check.interval = Duration::from_secs(2));
    // The kernel takes connections, and nobody answers: the first check lasts until it is given up.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let name: BackendName = "silent-1".parse().unwrap();
    let line = LbServer {
        name: name.clone(),
        address: silent.local_addr().unwrap(),
        weight: Weight::FULL,
        mode: LbMode::Ready,
    };
    rig.haproxy.ensure_running(&model([line])).await.unwrap();
    let seen = rig.haproxy.observe().await.unwrap();
    let assumed = &seen.servers[&name];
    assert!(assumed.up && !assumed.is_checked() && !assumed.check_ok, "{assumed:?}");
    let seen = rig.until("down", |seen| !seen.servers[&name].up).await;
    assert!(seen.servers[&name].is_checked(), "{seen:?}");
}

#[tokio::test]
async fn a_probe_is_answered_by_that_member_or_not_at_all() {
    let mut rig = Rig::with(|settings| {
        // HAProxy's own 503 must not be taken for an answer even where 503 is a good one.
        (settings.check.status_min, settings.check.status_max) = (200, 599);
    });
    let (base, dead) = (Member::start("base-1").await, Member::start("dead-2").await);
    let lines = model([base.ready(100), dead.ready(0)]);
    let dead_name = dead.name.clone();
    drop(dead);
    rig.haproxy.ensure_running(&lines).await.unwrap();
    assert_eq!(rig.haproxy.probe(&dead_name).await, (false, "HAProxy cannot reach it".into()));
    let unknown = "nobody".parse().unwrap();
    assert!(!rig.haproxy.probe(&unknown).await.0);
    assert!(rig.haproxy.probe(&base.name).await.0);
    assert_eq!((base.probes(), base.requests()), (1, 0));
    let seen = rig.haproxy.observe().await.unwrap();
    assert_eq!((server(&seen, &base).unwrap().requests, seen.requests), (0, 0), "probes do not count");
}

#[tokio::test]
async fn maintenance_set_by_hand_is_undone_with_care() {
    let mut rig = Rig::new();
    let (base, clone) = (Member::start("base-1").await, Member::start("clone-2").await);
    let all = model([base.ready(100), clone.ready(100)]);
    rig.haproxy.ensure_running(&all).await.unwrap();
    rig.until_up(&clone).await;
    let worker = rig.haproxy.observe().await.unwrap().worker_pid;
    master_command(&rig, &format!("@!{worker} set server app/clone-2 state maint")).await;
    let seen = rig.haproxy.observe().await.unwrap();
    assert_eq!(server(&seen, &clone).unwrap().admin, LbAdmin::Maint);
    clone.set_healthy(false);
    let before = clone.requests();
    assert_eq!(rig.haproxy.apply(&all, false).await.unwrap(), 1);
    for _ in 0..30 {
        assert_eq!(get(rig.service(), "/").await.unwrap().0, 200);
    }
    assert_eq!(clone.requests(), before, "it is not used before a good check");
    clone.set_healthy(true);
    rig.until_up(&clone).await;
}

#[tokio::test]
async fn plain_tcp() {
    let mut rig = Rig::with(|settings| settings.mode = ServiceMode::Tcp);
    let (base, dead) = (Member::start("base-1").await, Member::start("dead-2").await);
    let lines = model([base.ready(100), dead.ready(0)]);
    let dead_name = dead.name.clone();
    drop(dead);
    rig.haproxy.ensure_running(&lines).await.unwrap();
    let seen = rig.until_up(&base).await;
    assert_eq!(server(&seen, &base).unwrap().check, "L4OK");
    assert_eq!(get(rig.service(), "/").await.unwrap().0, 200);
    assert_eq!(rig.haproxy.probe(&base.name).await, (true, format!("{} takes connections", base.address)));
    assert!(!rig.haproxy.probe(&dead_name).await.0);
    let seen = rig.haproxy.observe().await.unwrap();
    assert_eq!((seen.requests, server(&seen, &base).unwrap().answers_ok), (1, 1));

    let stream = long_request(&rig, 700).await;
    rig.until("busy", |seen| server(seen, &base).is_some_and(|s| s.sessions == 1)).await;
    rig.haproxy.apply(&model([base.drain()]), false).await.unwrap();
    assert!(answer(stream).await.ends_with("base-1\n"));
    rig.until("empty", |seen| server(seen, &base).is_some_and(|s| s.sessions == 0)).await;
}
