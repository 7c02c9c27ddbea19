//! Members come, get weight, drain and leave.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown},
};

use lbsidecar::core::lb::{LbAdmin, LbModel};
use nix::unistd::{Uid, setfsuid};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Member, Rig, get, model, server};

#[tokio::test(flavor = "multi_thread")]
async fn a_member_comes_gets_weight_drains_and_leaves() {
    let mut rig = Rig::new();
    let (base, clone) = (Member::start("base-1").await, Member::start("clone-2").await);
    rig.haproxy.ensure_running(&model([base.ready(100)])).await.unwrap();
    assert_eq!(rig.haproxy.apply(&model([base.ready(100)]), false).await.unwrap(), 1);
    let first = rig.until_up(&base).await;
    assert_eq!((first.generation, first.file_edited), (Some(1), false));

    // In with weight 0: one reload, checked, no traffic.
    assert_eq!(rig.haproxy.apply(&model([base.ready(100), clone.ready(0)]), false).await.unwrap(), 2);
    let second = rig.until_up(&clone).await;
    assert_ne!(second.worker_pid, first.worker_pid);
    for _ in 0..20 {
        assert!(get(rig.service(), "/").await.unwrap().1.ends_with("base-1\n"));
    }
    assert_eq!(rig.haproxy.probe(&clone.name).await, (true, "GET /healthz answers 200".into()));
    assert_eq!((clone.requests(), clone.probes()), (0, 1));

    // Weights without a reload, and the file says them.
    let both = model([base.ready(100), clone.ready(100)]);
    assert_eq!(rig.haproxy.apply(&both, false).await.unwrap(), 2);
    for _ in 0..20 {
        assert_eq!(get(rig.service(), "/").await.unwrap().0, 200);
    }
    assert_eq!(clone.requests(), 10);
    let seen = rig.haproxy.observe().await.unwrap();
    assert_eq!((seen.worker_pid, seen.generation), (second.worker_pid, Some(2)));
    assert!(fs::read_to_string(rig.config()).unwrap().contains("server clone-2"));
    assert_eq!(server(&seen, &clone).unwrap().answers_ok, 10);

    // Drained, then gone.
    rig.until("without old workers", |seen| seen.old_workers.is_empty()).await;
    assert_eq!(rig.haproxy.apply(&model([base.drain(), clone.ready(100)]), false).await.unwrap(), 2);
    let seen = rig.haproxy.observe().await.unwrap();
    let drained = server(&seen, &base).unwrap();
    assert_eq!((drained.admin, drained.weight, drained.sessions), (LbAdmin::Drain, 0, 0));
    assert!(drained.up, "a drained server is still checked");
    let before = base.requests();
    for _ in 0..20 {
        assert!(get(rig.service(), "/").await.unwrap().1.ends_with("clone-2\n"));
    }
    assert_eq!(base.requests(), before);
    assert_eq!(rig.haproxy.apply(&model([clone.ready(100)]), false).await.unwrap(), 3);
    let seen = rig.haproxy.observe().await.unwrap();
    assert!(server(&seen, &base).is_none_or(|base| !base.listed && !base.usable_by_old_worker));
}

/// One request on a connection that is kept.
/// The new file has its name, and the directory cannot be synced: the error is not the last word about what lies there.
#[tokio::test]
async fn a_file_of_ours_is_known_when_its_last_step_failed() {
    const SOMEBODY: u32 = 65_534;
    let mut rig = Rig::new();
    let member = Member::start("base-1").await;
    rig.haproxy.ensure_running(&model([member.ready(100)])).await.unwrap();
    rig.haproxy.apply(&model([member.ready(100)]), false).await.unwrap();
    let root = Uid::effective().is_root();
    let mut all = vec![rig.settings.config_dir.parent().unwrap().to_owned()];
    while let Some(path) = all.pop() {
        if path.is_dir() {
            all.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        if root {
            chown(&path, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
        }
    }
    // Files can be made and renamed in it, but it cannot be opened; root could do that all the same.
    let allow = |mode| fs::set_permissions(&rig.settings.config_dir, Permissions::from_mode(mode)).unwrap();
    allow(0o300);
    if root {
        setfsuid(Uid::from_raw(SOMEBODY));
    }
    let failed = rig.haproxy.apply(&model([member.ready(50)]), false).await;
    if root {
        setfsuid(Uid::from_raw(0));
    }
    allow(0o700);
    assert!(failed.unwrap_err().to_string().starts_with("replace"));
    assert!(fs::read_to_string(rig.config()).unwrap().contains("weight 50"));
    assert!(!rig.haproxy.observe().await.unwrap().file_edited);
    rig.haproxy.apply(&model([member.ready(50)]), false).await.unwrap();
    fs::write(rig.config(), fs::read_to_string(rig.config()).unwrap().replace("weight 50", "weight 51"))
        .unwrap();
    assert!(rig.haproxy.observe().await.unwrap().file_edited);
}

async fn ask(client: &mut TcpStream) -> String {
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 4096];
    let length = client.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

/// Before the service address moves: a kept connection gets one more answer and ends with it, and no new one is kept.
#[tokio::test]
async fn answers_end_their_connections_when_nothing_may_be_kept() {
    let closes =
        |answer: &str| answer.contains("200 OK") && answer.to_lowercase().contains("connection: close");
    let mut rig = Rig::with(|settings| settings.keep_alive_timeout = std::time::Duration::from_secs(10));
    let base = Member::start("a").await;
    let keeping = model([base.ready(100)]);
    rig.haproxy.ensure_running(&keeping).await.unwrap();
    let mut kept = TcpStream::connect(rig.service()).await.unwrap();
    assert!(!closes(&ask(&mut kept).await));
    let closing = LbModel { closing: true, ..keeping.clone() };
    assert_eq!(rig.haproxy.apply(&closing, false).await.unwrap(), 2);
    assert!(closes(&ask(&mut kept).await));
    rig.until("nothing kept", |seen| seen.old_workers.is_empty()).await;
    assert!(closes(&ask(&mut TcpStream::connect(rig.service()).await.unwrap()).await));
    assert_eq!(rig.haproxy.apply(&keeping, false).await.unwrap(), 3);
    assert!(!closes(&ask(&mut TcpStream::connect(rig.service()).await.unwrap()).await));
}

/// A client that rests while HAProxy is reloaded, and then uses its connection again: the request must be answered.
#[tokio::test]
async fn a_resting_client_survives_a_reload() {
    let mut rig = Rig::with(|settings| settings.keep_alive_timeout = std::time::Duration::from_secs(10));
    let [base, clone, third] = [Member::start("a").await, Member::start("b").await, Member::start("c").await];
    rig.haproxy.ensure_running(&model([base.ready(100), clone.ready(100)])).await.unwrap();
    let mut client = TcpStream::connect(rig.service()).await.unwrap();
    assert!(ask(&mut client).await.contains("200 OK"));
    rig.haproxy.apply(&model([clone.ready(100)]), false).await.unwrap();
    let seen = rig.haproxy.observe().await.unwrap();
    assert_eq!(seen.old_workers.len(), 1, "the client keeps it alive");
    // The old worker knows the leaver, and sends nothing there any more.
    assert!(!server(&seen, &base).unwrap().usable_by_old_worker);
    let answer = ask(&mut client).await;
    assert!(answer.contains("200 OK") && answer.to_lowercase().contains("connection: close"), "{answer:?}");
    assert!(answer.ends_with("b\n"), "{answer:?}");

    // One replaced by another at once: for its resting client the old worker must keep the one that it knows.
    let mut client = TcpStream::connect(rig.service()).await.unwrap();
    assert!(ask(&mut client).await.ends_with("b\n"));
    rig.haproxy.apply(&model([clone.drain(), third.ready(100)]), false).await.unwrap();
    rig.haproxy.apply(&model([third.ready(100)]), false).await.unwrap();
    let seen = rig.haproxy.observe().await.unwrap();
    assert!(server(&seen, &clone).unwrap().usable_by_old_worker);
    assert!(ask(&mut client).await.ends_with("b\n"));
    rig.until("alone", |seen| seen.old_workers.is_empty() && server(seen, &clone).is_none()).await;
    assert!(get(rig.service(), "/").await.unwrap().1.ends_with("c\n"));
}
