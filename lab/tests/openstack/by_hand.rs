//! What people do meanwhile, by OpenStack's own command line.

use crate::rig::{BOOT, BY_COMMAND, Pool, eventually, openstack, openstack_do, plain};

#[test]
#[ignore = "needs the OpenStack of lab/openstack: ./x test-openstack"]
fn a_clone_deleted_by_hand_leaves_the_pool_and_a_rebooted_base_comes_back() {
    let mut pool = Pool::provision(&[]);
    pool.run(&BY_COMMAND);
    pool.say(&["scale-out"]);
    let view = pool.wait_for("balanced", 2);
    openstack_do(&["server", "delete", "--wait", plain(&view["members"][1]["server_id"])]);
    pool.wait_for("single", 1);
    assert_eq!(pool.ask("/"), "vm-test\n");
    pool.agrees();

    // Until Nova says that it is done: before, it is the base of before that answers.
    openstack_do(&["server", "reboot", "--hard", "--wait", plain(&view["members"][0]["server_id"])]);
    eventually(BOOT, "the base serves again", || {
        (pool.try_ask("/").ok()? == "vm-test\n" && pool.status()["phase"] == "single").then_some(())
    });
    pool.agrees();
}

#[test]
#[ignore = "needs the OpenStack of lab/openstack: ./x test-openstack"]
fn a_stranger_of_the_clones_name_is_told_and_left_alone() {
    let mut pool = Pool::provision(&[]);
    let stranger = openstack(&[
        "server",
        "create",
        "--image",
        "cirros",
        "--flavor",
        "m1.tiny",
        "--network",
        "test",
        "--wait",
        "vm-test-clone",
    ]);
    let id = plain(&stranger["id"]).to_owned();
    pool.run(&BY_COMMAND);
    pool.say(&["scale-out"]);
    pool.wait_until("told", |view| view.to_string().contains("vm-test-clone"));
    let still = openstack(&["server", "show", &id]);
    assert_eq!((plain(&still["status"]), plain(&still["name"])), ("ACTIVE", "vm-test-clone"));
    assert_eq!(openstack(&["server", "list"]).as_array().unwrap().len(), 2);
    assert_eq!(pool.ask("/"), "vm-test\n");
}

#[test]
#[ignore = "needs the OpenStack of lab/openstack: ./x test-openstack"]
fn release_gives_the_floating_ip_back_to_the_primary() {
    let mut pool = Pool::provision(&[]);
    pool.run(&BY_COMMAND);
    pool.say(&["scale-out"]);
    pool.wait_for("balanced", 2);
    pool.hand_over();
    pool.say(&["release"]);
    let view = pool.wait_until("released", |view| view["vip"]["where"] == "elsewhere");
    let primary = plain(&view["members"][0]["server_id"]).to_owned();
    let port = openstack(&["floating", "ip", "show", &pool.address])["port_id"].clone();
    assert_eq!(openstack(&["port", "show", plain(&port)])["device_id"], primary.as_str());
    // The VM itself answers, to this host, which its security group lets in.
    let url = format!("http://{}/", pool.address);
    eventually(BOOT, "the primary answers", || {
        (crate::rig::in_rig(&["curl", "-s", "-m", "5", &url]).ok()? == "vm-test-clone\n").then_some(())
    });
}

#[test]
#[ignore = "needs the OpenStack of lab/openstack: ./x test-openstack"]
fn a_clone_from_a_snapshot_has_what_was_on_the_bases_disk() {
    let mut pool = Pool::provision(&[]);
    let mark = format!("http://{}/mark?v=kept", pool.address);
    crate::rig::in_rig(&["curl", "-sSf", "-m", "5", "-X", "POST", &mark]).unwrap();
    pool.say(&["snapshot"]);
    pool.run(&[&BY_COMMAND[..], &["--clone-source", "snapshot"]].concat());
    pool.say(&["scale-out"]);
    pool.wait_for("balanced", 2);
    pool.hand_over();
    let info = pool.ask("/info");
    assert!(info.contains("vm-test-clone") && info.contains("\"marker\":\"kept\""), "{info}");
    pool.agrees();
}
