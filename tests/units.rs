//! The systemd units as systemd itself judges them: nothing in them is misunderstood, and nothing gives more than it must.
//! On a systemd that really runs, `./x test-systemd` tries them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where it cannot go on")]

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const UNITS: [&str; 4] = ["lbsidecar@", "lbsidecar-haproxy@", "lbsidecar-plug@", "lbsidecar-address@"];
/// What starts two of them.
const STARTERS: [&str; 2] = ["lbsidecar-haproxy@.path", "lbsidecar-address@.socket"];

/// The units with our program at the place where Cargo has it, each with an instance.
fn installed() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for unit in UNITS {
        let template = format!("{unit}.service");
        let text = fs::read_to_string(systemd().join(&template)).unwrap();
        let text = text.replace("/usr/bin/lbsidecar ", concat!(env!("CARGO_BIN_EXE_lbsidecar"), " "));
        fs::write(dir.path().join(&template), text).unwrap();
        symlink(&template, dir.path().join(format!("{unit}default.service"))).unwrap();
    }
    for starter in STARTERS {
        fs::copy(systemd().join(starter), dir.path().join(starter)).unwrap();
        symlink(starter, dir.path().join(starter.replace('@', "@default"))).unwrap();
    }
    dir
}

fn systemd() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")
}

/// Runs `systemd-analyze`; `None`, with a word about it, where it is missing or too old for what is asked.
fn analyze(arguments: &[&str], of: &Path) -> Option<Output> {
    let skip = |why: String| {
        assert!(std::env::var("CI").is_err(), "systemd-analyze must run in CI: {why}");
        eprintln!("SKIPPED: {why}");
        None
    };
    let output = match Command::new("systemd-analyze").args(arguments).arg(of).output() {
        Ok(output) => output,
        Err(error) => return skip(format!("systemd-analyze: {error}; it is in the package systemd")),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("unrecognized option") || said.contains("unknown option") {
        return skip(format!("this systemd-analyze is too old: {said}"));
    }
    Some(output)
}

#[test]
fn systemd_understands_every_line() {
    let dir = installed();
    let services = UNITS.map(|unit| format!("{unit}default.service"));
    for unit in services.into_iter().chain(STARTERS.map(|starter| starter.replace('@', "@default"))) {
        let path = dir.path().join(&unit);
        let Some(output) = analyze(&["verify", "--man=no"], &path) else { return };
        let said = String::from_utf8_lossy(&output.stderr);
        // What it says of other units of this machine is not about us.
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("lbsidecar")).collect();
        assert!(output.status.success() && ours.is_empty(), "{unit}: {said}");
    }
}

#[test]
fn the_drop_in_for_the_other_modes_is_understood() {
    let dir = installed();
    let instance = dir.path().join("lbsidecar-haproxy@default.service");
    let place = dir.path().join("lbsidecar-haproxy@default.service.d");
    fs::create_dir(&place).unwrap();
    let verify = || analyze(&["verify", "--man=no"], &instance);
    fs::copy(systemd().join("host-network.conf"), place.join("host-network.conf")).unwrap();
    let Some(output) = verify() else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains(".service.d"), "{said}");
    // It is read at all.
    fs::write(place.join("z.conf"), "[Service]\nNoNewPrivileges=perhaps\n").unwrap();
    let Some(output) = verify() else { return };
    assert!(String::from_utf8_lossy(&output.stderr).contains("perhaps"), "{output:?}");
}

#[test]
fn a_line_that_systemd_does_not_understand_is_found() {
    let dir = installed();
    let path = dir.path().join("lbsidecar@.service");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("NoNewPrivileges=yes", "NoNewPrivileges=perhaps")).unwrap();
    let Some(output) = analyze(&["verify", "--man=no"], &dir.path().join("lbsidecar@default.service")) else {
        return;
    };
    assert!(String::from_utf8_lossy(&output.stderr).contains("perhaps"), "{output:?}");
}

/// By default systemd gives a unit up after five starts within ten seconds, and with a service the unit that starts it.
#[test]
fn what_must_come_back_is_never_given_up() {
    let mut coming_back = Vec::new();
    for entry in fs::read_dir(systemd()).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let has = |key: &str| text.lines().any(|line| line.starts_with(key));
        // The unit behind the socket does not come back by itself: there the limit ends the trouble with one that cannot start.
        if has("Restart=") || has("[Path]") {
            let of_unit =
                text.split("\n[").find(|section| section.contains("[Unit]") || section.starts_with("Unit]"));
            let unlimited = of_unit.unwrap().lines().any(|line| line == "StartLimitIntervalSec=0");
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(unlimited, "{name}");
            coming_back.push(name);
        }
    }
    coming_back.sort();
    let expected = [
        "lbsidecar-haproxy@.path",
        "lbsidecar-haproxy@.service",
        "lbsidecar-plug@.service",
        "lbsidecar@.service",
    ];
    assert_eq!(coming_back, expected);
}

/// Tenths of the exposure level that systemd gives, from 0 (locked in) to 100 (may do anything).
#[test]
fn the_units_give_no_more_than_they_must() {
    for (unit, most) in
        [("lbsidecar@", 15), ("lbsidecar-haproxy@", 30), ("lbsidecar-plug@", 50), ("lbsidecar-address@", 15)]
    {
        let path = systemd().join(format!("{unit}.service"));
        let threshold = format!("--threshold={most}");
        let Some(output) = analyze(&["security", "--offline=yes", "--no-pager", &threshold], &path) else {
            return;
        };
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("Overall exposure level"), "{unit}: {said}");
    }
}

#[test]
fn the_daemon_has_no_capability_and_not_libvirts_group() {
    let unit = fs::read_to_string(systemd().join("lbsidecar@.service")).unwrap();
    let lines = || unit.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let values = |key: &str| lines().filter_map(|l| l.strip_prefix(key)).collect::<Vec<_>>();
    assert_eq!(values("CapabilityBoundingSet="), [""]);
    assert_eq!(values("AmbientCapabilities="), [""]);
    assert_eq!(values("User="), ["lbsidecar"]);
    assert!(values("SupplementaryGroups=").is_empty());
    // Neither stops with the other.
    let haproxy = fs::read_to_string(systemd().join("lbsidecar-haproxy@.service")).unwrap();
    for binding in ["BindsTo=", "PartOf=", "Requires=", "Requisite="] {
        assert!(!haproxy.contains(binding) && !unit.contains(binding), "{binding}");
    }
}
