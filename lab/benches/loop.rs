//! How long the whole loop takes, with the real daemon, HAProxy, libvirt and QEMU: from the last vote to the order for a clone on
//! the wire, and from a clone that answers to the first client's request on it; and what the daemon costs when nothing happens.
//!
//! The cloud is the lab's, its guests small QEMUs for the counters, each with a service on an address of 127.77.0.0/24.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench prints, and has nothing better to do on an error"
)]

#[path = "../../tests/guests_rig/mod.rs"]
mod guests_rig;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use guests_rig::{Libvirtd, Load as Burden};
use jiff::Timestamp;
use lbsidecar::{
    core::ids::ServerId,
    load::{ClientGroup, Load, LoadPlan, Target},
};
use lbsidecar_lab::cloud::{
    CloudHandle,
    driver::{Answer, Boot, Driver, Router},
    options::{Options, Seed},
    serve,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Builder,
    task::JoinSet,
    time::sleep,
};
use uuid::Uuid;
use virt::connect::Connect;

const RUNS: usize = 5;
const IDLE: Duration = Duration::from_secs(20);
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Everything that is waited for comes within this time, or the bench is of no use.
const DEADLINE: Duration = Duration::from_secs(60);

fn main() {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(scale_outs());
    runtime.block_on(idle());
}

async fn scale_outs() {
    let (mut orders, mut proven, mut healthy) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let world = World::new(Burden::Busy).await;
        let daemon = Daemon::start(&world, "100ms", "500ms");
        daemon.serves().await;
        let clients = vec![ClientGroup::keep_alive(4, Duration::from_millis(5))];
        let load = Load::start(LoadPlan::new(Target::from(daemon.service), clients)).unwrap();
        let clone = eventually("a client's request on the clone", || {
            let clone = world.hosts.guest("clone")?;
            clone.first_request.is_some().then_some(clone)
        })
        .await;
        assert_eq!(load.stop().await.total.failed, 0, "requests were lost");
        let decision = daemon.decision();
        let journal = world.cloud.journal().entries();
        let order = journal.iter().rfind(|e| e.method == "POST" && e.path == "/v2.1/servers").unwrap();
        let first = clone.first_request.unwrap();
        orders.push(ms(decision, order.at));
        proven.push(ms(clone.last_probe.unwrap(), first));
        healthy.push(ms(clone.first_check.unwrap(), first));
    }
    let interval = CHECK_INTERVAL.as_secs_f64() * 1e3;
    let (order, worst) = summary(orders);
    println!("last vote -> POST /servers on the wire: {order:.1} ms (worst of {RUNS}: {worst:.1} ms)");
    let (request, worst) = summary(proven);
    println!(
        "clone proven healthy -> first client's request: {request:.1} ms (worst of {RUNS}: {worst:.1} ms)"
    );
    let (request, _) = summary(healthy);
    println!(
        "clone's first good check -> first client's request: {:.2} x the check interval ({request:.0} ms; the proofs are 3 intervals of it)",
        request / interval
    );
}

async fn idle() {
    let world = World::new(Burden::Idle).await;
    let began = Instant::now();
    let daemon = Daemon::start(&world, "1s", "5s");
    daemon.serves().await;
    println!("start of the daemon -> the service answers: {:.0} ms", began.elapsed().as_secs_f64() * 1e3);
    // Past the adoption and the first votes.
    sleep(Duration::from_secs(8)).await;
    let (before, since) = (daemon.cpu(), Instant::now());
    sleep(IDLE).await;
    let share = (daemon.cpu() - before).as_secs_f64() / since.elapsed().as_secs_f64();
    println!("idle at samples of 1 s: {:.3} % of a core", share * 100.0);
    let status = procfs_status(daemon.child.id());
    println!("idle memory: {} KiB resident, of which {} KiB are not files", status.0, status.1);
}

/// The lab's cloud over guests of this bench.
struct World {
    cloud: CloudHandle,
    hosts: Arc<Hosts>,
    dir: tempfile::TempDir,
}

impl World {
    /// With a base that is busy or idle.
    async fn new(burden: Burden) -> Self {
        let hosts = Arc::new(Hosts::start(burden));
        let options = Options { seed: Seed::Empty, ..Options::default() };
        let cloud = serve(hosts.clone(), options).await.unwrap();
        let urls = cloud.urls().clone();
        let user = json!({"name": "admin", "domain": {"id": "default"}, "password": "lab-admin"});
        let auth = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": "admin", "domain": {"id": "default"}}},
        }});
        let http = reqwest::Client::new();
        let answer = http.post(format!("{}/auth/tokens", urls.keystone)).body(auth.to_string()).send().await;
        let token = answer.unwrap().headers()["x-subject-token"].to_str().unwrap().to_owned();
        let ask = async |url: String, body: Value| -> Value {
            let call = if body.is_null() { http.get(url) } else { http.post(url).body(body.to_string()) };
            let answer = call.header("X-Auth-Token", &token).send().await.unwrap();
            serde_json::from_str(&answer.error_for_status().unwrap().text().await.unwrap()).unwrap()
        };
        let neutron = |path: &str| format!("{}/v2.0/{path}", urls.neutron);
        let network =
            ask(neutron("networks"), json!({"network": {"name": "loopback"}})).await["network"]["id"].clone();
        let subnet = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "127.77.0.0/24"}});
        ask(neutron("subnets"), subnet).await;
        let images = ask(format!("{}/v2/images", urls.glance), Value::Null).await;
        let flavors = ask(format!("{}/flavors", urls.nova), Value::Null).await;
        let flavor = flavors["flavors"].as_array().unwrap().iter().find(|f| f["name"] == "m1.nano").unwrap();
        let server = json!({"server": {
            "name": "base",
            "imageRef": images["images"][0]["id"],
            "flavorRef": flavor["id"],
            "networks": [{"uuid": network}],
        }});
        let made = ask(format!("{}/servers", urls.nova), server).await;
        let url = format!("{}/servers/{}", urls.nova, made["server"]["id"].as_str().unwrap());
        let until = Instant::now() + DEADLINE;
        loop {
            let server = ask(url.clone(), Value::Null).await["server"].clone();
            if server["status"] == "ACTIVE" {
                break;
            }
            assert!(Instant::now() < until && server["status"] != "ERROR", "no base in time: {server}");
            sleep(Duration::from_millis(50)).await;
        }
        Self { cloud, hosts, dir: tempfile::tempdir().unwrap() }
    }
}

/// What a guest has seen of the loop.
#[derive(Debug, Clone, Default)]
struct Seen {
    first_check: Option<Timestamp>,
    /// The last of lbsidecar's own probes before the first request.
    last_probe: Option<Timestamp>,
    first_request: Option<Timestamp>,
}

/// The driver: a QEMU for the counters, and a service of this process for the clients.
struct Hosts {
    libvirtd: Libvirtd,
    hand: Connect,
    burden: Burden,
    port: u16,
    guests: Mutex<Vec<(String, Arc<Mutex<Seen>>)>>,
    services: Mutex<JoinSet<()>>,
}

impl Hosts {
    fn start(burden: Burden) -> Self {
        let libvirtd = Libvirtd::start();
        Self {
            hand: libvirtd.hand(),
            libvirtd,
            burden,
            port: free().port(),
            guests: Mutex::default(),
            services: Mutex::default(),
        }
    }

    fn guest(&self, name: &str) -> Option<Seen> {
        let guests = self.guests.lock().unwrap();
        guests.iter().find(|(own, _)| own == name).map(|(_, seen)| seen.lock().unwrap().clone())
    }

    fn run(&self, guest: &Boot) {
        // The first one carries the load; a clone only has to answer.
        let mut guests = self.guests.lock().unwrap();
        let burden = if guests.is_empty() { self.burden } else { Burden::Idle };
        self.libvirtd.boot_as(&self.hand, ServerId(guest.id), burden);
        let seen = Arc::new(Mutex::new(Seen::default()));
        guests.push((guest.name.clone(), Arc::clone(&seen)));
        let listener = TcpListener::bind((guest.nics[0].address, self.port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        self.services.lock().unwrap().spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(converse(stream, Arc::clone(&seen)));
                while connections.try_join_next().is_some() {}
            }
        });
    }
}

/// Answers one client's requests and notes what came when.
async fn converse(mut stream: TcpStream, seen: Arc<Mutex<Seen>>) -> Option<()> {
    let mut read = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = read.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut read).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
        read.drain(..end);
        {
            let mut seen = seen.lock().unwrap();
            let now = Timestamp::now();
            if head.contains("\r\nx-lbsidecar-probe:") {
                if seen.first_request.is_none() {
                    seen.last_probe = Some(now);
                }
            } else if head.starts_with("get /healthz") {
                seen.first_check.get_or_insert(now);
            } else {
                seen.first_request.get_or_insert(now);
            }
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n").await.ok()?;
    }
}

fn done<'a>() -> Answer<'a, ()> {
    Box::pin(async { Ok(()) })
}

/// Nothing here is ever stopped or taken away: the world ends with the run.
impl Driver for Hosts {
    fn boot(&self, guest: Boot) -> Answer<'_, ()> {
        Box::pin(async move {
            self.run(&guest);
            Ok(())
        })
    }
    fn running(&self, _id: Uuid) -> Answer<'_, bool> {
        Box::pin(async { Ok(true) })
    }
    fn power_off(&self, _id: Uuid, _graceful: bool) -> Answer<'_, ()> {
        done()
    }
    fn power_on(&self, _id: Uuid) -> Answer<'_, ()> {
        done()
    }
    fn destroy(&self, _id: Uuid) -> Answer<'_, ()> {
        done()
    }
    fn snapshot(&self, _id: Uuid, _image: Uuid) -> Answer<'_, ()> {
        done()
    }
    fn network_up(&self, _network: Uuid) -> Answer<'_, ()> {
        done()
    }
    fn network_down(&self, _network: Uuid) -> Answer<'_, ()> {
        done()
    }
    fn router_up(&self, _router: Router) -> Answer<'_, ()> {
        done()
    }
    fn router_down(&self, _router: Uuid) -> Answer<'_, ()> {
        done()
    }
    fn port_up(&self, _port: Uuid, _network: Uuid) -> Answer<'_, ()> {
        done()
    }
    fn port_down(&self, _port: Uuid) -> Answer<'_, ()> {
        done()
    }
    fn associate(&self, _floating: Ipv4Addr, _fixed: Ipv4Addr, _router: Uuid) -> Answer<'_, ()> {
        done()
    }
    fn disassociate(&self, _floating: Ipv4Addr) -> Answer<'_, ()> {
        done()
    }
}

/// `lbsidecar run`, and the HAProxy that it starts; both end with the value.
struct Daemon {
    child: Child,
    service: SocketAddr,
    log: PathBuf,
    run_dir: PathBuf,
}

impl Daemon {
    fn start(world: &World, sample: &str, interval: &str) -> Self {
        let dir = world.dir.path();
        let (service, log, run_dir) = (free(), dir.join("log"), dir.join("run"));
        let program = Path::new(env!("CARGO_BIN_EXE_lbsidecar-lab")).with_file_name("lbsidecar");
        assert!(program.exists(), "{} is missing: build the workspace's programs first", program.display());
        let child = Command::new(program)
            .args(["run", "--base", "base", "--clone", "clone", "--vip-mode", "static"])
            .args(["--high", "30", "--low", "5"])
            .args(["--bind", &service.to_string(), "--port", &world.hosts.port.to_string()])
            .args(["--libvirt-uri", &world.hosts.libvirtd.uri(), "--state-dir"])
            .arg(dir.join("state"))
            .arg("--run-dir")
            .arg(&run_dir)
            .current_dir(dir)
            .env_clear()
            .envs([
                ("LBSIDECAR_POLICY_SAMPLE", sample),
                ("LBSIDECAR_POLICY_INTERVAL", interval),
                ("LBSIDECAR_POLICY_WARM_UP", "0s"),
                ("LBSIDECAR_POLICY_COOLDOWN_UP", "0s"),
                ("LBSIDECAR_HAPROXY_CHECK_PATH", "/healthz"),
                // The one host of this bench carries the guests, the clients and whatever else it does.
                ("LBSIDECAR_GUARDS_RESERVE_MEMORY_MIB", "0"),
                ("LBSIDECAR_GUARDS_MAX_CPU_PRESSURE", "100"),
                ("LBSIDECAR_GUARDS_MAX_STEAL", "100"),
                ("LBSIDECAR_HAPROXY_STATS_BIND", &free().to_string()),
                ("LBSIDECAR_LOG_FORMAT", "json"),
                ("OS_AUTH_URL", &world.cloud.urls().keystone),
                ("OS_USERNAME", "admin"),
                ("OS_PASSWORD", "lab-admin"),
                ("OS_PROJECT_NAME", "admin"),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, service, log, run_dir }
    }

    /// Waits until clients get answers.
    async fn serves(&self) {
        let http = reqwest::Client::new();
        let url = format!("http://{}/", self.service);
        let until = Instant::now() + DEADLINE;
        while !http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
            assert!(
                Instant::now() < until,
                "no service in time:\n{}",
                fs::read_to_string(&self.log).unwrap()
            );
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// When it decided to scale out, by its log.
    fn decision(&self) -> Timestamp {
        let log = fs::read_to_string(&self.log).unwrap();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let decision = lines.find(|line| line["message"] == "decision").unwrap_or_else(|| panic!("{log}"));
        decision["timestamp"].as_str().unwrap().parse().unwrap()
    }

    /// CPU that it has used.
    fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let used = |task: fs::DirEntry| -> Option<u64> {
            fs::read_to_string(task.path().join("schedstat")).ok()?.split(' ').next()?.parse().ok()
        };
        Duration::from_nanos(tasks.filter_map(|task| used(task.unwrap())).sum())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let pid = fs::read_to_string(self.run_dir.join("default/haproxy.pid")).unwrap_or_default();
        if let Ok(master) = pid.trim().parse() {
            let _ = kill(Pid::from_raw(master), Signal::SIGTERM);
        }
    }
}

/// Resident memory, and the part of it that no file backs, in KiB.
fn procfs_status(pid: u32) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
    };
    (field("VmRSS"), field("RssAnon"))
}

async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "{what} did not come in time");
        sleep(Duration::from_millis(5)).await;
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn ms(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1e3
}

/// The median and the highest.
fn summary(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[values.len() - 1])
}
