//! The lab from outside: up, a guest and its floating IP, commands inside, down; and every way to die leaves nothing.

use std::{
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::support::{Lab, Namespaces, eventually, processes_with};
use reqwest::Method;
use serde_json::json;

/// Far above what they take, for machines that are busy with other tests.
const BOOT: Duration = Duration::from_secs(60);
const CHANGE: Duration = Duration::from_secs(20);

#[test]
fn a_guest_answers_through_its_floating_ip_and_burns_real_cpu() {
    let Some(lab) = Lab::up() else { return };
    let begin = Instant::now();
    let (id, address) = lab.server("vm-one");
    eprintln!("POST to ACTIVE with floating IP: {:?}", begin.elapsed());
    assert_eq!(lab.get_soon(&format!("http://{address}/"), BOOT), "vm-one\n");
    eprintln!("POST to first HTTP answer: {:?}", begin.elapsed());
    let info = lab.get(&format!("http://{address}/info")).unwrap();
    assert!(info.contains(&id), "{info}");

    // A second of the guest's CPU is one of the host's, got or waited for, and idling takes none.
    let before = lab.cpu(&id);
    lab.get(&format!("http://{address}/burn?ms=1000")).unwrap();
    let after = lab.cpu(&id);
    let wanted = (after.0 + after.1) - (before.0 + before.1);
    assert!(wanted > Duration::from_millis(800), "wanted {wanted:?}");
    let before = lab.cpu(&id).0;
    thread::sleep(Duration::from_secs(2));
    let idle = lab.cpu(&id).0 - before;
    assert!(idle < Duration::from_millis(400), "idled {idle:?}");

    // The floating IP moves to another guest by one call.
    let (other, other_address) = lab.server("vm-two");
    lab.get_soon(&format!("http://{other_address}/"), BOOT);
    let ips = "9696/v2.0/floatingips";
    let listed = lab.cloud(Method::GET, &format!("{ips}?floating_ip_address={other_address}"), None);
    lab.cloud(Method::DELETE, &format!("{ips}/{}", listed["floatingips"][0]["id"].as_str().unwrap()), None);
    eventually(CHANGE, "the address leads nowhere", || {
        lab.get(&format!("http://{other_address}/")).is_err().then_some(())
    });
    let listed = lab.cloud(Method::GET, &format!("{ips}?floating_ip_address={address}"), None);
    let moved = json!({"floatingip": {"port_id": lab.port(&other)}});
    lab.cloud(
        Method::PUT,
        &format!("{ips}/{}", listed["floatingips"][0]["id"].as_str().unwrap()),
        Some(&moved),
    );
    eventually(CHANGE, "the address leads to the other guest", || {
        (lab.get(&format!("http://{address}/")).ok()? == "vm-two\n").then_some(())
    });

    lab.cloud(Method::DELETE, &format!("8774/v2.1/servers/{id}"), None);
    eventually(CHANGE, "the domain is gone", || lab.exec(&["virsh", "domstate", &id]).is_err().then_some(()));
    assert_eq!(lab.get_soon(&format!("http://{address}/"), CHANGE), "vm-two\n");
}

#[test]
fn commands_run_inside_and_nothing_is_left_when_the_lab_is_taken_down() {
    let Some(lab) = Lab::up() else { return };
    lab.server("vm-one");
    let spaces = Namespaces::of(lab.init());
    assert!(spaces.inhabitants().len() >= 4, "{:?}", spaces.inhabitants());

    assert_eq!(lab.run(&["exec", "--", "sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(lab.run(&["exec", "--", "sh", "-c", "kill -TERM $$"]).status.code(), Some(128 + 15));
    assert_eq!(lab.run(&["exec", "--", "there-is-no-such-program"]).status.code(), Some(127));
    assert_eq!(lab.exec(&["ip", "route", "show", "default"]).unwrap(), "");
    assert_eq!(lab.exec(&["sh", "-c", "echo $OS_AUTH_URL"]).unwrap(), "http://10.20.20.1:5000/v3\n");
    let env = String::from_utf8(lab.run(&["env"]).stdout).unwrap();
    assert!(env.contains("export OS_AUTH_URL='http://10.20.20.1:5000/v3'\n"), "{env}");
    let status = String::from_utf8(lab.run(&["status"]).stdout).unwrap();
    assert!(status.contains("\"vm-one\""), "{status}");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(lab.exec(&["ip", "netns", "list"]).unwrap().contains("client")));
        }
    });
    let again = lab.run(&["up"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("up already"), "{again:?}");

    assert!(lab.run(&["down"]).status.success());
    assert_eq!(spaces.inhabitants(), Vec::<String>::new());
    assert_eq!(processes_with(&lab.directory()), Vec::<String>::new());
    assert!(!lab.directory().exists());
    assert!(lab.run(&["down"]).status.success());
    assert!(!lab.run(&["exec", "--", "true"]).status.success());
}

#[test]
fn whichever_of_its_processes_is_killed_nothing_is_left() {
    for victim in ["init", "keeper", "server"] {
        let Some(lab) = Lab::up() else { return };
        lab.server("vm-one");
        let init = lab.init();
        let spaces = Namespaces::of(init);
        let parent = |pid: i32| -> i32 {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
            line.trim().parse().unwrap()
        };
        let pid = match victim {
            "init" => init,
            "keeper" => parent(init),
            _ => {
                let children = std::fs::read_to_string(format!("/proc/{init}/task/{init}/children")).unwrap();
                children.split(' ').next().unwrap().parse().unwrap()
            }
        };
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
        eventually(Duration::from_secs(5), victim, || spaces.inhabitants().is_empty().then_some(()));
        assert_eq!(processes_with(&lab.directory()), Vec::<String>::new(), "after {victim}");
    }
}

#[test]
fn a_lab_in_the_foreground_ends_with_the_process_that_started_it() {
    let Some(lab) = Lab::up() else { return };
    let directory = lab.directory().with_file_name("foreground");
    let foreground = |verb: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lbsidecar-lab"));
        command.arg("--dir").arg(&directory).args(verb).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let mut up = foreground(&["up", "--foreground"]).spawn().unwrap();
    // Beside another lab, on the same addresses.
    eventually(Duration::from_secs(20), "ready", || {
        foreground(&["status"]).status().unwrap().success().then_some(())
    });
    let init = std::fs::read_to_string(directory.join("init.pid")).unwrap();
    let spaces = Namespaces::of(init.split(' ').next().unwrap().parse().unwrap());
    up.kill().unwrap();
    up.wait().unwrap();
    eventually(Duration::from_secs(5), "the end", || spaces.inhabitants().is_empty().then_some(()));
    assert!(foreground(&["down"]).status().unwrap().success());
    assert!(!directory.exists());
    assert!(lab.exec(&["virsh", "list"]).is_ok());
}

#[test]
fn a_directory_with_other_things_in_it_is_refused() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("precious"), "").unwrap();
    for verb in ["up", "down"] {
        let output = Command::new(env!("CARGO_BIN_EXE_lbsidecar-lab"))
            .arg("--dir")
            .arg(home.path())
            .arg(verb)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            verb == "down"
                || said.contains("is not empty and no lab's directory")
                || output.status.code() == Some(69),
            "{said}"
        );
    }
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
}
