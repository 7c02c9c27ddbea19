//! A pool in a lab of its own: the base, the daemon as an operator runs it, and what it says of itself.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::Lab;

/// For a boot, and whatever else happens on a machine that is busy with others.
pub(crate) const LONG: Duration = Duration::from_secs(90);
/// How long after a change the lab ends the flows of a moved floating IP, and a little more.
const SETTLED: Duration = Duration::from_secs(3);

/// A lab with a base in it.
pub(crate) struct Pool {
    pub(crate) lab: Lab,
    /// The base's id.
    pub(crate) base: String,
    /// Its floating IP.
    pub(crate) address: String,
    daemon: Option<Child>,
}

impl Pool {
    /// Boots the base and waits until it serves; `settings` follow the ones that a small and busy machine wants.
    pub(crate) fn boot(settings: &str) -> Option<Self> {
        let lab = Lab::up()?;
        let (base, address) = lab.server("vm-test");
        lab.get_soon(&format!("http://{address}/"), LONG);
        let pool = Self { lab, base, address, daemon: None };
        pool.configure(settings);
        Some(pool)
    }

    /// Writes the configuration.
    pub(crate) fn configure(&self, settings: &str) {
        let common = "[pool]\nclone = \"vm-test-clone\"\n\
                      [policy]\nwarm_up = \"1s\"\ncooldown_up = \"1s\"\ncooldown_down = \"1s\"\nmin_lifetime = \"1s\"\n\
                      high = 99\nlow = 1\nmin_up = 1000\nmin_down = 1000\n\
                      [transition]\nramp = [20, 100]\nramp_step = \"1s\"\n\
                      [guards]\nmax_cpu_pressure = 100\nmax_steal = 100\nreserve_memory_mib = 64\n[guests]\ndeadline = \"10s\"\n";
        let text = format!("{common}{settings}");
        fs::write(self.file("config.toml"), text).expect("a configuration");
    }

    fn file(&self, name: &str) -> PathBuf {
        self.lab.directory().with_file_name(name)
    }

    /// A command in the lab, `lbsidecar` itself when the first word is that.
    pub(crate) fn inside(&self, words: &[&str]) -> Command {
        let lab = PathBuf::from(env!("CARGO_BIN_EXE_lbsidecar-lab"));
        let mut command = Command::new(&lab);
        command.arg("--dir").arg(self.lab.directory()).args(["exec", "--"]);
        for word in words {
            if *word == "lbsidecar" {
                let program = lab.with_file_name("lbsidecar");
                assert!(program.exists(), "{} is missing: build the whole workspace", program.display());
                command.arg(program);
            } else {
                command.arg(word);
            }
        }
        command.env("LBSIDECAR_CONFIG", self.file("config.toml"));
        command
    }

    /// Starts the daemon.
    pub(crate) fn run(&mut self) {
        let log = File::options().create(true).append(true).open(self.file("daemon.log")).expect("a log");
        let errors = log.try_clone().expect("a log");
        let mut command = self.inside(&["lbsidecar", "run"]);
        command.env("LBSIDECAR_LOG_FILTER", "info,lbsidecar::daemon=debug");
        self.daemon =
            Some(command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().expect("it starts"));
    }

    /// Runs the daemon where it must refuse: its exit code and what it said.
    pub(crate) fn refused(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let words = [&["timeout", "60", "lbsidecar", "run"], arguments].concat();
        let output = self.inside(&words).output().expect("it starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Kills the daemon as a crash would, and with it nothing else.
    pub(crate) fn kill(&mut self) {
        let mut daemon = self.daemon.take().expect("a daemon");
        daemon.kill().expect("it is ours");
        daemon.wait().expect("its end");
    }

    /// An operator's command.
    pub(crate) fn operate(&self, command: &str) {
        let output = self.inside(&["lbsidecar", command]).output().expect("it starts");
        assert!(output.status.success(), "{command}: {output:?}");
    }

    /// What the daemon says of itself; nothing while it does not answer.
    pub(crate) fn status(&self) -> Option<Value> {
        let output = self.inside(&["lbsidecar", "status", "--output", "json"]).output().expect("it starts");
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Waits for a status that is as wanted.
    pub(crate) fn wait(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = None;
        let end = Instant::now() + LONG;
        loop {
            let status = self.status();
            if let Some(status) = status.as_ref().filter(|status| wanted(status)) {
                return status.clone();
            }
            last = status.or(last);
            if let Some(daemon) = &mut self.daemon
                && let Some(ended) = daemon.try_wait().expect("a child")
            {
                panic!("{what}: the daemon ended: {ended}");
            }
            assert!(Instant::now() < end, "{what}: not within {LONG:?}; {last:#?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits until nothing is under way, in this phase with the service address there.
    pub(crate) fn settle(&mut self, phase: &str, place: &str) -> Value {
        self.wait(&format!("{phase}, service address {place}"), |status| {
            status["phase"] == phase
                && status["vip"]["where"] == place
                && status["transition"].is_null()
                && status["haproxy"]["old_workers"] == json!([])
        });
        std::thread::sleep(SETTLED);
        self.status().expect("a status")
    }

    /// The floating IP's record.
    pub(crate) fn floating_ip(&self) -> Value {
        let url = format!("9696/v2.0/floatingips?floating_ip_address={}", self.address);
        self.lab.cloud(Method::GET, &url, None)["floatingips"][0].clone()
    }

    /// Moves the floating IP by hand.
    pub(crate) fn move_floating_ip(&self, port: &Value) {
        let url = format!("9696/v2.0/floatingips/{}", self.floating_ip()["id"].as_str().expect("an id"));
        self.lab.cloud(Method::PUT, &url, Some(&json!({"floatingip": {"port_id": port}})));
    }

    /// How many there are of a Neutron resource, for what must not have been changed.
    pub(crate) fn count(&self, resource: &str) -> usize {
        let all = self.lab.cloud(Method::GET, &format!("9696/v2.0/{resource}"), None);
        all[resource].as_array().expect("a list").len()
    }

    /// Lets the host reach the tenant network through its router.
    pub(crate) fn route_to_members(&self) {
        let routers = self.lab.cloud(Method::GET, "9696/v2.0/routers", None);
        let gateway = &routers["routers"][0]["external_gateway_info"]["external_fixed_ips"][0]["ip_address"];
        let gateway = gateway.as_str().expect("a router with an external address");
        let route = ["ip", "route", "add", "192.168.100.0/24", "via", gateway, "dev", "br-ex"];
        self.lab.exec(&route).expect("a route");
    }

    /// Lets requests to the cloud go wrong by this rule.
    pub(crate) fn fault(&self, rule: &Value) {
        let rule = format!("--post-data={rule}");
        let json = "--header=Content-Type: application/json";
        let words = ["busybox", "wget", "-q", "-O", "-", json, &rule, "http://127.0.0.1:8799/faults"];
        self.lab.exec(&words).expect("the lab's control port");
    }

    /// How often rules that were given went off.
    pub(crate) fn faults_played(&self) -> u64 {
        let rules = self.lab.exec(&["busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:8799/faults"]);
        let rules: Value = serde_json::from_str(&rules.expect("the control port")).expect("JSON");
        rules.as_array().expect("rules").iter().filter_map(|rule| rule["hits"].as_u64()).sum()
    }

    /// The cloud behaves again.
    pub(crate) fn behave(&self) {
        // busybox's wget knows no DELETE.
        let ask =
            "exec 3<>/dev/tcp/127.0.0.1/8799; printf 'DELETE /faults HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
        let answer = self.lab.exec(&["bash", "-c", ask]).expect("the lab's control port");
        assert!(answer.contains(" 204 "), "{answer}");
    }

    /// Whether br-ex has the floating IP.
    pub(crate) fn on_host(&self) -> bool {
        let shown = self.lab.exec(&["ip", "-br", "address", "show", "br-ex"]).expect("br-ex");
        shown.contains(&format!(" {}/32", self.address))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "the daemon's log:\n{}",
                fs::read_to_string(self.file("daemon.log")).unwrap_or_default()
            );
        }
        if let Some(mut daemon) = self.daemon.take() {
            let _ = i32::try_from(daemon.id()).map(|pid| kill(Pid::from_raw(pid), Signal::SIGTERM));
            let _ = daemon.wait();
        }
    }
}
