//! Services that come and go, and tokens that end, while the pool changes.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::rig::{BY_COMMAND, Pool, log, openstack, service};

#[test]
#[ignore = "needs the OpenStack of lab/openstack: ./x test-openstack"]
fn nova_api_restarted_in_mid_transition_is_waited_for() {
    let mut pool = Pool::provision(&[]);
    pool.run(&BY_COMMAND);
    pool.say(&["scale-out"]);
    pool.wait_until("building", |view| view["transition"]["stage"] == "building");
    service("stop", "nova-api", &[]);
    assert_eq!(pool.ask("/"), "vm-test\n");
    service("start", "nova-api", &[]);
    pool.wait_for("balanced", 2);
    pool.agrees();
}

#[test]
#[ignore = "needs the OpenStack of lab/openstack: ./x test-openstack"]
fn without_nova_compute_the_clone_is_given_up_and_removed() {
    let mut pool = Pool::provision(&[]);
    pool.run(&BY_COMMAND);
    service("stop", "nova-compute", &[]);
    pool.say(&["scale-out"]);
    pool.wait_until("given up", |view| {
        view["transition"].is_null()
            && view["members"].as_array().is_some_and(|all| all.len() == 1)
            && log().contains("vm-test-clone")
    });
    assert_eq!(pool.ask("/"), "vm-test\n");
    service("start", "nova-compute", &[]);
    crate::rig::eventually(crate::rig::BOOT, "one server", || {
        (openstack(&["server", "list"]).as_array().unwrap().len() == 1).then_some(())
    });
}

/// While it is there, tokens live for a minute.
struct ShortTokens;

impl ShortTokens {
    fn begin() -> Self {
        service("stop", "keystone", &[]);
        service("start", "keystone", &["TOKEN_LIFETIME=60"]);
        Self
    }
}

impl Drop for ShortTokens {
    fn drop(&mut self) {
        service("stop", "keystone", &[]);
        service("start", "keystone", &[]);
    }
}

#[test]
#[ignore = "needs the OpenStack of lab/openstack: ./x test-openstack"]
fn tokens_of_a_minute_are_renewed_under_way() {
    let mut pool = Pool::provision(&[]);
    let short = ShortTokens::begin();
    pool.run(&BY_COMMAND);
    let begin = Instant::now();
    pool.say(&["scale-out"]);
    pool.wait_for("balanced", 2);
    while begin.elapsed() < Duration::from_secs(130) {
        thread::sleep(Duration::from_secs(1));
    }
    pool.hand_over();
    pool.agrees();
    drop(short);
    let log = log();
    assert!(log.matches("got a token").count() >= 3, "{log}");
    assert!(!log.contains("answered 401"), "{log}");
}
