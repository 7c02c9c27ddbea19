//! The matrix of state formats and versions: this version reads every format that was ever released, without losing anything of it, and
//! refuses what a newer version wrote, without touching it.
//!
//! `tests/fixtures/state/format-N.json` are files that the version wrote which brought format N: a handover in full flight. They are never
//! changed; a new format adds one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it cannot go on")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use lbsidecar::{
    core::{ids::PoolName, state::State},
    store::Store,
};
use serde_json::Value;

/// The newest format; the loop below fails when a file is missing for one.
const NEWEST: u32 = 1;

fn fixture(format: u32) -> String {
    let path = format!("{}/tests/fixtures/state/format-{format}.json", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).expect(&path)
}

fn pool() -> PoolName {
    PoolName::try_new("default").unwrap()
}

/// A pool's directory with this state in it.
fn directory(text: &str) -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("default");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(directory.join("state.json"), text).unwrap();
    (home, directory)
}

fn state_in(text: &str) -> Value {
    serde_json::from_str::<Value>(text).unwrap()["state"].take()
}

#[tokio::test]
async fn every_released_format_is_read_and_written_in_the_newest() {
    for format in 1..=NEWEST {
        let text = fixture(format);
        let (_home, directory) = directory(&text);
        let store: Store<State> = Store::open(&directory, &pool()).unwrap();
        let loaded = store.load().unwrap();
        assert_eq!(loaded.warning, None, "format {format}");
        let state = loaded.state.expect("a state");
        assert_eq!(state.members.len(), 2, "format {format}");
        assert!(state.transition.is_some(), "format {format}: the handover is under way");
        store.save(&state).await.unwrap();
        let written = fs::read_to_string(directory.join("state.json")).unwrap();
        assert!(written.contains(&format!("\"format\": {NEWEST},")), "{written}");
        if format == NEWEST {
            assert_eq!(state_in(&written), state_in(&text), "nothing is lost on the way");
        }
    }
}

#[test]
fn the_program_refuses_the_state_of_a_newer_one_and_leaves_it_alone() {
    let newer = fixture(NEWEST).replace("\"format\": 1,", "\"format\": 99,");
    let (home, directory) = directory(&newer);
    let output = Command::new(env!("CARGO_BIN_EXE_lbsidecar"))
        .args(["run", "--clone", "vm-test-clone", "--state-dir"])
        .arg(home.path())
        .arg("--run-dir")
        .arg(home.path().join("run"))
        .args(["--vip-mode", "static", "--vip", "127.0.0.1"])
        .env_clear()
        .envs([("OS_AUTH_URL", "http://127.0.0.1:9/v3"), ("OS_USERNAME", "u"), ("OS_PASSWORD", "p")])
        .envs([
            ("OS_PROJECT_NAME", "p"),
            ("OS_USER_DOMAIN_NAME", "Default"),
            ("OS_PROJECT_DOMAIN_NAME", "Default"),
        ])
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .current_dir(home.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("format 99") && said.contains("install the version that wrote it"), "{said}");
    assert_eq!(fs::read_to_string(Path::new(&directory).join("state.json")).unwrap(), newer);
}
