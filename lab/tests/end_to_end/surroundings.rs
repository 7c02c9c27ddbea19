//! What the daemon stands on goes away: the disk, its files, libvirtd, the cloud's API, HAProxy. It does not act where it cannot know,
//! the service goes on, it says what is wrong, and it goes on by itself when that is over.

use std::{fs, path::Path, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    members::drain_slowly,
    pool::{LONG, Pool, program, settled},
    stages,
    support::{FIRST_FLOATING_IP, Lab, eventually},
};

/// How long no client may get an answer when HAProxy was killed.
const BACK: Duration = Duration::from_secs(10);

#[test]
fn the_daemon_outlives_all_that_it_stands_on() {
    let Some(lab) = Lab::up() else { return };
    let state = lab.directory().join("state/default");
    // A disk of its own, that can be full.
    let disk = format!("mkdir -p {0} && mount -t tmpfs -o size=1m,mode=700 none {0}", state.display());
    lab.exec(&["sh", "-c", &disk]).unwrap();
    // What was made while the API is away at times is not given up for its slow boot on top.
    let pool = Pool::adopt(&lab, &[("LBSIDECAR_TRANSITION_HEALTHY_DEADLINE", "3m")]);

    pool.without_loss("full disk", || full_disk(&pool, &state));
    pool.without_loss("read-only disk", || read_only_disk(&pool, &state));
    pool.without_loss("two daemons", || second_daemon(&pool));
    pool.without_loss("wrong configuration", || wrong_configuration(&pool));
    pool.without_loss("edited haproxy.cfg", || edited_haproxy_cfg(&pool, &state));
    pool.without_loss("libvirtd away", || libvirtd_away(&pool));
    pool.without_loss("API away", || api_away(&pool));
    pool.only_member();
    for victim in ["worker", "master"] {
        let ((), report) =
            pool.under_load(&format!("HAProxy's {victim} killed"), || haproxy_killed(&pool, victim));
        assert!(report["total"]["longest_gap_ms"].as_f64().unwrap() < BACK.as_secs_f64() * 1e3, "{report:#}");
    }
    pool.without_loss("HAProxy is back", || std::thread::sleep(Duration::from_secs(2)));
    address_away(&pool);
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

/// Whichever of its processes dies, both are there again, once, and nobody has to do anything.
fn haproxy_killed(pool: &Pool, victim: &str) {
    let before = pool.until_settled("single")["haproxy"]["worker_pid"].clone();
    pool.lab.exec(&["sh", "-c", &stages::kill_haproxy(victim)]).unwrap();
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

/// By somebody's hand: to nobody, from where it is taken back; and to the base, while that is handed over, past HAProxy.
fn address_away(pool: &Pool) {
    let ips = format!("9696/v2.0/floatingips?floating_ip_address={FIRST_FLOATING_IP}");
    let floating_ip = pool.lab.cloud(Method::GET, &ips, None)["floatingips"][0].clone();
    let url = format!("9696/v2.0/floatingips/{}", floating_ip["id"].as_str().unwrap());
    let lead = |port: &Value| {
        pool.lab.cloud(Method::PUT, &url, Some(&json!({"floatingip": {"port_id": port}})));
    };
    let now = || pool.lab.cloud(Method::GET, &ips, None)["floatingips"][0]["port_id"].clone();
    let ours = floating_ip["port_id"].clone();
    let ((), report) = pool.under_load("the service address with nobody", || {
        lead(&Value::Null);
        eventually(LONG, "it is taken back", || (now() == ours).then_some(()));
    });
    assert!(report["total"]["longest_gap_ms"].as_f64().unwrap() < BACK.as_secs_f64() * 1e3, "{report:#}");

    let base = pool.only_member();
    pool.scale_out();
    drain_slowly(pool);
    lead(&pool.lab.port(&base));
    let status = pool.until("it is called off", |status| status["transition"].is_null());
    let alarms = status["alarms"].to_string();
    assert!(alarms.contains("the service address is not with us but on port"), "{alarms}");
    let said = pool.ask(&["handover"]).unwrap_err();
    assert!(said.contains("the service address is not with us"), "{said}");
    pool.lab.get_soon(&format!("http://{FIRST_FLOATING_IP}/"), LONG);
    pool.ask(&["resume"]).unwrap();
    eventually(LONG, "it is taken back from a member", || (now() == ours).then_some(()));
    pool.until_settled("balanced");
    pool.without_loss("it is with us again", || std::thread::sleep(Duration::from_secs(2)));
}
