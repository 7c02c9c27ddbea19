//! The host's address translation, questions to a guest and counted load, by the program itself in a lab.

use std::{
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::support::{Lab, eventually};

const BOOT: Duration = Duration::from_secs(60);

#[test]
fn a_guest_says_which_layer_keeps_it_from_the_internet_until_none_does() {
    let Some(lab) = Lab::up() else { return };
    let (_, address) = lab.server("vm-test");
    lab.get_soon(&format!("http://{address}/"), BOOT);
    let key = lab.directory().join("lab-key");
    let check = || {
        let key = key.to_str().unwrap();
        // Everybody's usual key would be tried as well, and dropbear takes only so many.
        let only = ["--ssh-key", key, "--ssh-option", "IdentitiesOnly=yes", "--ssh-user", "cirros"];
        let output = lbsidecar(
            &lab,
            &[&["check", "--clone", "vm-test-clone", "--guest", "--output", "json"], &only[..]].concat(),
        );
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let about = |finding: &&Value| finding["about"] == "guest";
        let findings: Vec<String> =
            report["findings"].as_array().unwrap().iter().filter(about).map(Value::to_string).collect();
        findings.join("\n")
    };

    // A lab has no Internet.
    let said = check();
    assert!(said.contains("Layer: host. It has no default route"), "{said}");

    // One of its own, behind an interface of the host's own.
    let internet = "set -e; ip netns add internet; ip link add wan0 type veth peer name eth0 netns internet
        ip address add 198.51.100.1/24 dev wan0; ip link set wan0 up; ip route add default via 198.51.100.2
        ip -n internet address add 198.51.100.2/24 dev eth0; ip -n internet link set eth0 up
        ip -n internet link set lo up
        for address in 1.1.1.1 8.8.8.8; do ip -n internet address add $address/32 dev lo; done
        echo 0 >/proc/sys/net/ipv4/ip_forward";
    lab.exec(&["sh", "-c", internet]).unwrap();
    let said = check();
    assert!(said.contains("NAT on the host. IPv4 forwarding is off"), "{said}");

    lab.exec(&["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"]).unwrap();
    let said = check();
    assert!(said.contains("`lbsidecar host-nat` is not enabled"), "{said}");

    // Its files go into an /etc that nobody else sees.
    let enable = "mount -t tmpfs none /etc && mount -t tmpfs none /run && exec \"$@\"";
    let program = program();
    let enabled = lab.exec(&[
        "unshare",
        "--mount",
        "sh",
        "-c",
        enable,
        "sh",
        program.to_str().unwrap(),
        "host-nat",
        "enable",
        "--uplink",
        "wan0",
        "--bridge",
        "br-ex",
        "--cidr",
        "10.20.20.0/24",
    ]);
    assert!(enabled.as_ref().is_ok_and(|said| said.contains("loaded the table")), "{enabled:?}");
    let said = check();
    assert!(said.contains("it reaches 1.1.1.1 and 8.8.8.8"), "{said}");
    assert!(said.contains("has no name server. Layer: subnet DNS"), "{said}");

    // A firewall in the guest's way is its router's or its own.
    lab.exec(&["sh", "-c", "for n in $(ip netns list | grep -o 'qrouter-[^ ]*'); do ip -n $n link set dev $(ip -n $n -o link | grep -o 'qg-[^@:]*') down; done"]).unwrap();
    let said = check();
    assert!(said.contains("no SSH to vm-test"), "{said}");
}

#[test]
fn load_through_the_service_address_loses_nothing_and_burns_over_ssh() {
    let Some(lab) = Lab::up() else { return };
    let (id, address) = lab.server("vm-test");
    lab.get_soon(&format!("http://{address}/"), BOOT);
    let log_path = lab.directory().with_file_name("daemon.log");
    let log = std::fs::File::create(&log_path).unwrap();
    let mut daemon =
        Daemon(spawn(&lab, &["run", "--clone", "vm-test-clone", "--min-up", "1000"], log.into()));
    eventually(BOOT, "the service address is with us", || {
        let ended = daemon.0.try_wait().unwrap();
        assert!(ended.is_none(), "{}", std::fs::read_to_string(&log_path).unwrap_or_default());
        let status: Value =
            serde_json::from_slice(&lbsidecar(&lab, &["status", "--output", "json"]).stdout).ok()?;
        (status["vip"]["where"] == "ours" && status["members"][0]["state"] == "serving").then_some(())
    });

    let output = lbsidecar(
        &lab,
        &[
            "load",
            "--rate",
            "50",
            "--connections",
            "8",
            "--duration",
            "8s",
            "--expect-no-loss",
            "--output",
            "json",
        ],
    );
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(output.status.success(), "{report:#}");
    assert!(report["sent"].as_u64().is_some_and(|sent| sent > 200), "{report:#}");
    assert_eq!(report["target"], format!("{address}:80"));
    assert_eq!(report["total"]["members"]["vm-test"], report["sent"]);

    // Burners, in HAProxy's namespace, until somebody says stop.
    let key = lab.directory().join("lab-key");
    let burn = [
        "load",
        "100",
        "--ssh",
        "--ssh-user",
        "cirros",
        "--ssh-key",
        key.to_str().unwrap(),
        "--output",
        "json",
    ];
    let load = spawn(&lab, &burn, Stdio::null());
    // What its vCPUs got in a second, and what they wanted.
    let burnt = || {
        let before = lab.cpu(&id);
        std::thread::sleep(Duration::from_secs(1));
        let after = lab.cpu(&id);
        (after.0 - before.0, after.0 + after.1 - before.0 - before.1)
    };
    eventually(Duration::from_secs(30), "the guest burns", || {
        (burnt().1 > Duration::from_millis(700)).then_some(())
    });
    let stopped = lbsidecar(&lab, &["load", "--stop"]);
    assert!(
        stopped.status.success() && String::from_utf8_lossy(&stopped.stdout).contains("ended"),
        "{stopped:?}"
    );
    let output = load.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(report["ended"] == "interrupted" && report["verdict"] == "nothing-lost", "{report:#}");
    eventually(Duration::from_secs(10), "the guest is at rest", || {
        (burnt().0 < Duration::from_millis(300)).then_some(())
    });
}

/// A daemon that ends with its test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program() -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_lbsidecar-lab")).with_file_name("lbsidecar");
    assert!(program.exists(), "{} is missing: build the whole workspace", program.display());
    program
}

fn lbsidecar(lab: &Lab, arguments: &[&str]) -> Output {
    let program = program().display().to_string();
    lab.run(&[&["exec", "--", &program], arguments].concat())
}

/// Starts the program in the lab and goes on.
fn spawn(lab: &Lab, arguments: &[&str], stderr: Stdio) -> Child {
    Command::new(env!("CARGO_BIN_EXE_lbsidecar-lab"))
        .arg("--dir")
        .arg(lab.directory())
        .args(["exec", "--"])
        .arg(program())
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .expect("lbsidecar-lab starts")
}
