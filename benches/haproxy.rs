//! What our handling of HAProxy costs beside HAProxy's own work: a change of members beside a bare `haproxy -c` and a bare reload, and
//! our configuration's data path beside one that is written by hand for speed and can do nothing else. All in one run, taking turns.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench prints, and has nothing better to do on an error"
)]

#[path = "../tests/haproxy/support.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "shared with the adapter's own tests"
)]
mod support;

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, SocketAddr},
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use lbsidecar::load::{ClientGroup, Load, LoadPlan, Target, Verdict};
use support::{Member, Rig, free_address, model};
use tokio::runtime::Builder;

/// Turns of each kind; the median counts, since the machine has other things to do.
const CHANGES: usize = 15;
const STRETCHES: usize = 9;
const STRETCH: Duration = Duration::from_millis(2000);
const CLIENTS: usize = 32;

fn main() {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(change_of_members());
    runtime.block_on(data_path());
}

/// Render, check, rename, orders, reload, confirm, read back; beside what HAProxy's own check and reload take.
async fn change_of_members() {
    let mut rig = Rig::new();
    let (base, clone) = (Member::start("base").await, Member::start("clone").await);
    let models = [model([base.ready(100)]), model([base.ready(100), clone.ready(0)])];
    rig.haproxy.apply(&models[0], false).await.unwrap();
    let (mut ours, mut weights, mut checks, mut reloads) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for turn in 0..CHANGES {
        let began = Instant::now();
        rig.haproxy.apply(&models[(turn + 1) % 2], false).await.unwrap();
        ours.push(ms_since(began));

        let mut weighted = models[(turn + 1) % 2].clone();
        weighted.servers[0] = base.ready(50);
        let began = Instant::now();
        rig.haproxy.apply(&weighted, false).await.unwrap();
        weights.push(ms_since(began));

        let config = rig.config();
        let began = Instant::now();
        let checked = Command::new("/usr/sbin/haproxy").args(["-W", "-c", "-q", "-f"]).arg(config).status();
        assert!(checked.unwrap().success());
        checks.push(ms_since(began));

        let master = rig.settings.run_dir.join("master.sock");
        let before = worker(&master).unwrap();
        let began = Instant::now();
        ask(&master, "reload");
        while worker(&master).is_none_or(|now| now == before) {
            std::thread::sleep(Duration::from_millis(1));
        }
        reloads.push(ms_since(began));
        rig.until("alone", |seen| seen.old_workers.is_empty()).await;
    }
    let (ours, weights, check, reload) = (median(ours), median(weights), median(checks), median(reloads));
    println!("change of members: {:.2} x a bare check and a bare reload", ours / (check + reload));
    println!("change of members: {ours:.1} ms; bare check {check:.1} ms, bare reload {reload:.1} ms");
    println!("change of weight:  {:.2} x a bare check ({weights:.1} ms)", weights / check);
}

/// Requests a second, slowest percentile, and CPU of HAProxy's worker for one request.
#[derive(Default)]
struct Measured {
    rates: Vec<f64>,
    slowest: Vec<f64>,
    costs: Vec<f64>,
}

/// Our configuration and one by hand, over the same two backends and with the same clients.
async fn data_path() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two, hand) = (free_address(), free_address(), free_address());
    let answering = format!(
        "{HEAD}frontend members\n bind {one}\n bind {two}\n http-request return status 200 content-type text/plain string ok\n"
    );
    let _members = Plain::start(&dir.path().join("members.cfg"), &answering, one);
    let by_hand = format!(
        "{HEAD}frontend service\n bind {hand}\n default_backend app\nbackend app\n balance roundrobin\n \
         server one {one} check\n server two {two} check\n"
    );
    let plain = Plain::start(&dir.path().join("hand.cfg"), &by_hand, hand);

    let mut rig = Rig::with(|settings| {
        settings.check.path = "/".into();
        settings.check.interval = Duration::from_secs(1);
        settings.keep_alive_timeout = Duration::from_secs(30);
    });
    let names = [Member::start("one").await, Member::start("two").await];
    let mut servers = names.each_ref().map(|member| member.ready(100));
    servers[0].address = one;
    servers[1].address = two;
    rig.haproxy.apply(&model(servers), false).await.unwrap();
    for name in &names {
        rig.until_up(name).await;
    }
    let ours_pid = worker(&rig.settings.run_dir.join("master.sock")).unwrap();

    let (mut ours, mut theirs) = (Measured::default(), Measured::default());
    for turn in 0..=STRETCHES {
        for (address, pid, into) in [(rig.service(), ours_pid, &mut ours), (hand, plain.0.id(), &mut theirs)]
        {
            let (rate, slowest, cost) = stretch(address, pid).await;
            // The first turn only warms up.
            if turn > 0 {
                into.rates.push(rate);
                into.slowest.push(slowest);
                into.costs.push(cost);
            }
        }
    }
    // Turn by turn, so that what else the machine did meanwhile met both.
    let ratio = |a: &[f64], b: &[f64]| median(a.iter().zip(b).map(|(a, b)| a / b).collect());
    println!(
        "data path: {:.3} x the throughput of a minimal configuration",
        ratio(&ours.rates, &theirs.rates)
    );
    println!("data path: {:.3} x its p99", ratio(&ours.slowest, &theirs.slowest));
    println!("data path: {:.3} x its CPU for a request", ratio(&ours.costs, &theirs.costs));
    for (name, Measured { rates, slowest, costs }) in [("ours", ours), ("minimal", theirs)] {
        println!(
            "data path, {name}: {:.0} requests/s, p99 {:.2} ms, {:.1} us of CPU for a request",
            median(rates),
            median(slowest),
            median(costs)
        );
    }
}

const HEAD: &str = "global\n nbthread 2\n maxconn 4000\ndefaults\n mode http\n timeout connect 1s\n timeout client 60s\n timeout server 60s\n";

async fn stretch(address: SocketAddr, pid: u32) -> (f64, f64, f64) {
    let clients = vec![ClientGroup::keep_alive(CLIENTS, Duration::ZERO)];
    let before = cpu_ns(pid);
    let plan = LoadPlan { duration: Some(STRETCH), ..LoadPlan::new(Target::from(address), clients) };
    let report = Load::start(plan).unwrap().finish().await;
    assert_eq!(report.verdict, Verdict::NothingLost, "{report:#?}");
    let requests = report.total.ok as f64;
    let cost = (cpu_ns(pid) - before) as f64 / 1e3 / requests;
    (requests / report.total.seconds, report.total.latency.p99_ms, cost)
}

/// An HAProxy with a configuration by hand, in one process; it ends with the value.
struct Plain(Child);

impl Plain {
    fn start(config: &Path, text: &str, address: SocketAddr) -> Self {
        fs::write(config, text).unwrap();
        let mut command = Command::new("/usr/sbin/haproxy");
        let child = command.args(["-db", "-f"]).arg(config).stderr(Stdio::null()).spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(5);
        while std::net::TcpStream::connect(address).is_err() {
            assert!(Instant::now() < until, "HAProxy does not listen on {address}");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self(child)
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// CPU that all threads of a process have used.
fn cpu_ns(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let used = |task: fs::DirEntry| -> Option<u64> {
        fs::read_to_string(task.path().join("schedstat")).ok()?.split(' ').next()?.parse().ok()
    };
    tasks.filter_map(|task| used(task.unwrap())).sum()
}

/// A command to the master; empty when it is just replacing itself.
fn ask(master: &Path, command: &str) -> String {
    let mut answer = String::new();
    if let Ok(mut stream) = UnixStream::connect(master) {
        // The master answers and then waits for more until it is told that nothing comes.
        let asked = writeln!(stream, "{command}").and_then(|()| stream.shutdown(Shutdown::Write));
        let _ = asked.and_then(|()| stream.read_to_string(&mut answer));
    }
    answer
}

/// The process id of the master's current worker.
fn worker(master: &Path) -> Option<u32> {
    let processes = ask(master, "show proc");
    let current = processes.split("# workers").nth(1)?.split("# old workers").next()?;
    current.lines().find_map(|line| line.split_whitespace().next()?.parse().ok())
}

fn ms_since(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
