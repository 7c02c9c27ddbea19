//! Members are lost for good, and the pool mends itself on real guests: by the one that is left, by one made again from the image or from
//! the last snapshot, or, when the policy says so, by calling a person.
//!
//! What a VM has in hand when it dies is lost with any load balancer, and so is what HAProxy sends it until its check fails. Each step
//! says what clients may see; after it nothing is lost any more.

use std::{fs, time::Duration};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    members::{die, newest, noticed, told},
    pool::{LONG, Pool, settled},
    support::{FIRST_FLOATING_IP, Lab, eventually},
};

/// Requests that may be lost with one of two members: what it has in hand, and what it is sent until HAProxy's third check fails. The load
/// has 12 connections, and each request to nobody takes at least the second of `timeout connect`.
const WITH_A_MEMBER: u64 = 60;

#[test]
fn who_is_left_takes_over_and_when_nobody_is_a_person_is_called() {
    let Some(lab) = Lab::up() else { return };
    let pool = Pool::adopt(&lab, &[]);

    // One that only reboots, by itself or by somebody's hand, gets nothing meanwhile, and stays.
    pool.scale_out();
    let lost = newest(&pool);
    let made = pool.made();
    few_lost(&pool, "a clone reboots", || {
        lab.exec(&["virsh", "-c", "qemu:///system", "reset", &lost]).unwrap();
        comes_back(&pool, &lost);
    });
    few_lost(&pool, "somebody reboots a clone", || {
        let reboot = Some(json!({"reboot": {"type": "HARD"}}));
        lab.cloud(Method::POST, &format!("8774/v2.1/servers/{lost}/action"), reboot.as_ref());
        comes_back(&pool, &lost);
    });
    assert_eq!((newest(&pool), pool.made()), (lost.clone(), made));

    // The clone: it is cleared away, and made again when load asks for one.
    few_lost(&pool, "a clone is lost", || {
        die(&pool, &lost);
        pool.until("nobody is sent to it", |status| noticed(status, |id| id == lost));
    });
    pool.without_loss("the lost clone is cleared away", || {
        pool.until("it is cleared away", |status| told(status, "lost") && settled(status, "single"));
    });
    assert_eq!(pool.only_member(), pool.base);
    pool.without_loss("load asks for another one", || {
        configured(&pool, "min_up = 100000", "min_up = 3\nhigh = 90");
        lab.get(&format!("http://{FIRST_FLOATING_IP}/load?s=40")).unwrap();
        pool.until("there are two again", |status| settled(status, "balanced"));
        configured(&pool, "min_up = 3\nhigh = 90", "min_up = 100000");
    });
    let clone = newest(&pool);
    assert_ne!(clone, lost);

    // The base, deleted by somebody's hand: the clone is the primary.
    few_lost(&pool, "the base is lost", || {
        deleted_by_hand(&pool, &pool.base);
        pool.until("the clone is alone", |status| settled(status, "single"));
    });
    pool.without_loss("the clone is promoted", || std::thread::sleep(Duration::from_secs(2)));
    assert_eq!(pool.only_member(), clone);

    // Both: the last good configuration stays, clients are told, and nothing is made.
    pool.scale_out();
    let file = lab.directory().join("state/default/haproxy/haproxy.cfg");
    let (before, made) = (fs::read_to_string(&file).unwrap(), pool.made());
    for server in [&newest(&pool), &clone] {
        deleted_by_hand(&pool, server);
    }
    let status = pool.until("a person is called", |status| {
        status["alarms"].to_string().matches("is lost: Nova says that it is gone").count() == 2
    });
    assert_eq!(status["phase"], "degraded");
    let alarms = status["alarms"].to_string();
    for part in ["no member is healthy", "the last good configuration stays", "make the VM anew"] {
        assert!(alarms.contains(part), "{alarms}");
    }
    let output = lab.run(&["exec", "--", crate::pool::program().to_str().unwrap(), "status"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    for _ in 0..10 {
        let (status, headers, body) = lab.service().unwrap();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(headers["retry-after"], "5");
        let said = "pool default is degraded: no member could take this request (0 of 2 in service)";
        assert!(body.starts_with(said), "{body}");
        std::thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(pool.made(), made, "nothing is made");
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
}

#[test]
fn a_lost_primary_is_made_again_when_the_policy_says_so() {
    let Some(lab) = Lab::up() else { return };
    let pool = Pool::adopt(&lab, &[("LBSIDECAR_POLICY_LOST_PRIMARY", "recreate")]);

    // From its image, as it was written down while it was there.
    written_down(&pool, &pool.base);
    let first = made_again(&pool, "the only member is lost", || deleted_by_hand(&pool, &pool.base));
    assert_eq!(marker(&lab), "");

    // From the last snapshot, with what was on its disk.
    let mark = format!("http://{FIRST_FLOATING_IP}/mark?v=kept");
    let post = ["ip", "netns", "exec", "client", "busybox", "wget", "-q", "-O", "-", "--post-data=", &mark];
    lab.exec(&post).unwrap();
    let config = lab.directory().join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}[clone]\nsource = \"snapshot\"\n")).unwrap();
    pool.ask(&["snapshot", "--config", config.to_str().unwrap()]).unwrap();
    pool.signal("KILL");
    pool.until("it is started again", |status| told(status, "started") && settled(status, "single"));
    written_down(&pool, &first);
    let second = made_again(&pool, "the only member is lost, and there is a snapshot", || {
        deleted_by_hand(&pool, &first);
    });
    assert_eq!(marker(&lab), "kept");

    // One that is off only is started.
    only_503(&pool, "the only member is off", || {
        let stop = Some(json!({"os-stop": null}));
        lab.cloud(Method::POST, &format!("8774/v2.1/servers/{second}/action"), stop.as_ref());
        pool.until("it is missed", |status| status["phase"] == "degraded");
        pool.until_settled("single");
    });
    assert_eq!(pool.only_member(), second);

    // Both.
    pool.scale_out();
    written_down(&pool, &second);
    made_again(&pool, "both members are lost", || {
        for server in [&newest(&pool), &second] {
            deleted_by_hand(&pool, server);
        }
    });
    assert_eq!(marker(&lab), "kept");
}

/// Loses the members, and waits until one made for them serves alone; clients get 503 meanwhile, and then all is well.
fn made_again(pool: &Pool, what: &str, lose: impl FnOnce()) -> String {
    let made = pool.made();
    only_503(pool, what, || {
        lose();
        pool.until("it is missed", |status| status["phase"] == "degraded");
        pool.until_settled("single");
    });
    pool.without_loss("another one serves", || std::thread::sleep(Duration::from_secs(2)));
    assert_eq!(pool.made(), made + 1);
    let status = pool.status().unwrap();
    assert_eq!(status["vip"]["where"], "ours");
    assert_eq!(status["alarms"], json!([]));
    pool.only_member()
}

/// It is seen not to be healthy, and then to be again.
fn comes_back(pool: &Pool, server: &str) {
    let healthy = |status: &Value, wanted: bool| {
        status["members"].as_array().is_some_and(|members| {
            members.iter().any(|member| member["server_id"] == server && member["up"] == wanted)
        })
    };
    pool.until("it is missed", |status| healthy(status, false));
    pool.until("it is back", |status| healthy(status, true) && settled(status, "balanced"));
}

/// At most what the dead member had in hand is lost.
#[track_caller]
fn few_lost<T>(pool: &Pool, what: &str, act: impl FnOnce() -> T) -> T {
    let (result, report) = pool.under_load(what, act);
    let failed = report["total"]["failed"].as_u64().unwrap();
    assert!(failed <= WITH_A_MEMBER, "{report:#}");
    told_so(&report);
    result
}

/// Nobody serves for a while. HAProxy is there all the time and says so; nothing else is lost than the requests of that time.
#[track_caller]
fn only_503<T>(pool: &Pool, what: &str, act: impl FnOnce() -> T) -> T {
    let (result, report) = pool.under_load(what, act);
    assert!(report["total"]["failed_by_kind"]["server-error"].as_u64() > Some(0), "{report:#}");
    told_so(&report);
    result
}

/// No client meets a service address that nobody listens on, or gets somebody else's answer, or half of one.
#[track_caller]
fn told_so(report: &Value) {
    let kinds = report["total"]["failed_by_kind"].as_object().unwrap();
    // Who had a request in the VM when it died waits for as long as he likes: a legal answer may take minutes.
    let fair = ["server-error", "stale", "empty", "reset", "timeout"];
    assert!(kinds.keys().all(|kind| fair.contains(&kind.as_str())), "{report:#}");
}

/// Somebody deletes a VM, past the daemon.
fn deleted_by_hand(pool: &Pool, server: &str) {
    pool.lab.cloud(Method::DELETE, &format!("8774/v2.1/servers/{server}"), None);
}

/// Waits until it is on disk what a copy of this member needs.
fn written_down(pool: &Pool, server: &str) {
    let file = pool.lab.directory().join("state/default/state.json");
    eventually(LONG, "it is written down", || {
        let state: Value = serde_json::from_str(&fs::read_to_string(&file).ok()?).ok()?;
        state.to_string().contains(&format!(r#""of":"{server}""#)).then_some(())
    });
}

/// What is on the disk of the VM that serves.
fn marker(lab: &Lab) -> String {
    let info = lab.get_soon(&format!("http://{FIRST_FLOATING_IP}/info"), LONG);
    let info: Value = serde_json::from_str(&info).unwrap();
    info["marker"].as_str().unwrap().to_owned()
}

/// Changes the configuration of the running daemon.
fn configured(pool: &Pool, from: &str, to: &str) {
    let path = pool.lab.directory().join("config.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    let read = || pool.log().matches("configuration read again").count();
    let before = read();
    fs::write(&path, text.replace(from, to)).unwrap();
    pool.signal("HUP");
    eventually(LONG, "the configuration is read", || (read() > before).then_some(()));
}
