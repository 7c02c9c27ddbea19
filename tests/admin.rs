//! The admin server against what may come in: junk, slow and greedy clients, strangers' sockets.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Instant};

use lbsidecar::{
    admin::{
        AdminRequest, AdminSettings, Published, next_order,
        server::{AdminError, Ports, Server},
    },
    core::event::Command,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    sync::{mpsc, watch},
    time::{Duration, timeout},
};

struct Rig {
    dir: TempDir,
    published: watch::Sender<Option<Arc<Published>>>,
    commands: mpsc::Receiver<AdminRequest>,
    page: SocketAddr,
}

/// A server that shows the pool of a fixture.
async fn rig() -> Rig {
    let dir = TempDir::new().unwrap();
    // A port that was free a moment ago; nobody else on this loopback asks for it meanwhile.
    let page = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = AdminSettings { socket: dir.path().join("s"), listen: Some(page) };
    let server = Server::bind(&settings).await.unwrap();
    let status = serde_json::from_str(include_str!("fixtures/status/balanced.json")).unwrap();
    let first = Published { status, decisions: Arc::default(), turned: Instant::now() };
    let (published, shown) = watch::channel(Some(Arc::new(first)));
    let (sender, commands) = mpsc::channel(1);
    tokio::spawn(server.serve(Ports {
        published: shown,
        commands: sender,
        metrics: Arc::new(|| "lbsidecar_up 1\n# EOF\n".to_owned()),
    }));
    Rig { dir, published, commands, page }
}

impl Rig {
    fn socket(&self) -> std::path::PathBuf {
        self.dir.path().join("s")
    }

    /// What comes back for these bytes on the Unix socket.
    async fn unix(&self, request: &[u8]) -> String {
        talk(UnixStream::connect(self.socket()).await.unwrap(), request).await
    }

    /// What comes back for these bytes on the loopback address.
    async fn tcp(&self, request: &str) -> String {
        talk(TcpStream::connect(self.page).await.unwrap(), request.as_bytes()).await
    }
}

async fn talk(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, request: &[u8]) -> String {
    // It may be refused, and the connection closed, before all of it is written.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "no end of the answer: {:?}", String::from_utf8_lossy(&answer));
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
}

fn post(body: &str) -> Vec<u8> {
    format!(
        "POST /v1/command HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[track_caller]
fn is(answer: &str, status: u16) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
}

#[tokio::test]
async fn every_route_answers() {
    let rig = rig().await;
    for path in ["/v1/status", "/v1/explain", "/v1/explain?limit=3", "/metrics", "/healthz", "/readyz"] {
        is(&rig.unix(get(path).as_bytes()).await, 200);
        is(&rig.tcp(&get(path)).await, 200);
    }
    let metrics = rig.unix(get("/metrics").as_bytes()).await;
    assert!(metrics.contains("application/openmetrics-text; version=1.0.0; charset=utf-8"), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"));
}

#[tokio::test]
async fn the_loopback_address_only_reads_and_only_for_local_names() {
    let mut rig = rig().await;
    is(&rig.tcp(&String::from_utf8(post("\"resume\"")).unwrap()).await, 404);
    assert!(rig.commands.try_recv().is_err());
    let page = rig.tcp(&get("/")).await;
    is(&page, 200);
    assert!(page.contains("content-security-policy: default-src 'none'"), "{page}");
    for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "<link", "src="] {
        assert!(
            !page.contains(sink),
            "{sink}: what a VM is named must not become markup, and nothing comes from elsewhere"
        );
    }
    for (host, status) in [
        ("127.0.0.1:9", 200),
        ("[::1]:9", 200),
        ("localhost", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example:80", 403),
        ("", 403),
    ] {
        let request = format!("GET /v1/status HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        is(&rig.tcp(&request).await, status);
    }
}

#[tokio::test]
async fn junk_gets_a_sentence_and_never_a_panic() {
    let mut rig = rig().await;
    is(&rig.unix(get("/v2/status").as_bytes()).await, 404);
    is(&rig.unix(b"DELETE /v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await, 405);
    is(&rig.unix(get("/v1/explain?limit=-1").as_bytes()).await, 400);
    is(&rig.unix(get("/v1/explain?limit=99999999999999999999999").as_bytes()).await, 400);
    for body in
        ["", "{", "null", "\"explode\"", "{\"hold\":{}}", "{\"hold\":{\"why\":7}}", "[[[[[[", "\u{0}\u{1}"]
    {
        let answer = rig.unix(&post(body)).await;
        is(&answer, 400);
        assert!(answer.contains("this is not a command"), "{answer}");
    }
    // Too long, as announced and as sent.
    is(&rig.unix(&post(&"x".repeat(100_000))).await, 413);
    for junk in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n\r\n\r\n",
        b"POST /v1/command HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"POST /v1/command HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nZZZ\r\n",
        &[b'A'; 70_000],
    ] {
        rig.unix(junk).await;
    }
    assert!(rig.commands.try_recv().is_err(), "junk became a command");
    is(&rig.unix(get("/healthz").as_bytes()).await, 200);
}

#[tokio::test]
async fn clients_that_say_nothing_are_sent_away_and_others_served_meanwhile() {
    let rig = rig().await;
    let began = Instant::now();
    let mut silent = UnixStream::connect(rig.socket()).await.unwrap();
    let mut trickle = UnixStream::connect(rig.socket()).await.unwrap();
    trickle
        .write_all(
            b"POST /v1/command HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 9\r\n\r\n\"re",
        )
        .await
        .unwrap();
    is(&rig.unix(get("/v1/status").as_bytes()).await, 200);
    let mut rest = String::new();
    timeout(Duration::from_secs(20), silent.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 408"), "{rest}");
    rest.clear();
    timeout(Duration::from_secs(20), trickle.read_to_string(&mut rest)).await.unwrap().unwrap();
    is(&rest, 504);
    assert!(began.elapsed() > Duration::from_secs(4), "the deadlines were not what ended it");
}

#[tokio::test]
async fn a_loop_that_hangs_is_told_from_one_that_starts() {
    let rig = rig().await;
    // Nobody takes the command out of the channel: the deadline speaks.
    let began = Instant::now();
    is(&rig.unix(&post("\"resume\"")).await, 504);
    assert!(began.elapsed() < Duration::from_secs(15));
    let mut old = Published::clone(rig.published.borrow().as_ref().unwrap());
    old.turned = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
    rig.published.send(Some(Arc::new(old))).unwrap();
    is(&rig.unix(get("/healthz").as_bytes()).await, 503);
    is(&rig.unix(get("/readyz").as_bytes()).await, 200);
    let status = rig.unix(get("/v1/status").as_bytes()).await;
    assert!(status.contains("\"age_ms\":60"), "{status}");
    rig.published.send(None).unwrap();
    is(&rig.unix(get("/healthz").as_bytes()).await, 200);
    is(&rig.unix(get("/readyz").as_bytes()).await, 503);
    is(&rig.unix(get("/v1/status").as_bytes()).await, 503);
}

/// Whoever was told that there is no answer must not find it done later.
#[tokio::test]
async fn an_order_whose_sender_was_sent_away_is_not_carried_out() {
    let mut rig = rig().await;
    is(&rig.unix(&post("\"scale-out\"")).await, 504);
    let later = UnixStream::connect(rig.socket()).await.unwrap();
    let later = tokio::spawn(async { talk(later, &post("\"resume\"")).await });
    let AdminRequest { command, reply } = next_order(&mut rig.commands).await.unwrap();
    assert_eq!(command, Command::Resume);
    reply.send(Ok("resumed".to_owned())).unwrap();
    is(&later.await.unwrap(), 200);
}

#[tokio::test]
async fn a_daemon_that_starts_takes_no_order() {
    let mut rig = rig().await;
    rig.published.send(None).unwrap();
    is(&rig.unix(&post("\"explode\"")).await, 400);
    let answer = rig.unix(&post("\"scale-out\"")).await;
    is(&answer, 503);
    assert!(answer.contains("starting, and takes no order yet"), "{answer}");
    assert!(rig.commands.try_recv().is_err());
}

fn settings(socket: &Path) -> AdminSettings {
    AdminSettings { socket: socket.to_owned(), listen: None }
}

#[tokio::test]
async fn only_a_socket_without_a_listener_is_replaced() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("s");
    // Left by a killed daemon.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let server = Server::bind(&settings(&path)).await.unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    // In use.
    assert!(matches!(Server::bind(&settings(&path)).await, Err(AdminError::InUse(_))));
    assert!(path.exists(), "the socket of a daemon that lives was removed");
    drop(server);
    assert!(!path.exists(), "the socket outlives its server");
    // Somebody's file.
    fs::write(&path, "precious").unwrap();
    assert!(matches!(Server::bind(&settings(&path)).await, Err(AdminError::NotASocket(_))));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    // No such directory, and a name that is too long for a socket.
    for bad in [dir.path().join("no/s"), dir.path().join("x".repeat(120))] {
        let error = Server::bind(&settings(&bad)).await.unwrap_err();
        assert!(error.to_string().starts_with("bind the admin socket"), "{error}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "something was left behind");
}

#[tokio::test]
async fn the_page_is_bound_to_loopback_or_not_at_all() {
    let dir = TempDir::new().unwrap();
    let settings = AdminSettings { socket: dir.path().join("s"), listen: Some("0.0.0.0:0".parse().unwrap()) };
    assert!(matches!(Server::bind(&settings).await, Err(AdminError::NotLoopback(_))));
}
