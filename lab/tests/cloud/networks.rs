//! Ports and floating IPs, and what the driver hears of them.

use lbsidecar_lab::cloud::options::Seed;
use reqwest::Method;
use serde_json::{Value, json};

use super::rig::Rig;

#[tokio::test]
async fn a_floating_ip_moves_to_a_port_of_the_hosts() {
    let rig = Rig::start().await;
    let server = rig.server("base").await;
    let network = rig.id(&rig.neutron("/networks"), "networks", "lab-net").await;
    let floating = rig.floating_ip(&rig.port_of(&server).await["id"]).await;
    let wish = json!({"port": {
        "network_id": network,
        "device_owner": "lbsidecar:host",
        "device_id": "lbsidecar-web",
        "binding:host_id": "lab",
    }});
    let port = rig.post(&rig.neutron("/ports"), wish).await["port"].clone();
    assert_eq!(port["status"], "ACTIVE");
    assert_eq!(port["binding:vif_type"], "bridge");
    let id = port["id"].as_str().unwrap();
    let url = rig.neutron(&format!("/floatingips/{}", floating["id"].as_str().unwrap()));
    let (status, moved) = rig.put(&url, json!({"floatingip": {"port_id": id}})).await;
    assert_eq!((status, &moved["floatingip"]["port_id"]), (200, &port["id"]));
    let address = floating["floating_ip_address"].as_str().unwrap();
    let fixed = port["fixed_ips"][0]["ip_address"].as_str().unwrap();
    assert_eq!(rig.delete(&rig.neutron(&format!("/ports/{id}"))).await, 204);
    assert_eq!(rig.get(&url).await["floatingip"]["port_id"], Value::Null);

    let calls = rig.driver.calls();
    let tail: Vec<String> = calls
        .iter()
        .skip_while(|call| !call.starts_with("port_up"))
        .map(|call| call.split(' ').take(3).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(tail[0], format!("port_up {id} {network}"));
    assert_eq!(tail[1], format!("associate {address} {fixed}"));
    assert_eq!(tail[2..], [format!("disassociate {address}"), format!("port_down {id}")]);
}

#[tokio::test]
async fn what_the_world_refuses_is_not_in_the_records() {
    let rig = Rig::start().await;
    let server = rig.server("base").await;
    let port = rig.port_of(&server).await["id"].clone();
    let floating = rig.floating_ip(&Value::Null).await;
    let url = rig.neutron(&format!("/floatingips/{}", floating["id"].as_str().unwrap()));
    rig.driver.fail("associate", "nft is not there");
    let (status, refusal) = rig.put(&url, json!({"floatingip": {"port_id": port}})).await;
    assert_eq!(status, 500);
    assert!(refusal["NeutronError"]["message"].as_str().unwrap().contains("nft is not there"));
    assert_eq!(rig.get(&url).await["floatingip"]["port_id"], Value::Null);
}

#[tokio::test]
async fn a_port_on_an_unknown_host_is_not_bound() {
    let rig = Rig::start().await;
    let network = rig.id(&rig.neutron("/networks"), "networks", "lab-net").await;
    let wish = json!({"port": {"network_id": network, "binding:host_id": "elsewhere"}});
    let port = rig.post(&rig.neutron("/ports"), wish).await["port"].clone();
    assert_eq!((&port["binding:vif_type"], &port["status"]), (&json!("binding_failed"), &json!("DOWN")));
    let url = rig.neutron(&format!("/ports/{}", port["id"].as_str().unwrap()));
    let (_, bound) = rig.put(&url, json!({"port": {"binding:host_id": "lab"}})).await;
    assert_eq!(
        (&bound["port"]["binding:vif_type"], &bound["port"]["status"]),
        (&json!("bridge"), &json!("ACTIVE"))
    );
    let (status, refusal) = rig.put(&url, json!({"port": {"colour": "red"}})).await;
    assert_eq!(
        (status, &refusal["NeutronError"]["message"]),
        (400, &json!("Unrecognized attribute(s) 'colour'"))
    );
}

#[tokio::test]
async fn lists_are_filtered_by_fields_and_tags_and_come_in_pages() {
    let rig = Rig::start().await;
    let floating = rig.floating_ip(&Value::Null).await;
    rig.floating_ip(&Value::Null).await;
    let url = rig.neutron(&format!("/floatingips/{}", floating["id"].as_str().unwrap()));
    assert_eq!(rig.put(&format!("{url}/tags/lbsidecar:pool=web"), Value::Null).await.0, 201);
    assert_eq!(rig.put(&format!("{url}/tags/vip"), Value::Null).await.0, 201);
    let found = async |query: &str| {
        let body = rig.get(&rig.neutron(&format!("/floatingips?{query}"))).await;
        body["floatingips"].as_array().unwrap().len()
    };
    assert_eq!(found("tags=lbsidecar:pool%3Dweb,vip").await, 1);
    assert_eq!(found("tags=vip,other").await, 0);
    assert_eq!(found("tags-any=vip,other").await, 1);
    assert_eq!(found("not-tags=vip").await, 1);
    assert_eq!(
        found(&format!("floating_ip_address={}", floating["floating_ip_address"].as_str().unwrap())).await,
        1
    );
    assert_eq!(found("port_id=").await, 2);
    assert_eq!(rig.delete(&format!("{url}/tags/vip")).await, 204);
    assert_eq!(rig.get(&url).await["floatingip"]["tags"], json!(["lbsidecar:pool=web"]));

    let page = rig.get(&rig.neutron("/floatingips?limit=1&fields=id")).await;
    assert_eq!(page["floatingips"][0].as_object().unwrap().len(), 1);
    let next = page["floatingips_links"][0]["href"].as_str().unwrap();
    let last = rig.get(next).await;
    assert_eq!(last["floatingips"].as_array().unwrap().len(), 1);
    assert!(last.get("floatingips_links").is_none());
}

#[tokio::test]
async fn an_empty_project_can_be_furnished() {
    let rig = Rig::with(Seed::Empty).await;
    assert!(rig.driver.calls().is_empty());
    let networks = rig.get(&rig.neutron("/networks")).await;
    assert_eq!(networks["networks"].as_array().unwrap().len(), 1, "the external one only");
    let network = rig.post(&rig.neutron("/networks"), json!({"network": {"name": "mine"}})).await["network"]
        ["id"]
        .clone();
    let subnet = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.1.0.0/24"}});
    let subnet = rig.post(&rig.neutron("/subnets"), subnet).await["subnet"].clone();
    assert_eq!(subnet["gateway_ip"], "10.1.0.1");
    let external = networks["networks"][0]["id"].clone();
    let router = json!({"router": {"name": "r", "external_gateway_info": {"network_id": external}}});
    let router =
        rig.post(&rig.neutron("/routers"), router).await["router"]["id"].as_str().unwrap().to_owned();
    let url = rig.neutron(&format!("/routers/{router}/add_router_interface"));
    assert_eq!(rig.put(&url, json!({"subnet_id": subnet["id"]})).await.0, 200);
    assert_eq!(rig.driver.calls().last(), Some(&format!("router_up {router} Some(10.20.20.10) 1 legs")));
    let (status, _) = rig.call(Method::POST, &rig.nova("/servers"), json!({"server": {"name": "x"}})).await;
    assert_eq!(status, 400);
}
