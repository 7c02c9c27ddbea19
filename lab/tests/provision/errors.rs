//! The cloud refuses: each time one clear error with what to do, nothing made twice, and the next run finishes the job.

use lbsidecar::core::cloud::FailureKind;
use lbsidecar_lab::cloud::{Service, faults::What};
use reqwest::Method;
use serde_json::{Value, json};

use crate::stage::{ALL, Stage};

/// The run fails with all of these words, and the next one finishes.
async fn fails_once(stage: &Stage, words: &[&str]) -> FailureKind {
    let before = stage.steps().await.len();
    let error = stage.provision().await.unwrap_err();
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
    // What was done was told, and is there.
    assert_eq!(stage.steps().await.len(), before - stage.done().len(), "{text}\n{:?}", stage.done());
    error.kind()
}

async fn finishes(stage: &Stage) {
    stage.provision().await.unwrap();
    assert_eq!(stage.steps().await, Vec::<String>::new());
    assert_eq!(stage.cloud.servers_named("vm-test").await.unwrap().len(), 1);
    assert_eq!(stage.cleanup(ALL).await.left, Vec::new());
}

#[tokio::test]
async fn each_quota_stops_the_run_where_it_is_reached() {
    let steps = [
        (Service::Neutron, "floatingips", "floatingip", "create floating IP", "--floating-ips N"),
        (Service::Neutron, "networks", "network", "create network lab-net", "--networks N"),
        (Service::Neutron, "subnets", "subnet", "create subnet lab-subnet", "--subnets N"),
        (Service::Neutron, "routers", "router", "create router lab-router", "--routers N"),
        (
            Service::Neutron,
            "security_groups",
            "security_group",
            "create security group lab-sg-lb",
            "--secgroups N",
        ),
        (Service::Neutron, "security_group_rules", "security_group_rule", "let in SSH", "--secgroup-rules N"),
    ];
    for (service, list, quota, step, advice) in steps {
        let stage = Stage::new().await;
        let mut limit = stage.count(list).await;
        if quota == "security_group_rule" {
            // Two groups come with two rules each.
            limit += 4;
        }
        stage.quota(service, quota, limit).await;
        let kind = fails_once(&stage, &[step, "Quota exceeded", "answered 409", advice]).await;
        assert_eq!(kind, FailureKind::Capacity, "{quota}");
        stage.quota(service, quota, 100).await;
        finishes(&stage).await;
    }
}

#[tokio::test]
async fn the_quotas_of_servers_ports_and_key_pairs_too() {
    let stage = Stage::new().await;
    stage.quota(Service::Nova, "cores", 0).await;
    let words = ["create server vm-test", "Quota exceeded for cores", "answered 403", "smaller --flavor"];
    assert_eq!(fails_once(&stage, &words).await, FailureKind::Capacity);
    stage.quota(Service::Nova, "cores", 20).await;
    finishes(&stage).await;

    let stage = Stage::new().await;
    let body = json!({"forbidden": {"code": 403, "message": "Quota exceeded, too many key pairs."}});
    stage.refuse(Service::Nova, "POST", "/os-keypairs$", 1, 403, Some(body));
    let words = ["import it as key pair lab-key", "too many key pairs", "--key-pairs N"];
    assert_eq!(fails_once(&stage, &words).await, FailureKind::Capacity);
    finishes(&stage).await;

    let stage = Stage::new().await;
    let body = neutron("OverQuota", "Quota exceeded for resources: ['port'].");
    stage.refuse(Service::Neutron, "POST", "/ports$", 1, 409, Some(body));
    let words = ["create the load balancer port", "Quota exceeded", "--ports N"];
    assert_eq!(fails_once(&stage, &words).await, FailureKind::Capacity);
    finishes(&stage).await;
}

#[tokio::test]
async fn a_409_on_the_routers_interface_says_what_has_the_address() {
    // For good.
    let stage = Stage::new().await;
    let body = neutron("IpAddressAlreadyAllocated", "IP address 192.168.100.1 already allocated in subnet x");
    stage.refuse(Service::Neutron, "PUT", "add_router_interface", 4, 409, Some(body.clone()));
    let words = [
        "attach subnet lab-subnet to router lab-router",
        "already allocated",
        "answered 409",
        "openstack port list --fixed-ip",
    ];
    fails_once(&stage, &words).await;
    finishes(&stage).await;
    // Only while something else changes the router.
    let stage = Stage::new().await;
    stage.refuse(Service::Neutron, "PUT", "add_router_interface", 2, 409, Some(body));
    finishes(&stage).await;
}

#[tokio::test]
async fn a_subnet_that_overlaps_is_refused_with_the_flag_that_helps() {
    let stage = Stage::new().await;
    let made = stage
        .call(Service::Neutron, Method::POST, "networks", Some(json!({"network": {"name": "lab-net"}})))
        .await;
    let subnet = json!({"subnet": {"network_id": made["network"]["id"], "name": "theirs", "ip_version": 4, "cidr": "192.168.0.0/16"}});
    let theirs = stage.call(Service::Neutron, Method::POST, "subnets", Some(subnet)).await;
    fails_once(&stage, &["create subnet lab-subnet", "overlaps", "--cidr"]).await;
    stage
        .call(
            Service::Neutron,
            Method::DELETE,
            &format!("subnets/{}", theirs["subnet"]["id"].as_str().unwrap()),
            None,
        )
        .await;
    finishes(&stage).await;
}

#[tokio::test]
async fn what_is_in_the_way_is_said_before_anything_is_made() {
    let mut stage = Stage::new().await;
    let before = stage.everything().await;
    stage.settings.image = "no-such-image".into();
    let said = stage.obstacles().await;
    assert!(
        said.contains("find image no-such-image") && said.contains("cirros, ubuntu-22.04")
            || said.contains("there is none of this name"),
        "{said}"
    );
    assert!(said.contains("--image"), "{said}");
    stage.settings.image = "cirros".into();
    stage.settings.external = "no-such-network".into();
    let said = stage.obstacles().await;
    assert!(said.contains("no external network no-such-network") && said.contains("--external"), "{said}");
    stage.settings.external = "external".into();
    stage.settings.address = Some("10.20.20.77".parse().unwrap());
    let said = stage.obstacles().await;
    assert!(
        said.contains("no floating IP 10.20.20.77") && said.contains("--floating-ip-address 10.20.20.77"),
        "{said}"
    );
    assert_eq!(stage.everything().await, before);
}

#[tokio::test]
async fn a_key_pair_with_another_key_is_not_used() {
    let stage = Stage::new().await;
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMr0ynVZ1WZQyyPvvFGbFCqnJ5u1WZyFQXtmlpWNGZ9k theirs";
    let public = stage.home().join("given.pub");
    std::fs::write(
        &public,
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA mine\n",
    )
    .unwrap();
    stage
        .call(
            Service::Nova,
            Method::POST,
            "os-keypairs",
            Some(json!({"keypair": {"name": "lab-key", "public_key": key}})),
        )
        .await;
    // Nothing here claims to be it: it is used, and who has the private half can log in.
    let notes = stage.plan().await.notes;
    assert!(notes.iter().any(|note| note.contains("only who has it can log in")), "{notes:?}");
    let mut stage = stage;
    stage.settings.public_key = Some(public.clone());
    let said = stage.obstacles().await;
    for word in [
        "key pair lab-key exists with another key",
        "given.pub",
        "--key-name",
        "openstack keypair delete lab-key",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    std::fs::write(&public, key).unwrap();
    finishes(&stage).await;
    // It was not ours, and is still there.
    assert_eq!(stage.cloud.key_pairs().await.unwrap().len(), 1);

    std::fs::write(&public, "-----BEGIN OPENSSH PRIVATE KEY-----").unwrap();
    let said = stage.obstacles().await;
    assert!(said.contains("not an OpenSSH public key"), "{said}");
}

#[tokio::test]
async fn no_floating_ip_left_says_so() {
    let stage = Stage::new().await;
    let body = neutron("IpAddressGenerationFailure", "No more IP addresses available on network x.");
    stage.refuse(Service::Neutron, "POST", "/floatingips$", 1, 409, Some(body));
    fails_once(&stage, &["create floating IP", "No more IP addresses", "no address left"]).await;
    finishes(&stage).await;
}

#[tokio::test]
async fn a_503_once_for_every_call_is_gone_over() {
    let stage = Stage::new().await;
    let steps = stage.steps().await.len();
    for (service, method, path) in [
        (Service::Neutron, "POST", "/networks$"),
        (Service::Neutron, "POST", "/subnets$"),
        (Service::Neutron, "POST", "/routers$"),
        (Service::Neutron, "PUT", "/add_router_interface$"),
        (Service::Neutron, "POST", "/security-groups$"),
        (Service::Neutron, "POST", "/security-group-rules$"),
        (Service::Neutron, "POST", "/floatingips$"),
        (Service::Neutron, "PUT", "/floatingips/"),
        (Service::Neutron, "POST", "/ports$"),
        (Service::Neutron, "GET", "/networks"),
        (Service::Neutron, "GET", "/ports"),
        (Service::Nova, "POST", "/os-keypairs$"),
        (Service::Nova, "POST", "/servers$"),
        (Service::Nova, "GET", "/servers/"),
        (Service::Glance, "GET", "/images"),
        (Service::Neutron, "DELETE", "/networks/"),
        (Service::Neutron, "DELETE", "/routers/"),
        (Service::Nova, "DELETE", "/servers/"),
    ] {
        stage.refuse(service, method, path, 1, 503, None);
    }
    stage.provision().await.unwrap();
    assert_eq!(stage.done().len(), steps);
    finishes(&stage).await;
}

#[tokio::test]
async fn an_answer_that_is_lost_makes_nothing_twice() {
    let stage = Stage::new().await;
    for (service, path) in [
        (Service::Neutron, "/networks$"),
        (Service::Neutron, "/subnets$"),
        (Service::Neutron, "/routers$"),
        (Service::Neutron, "/security-groups$"),
        (Service::Neutron, "/security-group-rules$"),
        (Service::Neutron, "/floatingips$"),
        (Service::Neutron, "/ports$"),
        (Service::Nova, "/os-keypairs$"),
        (Service::Nova, "/servers$"),
    ] {
        stage.fault(service, "POST", path, 1, What::LostReply { status: Some(503) });
    }
    stage.fault(Service::Neutron, "PUT", "/add_router_interface$", 1, What::LostReply { status: None });
    stage.provision().await.unwrap();
    assert_eq!(stage.count("networks").await, 2, "external and lab-net");
    for (list, expected) in [("subnets", 2), ("routers", 1), ("security_groups", 3), ("floatingips", 1)] {
        assert_eq!(stage.count(list).await, expected, "{list}");
    }
    finishes(&stage).await;
}

#[tokio::test]
async fn a_port_in_use_keeps_neither_the_rest_nor_the_next_cleanup() {
    let stage = Stage::new().await;
    stage.provision().await.unwrap();
    let body = neutron(
        "SubnetInUse",
        "Unable to complete operation on subnet x: One or more ports have an IP allocation from this subnet.",
    );
    stage.refuse(Service::Neutron, "DELETE", "/subnets/", 4, 409, Some(body));
    stage.refuse(Service::Nova, "DELETE", "/os-keypairs/", 1, 403, None);
    let removed = stage.cleanup(ALL).await;
    let left: Vec<String> = removed.left.iter().map(|(item, why)| format!("{item}: {why}")).collect();
    // The network takes its subnet along.
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left[0].starts_with("key pair lab-key"), "{left:?}");
    assert!(
        left[1].contains("answered 409") && left[1].contains("openstack port list --fixed-ip subnet="),
        "{left:?}"
    );
    assert_eq!(stage.inventory(ALL).await.items.len(), 1);
    assert_eq!(stage.cleanup(ALL).await.left, Vec::new());
}

fn neutron(kind: &str, message: &str) -> Value {
    json!({"NeutronError": {"type": kind, "message": message, "detail": ""}})
}
