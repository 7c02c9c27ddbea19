//! The daemon dies by SIGKILL again and again, in whatever stage it is, and is started again: no request is lost, nothing is made
//! twice, nothing is left over.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use reqwest::Method;

use crate::support::Lab;

#[test]
fn a_daemon_killed_at_any_moment_loses_and_doubles_nothing() {
    let Some(lab) = Lab::up() else { return };
    let program =
        PathBuf::from(env!("CARGO_BIN_EXE_lbsidecar-lab")).with_file_name("lbsidecar").display().to_string();
    let (_, address) = lab.server("vm-test");
    lab.get_soon(&format!("http://{address}/"), Duration::from_secs(60));

    let said = lab.exec(&["sh", "-c", include_str!("kills.sh"), "kills", &program, &address]).unwrap();
    eprintln!("{said}");
    assert!(said.contains("load 0"), "requests were lost: {said}");
    let stages: BTreeSet<&str> = said.lines().filter_map(|line| line.strip_prefix("killed ")).collect();
    assert!(stages.len() >= 6, "the kills came in too few stages to prove anything: {stages:?}");

    let servers = lab.cloud(Method::GET, "8774/v2.1/servers", None);
    let names: Vec<&str> =
        servers["servers"].as_array().unwrap().iter().filter_map(|s| s["name"].as_str()).collect();
    assert_eq!(names, ["vm-test-clone-2"], "one clone a cycle, and nothing left over");
    let domains = lab.exec(&["virsh", "-c", "qemu:///system", "list", "--all", "--name"]).unwrap();
    assert_eq!(domains.split_whitespace().count(), 1, "{domains}");
}
