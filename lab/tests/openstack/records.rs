//! Writes down what the real services answer the program: `recordings/` in the rig's directory.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use crate::rig::{
    BOOT, BY_COMMAND, enter, eventually, everything, in_rig, program, rig_directory, scripts, text,
};

/// Where the recording proxy listens, inside.
const PROXY: &str = "8899";

/// Runs the program with a recording proxy between it and the cloud.
fn recorded(arguments: &[&str]) -> std::process::Command {
    let proxy = format!("http_proxy=http://127.0.0.1:{PROXY}");
    let program = program();
    let settings = ["env", &proxy, "no_proxy=", "LBSIDECAR_GUARDS_MAX_CPU_PRESSURE=100"];
    let more =
        ["LBSIDECAR_GUARDS_MAX_STEAL=100", "LBSIDECAR_POLICY_MIN_LIFETIME=1s", program.to_str().unwrap()];
    enter(&[&settings[..], &more, arguments].concat())
}

fn done(arguments: &[&str]) {
    let output = recorded(arguments).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
#[ignore = "needs the OpenStack of lab/openstack: ./x test-openstack"]
fn what_the_services_answer_is_written_down() {
    let before = everything();
    let directory = rig_directory().join("recordings");
    let _ = std::fs::remove_dir_all(&directory);
    let script = scripts().join("inside/record.py");
    let start = format!(
        "echo $$ >/run/rig-record; exec python3 {} {PROXY} {}",
        script.display(),
        directory.display()
    );
    let mut proxy = enter(&["sh", "-c", &start]).spawn().unwrap();
    eventually(BOOT, "the proxy", || {
        in_rig(&["bash", "-c", &format!("exec 3<>/dev/tcp/127.0.0.1/{PROXY}")]).ok()
    });

    done(&["provision"]);
    let mut daemon = recorded(&[&["run", "--clone", "vm-test-clone"], &BY_COMMAND[..]].concat())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let is = |wanted: &str| {
        let said = crate::rig::lbsidecar(&["status", "--output", "json"]).stdout;
        let view: serde_json::Value = serde_json::from_slice(&said).unwrap_or_default();
        (view["phase"] == wanted && view["vip"]["where"] == "ours").then_some(())
    };
    eventually(BOOT, "single", || is("single"));
    eventually(BOOT, "a scale-out", || crate::rig::lbsidecar(&["scale-out"]).status.success().then_some(()));
    eventually(BOOT, "balanced", || is("balanced"));
    eventually(BOOT, "a handover", || {
        // A clone that has not answered a request yet takes nothing over.
        in_rig(&["sh", "-c", "a=$(openstack floating ip list -f value -c 'Floating IP Address'); for n in 1 2; do ip netns exec client curl -s -m 5 http://$a/; done"]).unwrap();
        crate::rig::lbsidecar(&["handover"]).status.success().then_some(())
    });
    let begin = Instant::now();
    eventually(BOOT, "single again", || is("single").filter(|()| begin.elapsed() > Duration::from_secs(3)));
    done(&["snapshot"]);
    let _ = in_rig(&["sh", "-c", "kill $(cat /var/lib/lbsidecar/default/lock)"]);
    daemon.wait().unwrap();
    done(&["cleanup", "--network", "--snapshots", "--yes"]);
    let _ = in_rig(&["sh", "-c", "kill $(cat /run/lbsidecar/default/haproxy.pid) $(cat /run/rig-record)"]);
    let _ = proxy.wait();

    let count = std::fs::read_dir(&directory).unwrap().count();
    eprintln!("{count} exchanges in {}", directory.display());
    assert!(count > 60);
    assert_eq!(everything(), before);
}
