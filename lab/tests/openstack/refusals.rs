//! What the cloud refuses: nothing is left over, the pool serves on, and the reason is told.

use crate::rig::{BY_COMMAND, Pool, in_rig, lbsidecar, log, openstack, openstack_do, text};

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

/// A flavor like the base's, but for hosts with a certain trait only; deleted with the test.
struct Flavor(&'static str);

impl Flavor {
    fn make(name: &'static str, required: &str) -> Self {
        let _ = in_rig(&["openstack", "flavor", "delete", name]);
        let required = format!("trait:{required}=required");
        let size = ["--vcpus", "1", "--ram", "160", "--disk", "1", "--property", &required, name];
        openstack_do(&[&["flavor", "create"], &size[..]].concat());
        Self(name)
    }
}

impl Drop for Flavor {
    fn drop(&mut self) {
        let _ = in_rig(&["openstack", "flavor", "delete", self.0]);
    }
}

#[test]
#[ignore = "needs the OpenStack of lab/openstack: ./x test-openstack"]
fn a_clone_that_no_host_takes_is_removed() {
    let flavor = Flavor::make("m1.sgx", "HW_CPU_X86_SGX");
    let mut pool = Pool::provision(&[]);
    pool.run(&[&BY_COMMAND[..], &["--flavor", flavor.0]].concat());
    no_clone(&mut pool, "No valid host");
    assert!(log().contains("No valid host"));
    // The host is the same, only nothing is demanded of it any more.
    openstack_do(&["flavor", "unset", "--property", "trait:HW_CPU_X86_SGX", flavor.0]);
    pool.say(&["resume"]);
    pool.say(&["scale-out"]);
    pool.wait_for("balanced", 2);
}
