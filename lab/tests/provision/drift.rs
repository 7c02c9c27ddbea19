//! What somebody changed is mended and named; what was there before is used and not claimed.

use lbsidecar::provision::{Plan, look};
use lbsidecar_lab::cloud::{Service, faults::What};
use reqwest::Method;
use serde_json::json;

use crate::stage::{ALL, Stage};

#[tokio::test]
async fn a_router_without_gateway_a_missing_rule_and_a_loose_subnet_are_mended() {
    let stage = Stage::new().await;
    let seen = stage.provision().await.unwrap();
    let (router, subnet) = (seen.router.unwrap().id, seen.subnet.unwrap().id);
    let ip = seen.floating_ip.unwrap().id;
    let members = seen.members.unwrap();
    let ssh = members.rules.iter().find(|rule| rule.first == Some(22) && rule.prefix.is_some()).unwrap().id;

    let neutron = Service::Neutron;
    let put =
        |path: String, body| stage.call(neutron, Method::PUT, Box::leak(path.into_boxed_str()), Some(body));
    put(format!("floatingips/{ip}"), json!({"floatingip": {"port_id": null}})).await;
    put(format!("routers/{router}/remove_router_interface"), json!({"subnet_id": subnet})).await;
    put(format!("routers/{router}"), json!({"router": {"external_gateway_info": {}}})).await;
    put(format!("subnets/{subnet}"), json!({"subnet": {"dns_nameservers": ["9.9.9.9"]}})).await;
    stage.call(neutron, Method::DELETE, &format!("security-group-rules/{ssh}"), None).await;

    let plan = stage.plan().await;
    let steps: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
    assert_eq!(
        steps,
        [
            "set the name servers of subnet lab-subnet",
            "set the gateway of router lab-router to external, which it lacks",
            "attach subnet lab-subnet to router lab-router",
            "let in SSH from 10.20.20.1 again (security group lab-sg lacks the rule)",
            "lead the service's floating IP to server vm-test",
        ]
    );
    assert_eq!(plan.steps.iter().filter(|step| step.mends).count(), 4);
    stage.provision().await.unwrap();
    assert_eq!(stage.steps().await, Vec::<String>::new());
}

#[tokio::test]
async fn rules_follow_the_host_and_strangers_rules_are_named() {
    let mut stage = Stage::new().await;
    let seen = stage.provision().await.unwrap();
    let group = seen.members.unwrap().id;
    let rule = json!({"security_group_rule": {"security_group_id": group, "direction": "ingress", "protocol": "tcp",
        "port_range_min": 8080, "port_range_max": 8080, "remote_ip_prefix": "0.0.0.0/0"}});
    stage.call(Service::Neutron, Method::POST, "security-group-rules", Some(rule)).await;
    // The host has another address now.
    stage.settings.ssh_from = Some("10.20.20.9/32".parse().unwrap());

    let steps = stage.steps().await;
    assert_eq!(steps.len(), 4, "{steps:?}");
    assert!(
        steps[0].contains("SSH from 10.20.20.9") && steps[2].starts_with("take back the rule"),
        "{steps:?}"
    );
    let notes = stage.plan().await.notes;
    assert!(notes.iter().any(|note| note.contains("not ours and lets in more: tcp 8080")), "{notes:?}");
    stage.provision().await.unwrap();
    assert_eq!(stage.steps().await, Vec::<String>::new());
}

#[tokio::test]
async fn what_was_there_before_is_used_and_stays() {
    let stage = Stage::new().await;
    let made = stage
        .call(Service::Neutron, Method::POST, "networks", Some(json!({"network": {"name": "lab-net"}})))
        .await;
    // As the seed's scripts named it.
    let subnet = json!({"subnet": {"network_id": made["network"]["id"], "name": "lab-net-subnet", "ip_version": 4, "cidr": "192.168.100.0/24"}});
    stage.call(Service::Neutron, Method::POST, "subnets", Some(subnet)).await;
    stage
        .call(
            Service::Neutron,
            Method::POST,
            "security-groups",
            Some(json!({"security_group": {"name": "lab-sg"}})),
        )
        .await;
    let before = stage.everything().await;

    let steps = stage.steps().await.join("\n");
    for made in ["create network", "create subnet", "create security group lab-sg\n"] {
        assert!(!steps.contains(made), "{made}: {steps}");
    }
    stage.provision().await.unwrap();
    assert_eq!(stage.steps().await, Vec::<String>::new());
    assert_eq!(stage.plan().await.notes.iter().filter(|note| note.contains("not ours")).count(), 3);

    // The rules that we put into a group that is not ours go, and so does our router's leg.
    let removed = stage.cleanup(ALL).await;
    assert_eq!(removed.left, Vec::new());
    assert_eq!(stage.everything().await, before);
}

#[tokio::test]
async fn a_base_that_is_off_or_broken_is_brought_back() {
    let stage = Stage::new().await;
    let seen = stage.provision().await.unwrap();
    let base = seen.base.unwrap().id;
    stage.cloud.stop(base).await.unwrap();
    while stage.steps().await != ["start server vm-test, which is off"] {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    stage.provision().await.unwrap();

    let stage = Stage::new().await;
    let no_host = What::BuildError { message: None };
    stage.fault(Service::Nova, "POST", "/servers$", 1, no_host);
    let error = stage.provision().await.unwrap_err().to_string();
    assert!(error.contains("create server vm-test") && error.contains("No valid host"), "{error}");
    let plan = stage.plan().await;
    assert!(
        plan.steps[0].mends
            && plan.steps[0]
                .text
                .starts_with("delete server vm-test, which Nova could not build: No valid host")
    );
    stage.provision().await.unwrap();
    assert_eq!(stage.steps().await, Vec::<String>::new());
    let servers = stage.cloud.servers_named("vm-test").await.unwrap();
    assert_eq!(servers.len(), 1);
}

/// Nova says ERROR of VMs that run, too: after a reboot or a migration that failed, or because somebody set it.
#[tokio::test]
async fn a_base_in_error_that_has_run_is_never_deleted() {
    let stage = Stage::new().await;
    let base = stage.provision().await.unwrap().base.unwrap().id;
    let action = Box::leak(format!("servers/{base}/action").into_boxed_str());
    let broken = json!({"os-resetState": {"state": "error"}});
    stage.call(Service::Nova, Method::POST, action, Some(broken)).await;

    let said = stage.obstacles().await;
    for words in [
        &format!("server vm-test ({base}) is in ERROR and has run before"),
        &format!("`openstack server reboot --hard {base}`"),
        &format!("`openstack server set --state active {base}`"),
        &format!("`openstack server delete {base}`"),
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(stage.plan().await.steps, Vec::new());

    stage.call(Service::Nova, Method::POST, action, Some(json!({"reboot": {"type": "HARD"}}))).await;
    while stage.plan().await != Plan::default() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(stage.provision().await.unwrap().base.unwrap().id, base);
}

#[tokio::test]
async fn a_run_that_was_cut_off_is_gone_on_from_wherever_that_was() {
    let stage = Stage::new().await;
    let all = stage.steps().await.len();
    for at in 1..all {
        // Each run makes one thing more, and is then cut off in the middle of the next.
        let seen = look(&stage.cloud, &stage.settings).await.unwrap();
        let mut plan = lbsidecar::provision::plan(&stage.settings, &seen, false);
        plan.steps.truncate(1);
        lbsidecar::provision::apply(&stage.cloud, &stage.settings, seen, &plan, crate::stage::PACE, &|_| {})
            .await
            .unwrap();
        assert_eq!(stage.steps().await.len(), all - at, "after {}", plan.steps[0]);
    }
    stage.provision().await.unwrap();
    assert_eq!(stage.steps().await, Vec::<String>::new());
}
