//! What goes wrong with a service address: nothing is fought, nothing is changed before all was looked at, and it is said clearly.

use reqwest::Method;
use serde_json::{Value, json};

use crate::pool::{LONG, Pool};

/// Everything that an adoption could have changed.
fn untouched(pool: &Pool) -> (Value, usize, usize, String) {
    let namespaces = pool.lab.exec(&["ip", "netns", "list"]).expect("namespaces");
    (pool.floating_ip(), pool.count("ports"), pool.count("floatingips"), namespaces)
}

#[test]
fn an_address_that_cannot_be_had_is_refused_before_anything_is_changed() {
    let Some(pool) = Pool::boot("") else { return };
    let (_, others) = pool.lab.server("vm-other");
    let before = untouched(&pool);
    for mode in ["port", "host"] {
        let mode = ["--vip-mode", mode];
        let (code, said) = pool.refused(&[&mode[..], &["--vip", &others]].concat());
        assert_eq!(code, Some(69), "{said}");
        assert!(said.contains(&format!("failed to take floating IP {others}: it is on port")), "{said}");
        assert!(said.contains("neither ours nor the base's"), "{said}");
        let (code, said) = pool.refused(&[&mode[..], &["--vip", "10.20.20.99"]].concat());
        assert_eq!(code, Some(69), "{said}");
        assert!(
            said.contains("failed to find floating IP 10.20.20.99: there is none in this project"),
            "{said}"
        );
    }
    assert_eq!(untouched(&pool), before);

    // The base without one.
    let id = before.0["id"].as_str().expect("an id").to_owned();
    pool.lab.cloud(Method::DELETE, &format!("9696/v2.0/floatingips/{id}"), None);
    let before = untouched(&pool);
    for mode in ["port", "host"] {
        let (code, said) = pool.refused(&["--vip-mode", mode]);
        assert_eq!(code, Some(69), "{said}");
        assert!(said.contains("has no floating IP, and none is given"), "{said}");
    }
    assert_eq!(untouched(&pool), before);
}

#[test]
fn an_address_taken_away_by_hand_is_not_fought_for() {
    let Some(mut pool) = Pool::boot("") else { return };
    let (other, _) = pool.lab.server("vm-other");
    let theirs = pool.lab.cloud(Method::GET, "9696/v2.0/floatingips", None);
    let theirs = theirs["floatingips"].as_array().expect("a list");
    let theirs = theirs.iter().find(|ip| ip["floating_ip_address"] != pool.address.as_str()).expect("theirs");
    let url = format!("9696/v2.0/floatingips/{}", theirs["id"].as_str().expect("an id"));
    pool.lab.cloud(Method::DELETE, &url, None);
    pool.run();
    pool.settle("single", "ours");
    let ours = pool.floating_ip()["port_id"].clone();
    let elsewhere = pool.lab.port(&other);
    pool.move_floating_ip(&elsewhere);
    let status = pool.wait("an alarm", |status| status["vip"]["where"] == "elsewhere");
    let alarms = status["alarms"].to_string();
    assert!(alarms.contains("the service address is not with us but on port"), "{alarms}");
    assert!(alarms.contains("`lbsidecar resume` after moving it back"), "{alarms}");
    pool.operate("resume");
    std::thread::sleep(std::time::Duration::from_secs(8));
    assert_eq!(pool.floating_ip()["port_id"], elsewhere, "it was fought for");
    let alarms = pool.status().expect("a status")["alarms"].to_string();
    assert!(alarms.contains("on port"), "{alarms}");
    // To the base, as somebody would who wants the service back at once.
    pool.move_floating_ip(&pool.lab.port(&pool.base));
    pool.operate("resume");
    let status = pool.settle("single", "ours");
    assert_eq!(status["alarms"], json!([]), "{status:#}");
    assert_eq!(pool.floating_ip()["port_id"], ours);
}

#[test]
fn the_host_gets_its_address_back_and_a_killed_daemon_goes_on() {
    let Some(mut pool) = Pool::boot("[vip]\nmode = \"host\"\n") else { return };
    // Between the two halves of taking it: the first call that moves it does not come through.
    let path = format!("^/v2.0/floatingips/{}$", pool.floating_ip()["id"].as_str().expect("an id"));
    pool.fault(&json!({"method": "PUT", "path": path, "what": {"kind": "hang"}, "times": 1}));
    pool.run();
    let service = format!("{}:80", pool.address);
    pool.wait("the first half", |status| {
        status["transition"]["stage"] == "taking-vip" && status["members"][0]["address"] != service.as_str()
    });
    pool.kill();
    assert_eq!(pool.floating_ip()["port_id"], pool.lab.port(&pool.base), "the base serves on");
    pool.run();
    pool.settle("single", "ours");
    assert!(pool.on_host());
    assert_eq!(pool.count("floatingips"), 2, "the service address, and one for the base");
    pool.lab.get_soon(&format!("http://{}/", pool.address), LONG);

    let address = format!("{}/32", pool.address);
    pool.lab.exec(&["ip", "address", "delete", &address, "dev", "br-ex"]).expect("it was there");
    crate::support::eventually(LONG, "the address is back", || pool.on_host().then_some(()));
    pool.lab.get_soon(&format!("http://{}/", pool.address), LONG);
    let status = pool.settle("single", "ours");
    assert_eq!(status["alarms"], json!([]), "{status:#}");
}

#[test]
fn an_address_that_the_cloud_does_not_let_go_back_stays_with_the_host() {
    let Some(mut pool) = Pool::boot("[vip]\nmode = \"host\"\n") else { return };
    pool.run();
    pool.settle("single", "ours");
    // It can be looked at, and nothing of it can be changed.
    let refused = json!({"kind": "answer", "status": 403});
    pool.fault(&json!({"method": "PUT", "path": "^/v2.0/floatingips/", "what": refused}));
    pool.operate("release");
    pool.wait("it is refused", |status| {
        status["alarms"].to_string().contains("the service address cannot be given back")
    });
    // Each try takes a moment.
    crate::support::eventually(LONG, "the address is back", || pool.on_host().then_some(()));
    assert_eq!(pool.lab.get_soon(&format!("http://{}/", pool.address), LONG), "vm-test\n");
    assert_eq!(pool.floating_ip()["port_id"], Value::Null);

    pool.behave();
    pool.settle("held", "elsewhere");
    assert!(!pool.on_host());
    assert_eq!(pool.floating_ip()["port_id"], pool.lab.port(&pool.base));
    assert_eq!(pool.lab.get_soon(&format!("http://{}/", pool.address), LONG), "vm-test\n");
}

#[test]
fn a_floating_ip_whose_creation_was_not_answered_leaves_with_its_vm() {
    let Some(mut pool) = Pool::boot("[vip]\nmode = \"host\"\n") else { return };
    pool.run();
    pool.settle("single", "ours");
    assert_eq!(pool.count("floatingips"), 2, "the service address, and one for the base");
    pool.fault(
        &json!({"method": "POST", "path": "^/v2.0/floatingips$", "what": {"kind": "lost-reply"}, "times": 1}),
    );
    pool.operate("scale-out");
    let status = pool.settle("balanced", "ours");
    assert_eq!((pool.faults_played(), pool.count("floatingips")), (1, 3), "and one for the clone");

    let clone = status["members"][1]["server_id"].as_str().expect("an id");
    pool.lab.cloud(Method::DELETE, &format!("8774/v2.1/servers/{clone}"), None);
    pool.settle("single", "ours");
    crate::support::eventually(LONG, "nothing is left", || (pool.count("floatingips") == 2).then_some(()));
    assert_eq!(pool.lab.get_soon(&format!("http://{}/", pool.address), LONG), "vm-test\n");
}
