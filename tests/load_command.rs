//! `load` as people type it: a steady load and the whole story, against a small server and a daemon that only tells its status.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it cannot go on"
)]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use lbsidecar::admin::{AdminSettings, Published, server::Ports, server::Server, view::StatusView};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

/// A guest: answers everything, and cuts every n-th request off.
struct Guest {
    address: SocketAddr,
    paths: Arc<Mutex<Vec<String>>>,
}

impl Guest {
    fn start(cut_every: Option<usize>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let paths = Arc::new(Mutex::new(Vec::new()));
        let (seen, number) = (Arc::clone(&paths), Arc::new(AtomicUsize::new(1)));
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let (seen, number) = (Arc::clone(&seen), Arc::clone(&number));
                thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    let mut line = String::new();
                    while reader.read_line(&mut line).is_ok_and(|n| n > 0) {
                        seen.lock().unwrap().push(line.split(' ').nth(1).unwrap().to_owned());
                        while line != "\r\n" {
                            line.clear();
                            reader.read_line(&mut line).unwrap();
                        }
                        line.clear();
                        if cut_every.is_some_and(|n| number.fetch_add(1, Ordering::Relaxed).is_multiple_of(n))
                        {
                            return;
                        }
                        // So that a load without a rate does not spin.
                        thread::sleep(Duration::from_millis(2));
                        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nvm-test\n").unwrap();
                    }
                });
            }
        });
        Self { address, paths }
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    fn has_seen(&self, path: &str) -> bool {
        self.paths.lock().unwrap().iter().any(|seen| seen == path)
    }
}

/// The daemon's socket, without the daemon.
struct Daemon {
    dir: TempDir,
    published: watch::Sender<Option<Arc<Published>>>,
    _runtime: tokio::runtime::Runtime,
}

/// The pool with so many of the two members.
fn pool(members: std::ops::Range<usize>) -> Arc<Published> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/status/balanced.json");
    let mut status: StatusView = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    status.members = status.members[members].to_vec();
    Arc::new(Published { status, decisions: Arc::new(Vec::new()), turned: Instant::now() })
}

impl Daemon {
    fn start() -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("default")).unwrap();
        let settings = AdminSettings { socket: dir.path().join("default/lbsidecar.sock"), listen: None };
        let (published, shown) = watch::channel(Some(pool(0..1)));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(Server::bind(&settings)).unwrap();
        let ports = Ports {
            published: shown,
            commands: mpsc::channel(1).0,
            metrics: Arc::new(|| "# EOF\n".to_owned()),
        };
        runtime.spawn(server.serve(ports));
        Self { dir, published, _runtime: runtime }
    }
}

fn load(run_dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lbsidecar"));
    command.env_clear().env("COLUMNS", "120").env("PATH", "/usr/bin:/bin").env("HOME", run_dir);
    command.arg("--run-dir").arg(run_dir).arg("--state-dir").arg(run_dir).arg("load").args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(output)))
}

#[track_caller]
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn notes(run_dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(run_dir.join("default")).into_iter().flatten();
    entries.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "json")).collect()
}

fn ended(child: Child) -> Output {
    child.wait_with_output().unwrap()
}

#[test]
fn a_steady_load_counts_every_request_and_keeps_its_rate() {
    let (dir, guest) = (TempDir::new().unwrap(), Guest::start(None));
    let url = guest.url();
    let args =
        ["--url", &url, "--rate", "40", "--duration", "1500ms", "--expect-no-loss", "--output", "json"];
    let output = load(dir.path(), &args).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let report = json(&output);
    assert_eq!((&report["verdict"], &report["ended"]), (&"nothing-lost".into(), &"done".into()));
    let sent = report["sent"].as_u64().unwrap();
    assert!((30..=70).contains(&sent), "{sent} requests at 40 a second in 1.5 s");
    assert_eq!(report["total"]["members"]["vm-test"], sent);
    assert!(notes(dir.path()).is_empty());
    // For people, and with a path that burns.
    let args = [
        "--url",
        &url,
        "--duration",
        "300ms",
        "--burn-ms",
        "7",
        "--burn-path",
        "/b?m={ms}",
        "--connections",
        "2",
    ];
    let output = load(dir.path(), &args).output().unwrap();
    let text = said(&output);
    assert!(text.contains("nothing was lost: ") && text.contains("vm-test 100%"), "{text}");
    assert!(guest.has_seen("/b?m=7"));
}

#[test]
fn what_is_lost_is_told_and_fails_where_no_loss_is_expected() {
    let (dir, guest) = (TempDir::new().unwrap(), Guest::start(Some(10)));
    let url = guest.url();
    let mut args = vec!["--url", &url, "--rate", "50", "--duration", "1s"];
    let output = load(dir.path(), &args).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = said(&output);
    assert!(text.contains("requests were lost") && text.contains("ended instead of an answer"), "{text}");
    args.push("--expect-no-loss");
    assert_eq!(load(dir.path(), &args).output().unwrap().status.code(), Some(2));
    // Nobody there: no request is answered, which is no proof of anything.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("http://{nobody}/");
    args[1] = &nobody;
    assert_eq!(load(dir.path(), &args).output().unwrap().status.code(), Some(2));
}

#[test]
fn the_story_follows_the_pool() {
    let (daemon, guest) = (Daemon::start(), Guest::start(None));
    let url = guest.url();
    let args = ["--url", &url, "--split-for", "1s", "--expect-no-loss", "--output", "json"];
    let story = load(daemon.dir.path(), &args).spawn().unwrap();
    eventually("the load burns", || guest.has_seen("/burn?ms=50"));
    assert_eq!(notes(daemon.dir.path()).len(), 1);
    daemon.published.send_replace(Some(pool(0..2)));
    eventually("calm comes after split", || guest.has_seen("/"));
    daemon.published.send_replace(Some(pool(1..2)));
    let output = ended(story);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let report = json(&output);
    let phases: Vec<&str> =
        report["phases"].as_array().unwrap().iter().map(|phase| phase["name"].as_str().unwrap()).collect();
    assert_eq!(phases, ["start", "100", "split", "calm"]);
    assert_eq!((&report["verdict"], &report["ended"]), (&"nothing-lost".into(), &"done".into()));
    let (split, calm) = (&report["phases"][2], &report["phases"][3]);
    assert!(split["seconds"].as_f64().unwrap() < 10.0 && split["ok"].as_u64().unwrap() > 0, "{split}");
    let rate = calm["ok"].as_f64().unwrap() / calm["seconds"].as_f64().unwrap();
    assert!(rate < 8.0, "calm has {rate} requests/s");
}

#[test]
fn a_story_ends_by_its_hard_stop_and_says_where_it_was() {
    let (daemon, guest) = (Daemon::start(), Guest::start(None));
    let output =
        load(daemon.dir.path(), &["100", "--url", &guest.url(), "--stop-after", "1s"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("the time was over in phase 100"), "{}", said(&output));
}

#[test]
fn stop_ends_every_load_and_each_gives_its_account() {
    let (dir, guest) = (TempDir::new().unwrap(), Guest::start(None));
    let url = guest.url();
    let loads: Vec<Child> = (0..2)
        .map(|_| load(dir.path(), &["--url", &url, "--rate", "20", "--duration", "1h"]).spawn().unwrap())
        .collect();
    eventually("both are noted", || notes(dir.path()).len() == 2);
    eventually("both send", || guest.paths.lock().unwrap().len() > 4);
    let output = load(dir.path(), &["--stop"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(said(&output).matches(" ended\n").count(), 2, "{}", said(&output));
    for load in loads {
        let output = ended(load);
        assert_eq!(output.status.code(), Some(0));
        assert!(said(&output).contains("nothing was lost"), "{}", said(&output));
    }
    assert!(notes(dir.path()).is_empty());
    assert_eq!(said(&load(dir.path(), &["--stop"]).output().unwrap()), "no load runs\n");
}

#[test]
fn burners_go_where_members_serve_and_are_ended_also_for_a_load_that_was_killed() {
    let (daemon, guest) = (Daemon::start(), Guest::start(None));
    let dir = daemon.dir.path();
    // An ssh that only writes down where to and what.
    let log = dir.join("ssh.log");
    let ssh = dir.join("ssh");
    fs::write(&ssh, format!("#!/bin/sh\n{{ echo \"to $*\"; cat; }} >>{}\n", log.display())).unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    let heard = |words: &str| fs::read_to_string(&log).unwrap_or_default().matches(words).count();
    let path = format!("{}:/usr/bin:/bin", dir.display());
    let args =
        ["--url", &guest.url(), "--ssh", "--ssh-user", "cirros", "--ssh-netns", "none", "--split-for", "1s"];
    let mut story = load(dir, &args).env("PATH", &path).spawn().unwrap();
    eventually("the first burns", || heard("-l cirros -- 192.168.100.11 sh -s") == 1);
    eventually("it has a hard stop", || heard("sleep 1800; kill -9") == 1);
    assert_eq!(heard("kill -STOP"), 0);
    daemon.published.send_replace(Some(pool(0..2)));
    eventually("both burn by half", || heard("kill -STOP") == 2);
    // Without a word; its burners are left.
    story.kill().unwrap();
    ended(story);
    let before = heard("to ");
    let output = load(dir, &["--stop"]).env("PATH", &path).output().unwrap();
    assert!(said(&output).contains("burners of load") && output.status.success(), "{}", said(&output));
    assert_eq!(heard("to ") - before, 2);
    assert!(notes(dir).is_empty());
}

#[test]
fn mistakes_are_named() {
    let (daemon, dir) = (Daemon::start(), TempDir::new().unwrap());
    for (args, code, why) in [
        (vec![], 3, "the phases follow the pool"),
        (vec!["--rate", "5"], 3, "give the address to load by --url"),
        (vec!["--rate", "0", "--url", "http://127.0.0.1/"], 64, "requests a second above 0"),
        (vec!["--rate", "5", "--url", "https://127.0.0.1/"], 64, "TLS is not supported"),
        (vec!["--rate", "5", "--duration", "forever"], 64, "use a time such as"),
        (vec!["100", "--rate", "5"], 64, "cannot be used with"),
        (vec!["--stop", "--ssh"], 64, "cannot be used with"),
        (vec!["halfway"], 64, "invalid value 'halfway'"),
    ] {
        let output = load(dir.path(), &args).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", said(&output));
        assert!(said(&output).contains(why), "{args:?}: {}", said(&output));
    }
    let mut unknown = (*pool(0..1)).clone();
    unknown.status.vip.address = None;
    daemon.published.send_replace(Some(Arc::new(unknown)));
    let output = load(daemon.dir.path(), &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(69), "{}", said(&output));
}
