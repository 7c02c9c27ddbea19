//! From an empty project to a pool that serves, and back, by the program itself.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::Duration,
};

use reqwest::Method;
use serde_json::Value;

use crate::support::{Lab, eventually};

const BOOT: Duration = Duration::from_secs(60);

#[test]
fn an_empty_project_serves_and_is_as_empty_again() {
    let Some(lab) = Lab::up_empty() else { return };
    let key = lab.directory().join("keys/lab-key");
    let key = key.to_str().unwrap().to_owned();
    let mut provision = vec!["provision", "--flavor", "m1.nano", "--key-file", &key];
    everything(&lab); // Neutron makes the project's default group when it is first asked.
    let before = everything(&lab);

    // A plan changes nothing.
    let output = lbsidecar(&lab, &[&provision[..], &["--dry-run"]].concat());
    let said = text(&output);
    assert!(output.status.success() && said.contains("+ create router lab-router"), "{said}");
    assert_eq!(everything(&lab), before);

    provision.push("--snapshot");
    let output = lbsidecar(&lab, &provision);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    eprintln!("{said}");
    let url =
        said.lines().find_map(|line| line.trim().strip_prefix("curl ")).expect("what to do next").to_owned();
    assert_eq!(lab.get_soon(&url, BOOT), "vm-test\n");
    // The host may log in, by its own address and by the load balancer port, and nobody else.
    let group = |name: &str| {
        let path = format!("9696/v2.0/security-groups?name={name}");
        lab.cloud(Method::GET, &path, None)["security_groups"][0].clone()
    };
    let (members, balancer) = (group("lab-sg"), group("lab-sg-lb"));
    let rules = members["security_group_rules"].as_array().unwrap();
    let ssh: Vec<&Value> = rules.iter().filter(|rule| rule["port_range_min"] == 22).collect();
    assert!(
        ssh.len() == 2
            && ssh.iter().any(|rule| rule["remote_ip_prefix"] == "10.20.20.1/32")
            && ssh.iter().any(|rule| rule["remote_group_id"] == balancer["id"]),
        "{ssh:?}"
    );

    // Again: nothing to do, nothing changed.
    let full = everything(&lab);
    let output = lbsidecar(&lab, &provision);
    assert!(output.status.success() && text(&output).contains("nothing to do"), "{}", text(&output));
    assert_eq!(everything(&lab), full);

    // Snapshots: the newest two of ours stay.
    for _ in 0..2 {
        let output = lbsidecar(&lab, &["snapshot", "--retain", "2"]);
        assert!(output.status.success(), "{}", text(&output));
    }
    assert_eq!(ours(&lab).len(), 2);

    let snapshot = ours(&lab).first().expect("a snapshot")["id"].clone();
    serves_through_the_daemon(&lab, &url, &provision, &snapshot);

    // Without a terminal nobody is asked, and nothing is removed.
    let output = lbsidecar(&lab, &["cleanup", "--network", "--snapshots"]);
    assert_eq!(output.status.code(), Some(64), "{}", text(&output));
    let output = lbsidecar(&lab, &["cleanup", "--network", "--snapshots", "--yes"]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(everything(&lab), before);
    assert!(!lab.exec(&["ip", "netns", "list"]).unwrap().contains("lbsidecar-default"));
    let output = lbsidecar(&lab, &["cleanup", "--network", "--snapshots", "--yes"]);
    assert!(output.status.success() && text(&output).contains("nothing to remove"), "{}", text(&output));
}

/// The daemon takes over; under the load's whole story it scales out to a clone of the newest snapshot and hands over, having made a
/// snapshot of what it deletes. Meanwhile cleanup waits for its end, and provision makes no second base.
fn serves_through_the_daemon(lab: &Lab, url: &str, provision: &[&str], snapshot: &Value) {
    // As the seed's command line has it, but for waits of seconds instead of minutes. Emulated guests on a busy machine are never
    // quite at rest, and what the machine itself feels is not asked here.
    let run = "run --base vm-test --clone vm-test-clone --high 60 --low 30 --min-up 4 --min-down 4 --metric max \
        --interval 2 --clone-source snapshot --snapshot-before-delete";
    let settings = "LBSIDECAR_GUARDS_MAX_CPU_PRESSURE=100 LBSIDECAR_GUARDS_MAX_STEAL=100 LBSIDECAR_GUARDS_RESERVE_MEMORY_MIB=0 \
        LBSIDECAR_POLICY_WARM_UP=2s LBSIDECAR_POLICY_COOLDOWN_UP=2s LBSIDECAR_POLICY_COOLDOWN_DOWN=2s \
        LBSIDECAR_POLICY_MIN_LIFETIME=5s LBSIDECAR_TRANSITION_RAMP_STEP=1s";
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_lbsidecar-lab"))
        .arg("--dir")
        .arg(lab.directory())
        .args(["exec", "--", "env"])
        .args(settings.split_whitespace())
        .arg(program())
        .args(run.split_whitespace())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually(BOOT * 2, "the pool serves", || {
        let output = lbsidecar(lab, &["status", "--output", "json"]);
        let view: Value = serde_json::from_slice(&output.stdout).ok()?;
        (view["phase"] == "single" && view["vip"]["where"] == "ours").then_some(())
    });
    assert_eq!(lab.get_soon(url, BOOT), "vm-test\n");
    let output = lbsidecar(lab, &["cleanup", "--network", "--snapshots", "--yes"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("nothing was removed"), "{}", text(&output));

    let load = ["load", "--split-for", "8s", "--stop-after", "240s", "--expect-no-loss", "--output", "json"];
    let output = lbsidecar(lab, &load);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let status = || text(&lbsidecar(lab, &["status"]));
    assert!(output.status.success(), "{told:#}\n{}\n{}", text(&output), status());
    assert!(told["ended"] == "done" && told["verdict"] == "nothing-lost", "{told:#}");
    let phase = |name: &str| {
        let phases = told["phases"].as_array().unwrap();
        phases.iter().find(|phase| phase["name"] == name && phase["ok"].as_u64() > Some(0)).expect(name)
    };
    for name in ["100", "calm"] {
        phase(name);
    }
    let split = &phase("split")["members"];
    let answered = |member: &str| split[member].as_f64().unwrap_or_default();
    let share = answered("vm-test") / (answered("vm-test") + answered("vm-test-clone"));
    assert!((0.4..0.6).contains(&share), "vm-test had {share:.2} of the requests: {told:#}");

    // The clone alone is left, booted from the snapshot of before; the base's last state is an image of ours.
    assert_eq!(lab.get(url).unwrap(), "vm-test-clone\n");
    let servers = lab.cloud(Method::GET, "8774/v2.1/servers/detail", None);
    let servers = servers["servers"].as_array().unwrap();
    let [clone] = servers.as_slice() else { panic!("{servers:?}") };
    assert_eq!((&clone["name"], &clone["image"]["id"]), (&"vm-test-clone".into(), snapshot));
    let images = ours(lab);
    assert!(images.len() == 2 && &images[1]["id"] == snapshot, "the newest two stay: {images:?}");

    let output = lbsidecar(lab, provision);
    let said = text(&output);
    assert!(output.status.success() && said.contains("moved on") && said.contains("nothing to do"), "{said}");

    lab.exec(&["sh", "-c", "kill $(cat $LBSIDECAR_DAEMON_STATE_DIR/default/lock)"]).unwrap();
    assert!(daemon.wait().unwrap().success());
}

/// The pool's snapshots, the newest first.
fn ours(lab: &Lab) -> Vec<Value> {
    let images = lab.cloud(Method::GET, "9292/v2/images?lbsidecar_pool=default&sort=created_at:desc", None);
    images["images"].as_array().unwrap().clone()
}

/// The program, built beside the lab.
fn program() -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_lbsidecar-lab")).with_file_name("lbsidecar");
    assert!(program.exists(), "{} is missing: build the whole workspace", program.display());
    program
}

/// Runs the program in the lab.
fn lbsidecar(lab: &Lab, arguments: &[&str]) -> Output {
    lab.run(&[&["exec", "--", program().to_str().unwrap()], arguments].concat())
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Ids of all that the project has.
fn everything(lab: &Lab) -> Vec<String> {
    let mut all = Vec::new();
    for (path, list, id) in [
        ("9696/v2.0/networks", "networks", "/id"),
        ("9696/v2.0/subnets", "subnets", "/id"),
        ("9696/v2.0/routers", "routers", "/id"),
        ("9696/v2.0/ports", "ports", "/id"),
        ("9696/v2.0/floatingips", "floatingips", "/id"),
        ("9696/v2.0/security-groups", "security_groups", "/id"),
        ("9696/v2.0/security-group-rules", "security_group_rules", "/id"),
        ("8774/v2.1/servers", "servers", "/id"),
        ("8774/v2.1/os-keypairs", "keypairs", "/keypair/name"),
        ("9292/v2/images", "images", "/id"),
    ] {
        let answer = lab.cloud(Method::GET, path, None);
        let list_of = answer[list].as_array().expect(list);
        all.extend(list_of.iter().map(|one| format!("{list} {}", one.pointer(id).expect("an id"))));
    }
    all.sort();
    all
}
