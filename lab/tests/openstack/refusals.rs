//! What the cloud refuses: nothing is left over, the pool serves on, and the reason is told.

use crate::rig::{BY_COMMAND, Pool, lbsidecar, log, openstack, openstack_do, text};

/// Sets a quota of the administrator's project.
fn quota(what: &str, limit: &str) {
    openstack_do(&["quota", "set", what, limit, "admin"]);
}

/// Asks for a clone that will not come, and waits until the pool has said why.
fn no_clone(pool: &mut Pool, why: &str) {
    pool.say(&["scale-out"]);
    pool.wait_until(why, |view| {
        view["transition"].is_null()
            && view["history"]
                .as_array()
                .is_some_and(|all| all.iter().any(|one| one.to_string().contains(why)))
    });
    let servers = crate::rig::eventually(crate::rig::BOOT, "one server", || {
        let servers = openstack(&["server", "list"]);
        (servers.as_array().unwrap().len() == 1).then_some(servers)
    });
    assert_eq!(servers[0]["Name"], "vm-test", "{servers}");
    assert_eq!(pool.ask("/"), "vm-test\n");
}

#[test]
#[ignore = "needs the OpenStack of lab/openstack: ./x test-openstack"]
fn quotas_of_instances_and_cores_are_told_and_nothing_is_made() {
    let mut pool = Pool::provision(&[]);
    pool.run(&BY_COMMAND);
    quota("--instances", "1");
    no_clone(&mut pool, "quota of instances is used up");
    quota("--instances", "10");
    pool.say(&["resume"]);
    quota("--cores", "1");
    no_clone(&mut pool, "quota of cores is used up");
    quota("--cores", "20");
    pool.say(&["resume"]);
    pool.say(&["scale-out"]);
    pool.wait_for("balanced", 2);
}

#[test]
#[ignore = "needs the OpenStack of lab/openstack: ./x test-openstack"]
fn provision_without_a_floating_ip_to_be_had_says_so_and_goes_on_later() {
    let before = crate::rig::everything();
    quota("--floating-ips", "0");
    let output = lbsidecar(&["provision"]);
    quota("--floating-ips", "50");
    assert!(!output.status.success(), "{}", text(&output));
    assert!(text(&output).to_lowercase().contains("quota"), "{}", text(&output));
    let output = lbsidecar(&["cleanup", "--network", "--yes"]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(crate::rig::everything(), before);
}

#[test]
#[ignore = "needs the OpenStack of lab/openstack: ./x test-openstack"]
fn a_clone_that_no_host_takes_is_removed() {
    let mut pool = Pool::provision(&[]);
    pool.run(&BY_COMMAND);
    openstack_do(&["compute", "service", "set", "--disable", "microstack", "nova-compute"]);
    no_clone(&mut pool, "No valid host");
    openstack_do(&["compute", "service", "set", "--enable", "microstack", "nova-compute"]);
    pool.say(&["resume"]);
    pool.say(&["scale-out"]);
    pool.wait_for("balanced", 2);
    assert!(log().contains("No valid host"));
}
