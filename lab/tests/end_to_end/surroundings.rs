//! What the daemon stands on goes away: the disk, its files, libvirtd, the cloud's API, HAProxy. It does not act where it cannot know,
//! the service goes on, it says what is wrong, and it goes on by itself when that is over.

use std::{fs, path::Path, time::Duration};

use serde_json::Value;

use crate::{
    pool::{LONG, Pool, program, settled},
    support::{FIRST_FLOATING_IP, Lab, eventually},
};

/// How long the API is away at each stage: longer than all attempts of a call, and enough for the next call to fail as well.
const AWAY: Duration = Duration::from_secs(4);

#[test]
fn the_daemon_outlives_all_that_it_stands_on() {
    let Some(lab) = Lab::up() else { return };
    let state = lab.directory().join("state/default");
    // A disk of its own, that can be full.
    let disk = format!("mkdir -p {0} && mount -t tmpfs -o size=1m,mode=700 none {0}", state.display());
    lab.exec(&["sh", "-c", &disk]).unwrap();
    let pool = Pool::adopt(&lab, &[]);

    pool.without_loss("full disk", || full_disk(&pool, &state));
    pool.without_loss("read-only disk", || read_only_disk(&pool, &state));
    pool.without_loss("two daemons", || second_daemon(&pool));
    pool.without_loss("wrong configuration", || wrong_configuration(&pool));
    pool.without_loss("edited haproxy.cfg", || edited_haproxy_cfg(&pool, &state));
    pool.without_loss("libvirtd away", || libvirtd_away(&pool));
    pool.without_loss("API away", || api_away(&pool));
    let made = pool.made();
    for what in [r#"{"kind": "close"}"#, r#"{"kind": "hang"}"#] {
        pool.without_loss(&format!("API away at each stage: {what}"), || api_away_at_each_stage(&pool, what));
    }
    assert_eq!(pool.made(), made + 2, "one clone for each scale-out");
    pool.only_member();
    haproxy_killed(&pool);
    pool.without_loss("HAProxy is back", || std::thread::sleep(Duration::from_secs(2)));
}

/// Nothing is begun that is not on disk; what was ordered is begun when it can be.
fn full_disk(pool: &Pool, state: &Path) {
    let filler = state.join("filler").display().to_string();
    // It ends when there is no room.
    let _ = pool.lab.exec(&["dd", "if=/dev/zero", &format!("of={filler}"), "bs=4k"]);
    let made = pool.made();
    let said = pool.ask(&["scale-out"]).unwrap_err();
    assert!(
        said.contains("the state cannot be saved") && said.contains("the disk is full: make room"),
        "{said}"
    );
    pool.until("it says so", |status| status["daemon"]["state_problem"].is_string());
    assert_eq!(pool.made(), made, "nothing went out");
    pool.lab.exec(&["rm", &filler]).unwrap();
    pool.until_settled("balanced");
}

fn read_only_disk(pool: &Pool, state: &Path) {
    let state = state.display();
    let over = format!("mount --bind {state} {state} && mount -o remount,bind,ro {state}");
    pool.lab.exec(&["sh", "-c", &over]).unwrap();
    eventually(LONG, "the order is taken, and waits", || {
        let said = pool.ask(&["handover"]).unwrap_err();
        let waits = said.contains("the state cannot be saved");
        (waits && said.contains("the file system is read-only")).then_some(())
    });
    assert_eq!(pool.status().unwrap()["members"].as_array().unwrap().len(), 2);
    pool.lab.exec(&["umount", &state.to_string()]).unwrap();
    pool.until_settled("single");
}

fn second_daemon(pool: &Pool) {
    let (program, config) = (program(), pool.lab.directory().join("config.toml"));
    let (program, config) = (program.to_str().unwrap(), config.to_str().unwrap());
    let output = pool.lab.run(&["exec", "--", program, "run", "--config", config]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    pool.until_settled("single");
}

fn wrong_configuration(pool: &Pool) {
    let path = pool.lab.directory().join("config.toml");
    let good = fs::read_to_string(&path).unwrap();
    let says = |what: &str| {
        eventually(LONG, what, || pool.log().contains(what).then_some(()));
    };
    fs::write(&path, good.replace("ramp_step", "ramp_stpe")).unwrap();
    pool.signal("HUP");
    says("the new configuration is wrong; the old one stays");
    fs::write(&path, good).unwrap();
    pool.signal("HUP");
    says("configuration read again");
}

fn edited_haproxy_cfg(pool: &Pool, state: &Path) {
    let file = state.join("haproxy/haproxy.cfg");
    pool.lab.exec(&["sh", "-c", &format!("echo '# by hand' >> {}", file.display())]).unwrap();
    pool.until("it is noticed", |status| status["haproxy"]["file_edited"] == true);
    let said = pool.ask(&["scale-out"]).unwrap_err();
    assert!(said.contains("edited by hand"), "{said}");
    pool.ask(&["reload", "--force"]).unwrap();
    pool.until("it is ours again", |status| {
        status["haproxy"]["file_edited"] == false && settled(status, "single")
    });
    pool.lab.exec(&["grep", "-q", "by hand", &format!("{}.edited", file.display())]).unwrap();
}

/// First it hangs, then it dies.
fn libvirtd_away(pool: &Pool) {
    let pid = pool.lab.exec(&["pgrep", "-x", "libvirtd"]).unwrap();
    pool.lab.exec(&["kill", "-STOP", pid.trim()]).unwrap();
    pool.until("it is missed", |status| status["sources"]["libvirt"]["error"].is_string());
    pool.lab.exec(&["kill", "-KILL", pid.trim()]).unwrap();
    pool.until("samples come again", |status| {
        status["sources"]["libvirt"]["error"].is_null()
            && status["members"][0]["sample_age_ms"].as_u64().is_some_and(|age| age < 3000)
    });
}

fn api_away(pool: &Pool) {
    pool.fault(r#"{"path": ".", "what": {"kind": "close"}}"#);
    pool.until("it is said", |status| status["alarms"].to_string().contains("Nova does not answer"));
    let said = pool.ask(&["scale-out"]).unwrap_err();
    assert!(said.contains("Nova does not answer"), "{said}");
    pool.api_back();
    pool.until_settled("single");
}

/// A whole cycle, with the API away for a while at every stage that is seen.
fn api_away_at_each_stage(pool: &Pool, what: &str) {
    for (order, phase) in [("scale-out", "balanced"), ("handover", "single")] {
        pool.order(order);
        let mut seen: Vec<Value> = Vec::new();
        eventually(2 * LONG, phase, || {
            let status = pool.status()?;
            if settled(&status, phase) {
                return Some(());
            }
            let stage = status["transition"]["stage"].clone();
            if stage.is_string() && !seen.contains(&stage) {
                pool.fault(&format!(r#"{{"path": ".", "what": {what}}}"#));
                std::thread::sleep(AWAY);
                pool.api_back();
                seen.push(stage);
            }
            None
        });
        eprintln!("{order}: away at {seen:?}");
    }
}

/// Whichever of its processes dies, both are there again, once, and nobody has to do anything.
fn haproxy_killed(pool: &Pool) {
    for victim in ["worker", "master"] {
        let before = pool.until_settled("single")["haproxy"]["worker_pid"].clone();
        let kill = match victim {
            "worker" => format!("kill -9 {before}"),
            _ => "kill -9 $(cat /run/lbsidecar/default/haproxy.pid)".to_owned(),
        };
        pool.lab.exec(&["sh", "-c", &kill]).unwrap();
        pool.until(victim, |status| {
            settled(status, "single")
                && status["haproxy"]["answers"] == true
                && status["haproxy"]["worker_pid"] != before
        });
        pool.lab.get_soon(&format!("http://{FIRST_FLOATING_IP}/"), LONG);
        eventually(LONG, "one master and one worker", || {
            let pids = pool.lab.exec(&["pgrep", "-x", "haproxy"]).ok()?;
            (pids.lines().count() == 2).then_some(())
        });
    }
}
