//! Whole cycles on a real HAProxy under load, every request counted: a member comes, gets weight, the old one drains, leaves and is
//! gone, and no client notices. And the opposite: what is done carelessly is counted, so that a zero means something.
//!
//! `LBSIDECAR_NO_LOSS_REQUESTS` says how many requests the two cycles shall see at least (20 000 by default).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs,
    unreachable_pub
)]

#[path = "haproxy/support.rs"]
#[expect(dead_code, reason = "shared with the adapter's own tests")]
mod support;

use std::time::Duration;

use lbsidecar::{
    core::lb::LbAdmin,
    load::{ClientGroup, Load, LoadHandle, LoadPlan, LoadReport, LossKind, Target, Verdict},
};
use support::{Member, Rig, model, server};
use tokio::time::{Instant, sleep};

/// What a member takes for an answer.
const SERVICE: &str = "/slow/1";

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Longer than any client of ours rests, so that HAProxy never ends a kept connection for its age alone: a client that sends
/// in just that moment loses its request on any server.
fn patient_rig() -> Rig {
    Rig::with(|settings| settings.keep_alive_timeout = Duration::from_secs(5))
}

/// Clients of every kind: busy and resting on kept connections, on new ones, and with bodies that must not be sent twice.
fn all_kinds() -> Vec<ClientGroup> {
    vec![
        ClientGroup::keep_alive(12, ms(2)),
        ClientGroup::idle(32, ms(50)..=ms(3000)),
        ClientGroup::new_connection(4, ms(4)),
        ClientGroup::post(6, ms(2), vec![b'x'; 3000]),
    ]
}

fn start(rig: &Rig, groups: Vec<ClientGroup>, path: &str) -> LoadHandle {
    let groups =
        groups.into_iter().map(|group| ClientGroup { path: Some(path.to_owned()), ..group }).collect();
    Load::start(LoadPlan::new(Target::from(rig.service()), groups)).unwrap()
}

/// Waits until so many more requests were answered, and at least for `at_least`.
async fn serve_more(load: &LoadHandle, requests: u64, at_least: Duration) {
    sleep(at_least).await;
    let until = Instant::now() + Duration::from_secs(300);
    while load.snapshot().phase.counts.ok < requests {
        assert!(Instant::now() < until, "not {requests} more answers in time: {:#?}", load.snapshot());
        sleep(ms(20)).await;
    }
}

/// One whole cycle: from `base` alone over both to `clone` alone; `base` is gone then.
async fn cycle(rig: &mut Rig, load: &LoadHandle, base: Member, clone: &Member, requests: u64) -> u64 {
    load.mark("scale-out");
    rig.haproxy.apply(&model([base.ready(100), clone.ready(0)]), false).await.unwrap();
    rig.until_up(clone).await;
    let (good, why) = rig.haproxy.probe(&clone.name).await;
    assert!(good, "{why}");
    assert_eq!(clone.requests(), 0, "no client is sent to a member that has no weight");
    for weight in [1, 10, 50, 100] {
        rig.haproxy.apply(&model([base.ready(100), clone.ready(weight)]), false).await.unwrap();
        sleep(ms(200)).await;
    }
    load.mark("split");
    serve_more(load, requests, ms(1000)).await;

    load.mark("handover");
    rig.until("without old workers", |seen| seen.old_workers.is_empty()).await;
    rig.haproxy.apply(&model([base.drain(), clone.ready(100)]), false).await.unwrap();
    for _ in 0..2 {
        rig.until("empty", |seen| {
            server(seen, &base).is_some_and(|s| s.admin == LbAdmin::Drain && s.sessions + s.queued == 0)
        })
        .await;
    }
    rig.haproxy.apply(&model([clone.ready(100)]), false).await.unwrap();
    rig.until("unreachable", |seen| {
        server(seen, &base).is_none_or(|s| !s.listed && !s.usable_by_old_worker && s.sessions == 0)
    })
    .await;
    let answered = base.requests();
    drop(base);
    load.mark("alone");
    serve_more(load, requests, ms(1000)).await;
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_whole_cycles_lose_nothing() {
    let wanted = std::env::var("LBSIDECAR_NO_LOSS_REQUESTS").map_or(20_000, |n| n.parse().unwrap());
    let mut rig = patient_rig();
    let first = Member::start("vm-1").await;
    rig.haproxy.ensure_running(&model([first.ready(100)])).await.unwrap();
    rig.until_up(&first).await;
    let load = start(&rig, all_kinds(), SERVICE);

    let second = Member::start("vm-2").await;
    let by_first = cycle(&mut rig, &load, first, &second, wanted / 4).await;
    let third = Member::start("vm-3").await;
    let by_second = cycle(&mut rig, &load, second, &third, wanted / 4).await;
    let report = load.stop().await;
    print(&report);

    assert_eq!(report.verdict, Verdict::NothingLost, "{report:#?}");
    assert!(report.sent >= wanted && report.groups.iter().all(|g| g.ok > 100), "{report:#?}");
    assert_eq!(report.total.closed_idle, 0, "HAProxy says `Connection: close` before it closes");
    // Each request was carried out once: neither HAProxy nor the client sent one again.
    assert_eq!(by_first + by_second + third.requests(), report.sent);
    for split in report.phases.iter().filter(|phase| phase.name == "split") {
        let [a, b] = split.counts.members.values().copied().collect::<Vec<_>>()[..] else {
            panic!("{split:#?}")
        };
        let share = a as f64 / (a + b) as f64;
        assert!((0.45..0.55).contains(&share), "half each: {split:#?}");
    }
}

/// The same load sees what a removal without a drain does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_careless_removal_is_counted() {
    let mut rig = patient_rig();
    let (base, clone) = (Member::start("vm-1").await, Member::start("vm-2").await);
    rig.haproxy.ensure_running(&model([base.ready(100), clone.ready(100)])).await.unwrap();
    rig.until_up(&base).await;
    rig.until_up(&clone).await;
    let load = start(&rig, vec![ClientGroup::post(16, Duration::ZERO, vec![b'x'; 100])], "/slow/1000");
    serve_more(&load, 16, Duration::ZERO).await;
    let answered = load.snapshot().total.ok;
    rig.haproxy.apply(&model([clone.ready(100)]), false).await.unwrap();
    drop(base);
    serve_more(&load, answered + 32, Duration::ZERO).await;
    let report = load.stop().await;
    assert_eq!(report.verdict, Verdict::Lost, "{report:#?}");
    assert!(report.total.failed <= 16, "those in flight and no more: {report:#?}");
}

/// Reloads break resting clients unless HAProxy is told to let them go gently; the client sees both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_without_idle_close_on_response_is_counted() {
    let careful = reloads_under_idle_clients(patient_rig()).await;
    assert_eq!(careful.verdict, Verdict::NothingLost, "{careful:#?}");

    let dir = tempfile::tempdir().unwrap();
    let template = dir.path().join("careless.tera");
    let text = include_str!("../templates/haproxy.cfg.tera");
    std::fs::write(&template, text.replace("option idle-close-on-response", "")).unwrap();
    let rig = Rig::with(|settings| {
        settings.keep_alive_timeout = Duration::from_secs(5);
        settings.template = Some(template);
    });
    let careless = reloads_under_idle_clients(rig).await;
    // Some clients notice the end before they send; those that do not are lost, on a kept connection, without a status.
    assert!(careless.total.closed_idle > 0, "{careless:#?}");
    assert!(careless.total.failed_by_kind.keys().all(|kind| *kind == LossKind::Stale), "{careless:#?}");
}

async fn reloads_under_idle_clients(mut rig: Rig) -> LoadReport {
    let (base, other) = (Member::start("vm-1").await, Member::start("vm-2").await);
    rig.haproxy.ensure_running(&model([base.ready(100)])).await.unwrap();
    rig.until_up(&base).await;
    let load = start(&rig, vec![ClientGroup::idle(64, ms(0)..=ms(50))], SERVICE);
    serve_more(&load, 500, Duration::ZERO).await;
    for n in 0..6 {
        let with = [base.ready(100), other.ready(0)];
        rig.haproxy.apply(&model(with.into_iter().take(1 + (n + 1) % 2)), false).await.unwrap();
        rig.until("without old workers", |seen| seen.old_workers.is_empty()).await;
    }
    load.stop().await
}

fn print(report: &LoadReport) {
    eprintln!("{} requests, {} lost", report.sent, report.total.failed);
    for phase in &report.phases {
        let c = &phase.counts;
        eprintln!(
            "{:>10} {:6.1} s {:8} ok {:3} lost  p99 {:5.1} ms  longest gap {:5.1} ms  {:?}",
            phase.name, c.seconds, c.ok, c.failed, c.latency.p99_ms, c.longest_gap_ms, c.members
        );
    }
}
