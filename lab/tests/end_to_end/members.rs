//! What is done to members from outside, and what is seen of them then.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;

use crate::{
    pool::{LONG, Pool, settled},
    support::{FIRST_FLOATING_IP, eventually},
};

/// Its QEMU is killed: nothing of it says goodbye.
pub(crate) fn die(pool: &Pool, server: &str) {
    pool.lab.exec(&["virsh", "-c", "qemu:///system", "destroy", server]).unwrap();
}

/// The id of the member of the highest generation.
pub(crate) fn newest(pool: &Pool) -> String {
    let status = pool.status().unwrap();
    let newest =
        status["members"].as_array().unwrap().iter().max_by_key(|member| member["generation"].as_u64());
    newest.unwrap()["server_id"].as_str().unwrap().to_owned()
}

/// Whether this happened.
pub(crate) fn told(status: &Value, what: &str) -> bool {
    status["history"].as_array().unwrap().iter().any(|entry| entry["what"] == what)
}

/// Whether nobody is sent to the members that are dead, or they are gone already.
pub(crate) fn noticed(status: &Value, dead: impl Fn(&str) -> bool) -> bool {
    status["members"].as_array().is_some_and(|members| {
        members
            .iter()
            .filter(|member| member["server_id"].as_str().is_some_and(&dead))
            .all(|member| member["up"] == false || member["weight"] == 0)
    })
}

/// What is dead goes: by the daemon's own doing, or because the operator deletes it at Nova.
pub(crate) fn clear_away(pool: &Pool) {
    eventually(LONG, "the dead member is gone", || {
        let status = pool.status()?;
        if settled(&status, "single") {
            return Some(());
        }
        for dead in status["members"].as_array()?.iter().filter(|member| member["up"] == false) {
            if status["transition"].is_null() {
                // It may be gone meanwhile.
                pool.lab.call(
                    Method::DELETE,
                    &format!("8774/v2.1/servers/{}", dead["server_id"].as_str()?),
                    None,
                );
            }
        }
        None
    });
}

/// Requests that take long, so that a member that drains is not empty at once.
pub(crate) fn slow_requests(pool: &Pool) {
    let url = format!("http://{FIRST_FLOATING_IP}/slow?ms=12000");
    let wget = format!("ip netns exec client timeout 20 busybox wget -q -O /dev/null '{url}'");
    let script = format!("for n in 1 2 3 4 5 6; do {wget} >/dev/null 2>&1 & done; sleep 0.5");
    pool.lab.exec(&["sh", "-c", &script]).unwrap();
}

/// Orders a handover and leads it to where the base drains, with slow requests in hand. Until the drain begins they may come to their
/// end, so others follow.
pub(crate) fn drain_slowly(pool: &Pool) {
    let mut asked = None::<Instant>;
    eventually(LONG, "emptying", || {
        let status = pool.status()?;
        let stage = &status["transition"]["stage"];
        if !stage.is_null() && stage != "settling" {
            return (stage == "emptying").then_some(());
        }
        if asked.is_none_or(|at| at.elapsed() > Duration::from_secs(4)) {
            slow_requests(pool);
            asked = Some(Instant::now());
        }
        // Refused as long as it is too early.
        let _ = stage.is_null().then(|| pool.ask(&["handover"]));
        None
    });
}
