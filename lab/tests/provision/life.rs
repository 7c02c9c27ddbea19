//! From empty to full, again, and back to empty.

use std::os::unix::fs::PermissionsExt;

use lbsidecar::{
    core::{cloud::Mark, ids::IntentId},
    openstack::CopyRequest,
    provision::Scope,
};
use lbsidecar_lab::cloud::Service;
use reqwest::Method;
use serde_json::json;

use crate::stage::{ALL, Stage, as_the_base};

#[tokio::test]
async fn an_empty_project_becomes_a_pool_and_is_empty_again() {
    let stage = Stage::new().await;
    // Neutron makes a project's default group when it is first asked for the groups; that is not ours.
    stage.call(Service::Neutron, Method::GET, "security-groups", None).await;
    let before = stage.everything().await;

    let planned = stage.steps().await;
    let seen = stage.provision().await.unwrap();
    assert_eq!(stage.done().len(), planned.len());
    let (address, base) = (seen.floating_ip.unwrap().address, seen.base.unwrap());
    let associated = format!("associate {address}");
    assert!(
        stage.driver.calls().iter().any(|call| call.starts_with(&associated)),
        "{:?}",
        stage.driver.calls()
    );
    assert_eq!(base.key_name.as_deref(), Some("lab-key"));
    let mode = std::fs::metadata(&stage.settings.key_file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // All of it carries the mark, and a second run finds nothing to do.
    assert_eq!(stage.steps().await, Vec::<String>::new());
    assert_eq!(stage.plan().await.notes, Vec::<String>::new());
    let calls = stage.driver.calls().len();
    stage.provision().await.unwrap();
    assert_eq!(stage.driver.calls().len(), calls);

    let removed = stage.cleanup(ALL).await;
    assert_eq!(removed.left, Vec::new());
    assert_eq!(stage.everything().await, before);
    assert_eq!(stage.inventory(ALL).await.items, Vec::new());

    // The key is still here, and is used again.
    stage.provision().await.unwrap();
    assert_eq!(stage.steps().await, Vec::<String>::new());
}

#[tokio::test]
async fn the_rules_let_in_whom_they_should_and_nobody_else() {
    let stage = Stage::new().await;
    let seen = stage.provision().await.unwrap();
    let balancer = seen.balancer_group.unwrap();
    let rules = |group: &lbsidecar::openstack::resources::Group| {
        let ingress = group.rules.iter().filter(|rule| rule.direction == "ingress");
        let mut shown: Vec<String> = ingress
            .map(|rule| {
                let from = rule.prefix.clone().unwrap_or_else(|| {
                    if rule.group == Some(balancer.id) { "balancer".into() } else { "?".into() }
                });
                format!("{} {:?} {from}", rule.protocol.as_deref().unwrap_or("any"), rule.first)
            })
            .collect();
        shown.sort();
        shown
    };
    assert_eq!(
        rules(&seen.members.clone().unwrap()),
        [
            "icmp None 192.168.100.0/24",
            "tcp Some(22) 10.20.20.1/32",
            // The host's own leg in that network, by which it reaches a member whose floating IP has moved.
            "tcp Some(22) balancer",
            "tcp Some(80) 10.20.20.1/32",
            "tcp Some(80) balancer"
        ]
    );
    assert_eq!(rules(&balancer), ["tcp Some(80) 0.0.0.0/0"]);
    assert_eq!(seen.base_port.unwrap().groups, [seen.members.unwrap().id]);
    assert_eq!(seen.balancer.unwrap().groups, [balancer.id]);
}

#[tokio::test]
async fn cleanup_removes_clones_and_leaves_what_is_not_ours() {
    let stage = Stage::new().await;
    // A stranger's network of the same name, and another pool's server, are there before.
    stage
        .call(Service::Neutron, Method::POST, "networks", Some(json!({"network": {"name": "other-net"}})))
        .await;
    let seen = stage.provision().await.unwrap();
    let base = seen.base.unwrap();
    let clone = |pool: &str| CopyRequest {
        base: base.id,
        name: format!("clone-of-{pool}"),
        mark: Mark {
            pool: lbsidecar::core::ids::PoolName::try_new(pool).unwrap(),
            intent: "5f3b1c9e-0000-4000-8000-000000000001".parse::<IntentId>().unwrap(),
            generation: 1,
        },
        settings: as_the_base(),
    };
    let ours = stage.cloud.create_copy(&clone("web")).await.unwrap();
    let other = stage.cloud.create_copy(&clone("other")).await.unwrap();

    // Without --network everything that costs goes, and the network stays.
    let removed = stage.cleanup(Scope::default()).await;
    assert_eq!(removed.left, Vec::new());
    assert!(stage.cloud.server(ours).await.unwrap().is_none());
    assert!(stage.cloud.server(base.id).await.unwrap().is_none());
    assert!(stage.cloud.server(other).await.unwrap().is_some());
    assert_eq!(stage.count("networks").await, 3, "external, other-net, lab-net");

    // The other pool's server is in our network: that stays, is named, and the rest goes.
    let removed = stage.cleanup(ALL).await;
    let left: Vec<String> = removed.left.iter().map(|(item, why)| format!("{item}: {why}")).collect();
    let left = left.join("\n");
    assert_eq!(removed.left.len(), 3, "{left}");
    for words in [
        "subnet lab-subnet",
        "network lab-net",
        "security group lab-sg",
        "answered 409",
        "openstack port list --network",
    ] {
        assert!(left.contains(words), "{words}: {left}");
    }
    assert_eq!(stage.count("routers").await, 0);

    // When it is gone, another run removes the rest.
    stage.cloud.delete(other).await.unwrap();
    while stage.cloud.server(other).await.unwrap().is_some() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(stage.cleanup(ALL).await.left, Vec::new());
    assert_eq!(stage.count("networks").await, 2, "external, other-net");
}

#[tokio::test]
async fn a_pool_that_has_moved_on_gets_no_second_base() {
    let stage = Stage::new().await;
    let seen = stage.provision().await.unwrap();
    let base = seen.base.unwrap();
    let mark = Mark {
        pool: stage.settings.pool.clone(),
        intent: "5f3b1c9e-0000-4000-8000-000000000002".parse().unwrap(),
        generation: 1,
    };
    let copy = CopyRequest { base: base.id, name: "vm-test-clone".into(), mark, settings: as_the_base() };
    stage.cloud.create_copy(&copy).await.unwrap();
    stage
        .cloud
        .associate(seen.floating_ip.unwrap().id, lbsidecar::core::ids::PortId(seen.balancer.unwrap().id))
        .await
        .unwrap();
    stage.cloud.delete(base.id).await.unwrap();
    while stage.cloud.server(base.id).await.unwrap().is_some() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let plan = stage.plan().await;
    assert_eq!((plan.steps, plan.obstacles), (Vec::new(), Vec::new()));
    assert!(plan.notes.iter().any(|note| note.contains("moved on")), "{:?}", plan.notes);
}
