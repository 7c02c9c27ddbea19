//! Interruptions at every step of a write, damage at every byte, two daemons, and the versions of the format.

use std::collections::BTreeMap;

use super::*;
use crate::{core::cloud::FailureKind, exit::Exit};

type State = BTreeMap<String, f64>;

fn pool() -> PoolName {
    PoolName::try_new("web").unwrap()
}

/// A directory that is ours alone.
fn temporary() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
    directory
}

fn state(n: u32) -> State {
    // 0.1 + 0.2 needs all its digits.
    [("n".to_owned(), f64::from(n)), ("x".to_owned(), 0.1 + 0.2)].into()
}

fn open(directory: &Path) -> Store<State> {
    Store::open(directory, &pool()).unwrap()
}

fn save(store: &Store<State>, state: &State) {
    store.files.write(&format::encode(&store.pool, state).unwrap()).unwrap();
}

fn loaded(store: &Store<State>) -> (Option<State>, String) {
    let Loaded { state, warning } = store.load().unwrap();
    let directory = format!("{}/", store.files.directory.display());
    (state, warning.unwrap_or_default().replace(&directory, ""))
}

#[tokio::test]
async fn what_is_saved_is_read_again() {
    let directory = temporary();
    let path = directory.path().join("made/web");
    let store = open(&path);
    assert_eq!(loaded(&store), (None, String::new()));
    for n in 1..4 {
        store.save(&state(n)).await.unwrap();
        assert_eq!(loaded(&store), (Some(state(n)), String::new()));
    }
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&store.files.current), mode(&store.files.previous)), (0o700, 0o600, 0o600));
    drop(store);
    assert_eq!(loaded(&open(&path)).0, Some(state(3)));
}

#[test]
fn an_interrupted_write_leaves_the_old_or_the_new_state() {
    let text = |n| format::encode(&pool(), &state(n)).unwrap();
    // What a crash leaves: the new file cut anywhere, no previous yet or one, the rename done or not.
    let new = text(2);
    for length in (0..=new.len()).step_by(29).chain([new.len()]) {
        for step in ["written", "unlinked", "linked"] {
            let directory = temporary();
            let store = open(directory.path());
            save(&store, &state(0));
            save(&store, &state(1));
            fs::write(&store.files.new, &new[..length]).unwrap();
            if step != "written" {
                fs::remove_file(&store.files.previous).unwrap();
            }
            if step == "linked" {
                fs::hard_link(&store.files.current, &store.files.previous).unwrap();
            }
            assert_eq!(loaded(&store), (Some(state(1)), String::new()), "{step} at {length}");
            save(&store, &state(3));
            assert_eq!(loaded(&store), (Some(state(3)), String::new()), "{step} at {length}");
        }
    }
}

#[test]
fn damage_anywhere_is_seen() {
    let whole = format::encode(&pool(), &state(2)).unwrap().into_bytes();
    let cut = (0..whole.len() - 2).map(|length| whole[..length].to_vec());
    let flipped = (0..whole.len() * 8).map(|bit| {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    });
    for damaged in cut.chain(flipped) {
        let Ok(text) = String::from_utf8(damaged) else { continue };
        match format::decode::<State>(&text, &pool(), UPGRADES) {
            // White space between the fields does not matter.
            Ok(found) => assert_eq!(found, state(2), "damage was not seen: {text}"),
            Err(Unusable::Broken(_)) => {}
            Err(Unusable::Newer(_)) => assert!(!text.contains("\"format\": 1,"), "{text}"),
            Err(Unusable::Stranger(_)) => assert!(!text.contains("\"pool\": \"web\""), "{text}"),
        }
    }
}

#[test]
fn a_damaged_state_is_kept_aside_and_the_one_before_is_used() {
    let directory = temporary();
    let store = open(directory.path());
    save(&store, &state(1));
    save(&store, &state(2));
    let text = fs::read_to_string(&store.files.current).unwrap();
    let damaged = text.replace("2.0", "3.0");
    fs::write(&store.files.current, &damaged).unwrap();
    let (found, warning) = loaded(&store);
    assert_eq!(found, Some(state(1)));
    assert_eq!(
        warning,
        "state.json cannot be read (its checksum is wrong) and is kept as state.json.corrupt-1; \
         the state from before is used, and one change may be missing from it"
    );
    assert_eq!(fs::read_to_string(directory.path().join("state.json.corrupt-1")).unwrap(), damaged);
    save(&store, &state(3));
    assert_eq!(loaded(&store), (Some(state(3)), String::new()));
}

#[test]
fn without_any_usable_state_there_is_none_and_the_reason() {
    let directory = temporary();
    let store = open(directory.path());
    save(&store, &state(1));
    save(&store, &state(2));
    fs::write(&store.files.current, "").unwrap();
    fs::write(&store.files.previous, b"\xff").unwrap();
    fs::write(directory.path().join("state.json.corrupt-1"), "older").unwrap();
    let (none, warning) = loaded(&store);
    assert_eq!(none, None);
    assert_eq!(
        warning,
        "state.json cannot be read (EOF while parsing a value at line 1 column 0) and is kept as state.json.corrupt-2; \
         state.json.previous cannot be read (stream did not contain valid UTF-8) and is kept as state.json.corrupt-3"
    );
    assert_eq!(loaded(&store), (None, String::new()));
}

#[test]
fn a_lost_state_is_taken_from_the_one_before() {
    let directory = temporary();
    let store = open(directory.path());
    save(&store, &state(1));
    save(&store, &state(2));
    fs::remove_file(&store.files.current).unwrap();
    let (found, warning) = loaded(&store);
    assert_eq!(found, Some(state(1)));
    assert!(warning.contains("the state from before"), "{warning}");
    let peeked: Peeked<State> = peek(directory.path(), &pool()).unwrap().unwrap();
    assert_eq!(peeked.state, state(1));
    assert!(peeked.saved_at > SystemTime::UNIX_EPOCH);
}

#[test]
fn peeking_changes_nothing() {
    let directory = temporary();
    assert!(peek::<State>(&directory.path().join("none"), &pool()).unwrap().is_none());
    fs::write(directory.path().join("state.json"), "{").unwrap();
    assert!(peek::<State>(directory.path(), &pool()).unwrap().is_none());
    assert!(directory.path().join("state.json").exists());
}

#[test]
fn one_daemon_works_on_a_pool() {
    let directory = temporary();
    let first = open(directory.path());
    let refused = Store::<State>::open(directory.path(), &pool()).unwrap_err();
    let lock = directory.path().join("lock");
    assert_eq!(
        refused.to_string(),
        format!("lock {}: process {} has it: one daemon works on a pool", lock.display(), std::process::id())
    );
    assert_eq!((refused.kind(), refused.exit()), (FailureKind::Conflict, Exit::NotRunning));
    drop(first);
    // A longer number than ours, from a process that is gone, must not leave digits behind.
    fs::write(&lock, "99999999999\n").unwrap();
    let _second = open(directory.path());
    assert_eq!(fs::read_to_string(&lock).unwrap(), format!("{}\n", std::process::id()));
}

#[test]
fn what_is_not_ours_is_refused_and_left_alone() {
    let directory = temporary();
    let store = open(directory.path());
    let newer = "{\"format\": 2, \"pool\": \"web\", \"whatever\": [1]}";
    fs::write(&store.files.current, newer).unwrap();
    assert_eq!(
        store.load().unwrap_err().to_string(),
        format!(
            "read {}: it has format 2, and this version reads up to 1: install the version that wrote it, or a newer one",
            store.files.current.display()
        )
    );
    assert_eq!(fs::read_to_string(&store.files.current).unwrap(), newer);
    let other = PoolName::try_new("other").unwrap();
    fs::write(&store.files.current, format::encode(&other, &state(1)).unwrap()).unwrap();
    let refused = store.load().unwrap_err();
    assert!(matches!(&refused, StoreError::Stranger { pool, .. } if pool == "other"), "{refused}");
    assert_eq!(refused.exit(), Exit::Config);
}

#[test]
fn a_directory_that_others_may_enter_is_refused() {
    let directory = temporary();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let refused = Store::<State>::open(directory.path(), &pool()).unwrap_err().to_string();
    let path = directory.path().display();
    assert_eq!(refused, format!("use {path}: other users may enter it (mode 755): chmod 700 {path}"));
}

#[test]
fn what_the_operating_system_says_becomes_advice() {
    use nix::errno::Errno;
    for (errno, kind, advice) in [
        (Errno::ENOSPC, FailureKind::Capacity, "the disk is full: make room"),
        (Errno::EDQUOT, FailureKind::Capacity, "the disk is full: make room"),
        (
            Errno::EROFS,
            FailureKind::Permanent,
            "the file system is read-only: remount it, or choose another --state-dir",
        ),
        (
            Errno::EACCES,
            FailureKind::Unauthorized,
            "permission denied: run as the user that the directory belongs to, or choose another --state-dir",
        ),
        (Errno::EIO, FailureKind::Transient, "Input/output error (os error 5)"),
    ] {
        let error = StoreError::Io { doing: "write", path: "/x".into(), source: errno.into() };
        assert_eq!((error.kind(), error.to_string()), (kind, format!("write /x: {advice}")));
    }
}

#[test]
fn older_formats_are_upgraded_step_by_step() {
    let upgrades: [format::Upgrade; 2] = [
        |mut state| {
            state["n"] = (state["n"].as_f64().unwrap() + 10.0).into();
            state
        },
        |mut state| {
            state["n"] = (state["n"].as_f64().unwrap() * 2.0).into();
            state
        },
    ];
    let text = format::encode(&pool(), &state(1)).unwrap();
    let decoded: State = format::decode(&text, &pool(), &upgrades).unwrap();
    assert_eq!((decoded["n"], decoded["x"]), (22.0, 0.1 + 0.2));
    let second = text.replace("\"format\": 1", "\"format\": 2");
    assert_eq!(format::decode::<State>(&second, &pool(), &upgrades).unwrap()["n"], 2.0);
    let third = text.replace("\"format\": 1", "\"format\": 3");
    assert_eq!(format::decode::<State>(&third, &pool(), &upgrades).unwrap()["n"], 1.0);
    for (format, expected) in
        [(4, Unusable::Newer(4)), (0, Unusable::Broken("there is no format 0".to_owned()))]
    {
        let text = text.replace("\"format\": 1", &format!("\"format\": {format}"));
        assert_eq!(format::decode::<State>(&text, &pool(), &upgrades), Err(expected));
    }
}
