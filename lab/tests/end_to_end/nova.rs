//! Nova misbehaves while the daemon scales out and hands over: clients notice nothing, nothing is made twice or left over, and it is said.

use std::time::Duration;

use serde_json::Value;

use crate::{
    members::{newest, told},
    pool::{Pool, settled},
    support::Lab,
};

#[test]
fn nova_fails_in_many_ways_and_no_client_notices() {
    let Some(lab) = Lab::up() else { return };
    let variables = [
        ("LBSIDECAR_TRANSITION_BUILD_DEADLINE", "5s"),
        ("LBSIDECAR_TRANSITION_DELETE_DEADLINE", "3s"),
        ("LBSIDECAR_TRANSITION_BREAKER_AFTER", "3"),
    ];
    let pool = Pool::adopt(&lab, &variables);
    pool.without_loss("a stranger with the clone's name", || a_stranger(&pool));
    pool.without_loss("creations that fail", || failing_creations(&pool));
    pool.without_loss("a creation whose answer is lost", || lost_answer(&pool));
    pool.without_loss("deletions that fail", || failing_deletions(&pool));
}

/// He is neither taken nor deleted.
fn a_stranger(pool: &Pool) {
    let (stranger, _) = pool.lab.server("vm-test-clone");
    let made = pool.made();
    fails(
        pool,
        "no scale-out",
        &format!("a server named vm-test-clone exists already ({stranger}), and it is not ours"),
    );
    assert_eq!(pool.made(), made);
    let url = format!("8774/v2.1/servers/{stranger}");
    assert_eq!(pool.lab.cloud(reqwest::Method::GET, &url, None)["server"]["status"], "ACTIVE");
    pool.lab.cloud(reqwest::Method::DELETE, &url, None);
    assert_eq!(pool.only_member(), pool.base);
    pool.ask(&["resume"]).unwrap();
}

/// Each is cleared away and backed off from; the third in a row opens the breaker, which a person closes.
fn failing_creations(pool: &Pool) {
    let made = pool.made();
    let quota = "Quota exceeded for instances: Requested 1, but already used 10 of 10 instances";
    fault_of_creation(
        pool,
        &format!(
            r#"{{"kind": "answer", "status": 403, "body": {{"forbidden": {{"message": "{quota}", "code": 403}}}}}}"#
        ),
    );
    fails(pool, "scale-out failed", quota);
    assert_eq!(pool.made(), made, "nothing was made");
    let waits = &pool.status().unwrap()["cooldowns"];
    assert_eq!(waits["failed_creations"], 1, "{waits}");
    assert!(waits["last_failure"].to_string().contains(quota), "{waits}");

    fault_of_creation(pool, r#"{"kind": "build-error"}"#);
    fails(pool, "rolled back", "Nova could not build it: No valid host was found.");
    assert_eq!(pool.only_member(), pool.base);

    fault_of_creation(pool, r#"{"kind": "stuck-build"}"#);
    fails(pool, "rolled back", "not ACTIVE after 5 s");
    assert_eq!(pool.only_member_of("degraded"), pool.base);
    let status = pool.status().unwrap();
    let alarms = status["alarms"].to_string();
    assert!(alarms.contains("creation failed 3 times in a row"), "{alarms}");
    let said = pool.ask(&["scale-out"]).unwrap_err();
    assert!(said.contains("`lbsidecar resume`"), "{said}");
    assert_eq!(pool.made(), made + 2);
    pool.ask(&["resume"]).unwrap();
}

/// It was made: it is found by its mark, and there is one.
fn lost_answer(pool: &Pool) {
    for fault in [r#"{"kind": "lost-reply"}"#, r#"{"kind": "lost-reply", "status": 504}"#] {
        let asked = pool.asked();
        fault_of_creation(pool, fault);
        pool.order("scale-out");
        let status = pool.until_settled("balanced");
        assert_eq!(status["members"].as_array().unwrap().len(), 2);
        assert_eq!(pool.asked() - asked, 1, "asked for once");
        let servers = pool.lab.cloud(reqwest::Method::GET, "8774/v2.1/servers", None);
        assert_eq!(servers["servers"].as_array().unwrap().len(), 2, "{servers}");
        pool.api_back();
        hand_over(pool);
    }
}

fn hand_over(pool: &Pool) {
    for _ in 0..8 {
        pool.lab.get(&format!("http://{}/", crate::support::FIRST_FLOATING_IP)).unwrap();
    }
    pool.order("handover");
    pool.until_settled("single");
    pool.only_member();
}

/// Refused, or taken and not done: it is out of HAProxy, nothing new begins, it is said, and it goes on when Nova does it.
fn failing_deletions(pool: &Pool) {
    pool.scale_out();
    let clone = newest(pool);
    let conflict = r#"{"conflictingRequest": {"message": "Instance is locked", "code": 409}}"#;
    pool.fault(&format!(
        r#"{{"method": "DELETE", "path": "/servers/", "what": {{"kind": "answer", "status": 409, "body": {conflict}}}, "times": 3}}"#
    ));
    pool.order("handover");
    pool.until("it is said", |status| status["alarms"].to_string().contains("Instance is locked"));
    assert_eq!(pool.status().unwrap()["members"].as_array().unwrap().len(), 2, "it counts");
    pool.until_settled("single");
    assert_eq!(pool.only_member(), clone);

    pool.api_back();
    pool.scale_out();
    pool.fault(r#"{"method": "DELETE", "path": "/servers/", "what": {"kind": "stuck-delete"}, "times": 1}"#);
    pool.order("handover");
    let stuck = pool.until("it is said", |status| {
        status["alarms"].to_string().contains("Nova does not finish the deletion")
    });
    assert_eq!(stuck["transition"]["stage"], "vanishing");
    assert!(pool.ask(&["scale-out"]).unwrap_err().contains("handover is under way"));
    std::thread::sleep(Duration::from_secs(2));
    // An operator's second DELETE gets it done.
    pool.lab.cloud(reqwest::Method::DELETE, &format!("8774/v2.1/servers/{clone}"), None);
    pool.until_settled("single");
    pool.only_member();
}

fn fault_of_creation(pool: &Pool, what: &str) {
    pool.fault(&format!(r#"{{"method": "POST", "path": "/servers$", "what": {what}, "times": 1}}"#));
}

/// Orders a scale-out that comes to nothing, for this reason.
fn fails(pool: &Pool, what: &str, why: &str) {
    let count =
        |status: &Value| status["history"].to_string().matches(&format!("\"what\":\"{what}\"")).count();
    let before = count(&pool.status().unwrap());
    pool.order("scale-out");
    let status = pool.until(what, |status| status["transition"].is_null() && count(status) > before);
    assert!(told(&status, what) && status["history"].to_string().contains(why), "{why}: {status:#}");
    assert!(!settled(&status, "balanced"));
}
