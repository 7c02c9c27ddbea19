//! The commands as a person or a script meets them: help, exit codes, what goes to stdout and what to stderr, and a daemon
//! that is not there, closed to us, slow, or no daemon at all.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::{Path, PathBuf},
    process::{Command as Process, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use assert_cmd::{Command, assert::Assert, cargo::cargo_bin};
use lbsidecar::{
    admin::{
        AdminRequest, AdminSettings, Published,
        explain::DecisionView,
        server::{Ports, Server},
        stored::StoredView,
        view::StatusView,
    },
    core::{
        event::Command as Asked,
        ids::PoolName,
        state::{Member, Place, State},
        time::Timestamp,
        units::Weight,
    },
    exit::Exit,
    store::Store,
};
use nix::pty::{Winsize, openpty};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

/// A daemon's admin server, without the daemon.
struct Daemon {
    dir: TempDir,
    published: watch::Sender<Option<Arc<Published>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Daemon {
    fn start(fixture: &str) -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("default")).unwrap();
        let settings = AdminSettings { socket: socket(dir.path()), listen: None };
        let (published, shown) = watch::channel(Some(Arc::new(published(fixture))));
        let (commands, mut requests) = mpsc::channel::<AdminRequest>(1);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(Server::bind(&settings)).unwrap();
        let ports = Ports { published: shown, commands, metrics: Arc::new(|| "# EOF\n".to_owned()) };
        runtime.spawn(server.serve(ports));
        let heard = Arc::clone(&asked);
        runtime.spawn(async move {
            while let Some(AdminRequest { command, reply }) = requests.recv().await {
                let answer = match &command {
                    Asked::Handover => Err("no handover: only one member serves".to_owned()),
                    _ => Ok(format!("done: {command:?}")),
                };
                heard.lock().unwrap().push(command);
                let _ = reply.send(answer);
            }
        });
        Self { dir, published, asked, _runtime: runtime }
    }

    fn run(&self, args: &[&str]) -> Assert {
        lbsidecar(self.dir.path()).args(args).assert()
    }
}

fn published(fixture: &str) -> Published {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/status")
        .join(fixture)
        .with_extension("json");
    let status: StatusView = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let decision = DecisionView {
        at: status.at,
        readings: Vec::new(),
        value: Some(30.8),
        vote: "between".into(),
        up_run: 0,
        down_run: 0,
        action: "none".into(),
        reason: "30.8% lies between 20.0% and 60.0%".into(),
    };
    Published { status, decisions: Arc::new(vec![decision; 30]), turned: Instant::now() }
}

fn socket(run_dir: &Path) -> PathBuf {
    run_dir.join("default/lbsidecar.sock")
}

/// The program, in an environment of its own.
fn lbsidecar(run_dir: &Path) -> Command {
    let mut command = Command::cargo_bin("lbsidecar").unwrap();
    command.env_clear().env("COLUMNS", "100").env("TZ", "UTC");
    command.arg("--run-dir").arg(run_dir).arg("--state-dir").arg(run_dir).timeout(Duration::from_secs(30));
    command
}

fn code(assert: &Assert) -> Option<i32> {
    assert.get_output().status.code()
}

fn stdout(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stdout.clone()).unwrap()
}

fn stderr(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stderr.clone()).unwrap()
}

#[test]
fn help_goes_to_stdout_and_lists_every_exit_code() {
    let nowhere = TempDir::new().unwrap();
    let help = lbsidecar(nowhere.path()).arg("--help").assert();
    assert_eq!((code(&help), stderr(&help).as_str()), (Some(0), ""));
    for exit in Exit::ALL {
        let line = format!("{:>4}  {}\n", exit as u8, exit.meaning());
        assert!(stdout(&help).contains(&line), "{line:?} is not in the help");
    }
    insta::assert_snapshot!("help", stdout(&help));
    for command in ["run", "status", "explain", "hold", "reload"] {
        let help = lbsidecar(nowhere.path()).args([command, "--help"]).assert();
        assert_eq!(code(&help), Some(0));
        insta::assert_snapshot!(format!("help-{command}"), stdout(&help));
    }
}

#[test]
fn a_wrong_command_line_exits_64_and_says_so_on_stderr() {
    let nowhere = TempDir::new().unwrap();
    for line in [
        &["statsu"][..],
        &["status", "--outptu", "json"],
        &["status", "--output", "xml"],
        &["explain", "-n", "x"],
        &[],
    ] {
        let wrong = lbsidecar(nowhere.path()).args(line).assert();
        assert_eq!(code(&wrong), Some(64), "{line:?}");
        assert_eq!(stdout(&wrong), "", "{line:?}");
        assert!(!stderr(&wrong).is_empty(), "{line:?}");
    }
}

#[test]
fn status_is_a_table_for_people_and_the_view_for_programs() {
    let daemon = Daemon::start("balanced");
    let text = daemon.run(&["status"]);
    assert_eq!((code(&text), stderr(&text).as_str()), (Some(0), ""));
    assert!(stdout(&text).starts_with("web  balanced  10.20.20.100 with us (port)"), "{}", stdout(&text));
    assert!(!stdout(&text).contains('\x1b'), "colours without a terminal");

    let json = daemon.run(&["status", "--output", "json"]);
    let mut view: StatusView = serde_json::from_str(&stdout(&json)).unwrap();
    view.age_ms = 120;
    assert_eq!(view, published("balanced").status);
}

#[test]
fn a_degraded_pool_exits_2() {
    let daemon = Daemon::start("degraded");
    assert_eq!(code(&daemon.run(&["status"])), Some(2));
    assert_eq!(code(&daemon.run(&["status", "--output", "json"])), Some(2));
}

#[test]
fn explain_shows_as_many_as_asked_for() {
    let daemon = Daemon::start("balanced");
    let count = |args: &[&str]| stdout(&daemon.run(args)).matches("lies between").count();
    assert_eq!(count(&["explain"]), 20);
    assert_eq!(count(&["explain", "-n", "3"]), 3);
    assert_eq!(count(&["explain", "-n", "0"]), 0);
    assert_eq!(count(&["explain", "-n", "1000"]), 30);
    let json = daemon.run(&["explain", "-n", "1", "--output", "json"]);
    let view: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!(view["decisions"].as_array().unwrap().len(), 1);
}

#[test]
fn commands_reach_the_daemon_and_its_no_is_a_failure() {
    let daemon = Daemon::start("balanced");
    for (args, command) in [
        (&["hold", "night", "shift"][..], Asked::Hold { why: "night shift".into() }),
        (&["resume"], Asked::Resume),
        (&["scale-out"], Asked::ScaleOut),
        (&["abort"], Asked::Abort),
        (&["release"], Asked::Release),
        (&["reload"], Asked::Reload { force: false }),
        (&["reload", "--force"], Asked::Reload { force: true }),
    ] {
        let done = daemon.run(args);
        assert_eq!((code(&done), stderr(&done).as_str()), (Some(0), ""), "{args:?}");
        assert_eq!(stdout(&done), format!("done: {command:?}\n"));
        assert_eq!(daemon.asked.lock().unwrap().pop(), Some(command));
    }
    let refused = daemon.run(&["handover"]);
    assert_eq!((code(&refused), stdout(&refused).as_str()), (Some(1), ""));
    assert_eq!(stderr(&refused), "lbsidecar: no handover: only one member serves\n");
}

#[test]
fn a_daemon_that_still_starts_says_so() {
    let daemon = Daemon::start("starting");
    daemon.published.send(None).unwrap();
    let early = daemon.run(&["explain"]);
    assert_eq!(code(&early), Some(1));
    assert!(stderr(&early).contains("the daemon is starting"), "{}", stderr(&early));
}

#[test]
fn without_a_daemon_the_exit_is_3() {
    let nowhere = TempDir::new().unwrap();
    for args in [&["status"][..], &["explain"], &["resume"]] {
        let failed = lbsidecar(nowhere.path()).args(args).assert();
        assert_eq!(code(&failed), Some(3), "{args:?}: {}", stderr(&failed));
        assert!(stderr(&failed).contains("it does not run"), "{}", stderr(&failed));
    }
    // A socket that a killed daemon left is no daemon either.
    fs::create_dir(nowhere.path().join("default")).unwrap();
    drop(UnixListener::bind(socket(nowhere.path())).unwrap());
    assert_eq!(code(&lbsidecar(nowhere.path()).arg("resume").assert()), Some(3));
}

#[test]
fn without_a_daemon_status_shows_what_it_wrote_down() {
    let dir = TempDir::new().unwrap();
    let saved = Timestamp(1_795_528_800_000);
    let mut state = State::new(PoolName::try_new("default").unwrap(), saved);
    state.members.push(Member {
        id: "2f1c9a01-7d1e-4c55-9b0a-3f6d2c8e1a01".parse().unwrap(),
        name: "vm-test".into(),
        mark: None,
        generation: 0,
        address: Some("192.168.100.11:80".parse().unwrap()),
        floating_ip: None,
        place: Place::Listed { weight: Weight::FULL },
        serving_since: Some(saved),
        gone: false,
    });
    state.note(saved, "adopt", "bringing vm-test into HAProxy");
    let store = Store::open(&dir.path().join("default"), &state.pool).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(store.save(&state)).unwrap();

    let text = lbsidecar(dir.path()).arg("status").assert();
    assert_eq!(code(&text), Some(3));
    assert!(stderr(&text).contains("it does not run"), "{}", stderr(&text));
    for part in [
        "default  not running",
        "vm-test  serving   weight 100  192.168.100.11:80",
        "bringing vm-test into HAProxy",
    ] {
        assert!(stdout(&text).contains(part), "{part:?} is missing in {}", stdout(&text));
    }
    let json = lbsidecar(dir.path()).args(["status", "--output", "json"]).assert();
    assert_eq!(code(&json), Some(3));
    let view: StoredView = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!((view.phase.as_str(), view.members.len()), ("not-running", 1));
    // The file is as old as the file system says; it was written just now.
    assert!(view.age_ms < 60_000, "{}", view.age_ms);
}

#[test]
fn a_socket_that_is_closed_to_us_exits_77() {
    let closed = TempDir::new().unwrap();
    fs::create_dir(closed.path().join("default")).unwrap();
    let _listener = UnixListener::bind(socket(closed.path())).unwrap();
    fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(socket(closed.path()), fs::Permissions::from_mode(0o600)).unwrap();
    // Root may open everything, so become somebody else where we are root.
    let mut command = Process::new(cargo_bin("lbsidecar"));
    command.arg("--run-dir").arg(closed.path()).arg("status").env_clear();
    if nix::unistd::geteuid().is_root() {
        use std::os::unix::process::CommandExt;
        let copy = closed.path().join("lbsidecar");
        fs::copy(cargo_bin("lbsidecar"), &copy).unwrap();
        command = Process::new(copy);
        command.arg("--run-dir").arg(closed.path()).arg("status").env_clear().uid(65_534).gid(65_534);
    } else {
        fs::set_permissions(socket(closed.path()), fs::Permissions::from_mode(0o000)).unwrap();
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(77), "{said}");
    assert!(said.contains("permission denied"), "{said}");
}

#[test]
fn what_is_no_daemon_is_told_from_one() {
    let strange = TempDir::new().unwrap();
    fs::create_dir(strange.path().join("default")).unwrap();
    let listener = UnixListener::bind(socket(strange.path())).unwrap();
    std::thread::spawn(move || {
        for answer in [
            &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
            b"",
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
            b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n",
        ] {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
        }
    });
    for why in ["", "", "is the daemon of another version?", "HTTP status 500"] {
        let failed = lbsidecar(strange.path()).arg("status").assert();
        assert_eq!(code(&failed), Some(1));
        assert!(stderr(&failed).contains("failed to ask the daemon on"), "{}", stderr(&failed));
        assert!(stderr(&failed).contains(why), "{}", stderr(&failed));
    }
}

#[test]
fn a_reader_who_goes_away_is_no_error() {
    let nowhere = TempDir::new().unwrap();
    let mut child = Process::new(cargo_bin("lbsidecar"))
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .current_dir(nowhere.path())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[test]
fn watch_shows_view_after_view_until_it_is_told_to_end() {
    let daemon = Daemon::start("balanced");
    let mut child = Process::new(cargo_bin("lbsidecar"))
        .arg("--run-dir")
        .arg(daemon.dir.path())
        .args(["status", "--watch", "0.1", "--output", "json"])
        .env_clear()
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    for _ in 0..3 {
        let view: StatusView = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(view.pool.as_str(), "web");
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A terminal of the given size with `args` running in it, and what it shows until `enough` says so; then Ctrl-C, and the rest.
fn in_a_terminal(dir: &Path, args: &[&str], enough: impl Fn(&str) -> bool) -> (String, Option<i32>) {
    let size = Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(&size, None).unwrap();
    let ours = |fd: &std::os::fd::OwnedFd| Stdio::from(fd.try_clone().unwrap());
    let mut child = Process::new(cargo_bin("lbsidecar"))
        .arg("--run-dir")
        .arg(dir)
        .args(args)
        .env_clear()
        .env("TERM", "xterm-256color")
        .env("TZ", "UTC")
        .stdin(ours(&pty.slave))
        .stdout(ours(&pty.slave))
        .stderr(ours(&pty.slave))
        .spawn()
        .unwrap();
    drop(pty.slave);
    let mut terminal = fs::File::from(pty.master);
    let (mut shown, mut interrupted) = (Vec::new(), false);
    let mut chunk = [0; 8192];
    // The read fails when the last program on the terminal has ended.
    while let Ok(n @ 1..) = terminal.read(&mut chunk) {
        shown.extend_from_slice(&chunk[..n]);
        if !interrupted && enough(&String::from_utf8_lossy(&shown)) {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
            interrupted = true;
        }
    }
    (String::from_utf8_lossy(&shown).into_owned(), child.wait().unwrap().code())
}

#[test]
fn watch_on_a_terminal_redraws_in_place_and_leaves_the_terminal_as_it_was() {
    let daemon = Daemon::start("balanced");
    let args = ["status", "--watch", "0.1"];
    let (shown, code) =
        in_a_terminal(daemon.dir.path(), &args, |shown| shown.matches("lies between").count() >= 3);
    assert_eq!(code, Some(0));
    assert!(shown.contains("\x1b[1mweb\x1b[0m"), "no colours: {shown:?}");
    let (hide, show) = ("\x1b[?25l", "\x1b[?25h");
    assert_eq!((shown.matches(hide).count(), shown.matches(show).count()), (1, 1), "{shown:?}");
    assert!(shown.ends_with(show), "{shown:?}");
    // Each frame goes up exactly the lines that the one before went down.
    let frames: Vec<&str> = shown.split("\x1b[J").filter(|frame| frame.contains("lies between")).collect();
    for pair in frames.windows(2) {
        let lines = pair[0].matches('\n').count();
        assert!(pair[1].starts_with(&format!("\r\x1b[{lines}A")), "{:?}", pair[1]);
    }
}

#[test]
fn config_shows_each_setting_with_its_origin() {
    let dir = TempDir::new().unwrap();
    let clouds = "clouds: {it: {auth: {auth_url: \"http://127.0.0.1:9\", username: u, password: a-secret, project_name: p, \
                  user_domain_name: Default, project_domain_name: Default}}}";
    fs::write(dir.path().join("clouds.yaml"), clouds).unwrap();
    fs::set_permissions(dir.path().join("clouds.yaml"), fs::Permissions::from_mode(0o600)).unwrap();
    let run = |args: &[&str]| lbsidecar(dir.path()).current_dir(dir.path()).arg("config").args(args).assert();
    let text = run(&["--clone", "c", "--high", "70"]);
    assert_eq!(code(&text), Some(0), "{}", stderr(&text));
    for line in ["policy.high = 70  # --high\n", "policy.low = 20\n"] {
        assert!(stdout(&text).contains(line), "{line:?} is missing in {}", stdout(&text));
    }
    assert!(!stdout(&text).contains("a-secret"));
    let json = run(&["--clone", "c", "--output", "json"]);
    assert!(stdout(&json).contains("\"origin\": \"--clone\"") && !stdout(&json).contains("a-secret"));
    assert!(stdout(&run(&["--example"])).contains("[policy]"));
    let wrong = run(&["--high", "10"]);
    assert_eq!(code(&wrong), Some(78), "two mistakes, one of them in no flag: {}", stderr(&wrong));
}

#[test]
fn manual_pages_and_completions_are_written() {
    let dir = TempDir::new().unwrap();
    let man = lbsidecar(dir.path()).arg("man").arg(dir.path()).assert();
    assert_eq!(code(&man), Some(0));
    for page in ["lbsidecar.1", "lbsidecar-run.1", "lbsidecar-status.1"] {
        assert!(fs::read_to_string(dir.path().join(page)).unwrap().contains(".TH"), "{page}");
    }
    assert!(stdout(&lbsidecar(dir.path()).arg("man").assert()).contains("EXTRA"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            stdout(&lbsidecar(dir.path()).args(["completions", shell]).assert()).contains("scale-out"),
            "{shell}"
        );
    }
    let nowhere = lbsidecar(dir.path()).args(["man", "/nonexistent/dir"]).assert();
    assert_eq!(code(&nowhere), Some(1));
    assert!(stderr(&nowhere).contains("/nonexistent/dir"));
}
