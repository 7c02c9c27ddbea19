//! The rig from outside: commands in it, the program in it, OpenStack's own command line.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// How long anything may take that boots a guest; far above what it takes.
pub(crate) const BOOT: Duration = Duration::from_secs(120);
/// What a fresh guest answers on this path is its name.
const NAMES: &str = "vm-test";

/// Only commands change the pool. A guest that boots under emulation reaches 100 %, so the load has to last for longer than any test.
pub(crate) const BY_COMMAND: [&str; 6] = ["--high", "100", "--low", "0", "--min-up", "1000"];
/// Guards that look at the machine, which others may keep busy; and short pauses, for tests.
const SETTINGS: [&str; 8] = [
    "LBSIDECAR_GUARDS_MAX_CPU_PRESSURE=100",
    "LBSIDECAR_GUARDS_MAX_STEAL=100",
    "LBSIDECAR_GUARDS_RESERVE_MEMORY_MIB=0",
    "LBSIDECAR_POLICY_COOLDOWN_UP=5s",
    "LBSIDECAR_POLICY_COOLDOWN_DOWN=10s",
    "LBSIDECAR_POLICY_MIN_LIFETIME=10s",
    "LBSIDECAR_TRANSITION_BUILD_DEADLINE=60s",
    "LBSIDECAR_TRANSITION_BACKOFF_FIRST=1s",
];

/// A pool in the rig: what `provision` made, and a daemon if one was started. Removed with the test however that ends.
pub(crate) struct Pool {
    /// The service address.
    pub(crate) address: String,
    daemon: Option<Child>,
    before: Vec<String>,
}

impl Pool {
    /// Makes the pool in a project that must have nothing of ours, and waits until its base answers.
    pub(crate) fn provision(flags: &[&str]) -> Self {
        let before = everything();
        assert!(!before.iter().any(|one| one.contains("vm-test")), "left over: {before:?}");
        // From here on whatever was made is removed again.
        let mut pool = Self { address: String::new(), daemon: None, before };
        let output = lbsidecar(&[&["provision"], flags].concat());
        let said = text(&output);
        assert!(output.status.success(), "{said}");
        let line = said.lines().find_map(|line| line.trim().strip_prefix("curl http://"));
        pool.address = line.expect("what to do next").trim_end_matches('/').to_owned();
        // Only this host is let in before HAProxy is in front.
        let url = format!("http://{}/", pool.address);
        eventually(BOOT, "the base answers", || {
            (in_rig(&["curl", "-s", "-m", "5", &url]).ok()? == "vm-test\n").then_some(())
        });
        pool
    }

    /// Starts the daemon and waits until the base serves through it.
    pub(crate) fn run(&mut self, flags: &[&str]) {
        self.start(flags);
        self.wait_until("the service address is ours", |view| {
            view["phase"] == "single" && view["vip"]["where"] == "ours" && view["transition"].is_null()
        });
        // Neutron has said yes; its agent translates the address a moment later.
        eventually(BOOT, "the base serves through HAProxy", || {
            self.try_ask("/").ok()?.starts_with(NAMES).then_some(())
        });
    }

    /// Starts the daemon.
    pub(crate) fn start(&mut self, flags: &[&str]) {
        let log = std::fs::File::create(daemon_log()).unwrap();
        let program = program();
        let command =
            [&["env"], &SETTINGS[..], &[program.to_str().unwrap(), "run", "--clone", "vm-test-clone"], flags]
                .concat();
        self.daemon = Some(enter(&command).stdout(Stdio::null()).stderr(log).spawn().unwrap());
    }

    /// Ends the daemon; traffic goes on.
    pub(crate) fn stop(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        let lock = "kill $(cat /var/lib/lbsidecar/default/lock) 2>/dev/null";
        if in_rig(&["sh", "-c", lock]).is_err() {
            let _ = daemon.kill();
        }
        let _ = daemon.wait();
    }

    /// What the daemon says.
    pub(crate) fn status(&self) -> Value {
        serde_json::from_slice(&lbsidecar(&["status", "--output", "json"]).stdout).unwrap_or_default()
    }

    /// Waits until the pool is in a phase with so many members.
    pub(crate) fn wait_for(&mut self, phase: &str, members: usize) -> Value {
        self.wait_until(&format!("{phase} with {members} members"), |view| {
            view["phase"] == phase && view["members"].as_array().is_some_and(|all| all.len() == members)
        })
    }

    /// Waits until the daemon's view is as wanted.
    pub(crate) fn wait_until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + BOOT;
        loop {
            let view = self.status();
            if wanted(&view) {
                return view;
            }
            if let Some(ended) = self.daemon.as_mut().and_then(|daemon| daemon.try_wait().unwrap()) {
                panic!("not {what}: the daemon ended ({ended}): {}", log());
            }
            assert!(Instant::now() < end, "not {what}: {}\n{}", text(&lbsidecar(&["status"])), log());
            thread::sleep(Duration::from_millis(300));
        }
    }

    /// Says a command to the daemon, which must take it.
    pub(crate) fn say(&self, command: &[&str]) {
        let output = lbsidecar(command);
        assert!(output.status.success(), "{}", text(&output));
    }

    /// Hands over as soon as the clone has served for long enough.
    pub(crate) fn hand_over(&mut self) {
        // A clone that has not answered a request yet takes nothing over.
        eventually(BOOT, "the handover begins", || {
            let answers = [self.ask("/"), self.ask("/")];
            assert!(answers.iter().all(|answer| answer.starts_with(NAMES)), "{answers:?}");
            lbsidecar(&["handover"]).status.success().then_some(())
        });
        self.wait_for("single", 1);
    }

    /// Asks the service, from a machine of the external network.
    pub(crate) fn ask(&self, path: &str) -> String {
        self.try_ask(path).unwrap()
    }

    pub(crate) fn try_ask(&self, path: &str) -> Result<String, String> {
        let url = format!("http://{}{path}", self.address);
        in_rig(&["ip", "netns", "exec", "client", "curl", "-sSf", "-m", "5", &url])
    }

    /// Holds what the daemon says against what Nova's and Neutron's own command line says.
    pub(crate) fn agrees(&self) {
        let view = self.status();
        let mut ours: Vec<String> = view["members"]
            .as_array()
            .unwrap()
            .iter()
            .map(|member| format!("{} {} ACTIVE", plain(&member["server_id"]), plain(&member["name"])))
            .collect();
        let servers = openstack(&["server", "list"]);
        let mut theirs: Vec<String> = servers
            .as_array()
            .unwrap()
            .iter()
            .map(|server| {
                format!("{} {} {}", plain(&server["ID"]), plain(&server["Name"]), plain(&server["Status"]))
            })
            .collect();
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs, "members and `openstack server list`");
        assert_eq!(view["vip"]["address"], self.address.as_str());
        let port = openstack(&["floating", "ip", "show", &self.address])["port_id"].clone();
        let port = openstack(&["port", "show", plain(&port)]);
        let (owner, state) = (plain(&port["device_owner"]), plain(&port["status"]));
        let ours = view["vip"]["where"] == "ours" && owner == "lbsidecar:host" && state == "ACTIVE";
        assert!(ours, "{} and the floating IP is at a port of {owner}, {state}", view["vip"]);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop();
        if thread::panicking() {
            eprintln!("the daemon's log:\n{}", log());
        }
        let output = lbsidecar(&["cleanup", "--network", "--snapshots", "--yes"]);
        // HAProxy outlives the daemon. What else is there was made by the test itself.
        let _ = in_rig(&[
            "sh",
            "-c",
            "kill $(cat /run/lbsidecar/default/haproxy.pid); rm -rf /var/lib/lbsidecar/default; openstack server list -f value -c ID | xargs -r openstack server delete --wait",
        ]);
        if !thread::panicking() {
            assert!(output.status.success(), "{}", text(&output));
            assert_eq!(everything(), self.before, "after cleanup");
        }
    }
}

/// Ids and names of all that the project has.
pub(crate) fn everything() -> Vec<String> {
    let kinds = [
        "server",
        "image",
        "keypair",
        "network",
        "subnet",
        "router",
        "port",
        "floating ip",
        "security group",
        "security group rule",
    ];
    // One start of the command line for all.
    let script = kinds.map(|kind| format!("{kind} list -f json")).join("\n");
    let said = in_rig(&["sh", "-c", &format!("openstack <<END\n{script}\nEND")]).unwrap();
    let mut all = Vec::new();
    let text = said.replace("(openstack) ", "");
    for list in serde_json::Deserializer::from_str(&text).into_iter::<Value>() {
        for one in list.unwrap().as_array().unwrap() {
            let name = one.get("Name").or_else(|| one.get("Floating IP Address")).map(plain);
            let id = one.get("ID").or_else(|| one.get("Fingerprint")).map(plain);
            all.push(format!("{} {}", id.unwrap_or_default(), name.unwrap_or_default()));
        }
    }
    all.sort();
    all
}

/// OpenStack's own command line.
pub(crate) fn openstack(arguments: &[&str]) -> Value {
    let said = in_rig(&[&["openstack"], arguments, &["-f", "json"]].concat()).unwrap();
    serde_json::from_str(&said).unwrap()
}

/// The same, for commands that print nothing of use.
pub(crate) fn openstack_do(arguments: &[&str]) {
    in_rig(&[&["openstack"], arguments].concat()).unwrap();
}

/// Stops or starts one of the rig's services.
pub(crate) fn service(word: &str, name: &str, variables: &[&str]) {
    let inside = scripts().join("inside/services.sh");
    let directory = rig_directory();
    let network = std::fs::read_to_string(directory.join("network")).unwrap();
    in_rig(
        &[
            &["env"],
            variables,
            &[inside.to_str().unwrap(), directory.to_str().unwrap(), network.trim(), word, name],
        ]
        .concat(),
    )
    .unwrap();
}

/// Runs the program in the rig.
pub(crate) fn lbsidecar(arguments: &[&str]) -> Output {
    enter(&[&[program().to_str().unwrap()], arguments].concat()).output().unwrap()
}

/// Runs a command in the rig and gives what it printed.
pub(crate) fn in_rig(command: &[&str]) -> Result<String, String> {
    let output = enter(command).output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{command:?}: {} {}", output.status, text(&output)))
    }
}

pub(crate) fn enter(command: &[&str]) -> Command {
    let mut enter = Command::new(scripts().join("enter.sh"));
    enter.args(command).stdin(Stdio::null());
    enter
}

/// Tries until there is an answer.
pub(crate) fn eventually<T>(within: Duration, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(answer) = attempt() {
            return answer;
        }
        assert!(Instant::now() < end, "{what}: not within {within:?}\n{}", log());
        thread::sleep(Duration::from_millis(300));
    }
}

pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

pub(crate) fn plain(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The program, built beside the lab's.
pub(crate) fn program() -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_lbsidecar-lab")).with_file_name("lbsidecar");
    assert!(program.exists(), "{} is missing: build the whole workspace", program.display());
    program
}

/// The daemon's log.
pub(crate) fn log() -> String {
    std::fs::read_to_string(daemon_log()).unwrap_or_default()
}

fn daemon_log() -> PathBuf {
    rig_directory().join("log/lbsidecar.log")
}

pub(crate) fn rig_directory() -> PathBuf {
    std::env::var_os("LBSIDECAR_RIG_DIR").map_or_else(|| "/run/lbsidecar-rig".into(), PathBuf::from)
}

pub(crate) fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("openstack")
}
