//! Writes down what the real services answer the program: `recordings.jsonl` in the rig's directory. It is held against what was written down before,
//! and the lab's cloud is held against that (`lab/tests/contract/session.rs`).

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    compare::{Ids, kind as kind_of},
    rig::{BOOT, BY_COMMAND, enter, eventually, everything, in_rig, program, rig_directory, scripts, text},
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
    let file = rig_directory().join("recordings.jsonl");
    let _ = std::fs::remove_file(&file);
    let script = scripts().join("inside/record.py");
    let start =
        format!("echo $$ >/run/rig-record; exec python3 {} {PROXY} {}", script.display(), file.display());
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

    assert_eq!(everything(), before);
    let fresh = Recordings::read(&file);
    eprintln!("{} exchanges in {}", fresh.0.len(), file.display());
    assert!(fresh.0.len() > 60);
    let kept = kept();
    if std::env::var_os("LBSIDECAR_BLESS").is_some() {
        std::fs::copy(&file, &kept).unwrap();
    }
    let different = fresh.unlike(&Recordings::read(&kept));
    assert!(different.is_empty(), "not as in {}:\n{}", kept.display(), different.join("\n"));
}

/// What the lab's cloud is held against, of this network: `LBSIDECAR_BLESS=1` writes it anew.
fn kept() -> PathBuf {
    let network = std::fs::read_to_string(rig_directory().join("network")).unwrap();
    let name = format!("tests/contract/sessions/{}.jsonl", network.trim());
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Exchanges, one line of JSON each.
struct Recordings(Vec<Value>);

impl Recordings {
    fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        Self(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    /// Where these answers have other members or types than all of their kind in the others. A read that was answered otherwise is
    /// a matter of the moment; a change is not.
    fn unlike(&self, others: &Self) -> Vec<String> {
        let ids = Ids::new(Vec::new());
        let mut found = Vec::new();
        for one in &self.0 {
            let kind = kind_of(&one["request"]);
            let status = &one["response"]["status"];
            let alike: Vec<_> = others.0.iter().filter(|other| kind_of(&other["request"]) == kind).collect();
            let bodies = alike
                .iter()
                .filter(|other| other["response"]["status"] == *status)
                .map(|other| ids.differences(&other["response"]["body"], &one["response"]["body"], false));
            match bodies.min_by_key(Vec::len) {
                Some(lines) => found.extend(lines.into_iter().map(|line| format!("{kind}: {line}"))),
                None if one["request"]["method"] == "GET" => {
                    eprintln!("{kind}: {status} was not recorded before")
                }
                None => found.push(format!("{kind}: {status} was not recorded before")),
            }
        }
        found
    }
}
