//! Members die without a word: the clone while it boots, while it gets its first share, while it serves and while the base drains; the
//! base while the clone comes up, while both serve and while it drains. Who is left serves on; what is of no use is cleared away.
//!
//! Requests that a VM has when it dies are lost with any load balancer. So the load is counted where that is not so: while a
//! newcomer without traffic dies, and after the dead member was noticed.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::{
    members::{clear_away, die, drain_slowly, newest, noticed, told},
    pool::{LONG, Pool, settled},
    support::{FIRST_FLOATING_IP, Lab, eventually},
};

#[test]
fn whichever_member_dies_in_whichever_stage_the_other_one_serves_on() {
    let Some(lab) = Lab::up() else { return };
    let pool = Pool::adopt(&lab, &[]);

    // While it boots.
    pool.without_loss("a clone dies while it boots", || {
        pool.order("scale-out");
        pool.until_stage("proving");
        die(&pool, &newest(&pool));
        pool.until("it is given up", |status| settled(status, "single") && told(status, "rolled back"));
    });
    assert_eq!(pool.only_member(), pool.base);

    // With its first share.
    pool.order("scale-out");
    pool.until_stage("ramping");
    die(&pool, &newest(&pool));
    let base = pool.base.as_str();
    pool.until("nobody is sent to it", |status| noticed(status, |id| id != base));
    pool.without_loss("a clone died while it ramped", || clear_away(&pool));
    assert_eq!(pool.only_member(), pool.base);

    // While it serves. The journal has the moment, by libvirt's word.
    pool.scale_out();
    let clone = newest(&pool);
    die(&pool, &clone);
    let moment = format!("libvirt tells of a VM server={clone} what=Stopped");
    eventually(LONG, "libvirt's word in the journal", || pool.log().contains(&moment).then_some(()));
    pool.until("nobody is sent to it", |status| noticed(status, |id| id != base));
    pool.without_loss("a clone died while it served", || {
        assert!(pool.ask(&["handover"]).is_err(), "the last one that serves is not handed over");
        clear_away(&pool);
    });
    assert_eq!(pool.only_member(), pool.base);

    // While the base drains: it is called off, and the base has never been without its sessions.
    pool.scale_out();
    drain_slowly(&pool);
    die(&pool, &newest(&pool));
    pool.until("the base serves again", |status| {
        told(status, "called off") && noticed(status, |id| id != base)
    });
    pool.without_loss("a clone died while the base drained", || clear_away(&pool));
    assert_eq!(pool.only_member(), pool.base);

    // The base, while it drains: nothing keeps it any more.
    pool.scale_out();
    let clone = newest(&pool);
    drain_slowly(&pool);
    die(&pool, base);
    pool.without_loss("the base died while it drained", || pool.until_settled("single"));
    assert_eq!(pool.only_member(), clone);

    // The base, while both serve: the operator's handover, or the daemon itself, clears it away.
    pool.scale_out();
    die(&pool, &clone);
    pool.until("nobody is sent to it", |status| noticed(status, |id| id == clone));
    pool.without_loss("a base died while both served", || {
        eventually(LONG, "the newer one alone", || {
            let _ = pool.ask(&["handover"]);
            pool.status().filter(|status| settled(status, "single"))
        });
    });
    let survivor = pool.only_member();
    assert_ne!(survivor, clone);

    // The base, while the clone comes up: the clone takes all as soon as it is proven.
    pool.order("scale-out");
    pool.until_stage("proving");
    let clone = newest(&pool);
    die(&pool, &survivor);
    pool.until("the clone serves", |status| {
        status["members"].as_array().unwrap().iter().any(|member| {
            member["server_id"] == clone.as_str() && member["state"] == "serving" && member["up"] == true
        })
    });
    pool.without_loss("a base died while its clone came up", || {
        eventually(LONG, "the clone alone", || {
            let _ = pool.ask(&["handover"]);
            pool.status().filter(|status| settled(status, "single"))
        });
    });
    assert_eq!(pool.only_member(), clone);

    // The last one. It is neither drained nor deleted; it says so, and serves when somebody starts the VM again.
    die(&pool, &clone);
    pool.until("it is said", |status| status["alarms"].to_string().contains("no member is healthy"));
    let said = lab.get(&format!("http://{FIRST_FLOATING_IP}/")).unwrap_err();
    assert!(said.contains("503"), "{said}");
    eventually(LONG, "it is started", || {
        let url = format!("8774/v2.1/servers/{clone}");
        let server = lab.cloud(Method::GET, &url, None);
        (server["server"]["status"] == "SHUTOFF").then(|| {
            lab.cloud(Method::POST, &format!("{url}/action"), Some(&json!({"os-start": null})));
        })
    });
    pool.until_settled("single");
    pool.without_loss("the only member is back", || std::thread::sleep(Duration::from_secs(2)));
    assert_eq!(pool.only_member(), clone);
}
