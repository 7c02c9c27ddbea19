//! The counting client against small servers that misbehave on purpose: what they break must be counted, each thing by its
//! name, and what they do by the rules must not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it cannot go on"
)]

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use lbsidecar::load::{Attribution, ClientGroup, Load, LoadPlan, LoadReport, LossKind, Target, Verdict};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nvm-1\n";
const SHORT: Duration = Duration::from_millis(300);

/// A server that runs `serve` for each connection, which gets the connection's number from 0.
async fn server<F, Fut>(serve: F) -> SocketAddr
where
    F: Fn(usize, TcpStream) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    tokio::spawn(async move {
        for n in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let serve = Arc::clone(&serve);
            tokio::spawn(async move { serve(n, stream).await });
        }
    });
    address
}

/// Reads one request, head and body; `None` when the client closed.
async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut text = Vec::new();
    loop {
        if let Some(end) = text.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8(text[..end].to_vec()).unwrap();
            let length = head
                .lines()
                .find_map(|l| l.strip_prefix("Content-Length: ")?.parse::<usize>().ok())
                .unwrap_or(0);
            while text.len() < end + 4 + length {
                assert!(stream.read_buf(&mut text).await.unwrap() > 0, "the client cut its own request off");
            }
            assert_eq!(text.len(), end + 4 + length, "a request was followed by more than was announced");
            return Some(head);
        }
        if stream.read_buf(&mut text).await.ok()? == 0 {
            return None;
        }
    }
}

async fn answer(stream: &mut TcpStream, text: &str) {
    let _ = stream.write_all(text.as_bytes()).await;
}

/// Ends a connection by a reset instead of an orderly end.
fn reset(stream: &TcpStream) {
    stream.set_zero_linger().unwrap();
}

fn plan(address: SocketAddr, groups: Vec<ClientGroup>) -> LoadPlan {
    LoadPlan { duration: Some(SHORT), ..LoadPlan::new(Target::from(address), groups) }
}

fn one() -> ClientGroup {
    ClientGroup::keep_alive(1, Duration::from_millis(1))
}

async fn run(plan: LoadPlan) -> LoadReport {
    let report = Load::start(plan).unwrap().finish().await;
    assert_eq!(report.sent, report.total.ok + report.total.failed, "{report:#?}");
    assert_eq!(report.unaccounted, 0);
    assert_eq!(report.total.failed, report.total.failed_by_kind.values().sum::<u64>());
    assert_eq!(report.groups.iter().map(|g| g.ok + g.failed).sum::<u64>(), report.sent);
    report
}

/// Asserts that every loss was of this kind and that there was one at least.
fn only(report: &LoadReport, kind: LossKind) {
    assert_eq!(report.verdict, Verdict::Lost, "{report:#?}");
    assert!(report.total.failed > 0 && report.total.failed_by_kind.keys().all(|k| *k == kind), "{report:#?}");
    assert!(report.first_losses.iter().all(|l| l.kind == kind && l.id.starts_with(&report.run)));
    assert!(report.first_losses.len() <= LoadReport::KEPT_LOSSES);
}

#[tokio::test]
async fn a_good_server_loses_nothing_and_every_request_comes_once() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let address = server(move |_, mut stream| {
        let log = Arc::clone(&log);
        async move {
            while let Some(head) = request(&mut stream).await {
                let id = head.lines().find_map(|l| l.strip_prefix("X-Request-Id: ")).unwrap().to_owned();
                let close = head.contains("Connection: close");
                log.lock().unwrap().push(id.clone());
                let tail = if close { "Connection: close\r\n" } else { "" };
                answer(
                    &mut stream,
                    &format!(
                        "HTTP/1.1 200 OK\r\nX-Request-Id: {id}\r\n{tail}Content-Length: 5\r\n\r\nvm-1\n"
                    ),
                )
                .await;
                if close {
                    return;
                }
            }
        }
    })
    .await;
    let pause = Duration::from_millis(1);
    let mut plain = ClientGroup::new_connection(2, pause);
    plain.name = "plain-close".to_owned();
    plain.reuse = lbsidecar::load::Reuse::JustClose;
    let handle = Load::start(plan(
        address,
        vec![
            ClientGroup::keep_alive(4, pause),
            ClientGroup::idle(4, Duration::from_millis(5)..=Duration::from_millis(50)),
            ClientGroup::new_connection(2, pause),
            plain,
            ClientGroup::post(2, pause, vec![b'p'; 20_000]),
        ],
    ))
    .unwrap();
    let mut snapshots = 0;
    loop {
        let s = handle.snapshot();
        assert_eq!(s.sent, s.total.ok + s.total.failed + s.in_flight);
        assert!(s.in_flight <= 14);
        snapshots += 1;
        if s.clients == 0 {
            assert_eq!(s.in_flight, 0);
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(snapshots > 20);
    let report = handle.finish().await;
    assert_eq!(
        (report.verdict, report.total.failed, report.total.closed_idle),
        (Verdict::NothingLost, 0, 0),
        "{report:#?}"
    );
    assert!(report.sent > 200 && report.groups.iter().all(|g| g.ok > 0), "{report:#?}");
    assert_eq!(report.total.members["vm-1"], report.sent);
    let mut seen = seen.lock().unwrap().clone();
    seen.sort();
    let count = seen.len();
    seen.dedup();
    assert_eq!((count, seen.len() as u64), (seen.len(), report.sent), "no request twice, none missing");
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<LoadReport>(&text).unwrap().sent, report.sent);
}

#[tokio::test]
async fn an_end_on_a_reused_connection_is_counted() {
    // Answers two requests, takes the third and closes: what a worker that ends carelessly does.
    let address = server(|_, mut stream| async move {
        for _ in 0..2 {
            request(&mut stream).await;
            answer(&mut stream, OK).await;
        }
        request(&mut stream).await;
    })
    .await;
    let report = run(plan(address, vec![one()])).await;
    only(&report, LossKind::Stale);
    assert!(report.total.ok.abs_diff(2 * report.total.failed) <= 2, "one of three: {report:#?}");
    assert!(report.first_losses[0].detail.contains("ended"));
}

#[tokio::test]
async fn a_reset_on_a_reused_connection_is_counted() {
    let address = server(|_, mut stream| async move {
        request(&mut stream).await;
        answer(&mut stream, OK).await;
        request(&mut stream).await;
        reset(&stream);
    })
    .await;
    only(&run(plan(address, vec![one()])).await, LossKind::Stale);
}

#[tokio::test]
async fn an_idle_connection_closed_before_the_next_request_is_no_loss() {
    let address = server(|n, mut stream| async move {
        request(&mut stream).await;
        answer(&mut stream, OK).await;
        if n % 2 == 1 {
            reset(&stream);
        }
    })
    .await;
    let think = Duration::from_millis(20);
    let report = run(plan(address, vec![ClientGroup::keep_alive(4, think)])).await;
    assert_eq!(report.verdict, Verdict::NothingLost, "{report:#?}");
    assert_eq!(report.total.connections, report.sent);
    assert!(report.total.closed_idle >= report.sent - 4, "{report:#?}");
}

#[tokio::test]
async fn connection_close_is_honoured() {
    let address = server(|_, mut stream| async move {
        request(&mut stream).await;
        answer(&mut stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
        // A second request on this connection would be answered with an error.
        if request(&mut stream).await.is_some() {
            answer(&mut stream, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n").await;
        }
    })
    .await;
    let report = run(plan(address, vec![ClientGroup::keep_alive(2, Duration::ZERO)])).await;
    assert_eq!((report.verdict, report.total.closed_idle), (Verdict::NothingLost, 0), "{report:#?}");
    assert_eq!(report.total.connections, report.sent);
}

#[tokio::test]
async fn breakage_in_the_middle_has_its_names() {
    let address = server(|_, mut stream| async move {
        request(&mut stream).await;
    })
    .await;
    only(&run(plan(address, vec![one()])).await, LossKind::Empty);

    let address = server(|_, mut stream| async move {
        request(&mut stream).await;
        answer(&mut stream, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nvm").await;
    })
    .await;
    only(&run(plan(address, vec![one()])).await, LossKind::Truncated);

    let address = server(|_, mut stream| async move {
        request(&mut stream).await;
        answer(&mut stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nvm\r\n").await;
    })
    .await;
    only(&run(plan(address, vec![one()])).await, LossKind::Truncated);

    let address = server(|_, mut stream| async move {
        request(&mut stream).await;
        reset(&stream);
    })
    .await;
    only(&run(plan(address, vec![one()])).await, LossKind::Reset);

    let address = server(|_, mut stream| async move {
        request(&mut stream).await;
        answer(&mut stream, "hello\r\n").await;
    })
    .await;
    only(&run(plan(address, vec![one()])).await, LossKind::Malformed);
}

#[tokio::test]
async fn bad_answers_have_their_names() {
    for (text, kind) in [
        ("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", LossKind::ServerError),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 8\r\n\r\nstranger", LossKind::WrongStatus),
        ("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nstranger", LossKind::WrongBody),
        ("HTTP/1.1 200 OK\r\nX-Request-Id: other-1\r\nContent-Length: 5\r\n\r\nvm-1\n", LossKind::WrongBody),
    ] {
        let address = server(move |_, mut stream| async move {
            while request(&mut stream).await.is_some() {
                answer(&mut stream, text).await;
            }
        })
        .await;
        let report = run(plan(address, vec![ClientGroup { expect: Some("vm-".to_owned()), ..one() }])).await;
        only(&report, kind);
        // The answer was whole, so the connection goes on.
        assert_eq!(report.total.connections, 1);
    }
}

#[tokio::test]
async fn nobody_there_and_too_slow() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    only(&run(plan(address, vec![one()])).await, LossKind::ConnectRefused);

    let address = server(|_, mut stream| async move {
        request(&mut stream).await;
        answer(&mut stream, "HTTP/1.1 200 OK\r\n").await;
        std::future::pending().await
    })
    .await;
    let report =
        run(LoadPlan { request_timeout: Duration::from_millis(50), ..plan(address, vec![one()]) }).await;
    only(&report, LossKind::Timeout);
    assert!(report.total.longest_gap_ms >= 250.0, "nothing was ever answered: {report:#?}");
}

#[tokio::test]
async fn the_request_in_flight_at_the_end_gets_its_answer() {
    let address = server(|_, mut stream| async move {
        while request(&mut stream).await.is_some() {
            tokio::time::sleep(SHORT * 2).await;
            answer(&mut stream, OK).await;
        }
    })
    .await;
    let report = run(plan(address, vec![one()])).await;
    assert_eq!((report.sent, report.total.ok), (1, 1));
    assert!(report.total.latency.max_ms >= 600.0);
}

#[tokio::test]
async fn members_phases_groups_and_rate() {
    let turn = Arc::new(AtomicUsize::new(0));
    let address = server(move |_, mut stream| {
        let turn = Arc::clone(&turn);
        async move {
            while let Some(head) = request(&mut stream).await {
                let member =
                    if head.starts_with("GET /both") { turn.fetch_add(1, Ordering::Relaxed) % 2 } else { 0 };
                answer(
                    &mut stream,
                    &format!("HTTP/1.1 200 OK\r\nX-Served-By: m{member}\r\nContent-Length: 2\r\n\r\nno"),
                )
                .await;
            }
        }
    })
    .await;
    let first = ClientGroup { name: "first".to_owned(), path: Some("/one".to_owned()), ..one() };
    let mut plan = LoadPlan::new(Target::from(address), vec![first]);
    plan.rate = Some(200.0);
    plan.attribution = Attribution::default();
    let handle = Load::start(plan).unwrap();
    let wait_for = async |what: &str, enough: &dyn Fn(&lbsidecar::load::LoadSnapshot) -> bool| {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while !enough(&handle.snapshot()) {
            assert!(tokio::time::Instant::now() < deadline, "no {what}: {:#?}", handle.snapshot());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    wait_for("first phase", &|s| s.phase.counts.ok >= 40).await;
    let s = handle.snapshot();
    assert!(s.total.seconds >= 0.17, "the rate holds: {s:#?}");
    assert_eq!(s.recent_shares["m0"], 1.0);
    handle.stop_group("first");
    wait_for("end of the group", &|s| s.clients == 0).await;
    handle.mark("split");
    handle.set_rate(None);
    handle
        .start_group(ClientGroup { name: "second".to_owned(), path: Some("/both".to_owned()), ..one() })
        .unwrap();
    wait_for("second phase", &|s| s.phase.name == "split" && s.phase.counts.ok >= 100).await;
    let report = handle.stop().await;
    assert_eq!(report.verdict, Verdict::NothingLost);
    let [start, split] = report.phases.as_slice() else { panic!("{report:#?}") };
    assert_eq!((start.name.as_str(), split.name.as_str()), ("start", "split"));
    assert_eq!(start.counts.members.keys().collect::<Vec<_>>(), ["m0"]);
    assert!(split.counts.members["m0"].abs_diff(split.counts.members["m1"]) <= 1, "{split:#?}");
    assert_eq!(start.counts.ok + split.counts.ok, report.total.ok);
    assert_eq!(report.groups.iter().map(|g| g.name.as_str()).collect::<Vec<_>>(), ["first", "second"]);
}

#[tokio::test]
async fn a_plan_that_makes_no_request_is_refused() {
    let target = Target::from(SocketAddr::from(([127, 0, 0, 1], 1)));
    let bad = ClientGroup { path: Some("/ HTTP/1.1\r\nX: y".to_owned()), ..one() };
    let error = Load::start(LoadPlan::new(target.clone(), vec![bad])).unwrap_err();
    assert!(error.to_string().contains("keep-alive"), "{error}");
    let report = Load::start(LoadPlan::new(target, vec![])).unwrap().finish().await;
    assert_eq!(report.verdict, Verdict::NothingSent);
}

/// The client must not be the bottleneck of a measurement: thousands of requests a second even in a debug build.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: run it alone with --run-ignored and --no-capture"]
async fn speed() {
    let address = server(|_, mut stream| async move {
        let mut buf = [0; 4096];
        while matches!(stream.read(&mut buf).await, Ok(n) if n > 0) {
            answer(&mut stream, OK).await;
        }
    })
    .await;
    let group = ClientGroup::keep_alive(16, Duration::ZERO);
    let report = run(LoadPlan { duration: Some(Duration::from_secs(3)), ..plan(address, vec![group]) }).await;
    eprintln!("{:.0} requests/s, {:?}", report.sent as f64 / report.total.seconds, report.total.latency);
    assert_eq!(report.total.failed, 0);
}
