//! Reloads: lost, failed, and made by others.

use std::{fs, net::TcpListener, sync::Arc, time::Duration};

use lbsidecar::{
    core::{cloud::FailureKind, lb::LbAdmin},
    haproxy::HaproxyError,
};
use nix::sys::signal::{Signal, kill};
use tokio::{sync::Notify, time::sleep};

use crate::support::{Member, Rig, free_address, get, model, server};

#[tokio::test]
async fn a_failed_reload_goes_back_to_what_ran() {
    let mut rig = Rig::new();
    let (base, clone) = (Member::start("base-1").await, Member::start("clone-2").await);
    rig.haproxy.ensure_running(&model([base.ready(100), clone.ready(100)])).await.unwrap();
    rig.haproxy.apply(&model([base.drain(), clone.ready(100)]), false).await.unwrap();
    let (before, file) = (rig.haproxy.observe().await.unwrap(), fs::read_to_string(rig.config()).unwrap());
    let service = rig.service();

    // A port that is taken: `haproxy -c` does not see that.
    let taken = TcpListener::bind(free_address()).unwrap();
    let good = rig.settings.clone();
    rig.settings.binds.push(taken.local_addr().unwrap());
    rig.restart();
    let error = rig.haproxy.apply(&model([clone.ready(100)]), false).await.unwrap_err();
    let HaproxyError::Reload { generation: 2, why, after } = &error else { panic!("{error}") };
    assert!(
        why.contains("cannot bind socket") && why.contains(&taken.local_addr().unwrap().port().to_string()),
        "{why}"
    );
    assert_eq!(after, "generation 1 is back in force");
    assert_eq!(error.kind(), FailureKind::Transient);

    assert_eq!(fs::read_to_string(rig.config()).unwrap(), file);
    let seen = rig.haproxy.observe().await.unwrap();
    assert_eq!((seen.generation, seen.servers.len(), seen.file_edited), (Some(1), 2, false));
    assert_ne!(seen.worker_pid, before.worker_pid, "the good file was loaded again");
    // Who was on the way out is drained as before, not in maintenance.
    assert_eq!(server(&seen, &base).unwrap().admin, LbAdmin::Drain);
    assert!(get(service, "/").await.unwrap().1.ends_with("clone-2\n"));

    // Generations are never used twice, and the way is free again.
    rig.settings = good;
    rig.restart();
    assert_eq!(rig.haproxy.apply(&model([clone.ready(100)]), false).await.unwrap(), 2);
}

#[tokio::test]
async fn somebody_elses_reload_does_no_harm() {
    let mut rig = Rig::new();
    let (base, clone) = (Member::start("base-1").await, Member::start("clone-2").await);
    rig.haproxy.ensure_running(&model([base.ready(100), clone.ready(100)])).await.unwrap();
    let all = model([base.drain(), clone.ready(100)]);
    rig.haproxy.apply(&all, false).await.unwrap();
    let before = rig.haproxy.observe().await.unwrap();

    rig.signal(Signal::SIGUSR2);
    let seen = rig.until("a new worker", |seen| seen.worker_pid != before.worker_pid).await;
    assert_eq!(seen.generation, Some(1));
    // The drain is lost, which is seen, and the weight of 0 is not.
    let state = server(&seen, &base).unwrap();
    assert_eq!((state.admin, state.weight), (LbAdmin::Ready, 0));
    let taken = base.requests();
    for _ in 0..20 {
        assert!(get(rig.service(), "/").await.unwrap().1.ends_with("clone-2\n"));
    }
    assert_eq!(base.requests(), taken);
    assert_eq!(rig.haproxy.apply(&all, false).await.unwrap(), 1);
    let again = rig.haproxy.observe().await.unwrap();
    assert_eq!((server(&again, &base).unwrap().admin, again.worker_pid), (LbAdmin::Drain, seen.worker_pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_get_through_a_storm_of_reloads() {
    let mut rig = Rig::new();
    let members = [Member::start("a").await, Member::start("b").await, Member::start("c").await];
    let [a, b, c] = &members;
    rig.haproxy.ensure_running(&model([a.ready(100)])).await.unwrap();
    let master = rig.master_pid();
    let enough = Arc::new(Notify::new());
    let storm = tokio::spawn({
        let enough = Arc::clone(&enough);
        async move {
            let mut signals = 0;
            let stop = enough.notified();
            tokio::pin!(stop);
            loop {
                // The moment in which a request to reload gets lost lies 10 to 30 ms after another one.
                kill(master, Signal::SIGUSR2).unwrap();
                signals += 1;
                tokio::select! {
                    () = &mut stop => return signals,
                    () = sleep(Duration::from_millis(60)) => {}
                }
            }
        }
    });
    let mut last = 1;
    for next in [
        model([a.ready(100), b.ready(0)]),
        model([a.ready(100), b.ready(100)]),
        model([a.drain(), b.ready(100)]),
        model([b.ready(100)]),
        model([b.ready(100), c.ready(50)]),
        model([c.ready(50)]),
    ] {
        let generation = rig.haproxy.apply(&next, false).await.unwrap();
        assert!(generation >= last);
        last = generation;
    }
    enough.notify_one();
    assert!(storm.await.unwrap() > 2);
    assert_eq!(last, 5, "four changes of structure");
    let seen = rig.until("calm", |seen| seen.old_workers.is_empty()).await;
    assert_eq!(seen.generation, Some(5));
    assert_eq!(seen.servers.keys().collect::<Vec<_>>(), [&c.name]);
    assert!(get(rig.service(), "/").await.unwrap().1.ends_with("c\n"));
}

#[tokio::test]
async fn a_member_that_is_down_stays_down_over_our_reload() {
    // The first check of a new worker comes late enough to see what it does until then.
    let mut rig = Rig::with(|settings| settings.check.interval = Duration::from_secs(2));
    let (good, sick, new) =
        (Member::start("good").await, Member::start_sick("sick").await, Member::start("new").await);
    rig.haproxy.ensure_running(&model([good.ready(100), sick.ready(100)])).await.unwrap();
    rig.until("down", |seen| server(seen, &sick).is_some_and(|s| !s.up)).await;
    let before = sick.requests();
    rig.haproxy.apply(&model([good.ready(100), sick.ready(100), new.ready(0)]), false).await.unwrap();
    for _ in 0..50 {
        assert_eq!(get(rig.service(), "/").await.unwrap().0, 200);
    }
    assert_eq!(sick.requests(), before);
    // It is checked all the same, and comes back by itself.
    sick.set_healthy(true);
    rig.until_up(&sick).await;
    // What was down once is not taken for down at the next reload by somebody else.
    let worker = rig.haproxy.observe().await.unwrap().worker_pid;
    rig.signal(Signal::SIGUSR2);
    let seen = rig.until("a new worker", |seen| seen.worker_pid != worker).await;
    assert!(server(&seen, &sick).unwrap().up);
}
