//! One whole life of a pool for each mode: adopted, scaled out, handed over, released, started anew and taken back, with clients before,
//! between and after.

use std::net::SocketAddr;

use crate::{
    client::{Clients, Counted, KEPT},
    pool::Pool,
};

const STEPS: [&str; 5] = ["adoption", "scale-out", "handover", "release", "resume"];

/// Lives that life, with the clients at `target`; in `static` mode they come when HAProxy is there.
fn life(mut pool: Pool, mode: &str) -> Counted {
    let target = if mode == "static" { "10.20.20.1:8080".to_owned() } else { format!("{}:80", pool.address) };
    let target: SocketAddr = target.parse().expect("an address");
    if mode == "static" {
        pool.run();
        pool.settle("single", "ours");
    }
    let mut clients = Clients::start(pool.inside(&["ip", "netns", "exec", "client"]), target);
    std::thread::sleep(std::time::Duration::from_secs(2));
    clients.mark("adoption");
    if mode != "static" {
        pool.run();
    }
    let status = pool.settle("single", "ours");
    assert_eq!(status["vip"]["mode"], mode);
    assert_eq!(status["alarms"], serde_json::json!([]), "{status:#}");
    clients.mark("scale-out");
    pool.operate("scale-out");
    pool.settle("balanced", "ours");
    clients.mark("handover");
    pool.operate("handover");
    let status = pool.settle("single", "ours");
    assert_eq!(status["members"][0]["name"], "vm-test-clone", "{status:#}");
    clients.mark("release");
    pool.operate("release");
    let released = if mode == "static" { "ours" } else { "elsewhere" };
    let status = pool.settle("held", released);
    assert_eq!(status["vip"]["released"], true);
    if mode != "static" {
        assert_eq!(
            pool.floating_ip()["port_id"],
            pool.lab.port(status["members"][0]["server_id"].as_str().expect("an id"))
        );
    }
    // Which address it is, is known to a daemon that starts meanwhile: nobody's port says so.
    pool.kill();
    pool.run();
    pool.settle("held", released);
    clients.mark("resume");
    pool.operate("resume");
    pool.settle("single", "ours");
    clients.mark("after");
    std::thread::sleep(std::time::Duration::from_secs(2));
    let counted = clients.finish();
    counted.print(mode);
    for step in STEPS {
        assert!(counted.answered("new", step) > 50 && counted.answered("kept", step) > 50, "{step}");
    }
    counted
}

/// In these steps the service address stays where it is, and so do connections.
fn nothing_lost(counted: &Counted, steps: &[&str]) {
    for step in steps {
        assert_eq!((counted.lost("new", step), counted.lost("kept", step)), (0, 0), "{step}");
    }
}

/// When the service address moves to us, a connection that was kept to the VM ends with its next request; every new one must come
/// through, but for `few`. When it moves away, HAProxy has ended all kept ones before.
fn connections_lost(counted: &Counted, few: u64) {
    for (step, kept) in [("adoption", KEPT), ("release", few), ("resume", KEPT)] {
        assert!(counted.lost("new", step) <= few, "{step}");
        assert!(counted.lost("kept", step) <= kept, "{step}");
    }
}

#[test]
fn by_a_port_of_ours() {
    let Some(pool) = Pool::boot("") else { return };
    let counted = life(pool, "port");
    nothing_lost(&counted, &["scale-out", "handover"]);
    connections_lost(&counted, 0);
}

#[test]
fn by_an_address_of_the_host() {
    let Some(pool) = Pool::boot("[vip]\nmode = \"host\"\n") else { return };
    let counted = life(pool, "host");
    nothing_lost(&counted, &["scale-out", "handover"]);
    // What is on its way while the neighbours learn the new hardware address: 0 in most runs.
    connections_lost(&counted, 2);
}

#[test]
fn by_an_address_that_is_there() {
    let settings = "[haproxy]\nbind = [\"10.20.20.1:8080\"]\n[vip]\nmode = \"static\"\n";
    let Some(pool) = Pool::boot(settings) else { return };
    pool.route_to_members();
    nothing_lost(&life(pool, "static"), &STEPS);
}
