//! Guests and ports over a real driver: power, user data, snapshots, load, and a load balancer's port of one's own.

use std::time::Duration;

use crate::support::{FIRST_FLOATING_IP, Lab, eventually};
use reqwest::Method;
use serde_json::json;

/// Far above what it takes, for machines that are busy with other tests.
const BOOT: Duration = Duration::from_secs(60);

#[test]
fn a_guest_obeys_its_power_button_and_keeps_its_disk_in_snapshots() {
    let Some(lab) = Lab::up() else { return };
    let script = "#!/bin/sh\necho from-user-data >/tmp/proof\nwhile :; do busybox nc -l -p 81 -e cat /tmp/proof; done\n";
    let (id, address) = lab.server_with("vm-one", &json!({ "user_data": base64(script) }));
    let url = format!("http://{address}");
    lab.get_soon(&format!("{url}/healthz"), BOOT);
    let said = eventually(BOOT, "user data was run", || {
        lab.exec(&["timeout", "5", "busybox", "nc", &address, "81"]).ok()
    });
    assert_eq!(said, "from-user-data\n");
    lab.exec(&["busybox", "wget", "-q", "-O", "-", "--post-data=", &format!("{url}/mark?v=kept")]).unwrap();

    let servers = format!("8774/v2.1/servers/{id}");
    lab.cloud(Method::POST, &format!("{servers}/action"), Some(&json!({"createImage": {"name": "snap"}})));
    let image = eventually(Duration::from_secs(20), "the snapshot", || {
        let images = lab.cloud(Method::GET, "9292/v2/images?name=snap", None);
        (images["images"][0]["status"] == "active").then(|| images["images"][0]["id"].clone())
    });
    let (_, clone) = lab.server_with("vm-clone", &json!({ "imageRef": image }));
    lab.get_soon(&format!("http://{clone}/"), BOOT);
    assert!(lab.get(&format!("http://{clone}/info")).unwrap().contains("\"marker\":\"kept\""));

    // Off within the time that a guest needs, which is far from the deadline after which it is stopped hard.
    let status = |wanted: &str, within: u64| {
        eventually(Duration::from_secs(within), wanted, || {
            (lab.cloud(Method::GET, &servers, None)["server"]["status"] == wanted).then_some(())
        });
    };
    lab.cloud(Method::POST, &format!("{servers}/action"), Some(&json!({"os-stop": null})));
    status("SHUTOFF", 8);
    assert_eq!(lab.exec(&["virsh", "domstate", &id]).unwrap().trim(), "shut off");
    lab.cloud(Method::POST, &format!("{servers}/action"), Some(&json!({"os-start": null})));
    status("ACTIVE", 8);
    lab.get_soon(&format!("{url}/"), BOOT);
    assert!(lab.get(&format!("{url}/info")).unwrap().contains("\"marker\":\"kept\""));
}

#[test]
fn a_guest_serves_many_clients_and_stays_reachable_while_it_burns() {
    let Some(lab) = Lab::up() else { return };
    let (_, address) = lab.server("vm-one");
    assert_eq!(address, FIRST_FLOATING_IP);
    lab.get_soon(&format!("http://{address}/"), BOOT);
    let rate = lab.load(Duration::from_secs(3));
    eprintln!("{rate:.0} requests/s");
    assert!(rate >= 300.0, "{rate:.0} requests/s");
    lab.get(&format!("http://{address}/load?s=30")).unwrap();
    for _ in 0..5 {
        assert_eq!(lab.get(&format!("http://{address}/healthz")).unwrap(), "ok\n");
    }
}

#[test]
fn a_port_of_ones_own_is_plugged_and_takes_the_floating_ip_over() {
    let Some(lab) = Lab::up() else { return };
    let (id, address) = lab.server("vm-one");
    lab.get_soon(&format!("http://{address}/"), BOOT);
    let server = lab.cloud(Method::GET, &format!("9696/v2.0/ports?device_id={id}"), None)["ports"][0].clone();
    let body = json!({"port": {"network_id": server["network_id"], "name": "balancer", "device_owner": "lbsidecar:host", "binding:host_id": "lab"}});
    let port = lab.cloud(Method::POST, "9696/v2.0/ports", Some(&body))["port"].clone();
    let (port_id, mac) = (port["id"].as_str().unwrap(), port["mac_address"].as_str().unwrap());
    let (fixed, member) = (
        port["fixed_ips"][0]["ip_address"].as_str().unwrap(),
        server["fixed_ips"][0]["ip_address"].as_str().unwrap(),
    );

    let tap = format!("tap{}", &port_id[..11]);
    let script = format!(
        "set -e; mkdir -p /run/www; echo balancer >/run/www/index.html; ip netns add balancer
        ip link add {tap} type veth peer name eth0 address {mac} netns balancer
        ip -n balancer address add {fixed}/24 dev eth0; ip -n balancer link set eth0 up
        ip -n balancer route add default via 192.168.100.1
        ip netns exec balancer busybox httpd -p 80 -h /run/www"
    );
    lab.exec(&["sh", "-c", &script]).unwrap();
    let inside = ["ip", "netns", "exec", "balancer", "timeout", "5", "busybox", "wget", "-q", "-O", "-"];
    let member = format!("http://{member}/");
    let answer = eventually(Duration::from_secs(5), "the port is plugged", || {
        lab.exec(&[&inside[..], &[&member]].concat()).ok()
    });
    assert_eq!(answer, "vm-one\n");

    let ips = "9696/v2.0/floatingips";
    let listed = lab.cloud(Method::GET, &format!("{ips}?floating_ip_address={address}"), None);
    let moved = json!({"floatingip": {"port_id": port_id}});
    let id = listed["floatingips"][0]["id"].as_str().unwrap();
    lab.cloud(Method::PUT, &format!("{ips}/{id}"), Some(&moved));
    eventually(Duration::from_secs(5), "the floating IP leads to the port", || {
        (lab.get(&format!("http://{address}/")).ok()? == "balancer\n").then_some(())
    });
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}
