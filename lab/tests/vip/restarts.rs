//! What a daemon that starts again must still know, or find out anew, of a pool that serves.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    pool::{LONG, Pool},
    support::eventually,
};

/// Ends the daemon, loses its state, and starts it again.
fn restart_without_state(pool: &mut Pool) {
    pool.kill();
    let state = pool.lab.directory().join("state/default");
    pool.lab.exec(&["sh", "-c", &format!("rm {}/state.json*", state.display())]).expect("a state");
    pool.run();
}

/// The pool's servers by name, whatever they are.
fn servers(pool: &Pool) -> Vec<Value> {
    let all = pool.lab.cloud(Method::GET, "8774/v2.1/servers/detail", None);
    let mut all: Vec<Value> = all["servers"].as_array().expect("a list").clone();
    all.sort_by_key(|server| server["name"].to_string());
    all.into_iter().map(|server| json!([server["id"], server["name"], server["status"]])).collect()
}

/// That one member serves, and which.
fn serves_alone(pool: &mut Pool, id: &Value) {
    let status = pool.settle("single", "ours");
    let members: Vec<&Value> =
        status["members"].as_array().expect("a list").iter().map(|member| &member["server_id"]).collect();
    assert_eq!(members, [id], "{status:#}");
    assert_eq!(status["alarms"], json!([]), "{status:#}");
    assert_eq!(pool.lab.get_soon(&format!("http://{}/", pool.address), LONG), "vm-test-clone\n");
}

#[test]
fn a_pool_whose_state_is_lost_is_found_again_by_its_marks_also_without_its_base() {
    let Some(mut pool) = Pool::boot("") else { return };
    pool.run();
    pool.settle("single", "ours");
    pool.operate("scale-out");
    let status = pool.settle("balanced", "ours");
    let clone = status["members"][1]["server_id"].clone();

    // The base is off: it is left alone, and the clone serves on.
    let base = format!("8774/v2.1/servers/{}", pool.base);
    pool.lab.cloud(Method::POST, &format!("{base}/action"), Some(&json!({"os-stop": null})));
    pool.wait("the base is off", |status| {
        let base = &status["members"][0];
        base["nova"] == "shutoff" && base["up"] == false
    });
    restart_without_state(&mut pool);
    serves_alone(&mut pool, &clone);
    assert_eq!(
        servers(&pool),
        [json!([pool.base, "vm-test", "SHUTOFF"]), json!([clone, "vm-test-clone", "ACTIVE"])]
    );

    // The base is gone, as after a handover.
    pool.lab.cloud(Method::DELETE, &base, None);
    let only = [json!([clone, "vm-test-clone", "ACTIVE"])];
    eventually(LONG, "the base is gone", || (servers(&pool) == only).then_some(()));
    restart_without_state(&mut pool);
    serves_alone(&mut pool, &clone);
    // As long as what is left over would be left alone, and some.
    std::thread::sleep(Duration::from_secs(40));
    serves_alone(&mut pool, &clone);
    assert_eq!(servers(&pool), only);
    assert_eq!(pool.count("floatingips"), 1);
}
