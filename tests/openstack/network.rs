//! Floating IPs, ports, the load balancer port, and what `check` asks.

use lbsidecar::{
    core::{
        cloud::FailureKind,
        ids::{FloatingIpId, PoolName, PortId, ServerId},
    },
    openstack::{LbPort, LbPortRequest, Service},
};
use serde_json::{Value, json};
use wiremock::{ResponseTemplate, matchers::query_param};

use crate::stage::{BASE, FLOATING, PORT, Stage, answer, recorded, to};

const NETWORK: &str = "65376b91-b7a8-4981-9087-849bf4a99b83";
const EXTERNAL: &str = "df291190-65ac-473e-b3d6-37079d7b5665";
const SUBNET: &str = "b8015b95-cedf-4964-9869-28e70eb3fcc3";
const LB_PORT: &str = "9775a404-f450-4ebd-bbda-d64071fe0019";

fn base() -> ServerId {
    BASE.parse().unwrap()
}

fn floating() -> FloatingIpId {
    FLOATING.parse().unwrap()
}

fn port() -> PortId {
    PORT.parse().unwrap()
}

fn pool() -> PoolName {
    PoolName::try_new("web").unwrap()
}

fn json_answer(status: u16, body: &Value) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(body)
}

#[tokio::test]
async fn a_floating_ip_is_found_by_address_id_and_server() {
    let stage = Stage::new().await;
    let address = "10.20.20.175".parse().unwrap();
    to("GET", "network/floatingips")
        .and(query_param("floating_ip_address", "10.20.20.175"))
        .respond_with(answer(200, "floatingips"))
        .mount(&stage.server)
        .await;
    to("GET", "network/floatingips")
        .and(query_param("port_id", PORT))
        .respond_with(answer(200, "floatingips"))
        .mount(&stage.server)
        .await;
    stage.once("GET", &format!("network/floatingips/{FLOATING}"), answer(200, "floatingip")).await;
    stage.on("GET", &format!("network/floatingips/{FLOATING}"), answer(404, "error-neutron-404")).await;
    stage.on("GET", "network/ports", answer(200, "ports")).await;
    let found = stage.cloud.floating_ip(address).await.unwrap().unwrap();
    assert_eq!((found.id, found.address, found.port), (floating(), address, Some(port())));
    assert_eq!(found.network.to_string(), EXTERNAL);
    assert_eq!(stage.cloud.floating_ip_by_id(floating()).await.unwrap().unwrap().address, address);
    assert!(stage.cloud.floating_ip_by_id(floating()).await.unwrap().is_none());
    let of_base = stage.cloud.floating_ips_of(base()).await.unwrap();
    assert_eq!(of_base.iter().map(|f| f.id).collect::<Vec<_>>(), [floating()]);
}

#[tokio::test]
async fn a_floating_ip_moves_by_one_put_and_its_answer_is_believed() {
    let stage = Stage::new().await;
    let path = format!("network/floatingips/{FLOATING}");
    stage.once("PUT", &path, answer(200, "floatingip")).await;
    stage.cloud.associate(floating(), port()).await.unwrap();
    stage.once("PUT", &path, answer(200, "floatingip")).await;
    let error = stage.cloud.associate(floating(), LB_PORT.parse().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Conflict, "it leads elsewhere than asked: {error}");
    let mut free = recorded("floatingip");
    free["floatingip"]["port_id"] = Value::Null;
    stage.on("PUT", &path, json_answer(200, &free)).await;
    stage.cloud.disassociate(floating()).await.unwrap();
    let bodies: Vec<Value> = stage.came("PUT", &path).await.iter().map(|r| r.body_json().unwrap()).collect();
    assert_eq!(bodies[0], json!({"floatingip": {"port_id": PORT}}));
    assert_eq!(bodies[2], json!({"floatingip": {"port_id": null}}));
}

#[tokio::test]
async fn a_member_gets_one_floating_ip_however_often_it_is_asked_for() {
    let stage = Stage::new().await.with_base().await;
    stage.once("GET", "network/floatingips", json_answer(200, &json!({"floatingips": []}))).await;
    let mut made = recorded("floatingip");
    made["floatingip"]["description"] = json!("lbsidecar:pool=web");
    let listed = json!({"floatingips": [made["floatingip"]]});
    stage.on("GET", "network/floatingips", json_answer(200, &listed)).await;
    stage.on("POST", "network/floatingips", json_answer(201, &made)).await;
    let external = EXTERNAL.parse().unwrap();
    for _ in 0..3 {
        assert_eq!(stage.cloud.give_floating_ip(base(), &pool(), external).await.unwrap().id, floating());
    }
    let asked = stage.came("POST", "network/floatingips").await;
    assert_eq!(asked.len(), 1);
    let expected =
        json!({"floating_network_id": EXTERNAL, "port_id": PORT, "description": "lbsidecar:pool=web"});
    assert_eq!(asked[0].body_json::<Value>().unwrap(), json!({"floatingip": expected}));
    assert_eq!(stage.cloud.floating_ips_of_pool(&pool()).await.unwrap().len(), 1);
    assert!(stage.cloud.floating_ips_of_pool(&"other".parse().unwrap()).await.unwrap().is_empty());
}

#[tokio::test]
async fn releasing_a_floating_ip_twice_is_fine() {
    let stage = Stage::new().await;
    let path = format!("network/floatingips/{FLOATING}");
    stage.once("DELETE", &path, ResponseTemplate::new(204)).await;
    stage.on("DELETE", &path, answer(404, "error-neutron-404")).await;
    for _ in 0..2 {
        stage.cloud.release_floating_ip(floating()).await.unwrap();
    }
}

/// A stage with the network and subnet of the load balancer port, and the port as Neutron has it.
async fn with_lb_port(found: &[Value]) -> Stage {
    let stage = Stage::new().await;
    let network = json!({"network": recorded("networks")["networks"][0]});
    stage.on("GET", &format!("network/networks/{NETWORK}"), json_answer(200, &network)).await;
    let subnet = json!({"subnet": recorded("subnets")["subnets"][0]});
    stage.on("GET", &format!("network/subnets/{SUBNET}"), json_answer(200, &subnet)).await;
    to("GET", "network/ports")
        .and(query_param("device_owner", "lbsidecar:host"))
        .and(query_param("device_id", "lbsidecar-web"))
        .respond_with(json_answer(200, &json!({"ports": found})))
        .mount(&stage.server)
        .await;
    stage
}

fn wanted() -> LbPortRequest {
    LbPortRequest {
        pool: pool(),
        network: NETWORK.parse().unwrap(),
        host: "compute-1".into(),
        security_groups: vec!["02d4a68d-0f53-4bf5-a138-98e35de156da".into()],
    }
}

fn lb_port(host: &str) -> Value {
    let mut port = recorded("port-created")["port"].take();
    port["binding:host_id"] = json!(host);
    port
}

fn expected() -> LbPort {
    LbPort {
        id: LB_PORT.parse().unwrap(),
        network: NETWORK.parse().unwrap(),
        network_name: "lab-net".into(),
        mac: "fa:16:3e:0a:47:53".into(),
        address: "192.168.100.18".parse().unwrap(),
        prefix: 24,
        gateway: Some("192.168.100.1".parse().unwrap()),
        mtu: 1450,
        on_linuxbridge: false,
    }
}

#[tokio::test]
async fn the_load_balancer_port_is_made_with_its_mark() {
    let stage = with_lb_port(&[]).await;
    stage.on("POST", "network/ports", json_answer(201, &json!({"port": lb_port("compute-1")}))).await;
    assert_eq!(stage.cloud.lb_port(&pool()).await.unwrap(), None);
    assert_eq!(stage.cloud.ensure_lb_port(&wanted()).await.unwrap(), expected());
    let body: Value = stage.came("POST", "network/ports").await[0].body_json().unwrap();
    let port = json!({
        "network_id": NETWORK,
        "name": "lbsidecar-web",
        "device_owner": "lbsidecar:host",
        "device_id": "lbsidecar-web",
        "binding:host_id": "compute-1",
        "security_groups": ["02d4a68d-0f53-4bf5-a138-98e35de156da"],
    });
    assert_eq!(body, json!({"port": port}));
}

#[tokio::test]
async fn the_load_balancer_port_that_is_there_is_used_and_bound_to_this_host() {
    let stage = with_lb_port(&[lb_port("compute-1")]).await;
    assert_eq!(stage.cloud.ensure_lb_port(&wanted()).await.unwrap(), expected());
    assert_eq!(stage.cloud.lb_port(&pool()).await.unwrap(), Some(expected()));
    let stage = with_lb_port(&[lb_port("old-name")]).await;
    let path = format!("network/ports/{LB_PORT}");
    stage.on("PUT", &path, json_answer(200, &json!({"port": lb_port("compute-1")}))).await;
    assert_eq!(stage.cloud.ensure_lb_port(&wanted()).await.unwrap(), expected());
    let body: Value = stage.came("PUT", &path).await[0].body_json().unwrap();
    assert_eq!(body, json!({"port": {"binding:host_id": "compute-1"}}));
}

#[tokio::test]
async fn neutron_says_which_switch_the_port_is_in_if_it_says_so() {
    for (said, on_linuxbridge) in [(json!("bridge"), true), (json!("ovs"), false), (Value::Null, false)] {
        let mut port = lb_port("compute-1");
        port["binding:vif_type"] = said;
        let stage = with_lb_port(&[port]).await;
        let expected = LbPort { on_linuxbridge, ..expected() };
        assert_eq!(stage.cloud.lb_port(&pool()).await.unwrap(), Some(expected));
    }
    // Who is no administrator is not told.
    let mut port = lb_port("compute-1");
    port.as_object_mut().unwrap().retain(|name, _| !name.starts_with("binding:"));
    let stage = with_lb_port(&[port]).await;
    assert_eq!(stage.cloud.lb_port(&pool()).await.unwrap(), Some(expected()));
}

#[tokio::test]
async fn binding_without_the_right_says_what_is_missing() {
    let stage = with_lb_port(&[]).await;
    let refused = json!({"NeutronError": {"type": "PolicyNotAuthorized", "message": "rule:create_port is disallowed by policy", "detail": ""}});
    stage.on("POST", "network/ports", json_answer(403, &refused)).await;
    let error = stage.cloud.ensure_lb_port(&wanted()).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Permanent);
    assert!(error.to_string().contains("needs an administrator's role"), "{error}");
}

#[tokio::test]
async fn check_is_told_of_each_service_by_itself() {
    let stage = Stage::new().await;
    let flavors = answer(200, "flavors").insert_header("openstack-api-version", "compute 2.9");
    stage.once("GET", "compute/flavors", flavors).await;
    stage.on("GET", "compute/flavors", answer(200, "flavors")).await;
    stage.on("GET", "network/networks", answer(200, "networks")).await;
    stage.on("GET", "image/images", ResponseTemplate::new(500)).await;
    let report = stage.cloud.services().await.unwrap();
    assert_eq!((report.identity.user.as_str(), report.identity.project.as_str()), ("admin", "admin"));
    assert_eq!(report.identity.roles, ["member", "reader", "admin"]);
    let [compute, network, image] = report.services.as_slice() else { panic!("{report:?}") };
    assert_eq!(compute.answer.as_ref().unwrap().version, "up to 2.93, 2.9 is used");
    assert_eq!(network.answer.as_ref().unwrap().version, "v2.0");
    assert!(network.answer.as_ref().unwrap().url.as_str().ends_with("/network/v2.0"));
    let again = stage.cloud.services().await.unwrap();
    let compute = again.services[0].answer.as_ref().unwrap();
    assert_eq!(compute.version, "up to 2.93, 2.1 is used", "what was granted counts, not what was asked for");
    assert_eq!((image.service, image.answer.as_ref().unwrap_err().status()), (Service::Image, Some(500)));
}
