//! A real HAProxy and small members for it, each test with its own directory and ports, and nothing left behind.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use lbsidecar::{
    core::{
        ids::{BackendName, PoolName},
        lb::{LbMode, LbModel, LbSeen, LbServer, LbServerSeen},
        units::Weight,
    },
    haproxy::{
        Haproxy, HaproxySettings,
        settings::{HealthCheck, ServiceMode, StatsPage, Supervisor},
    },
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use secrecy::SecretString;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep},
};

/// One HAProxy instance in a temporary directory; it ends with the value, also when a test fails.
pub struct Rig {
    pub settings: HaproxySettings,
    pub haproxy: Haproxy,
    _dir: tempfile::TempDir,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut HaproxySettings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = settings(dir.path());
        change(&mut settings);
        let haproxy = Haproxy::new(settings.clone()).unwrap();
        Self { settings, haproxy, _dir: dir }
    }

    /// A second control of the same instance, as after a restart of ours.
    pub fn restart(&mut self) {
        self.haproxy = Haproxy::new(self.settings.clone()).unwrap();
    }

    pub fn service(&self) -> SocketAddr {
        self.settings.binds[0]
    }

    pub fn config(&self) -> PathBuf {
        self.settings.config_dir.join("haproxy.cfg")
    }

    pub fn master_pid(&self) -> Pid {
        let text = fs::read_to_string(self.settings.run_dir.join("haproxy.pid")).unwrap();
        Pid::from_raw(text.trim().parse().unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.master_pid(), signal).unwrap();
    }

    /// Looks until `good`, for at most ten seconds.
    pub async fn until(&self, what: &str, good: impl Fn(&LbSeen) -> bool) -> LbSeen {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let seen = self.haproxy.observe().await;
            match seen {
                Ok(seen) if good(&seen) => return seen,
                seen if Instant::now() >= until => panic!("not {what} in time: {seen:#?}"),
                _ => sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Waits until that process has ended.
    pub async fn until_gone(&self, pid: u32) {
        let until = Instant::now() + Duration::from_secs(5);
        while is_haproxy(i32::try_from(pid).unwrap()) {
            assert!(Instant::now() < until, "worker {pid} does not end");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Looks until HAProxy has really checked that server and found it well.
    pub async fn until_up(&self, member: &Member) -> LbSeen {
        self.until("up", |seen| server(seen, member).is_some_and(|s| s.up && s.check_ok)).await
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let Ok(text) = fs::read_to_string(self.settings.run_dir.join("haproxy.pid")) else { return };
        let Ok(master) = text.trim().parse::<i32>() else { return };
        let children =
            fs::read_to_string(format!("/proc/{master}/task/{master}/children")).unwrap_or_default();
        let pids = children.split_whitespace().filter_map(|pid| pid.parse().ok()).chain([master]);
        for pid in pids {
            if is_haproxy(pid) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

/// A pid may have gone to somebody else.
fn is_haproxy(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "haproxy")
}

/// A network namespace with nothing in it but its loopback; it ends with the value.
pub struct Netns {
    pub name: String,
}

impl Netns {
    /// `None`, with a word about it, where the rights are missing.
    pub fn new() -> Option<Self> {
        let name = format!("lbsidecar-test-{}", std::process::id());
        let ip = |arguments: &[&str]| Command::new("ip").args(arguments).status().is_ok_and(|s| s.success());
        if !nix::unistd::geteuid().is_root() || !ip(&["netns", "add", &name]) {
            eprintln!("skipped: making a network namespace needs root");
            return None;
        }
        let netns = Self { name };
        assert!(ip(&["-n", &netns.name, "link", "set", "lo", "up"]));
        Some(netns)
    }

    /// Runs `what` on a thread in the namespace. Sockets that it makes stay there.
    pub fn enter<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let file = fs::File::open(Path::new("/run/netns").join(&self.name)).unwrap();
                nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                what()
            });
            thread.join().unwrap()
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

pub fn settings(dir: &Path) -> HaproxySettings {
    HaproxySettings {
        pool: PoolName::try_new("web").unwrap(),
        // The same tests run against any other version.
        binary: std::env::var_os("LBSIDECAR_TEST_HAPROXY").map_or("/usr/sbin/haproxy".into(), PathBuf::from),
        config_dir: dir.join("etc"),
        run_dir: dir.join("run"),
        template: None,
        binds: vec![free_address()],
        bind_nonlocal: false,
        mode: ServiceMode::Http,
        check: HealthCheck {
            path: "/healthz".into(),
            status_min: 200,
            status_max: 299,
            interval: Duration::from_millis(200),
        },
        stats: StatsPage {
            bind: free_address(),
            user: "operator".into(),
            password: SecretString::from("pass word $HOME \"quoted\" \\ #1"),
        },
        server_timeout: Duration::from_secs(30),
        keep_alive_timeout: Duration::from_secs(1),
        hard_stop_after: Duration::from_secs(60),
        max_connections: 500,
        supervisor: Supervisor::Detached,
        netns: None,
    }
}

/// A loopback address that nobody listens on, out of ten for each process and below the range that the kernel gives out by
/// itself: tests run side by side.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let offset = u64::from(std::process::id()) % 2000 * 10 + NEXT.fetch_add(1, Ordering::SeqCst) % 10;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(12_000 + offset).unwrap()));
        if std::net::TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// A member: an HTTP/1.1 server that answers its own name. `/healthz` says how it is; `/slow/<ms>` takes its time.
pub struct Member {
    pub name: BackendName,
    pub address: SocketAddr,
    state: Arc<MemberState>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct MemberState {
    name: String,
    healthy: AtomicBool,
    requests: AtomicU64,
    probes: AtomicU64,
}

impl Member {
    pub async fn start(name: &str) -> Self {
        Self::start_with(name, true).await
    }

    /// A member whose service is not ready yet.
    pub async fn start_sick(name: &str) -> Self {
        Self::start_with(name, false).await
    }

    /// A member that can be reached only in that network namespace.
    pub async fn start_in(netns: &Netns, name: &str) -> Self {
        let listener = netns.enter(|| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        Self::serve(listener, name, true)
    }

    async fn start_with(name: &str, healthy: bool) -> Self {
        Self::serve(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), name, healthy)
    }

    fn serve(listener: std::net::TcpListener, name: &str, healthy: bool) -> Self {
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(MemberState {
            name: name.to_owned(),
            healthy: AtomicBool::new(healthy),
            requests: AtomicU64::new(0),
            probes: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, Arc::clone(&state)));
        Self { name: BackendName::try_new(name).unwrap(), address, state, _tasks: tasks }
    }

    pub fn set_healthy(&self, healthy: bool) {
        self.state.healthy.store(healthy, Ordering::SeqCst);
    }

    /// Requests taken, health checks and probes aside.
    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Requests taken that were probes of ours.
    pub fn probes(&self) -> u64 {
        self.state.probes.load(Ordering::SeqCst)
    }

    pub fn ready(&self, weight: u16) -> LbServer {
        self.line(weight, LbMode::Ready)
    }

    pub fn drain(&self) -> LbServer {
        self.line(0, LbMode::Drain)
    }

    fn line(&self, weight: u16, mode: LbMode) -> LbServer {
        LbServer { name: self.name.clone(), address: self.address, weight: Weight::clamped(weight), mode }
    }
}

pub fn model(servers: impl IntoIterator<Item = LbServer>) -> LbModel {
    LbModel { servers: servers.into_iter().collect(), closing: false }
}

pub fn server<'a>(seen: &'a LbSeen, member: &Member) -> Option<&'a LbServerSeen> {
    seen.servers.get(&member.name)
}

async fn serve(listener: TcpListener, state: Arc<MemberState>) {
    // Dropping the set with the listener's task resets every connection: the member is gone at once.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(converse(stream, Arc::clone(&state)));
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(mut stream: TcpStream, state: Arc<MemberState>) -> Option<()> {
    let mut seen = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = seen.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut seen).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&seen[..end]).to_lowercase();
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let length = header("content-length:").map_or(0, |n| n.parse().unwrap());
        while seen.len() < end + length {
            if stream.read_buf(&mut seen).await.ok()? == 0 {
                return None;
            }
        }
        seen.drain(..end + length);
        let path = head.split(' ').nth(1).unwrap_or_default();
        let check = path == "/healthz";
        if header("x-lbsidecar-probe:").is_some() {
            state.probes.fetch_add(1, Ordering::SeqCst);
        } else if !check {
            state.requests.fetch_add(1, Ordering::SeqCst);
        }
        if let Some(ms) = path.strip_prefix("/slow/") {
            sleep(Duration::from_millis(ms.parse().unwrap())).await;
        }
        let healthy = state.healthy.load(Ordering::SeqCst);
        let status = if healthy { "200 OK" } else { "503 Service Unavailable" };
        let body = format!("{}\n", state.name);
        let close = header("connection:") == Some("close");
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nX-Served-By: {}\r\n{}\r\n{body}",
            body.len(),
            state.name,
            if close { "Connection: close\r\n" } else { "" },
        );
        stream.write_all(answer.as_bytes()).await.ok()?;
        if close {
            return None;
        }
    }
}

/// A command to the master CLI, past the adapter; its answer.
pub async fn master_command(rig: &Rig, command: &str) -> String {
    let mut stream = tokio::net::UnixStream::connect(rig.settings.run_dir.join("master.sock")).await.unwrap();
    stream.write_all(format!("{command}\n").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// One request on a connection of its own: status and body.
pub async fn get(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    request(address, &format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")).await
}

/// Sends `text` and reads to the end: status, and the whole answer.
pub async fn request(address: SocketAddr, text: &str) -> Result<(u16, String), String> {
    converse_with(TcpStream::connect(address).await.map_err(|error| error.to_string())?, text).await
}

/// As [`request`], on a connection that is there already.
pub async fn converse_with(mut stream: TcpStream, text: &str) -> Result<(u16, String), String> {
    stream.write_all(text.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(|error| error.to_string())?;
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    status.map(|status| (status, answer.clone())).ok_or_else(|| format!("no status in {answer:?}"))
}
