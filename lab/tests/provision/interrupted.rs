//! Ctrl-C in the middle: what exists is named, and so is the command that removes it.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use lbsidecar_lab::cloud::{Service, faults::What};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::Method;

use crate::stage::{ALL, Stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_names_what_exists_and_the_way_on_and_back() {
    let stage = Stage::new().await;
    let program = PathBuf::from(env!("CARGO_BIN_EXE_lbsidecar-lab")).with_file_name("lbsidecar");
    assert!(program.exists(), "{} is missing: build the whole workspace", program.display());
    // The server stays in BUILD.
    stage.fault(Service::Nova, "POST", "/servers$", 1, What::StuckBuild);
    let mut child = Command::new(program)
        .args(["--pool", "web", "provision", "--ssh-from", "10.20.20.1"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", stage.home())
        .env("LBSIDECAR_DAEMON_STATE_DIR", stage.home().join("state"))
        .env("OS_AUTH_URL", &stage.handle.urls().keystone)
        .envs([("OS_USERNAME", "admin"), ("OS_PASSWORD", "lab-admin"), ("OS_PROJECT_NAME", "admin")])
        .envs([("OS_USER_DOMAIN_NAME", "Default"), ("OS_PROJECT_DOMAIN_NAME", "Default")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let servers = stage.call(Service::Nova, Method::GET, "servers", None).await;
        if servers["servers"].as_array().is_some_and(|servers| !servers.is_empty()) {
            break;
        }
        if Instant::now() > end || child.try_wait().unwrap().is_some() {
            let _ = child.kill();
            let output = child.wait_with_output().unwrap();
            panic!("no server was asked for: {output:?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for words in [
        "interrupted",
        "Made so far:\n  create floating IP",
        "create router lab-router",
        "Under way, and perhaps done: create server vm-test",
        "The same command goes on from here",
        "`lbsidecar --pool web cleanup --network --snapshots` removes all of it",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // What is named is there, also the server; and all of it can be removed.
    let items = stage.inventory(ALL).await.items;
    assert!(items.iter().any(|item| item.to_string().starts_with("server vm-test")), "{items:?}");
    assert_eq!(stage.cleanup(ALL).await.left, Vec::new());
}
