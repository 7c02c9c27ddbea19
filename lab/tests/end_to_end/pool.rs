//! A pool in a lab: its base and its daemon, which is started again whenever it is killed; orders, looks, load, and faults of the
//! cloud.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::support::{FIRST_FLOATING_IP, Lab, eventually};

/// Longer than any step takes, on a machine that is busy.
pub(crate) const LONG: Duration = Duration::from_secs(90);

/// Short waits, and thresholds that no vote reaches: what happens is what the test orders.
const CONFIG: &str = r#"
[pool]
clone = "vm-test-clone"
[policy]
min_up = 100000
min_down = 100000
warm_up = "1s"
cooldown_up = "1s"
cooldown_down = "1s"
min_lifetime = "1s"
[transition]
ramp = [1, 100]
ramp_step = "500ms"
proofs = 2
healthy_deadline = "25s"
backoff_first = "1s"
backoff_max = "1s"
breaker_after = 100
[guards]
max_steal = 100
max_cpu_pressure = 100
reserve_memory_mib = 64
[cloud]
timeout = "3s"
[haproxy]
check_path = "/healthz"
"#;

/// Starts the daemon again when it was killed, and only then.
const KEPT_UP: &str = r#"while :; do "$@" & echo $! > "$DAEMON_PID"; wait $!; [ $? -eq 137 ] || exit; done"#;

/// A pool whose base serves behind HAProxy.
pub(crate) struct Pool<'a> {
    pub(crate) lab: &'a Lab,
    /// The VM that was first.
    pub(crate) base: String,
    daemon: Child,
}

impl<'a> Pool<'a> {
    /// Boots the base, starts the daemon with these variables, and waits until it has taken the base over.
    pub(crate) fn adopt(lab: &'a Lab, variables: &[(&str, &str)]) -> Self {
        let (base, address) = lab.server("vm-test");
        assert_eq!(address, FIRST_FLOATING_IP);
        lab.get_soon(&format!("http://{address}/"), LONG);
        let at = |name: &str| lab.directory().join(name);
        fs::write(at("config.toml"), CONFIG).unwrap();
        let log = File::create(at("daemon.log")).unwrap();
        let daemon = Command::new(env!("CARGO_BIN_EXE_lbsidecar-lab"))
            .arg("--dir")
            .arg(lab.directory())
            .args(["exec", "--", "env"])
            .arg(format!("DAEMON_PID={}", at("daemon.pid").display()))
            .args(variables.iter().map(|(name, value)| format!("{name}={value}")))
            .args(["sh", "-c", KEPT_UP, "daemon"])
            .arg(program())
            .args(["run", "--config"])
            .arg(at("config.toml"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let pool = Self { lab, base, daemon };
        pool.until("the base is taken over", |status| {
            settled(status, "single") && status["vip"]["where"] == "ours"
        });
        pool
    }

    /// Signals the daemon.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = fs::read_to_string(self.lab.directory().join("daemon.pid")).unwrap();
        self.lab.exec(&["kill", &format!("-{signal}"), pid.trim()]).unwrap();
    }

    /// What `lbsidecar` with these arguments prints, or what it says against it.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<String, String> {
        let program = program();
        self.lab.exec(&[&[program.to_str().unwrap()], arguments].concat())
    }

    /// The status, if the daemon answers.
    pub(crate) fn status(&self) -> Option<Value> {
        let program = program();
        // Degraded has an exit code of its own, and says all the same.
        let output = self.lab.run(&["exec", "--", program.to_str().unwrap(), "status", "--output", "json"]);
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Waits until the status is like that, and gives it.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, like: impl Fn(&Value) -> bool) -> Value {
        eventually(LONG, what, || self.status().filter(&like))
    }

    /// Waits for a stage of the transition under way.
    #[track_caller]
    pub(crate) fn until_stage(&self, stage: &str) {
        self.until(stage, |status| status["transition"]["stage"] == stage);
    }

    /// Waits until no transition is under way and the pool is in this phase.
    #[track_caller]
    pub(crate) fn until_settled(&self, phase: &str) -> Value {
        self.until(phase, |status| settled(status, phase))
    }

    /// Gives an order until it is taken.
    #[track_caller]
    pub(crate) fn order(&self, order: &str) {
        let mut said = String::new();
        eventually(LONG, order, || match self.ask(&[order]) {
            Ok(_) => Some(()),
            Err(why) => {
                if why != said {
                    eprintln!("{why}");
                    said = why;
                }
                None
            }
        });
    }

    /// From one member to two.
    #[track_caller]
    pub(crate) fn scale_out(&self) -> Value {
        self.order("scale-out");
        let status = self.until_settled("balanced");
        // Who never answered anybody is not handed over to.
        for _ in 0..8 {
            self.lab.get(&format!("http://{FIRST_FLOATING_IP}/")).unwrap();
        }
        status
    }

    /// Does it under load, and demands that no request is lost, then or in the second after it.
    #[track_caller]
    pub(crate) fn without_loss<T>(&self, what: &str, act: impl FnOnce() -> T) -> T {
        let (result, report) = self.under_load(what, act);
        assert_eq!(report["verdict"], "nothing-lost", "{what}: {report:#}");
        result
    }

    /// Does it under load, and gives what clients saw, then or in the second after it.
    pub(crate) fn under_load<T>(&self, what: &str, act: impl FnOnce() -> T) -> (T, Value) {
        let load = Load::begin(self.lab);
        let result = act();
        std::thread::sleep(Duration::from_secs(1));
        let report = load.end();
        let total = &report["total"];
        let (failed, kinds) = (&total["failed"], &total["failed_by_kind"]);
        let gap = total["longest_gap_ms"].as_f64().unwrap_or_default();
        eprintln!("{what}: {} requests, {failed} failed {kinds}, longest gap {gap:.0} ms", report["sent"]);
        (result, report)
    }

    /// Waits, in the lab itself where a look takes milliseconds, until a transition of this kind is in one of these stages, and runs a
    /// script there at once. Gives the stage; nothing when the transition ended before.
    #[track_caller]
    pub(crate) fn at_stage(&self, kind: &str, stages: &[&str], script: &str) -> Option<String> {
        const LOOK: &str = r#"
            end=$((SECONDS + 90))
            pattern="\"kind\": \"$2\",[[:space:]]*\"stage\": \"($3)\""
            while :; do
                status=$("$1" status --output json)
                if [[ $status =~ $pattern ]]; then break; fi
                if [[ $status =~ \"transition\":\ null || $SECONDS -gt $end ]]; then exit 0; fi
            done
            stage=${BASH_REMATCH[1]}
            eval "$4" >&2 || exit 1
            echo "$stage""#;
        let program = program();
        let program = program.to_str().unwrap();
        let said =
            self.lab.exec(&["bash", "-c", LOOK, "look", program, kind, &stages.join("|"), script]).unwrap();
        Some(said.trim().to_owned()).filter(|stage| !stage.is_empty())
    }

    /// Has the cloud misbehave, by a rule of the lab's control port.
    pub(crate) fn fault(&self, rule: &str) {
        let url = "http://127.0.0.1:8799/faults";
        let header = "--header=Content-Type: application/json";
        let post = format!("--post-data={rule}");
        self.lab.exec(&["busybox", "wget", "-q", "-O", "-", header, &post, url]).unwrap();
    }

    /// The cloud behaves again.
    pub(crate) fn api_back(&self) {
        // busybox's wget knows no DELETE.
        let ask =
            "exec 3<>/dev/tcp/127.0.0.1/8799; printf 'DELETE /faults HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
        let answer = self.lab.exec(&["bash", "-c", ask]).unwrap();
        assert!(answer.starts_with("HTTP/1.") && answer.contains(" 204 "), "{answer}");
    }

    /// How many servers Nova was asked for, and made.
    pub(crate) fn made(&self) -> usize {
        // Nobody waited for the answer any more.
        self.asked_for(|status| *status == 202 || status.is_null())
    }

    /// How many servers Nova was asked for, whatever came of it.
    pub(crate) fn asked(&self) -> usize {
        self.asked_for(|_| true)
    }

    fn asked_for(&self, and: impl Fn(&Value) -> bool) -> usize {
        let log = self.lab.exec(&["busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:8799/log"]).unwrap();
        let log: Vec<Value> = serde_json::from_str(&log).unwrap();
        let counts = |entry: &&Value| {
            entry["method"] == "POST"
                && entry["path"].as_str().is_some_and(|path| path.ends_with("/servers"))
                && and(&entry["status"])
        };
        log.iter().filter(counts).count()
    }

    /// The id of the only member, after making sure that nothing else is left at Nova or libvirt.
    #[track_caller]
    pub(crate) fn only_member(&self) -> String {
        self.only_member_of("single")
    }

    /// The same in another phase.
    #[track_caller]
    pub(crate) fn only_member_of(&self, phase: &str) -> String {
        let status = self.until_settled(phase);
        let id = status["members"][0]["server_id"].as_str().unwrap().to_owned();
        eventually(LONG, "nothing is left over", || {
            let servers = self.lab.cloud(reqwest::Method::GET, "8774/v2.1/servers", None);
            let servers: Vec<&str> = servers["servers"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|server| server["id"].as_str())
                .collect();
            let domains =
                self.lab.exec(&["virsh", "-c", "qemu:///system", "list", "--all", "--uuid"]).ok()?;
            (servers == [&id] && domains.split_whitespace().collect::<Vec<_>>() == [&id]).then_some(())
        });
        id
    }

    /// The daemon's log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.lab.directory().join("daemon.log")).unwrap_or_default()
    }
}

impl Drop for Pool<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the end of the daemon's log:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
            eprintln!("{:#}", self.status().unwrap_or_default());
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Clients at the service address, each request counted.
pub(crate) struct Load(Child);

impl Load {
    pub(crate) fn begin(lab: &Lab) -> Self {
        let url = format!("http://{FIRST_FLOATING_IP}/");
        let run = lab.directory().join("load");
        let child = Command::new(env!("CARGO_BIN_EXE_lbsidecar-lab"))
            .arg("--dir")
            .arg(lab.directory())
            .args(["exec", "--", "ip", "netns", "exec", "client"])
            .arg(program())
            .args([
                "load",
                "--url",
                &url,
                "--rate",
                "80",
                "--connections",
                "12",
                "--duration",
                "20m",
                "--output",
                "json",
            ])
            .arg("--run-dir")
            .arg(&run)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Before that it would not hear that it is to end.
        let begun = || fs::read_dir(&run).ok()?.next().map(drop);
        eventually(LONG, "the load begins", begun);
        Self(child)
    }

    /// Ends it, and gives its report.
    pub(crate) fn end(self) -> Value {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), Signal::SIGINT).unwrap();
        let output = self.0.wait_with_output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// Whether no transition is under way and the pool is in this phase.
pub(crate) fn settled(status: &Value, phase: &str) -> bool {
    status["phase"] == phase && status["transition"].is_null()
}

/// The program under test.
pub(crate) fn program() -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_lbsidecar-lab")).with_file_name("lbsidecar");
    assert!(program.exists(), "{} is missing: build the whole workspace", program.display());
    program
}
