//! What `lbsidecar check` finds out before anything is changed.

use std::{collections::BTreeMap, fs, net::TcpListener};

use lbsidecar::haproxy::{Finding, HaproxySettings, preflight, settings::Supervisor};

use crate::support::{Member, Rig, model};

async fn findings(settings: &HaproxySettings) -> BTreeMap<String, Result<String, String>> {
    let words = |finding: Finding| (finding.what, finding.outcome.map_err(|error| error.to_string()));
    preflight(settings).await.into_iter().map(words).collect()
}

fn bad(findings: &BTreeMap<String, Result<String, String>>) -> Vec<(&str, &str)> {
    findings
        .iter()
        .filter_map(|(what, outcome)| Some((what.as_str(), outcome.as_ref().err()?.as_str())))
        .collect()
}

#[tokio::test]
async fn all_is_well_before_and_after_the_start() {
    let mut rig = Rig::new();
    let before = findings(&rig.settings).await;
    assert_eq!(bad(&before), []);
    assert_eq!(before["HAProxy instance"].as_deref(), Ok("does not run yet"));
    assert_eq!(before[&format!("HAProxy address {}", rig.service())].as_deref(), Ok("free"));
    assert!(!rig.settings.config_dir.exists() && !rig.settings.run_dir.exists(), "it changes nothing");

    let base = Member::start("base-1").await;
    rig.haproxy.ensure_running(&model([base.ready(100)])).await.unwrap();
    let after = findings(&rig.settings).await;
    assert_eq!(bad(&after), []);
    assert!(after["HAProxy instance"].as_ref().unwrap().starts_with("runs as lbsidecar-web-gen-1-"));
    assert_eq!(after[&format!("HAProxy address {}", rig.service())].as_deref(), Ok("held by our HAProxy"));
}

#[tokio::test]
async fn each_fault_has_a_line_of_its_own() {
    let mut rig = Rig::new();
    let taken = TcpListener::bind(rig.service()).unwrap();
    rig.settings.stats.bind = "203.0.113.7:8404".parse().unwrap();
    rig.settings.max_connections = u32::MAX / 4;
    rig.settings.supervisor = Supervisor::Detached;
    fs::create_dir(&rig.settings.config_dir).unwrap();
    fs::write(rig.config(), "# by hand\n").unwrap();
    let found = findings(&rig.settings).await;
    let bad = bad(&found);
    let has = |what: &str, why: &str| bad.iter().any(|(w, y)| w.contains(what) && y.contains(why));
    assert!(has(&taken.local_addr().unwrap().to_string(), "another program listens there"), "{bad:?}");
    assert!(has("203.0.113.7:8404", "no interface has this address"), "{bad:?}");
    assert!(has("file descriptors", "max_connections"), "{bad:?}");
    assert!(has("configuration file", "edited by hand"), "{bad:?}");
    assert_eq!(bad.len(), 4, "{bad:?}");

    rig.settings.binary = "/nonexistent/haproxy".into();
    rig.settings.template = Some("/nonexistent/own.tera".into());
    rig.settings.supervisor = Supervisor::Systemd("no-such-unit.service".into());
    let found = findings(&rig.settings).await;
    assert!(found["HAProxy program /nonexistent/haproxy"].as_ref().unwrap_err().contains("install"));
    assert!(found["HAProxy template"].as_ref().unwrap_err().contains("own.tera"));
}
