//! What becomes of servers.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::rig::Rig;

#[tokio::test]
async fn a_deletion_waits_for_the_boot_that_is_under_way() {
    let rig = Rig::start().await;
    rig.driver.hold(true);
    let server = rig.ask("brief").await;
    rig.until(&server, "/server/OS-EXT-STS:task_state", json!("spawning")).await;
    assert_eq!(rig.delete(&server).await, 204);
    assert_eq!(rig.get(&server).await["server"]["OS-EXT-STS:task_state"], "deleting");
    rig.driver.hold(false);
    rig.until(&server, "/itemNotFound/code", json!(404)).await;
    let calls = rig.driver.calls();
    let guest: Vec<&str> = calls
        .iter()
        .filter_map(|call| call.split(' ').next())
        .filter(|call| matches!(*call, "boot" | "destroy"))
        .collect();
    assert_eq!(guest, ["boot", "destroy"]);
    assert_eq!(rig.port_of(&server).await, Value::Null, "its port went with it");
}

#[tokio::test]
async fn a_deletion_before_the_boot_means_that_there_is_none() {
    let rig = Rig::start().await;
    let server = rig.ask("unborn").await;
    assert_eq!(rig.delete(&server).await, 204);
    rig.until(&server, "/itemNotFound/code", json!(404)).await;
    assert!(!rig.driver.calls().iter().any(|call| call.starts_with("boot")));
}

#[tokio::test]
async fn a_boot_that_fails_ends_in_error_and_leaves_no_port() {
    let rig = Rig::start().await;
    rig.driver.fail("boot", "no such kernel");
    let server = rig.ask("broken").await;
    let shown = rig.until(&server, "/server/status", json!("ERROR")).await;
    let message = shown["server"]["fault"]["message"].as_str().unwrap();
    assert!(message.ends_with("no such kernel"), "{message}");
    assert_eq!(rig.port_of(&server).await, Value::Null);
}

#[tokio::test]
async fn a_guest_that_died_by_itself_is_shutoff_after_a_while() {
    let rig = Rig::start().await;
    let server = rig.server("mortal").await;
    rig.driver.kill(server.rsplit('/').next().unwrap().parse().unwrap());
    assert_eq!(rig.get(&server).await["server"]["status"], "ACTIVE", "Nova has not looked yet");
    rig.until(&server, "/server/status", json!("SHUTOFF")).await;
    rig.post(&format!("{server}/action"), json!({"os-start": null})).await;
    rig.until(&server, "/server/status", json!("ACTIVE")).await;
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_stop_what_it_asked_for() {
    let rig = Rig::start().await;
    let server = rig.server("base").await;
    let floating = rig.floating_ip(&Value::Null).await;
    let url = rig.neutron(&format!("/floatingips/{}", floating["id"].as_str().unwrap()));
    let body = json!({"floatingip": {"port_id": rig.port_of(&server).await["id"]}}).to_string();
    // The driver takes longer than the client waits.
    rig.driver.hold(true);
    let call =
        rig.http.put(&url).header("X-Auth-Token", &rig.token).body(body).timeout(Duration::from_millis(300));
    assert!(call.send().await.unwrap_err().is_timeout());
    assert!(!rig.driver.calls().iter().any(|call| call.starts_with("associate")));
    rig.driver.hold(false);
    rig.until(&url, "/floatingip/status", json!("ACTIVE")).await;
    assert!(rig.driver.calls().iter().any(|call| call.starts_with("associate")));
}

#[tokio::test]
async fn lists_come_in_pages_and_are_filtered() {
    let rig = Rig::start().await;
    for name in ["web-1", "web-2", "db-1"] {
        rig.server(name).await;
    }
    let names = |body: &Value| -> Vec<String> {
        body["servers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&rig.get(&rig.nova("/servers?name=%5Eweb-%5Cd$")).await), ["web-2", "web-1"]);
    assert_eq!(names(&rig.get(&rig.nova("/servers/detail?status=shutoff")).await), [""; 0]);
    let mut url = rig.nova("/servers/detail?limit=2");
    let mut all = Vec::new();
    loop {
        let page = rig.get(&url).await;
        all.extend(names(&page));
        match page["servers_links"][0]["href"].as_str() {
            Some(next) => url = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(all, ["db-1", "web-2", "web-1"], "newest first");
}

#[tokio::test]
async fn metadata_is_added_replaced_and_removed() {
    let rig = Rig::start().await;
    let server = rig.server("marked").await;
    let metadata = format!("{server}/metadata");
    rig.post(&metadata, json!({"metadata": {"a": "1", "b": "2"}})).await;
    assert_eq!(rig.put(&format!("{metadata}/a"), json!({"meta": {"a": "3"}})).await.0, 200);
    assert_eq!(rig.put(&format!("{metadata}/a"), json!({"meta": {"b": "3"}})).await.0, 400);
    assert_eq!(rig.delete(&format!("{metadata}/b")).await, 204);
    assert_eq!(rig.delete(&format!("{metadata}/b")).await, 404);
    assert_eq!(rig.get(&server).await["server"]["metadata"], json!({"a": "3"}));
    assert_eq!(rig.put(&metadata, json!({"metadata": {"c": "4"}})).await.1, json!({"metadata": {"c": "4"}}));
    assert_eq!(rig.call(Method::POST, &metadata, json!({"metadata": {"n": 1}})).await.0, 400, "texts only");
}

#[tokio::test]
async fn network_cards_keep_their_order() {
    let rig = Rig::start().await;
    let second = rig.post(&rig.neutron("/networks"), json!({"network": {"name": "second"}})).await;
    let second = second["network"]["id"].clone();
    let subnet = json!({"subnet": {"network_id": second, "ip_version": 4, "cidr": "192.168.7.0/24"}});
    rig.post(&rig.neutron("/subnets"), subnet).await;
    let port = rig.post(&rig.neutron("/ports"), json!({"port": {"network_id": second}})).await;
    let mut wish = rig.wish("two").await;
    let first = wish["server"]["networks"][0].clone();
    wish["server"]["networks"] = json!([{"port": port["port"]["id"]}, first]);
    let answer = rig.post(&rig.nova("/servers"), wish).await;
    let server = rig.nova(&format!("/servers/{}", answer["server"]["id"].as_str().unwrap()));
    let shown = rig.until(&server, "/server/status", json!("ACTIVE")).await;
    let names: Vec<&String> = shown["server"]["addresses"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["second", "lab-net"]);
}
