//! At every stage of a scale-out and of a handover something goes away, and comes back. The stages are met one by one: a look from
//! inside the lab takes milliseconds, and who is missed in one life of the pool is met in the next.
//!
//! What takes long is run by `./x stages`.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::{
    members::{slow_requests, told},
    pool::{LONG, Pool, settled},
    support::{FIRST_FLOATING_IP, Lab, eventually},
};

/// Those of a scale-out that goes well.
const IN: [&str; 7] = ["admitting", "creating", "building", "addressing", "listing", "proving", "ramping"];
/// Those of a handover that goes well; `releasing` takes no time where members have no floating IPs of their own.
const OUT: [&str; 8] =
    ["settling", "draining", "emptying", "unlisting", "recounting", "stopping", "deleting", "vanishing"];
/// Lives of the pool in which all stages must have been met.
const LIVES: usize = 20;

/// The ways in which an API is away: nobody listens, packets are lost, it takes requests and does not answer.
const WAYS: [(&str, &str); 3] = [
    (
        "refused",
        r#"nft "$table; add rule inet away in tcp dport { 5000, 8774, 9696, 9292 } reject with tcp reset""#,
    ),
    ("lost", r#"nft "$table; add rule inet away in tcp dport { 5000, 8774, 9696, 9292 } drop""#),
    (
        "not answered",
        r#"exec 3<>/dev/tcp/127.0.0.1/8799; printf 'DELETE /faults HTTP/1.0\r\n\r\n' >&3; cat <&3
        busybox wget -q -O - --header='Content-Type: application/json' --post-data='{"path": ".", "what": {"kind": "hang"}}' http://127.0.0.1:8799/faults"#,
    ),
];
/// What they have in common.
const TABLE: &str =
    "table='add table inet away; add chain inet away in { type filter hook input priority 0; }'";
/// Every call takes a moment, so that no stage with a call is over before it is seen.
const SLOW: &str = r#"{"path": ".", "what": {"kind": "delay", "ms": 300}}"#;

/// The API is away for this long, once at each stage. No VM is given up for that, and none is made twice; a creation that surely went
/// nowhere is asked for again.
fn api_away(pool: &Pool, away: Duration) {
    let mut way = WAYS.iter().cycle();
    pool.fault(SLOW);
    let made = pool.made();
    let lives = at_each_stage(pool, |met, order, stages| {
        let (name, script) = way.next().expect("a cycle has no end");
        let stage = pool.at_stage(order, stages, &format!("{TABLE}; {script}"))?;
        std::thread::sleep(away);
        if *name == "not answered" {
            pool.api_back();
            pool.fault(SLOW);
        } else {
            pool.lab.exec(&["nft", "delete", "table", "inet", "away"]).unwrap();
        }
        met.push(format!("{order} {stage}: {name}"));
        Some(stage)
    });
    pool.api_back();
    let status = pool.until_settled("single");
    assert!(!told(&status, "rolled back"), "{status:#}");
    assert_eq!(pool.made(), made + lives, "one clone for each scale-out: {status:#}");
}

#[test]
#[ignore = "a minute at each stage: ./x stages"]
fn the_api_is_away_for_a_minute_at_each_stage() {
    let Some(lab) = Lab::up() else { return };
    let pool = Pool::adopt(&lab, &[("LBSIDECAR_TRANSITION_HEALTHY_DEADLINE", "3m")]);
    pool.without_loss("the API away for a minute at each stage", || api_away(&pool, Duration::from_secs(60)));
    pool.only_member();
}

#[test]
#[ignore = "long: ./x stages"]
fn libvirtd_is_killed_at_each_stage() {
    let Some(lab) = Lab::up() else { return };
    let pool = Pool::adopt(&lab, &[]);
    pool.without_loss("libvirtd killed at each stage", || {
        struck_at_each_stage(&pool, |_| "pkill -KILL -x libvirtd".to_owned());
    });
    pool.only_member();
}

/// Requests that HAProxy has in that moment are lost, and those that come before it is there again.
#[test]
#[ignore = "long: ./x stages"]
fn haproxy_is_killed_at_each_stage() {
    let Some(lab) = Lab::up() else { return };
    let pool = Pool::adopt(&lab, &[]);
    let ((), report) = pool.under_load("HAProxy killed at each stage", || {
        let mut victims = ["worker", "master"].iter().cycle();
        struck_at_each_stage(&pool, |_| kill_haproxy(victims.next().expect("a cycle has no end")));
    });
    // Twice a reload's patience, when it dies in the midst of one; and it is started again.
    assert!(report["total"]["longest_gap_ms"].as_f64().unwrap() < 20_000.0, "{report:#}");
    pool.without_loss("HAProxy is back", || std::thread::sleep(Duration::from_secs(3)));
    pool.only_member();
}

#[test]
#[ignore = "long: ./x stages"]
fn the_clone_dies_at_each_stage() {
    // Before Nova was asked for it there is none.
    dies_at_each_stage("the clone", &IN[2..]);
}

#[test]
#[ignore = "long: ./x stages"]
fn the_base_dies_at_each_stage() {
    dies_at_each_stage("the base", &IN);
}

fn dies_at_each_stage(whom: &str, of_a_scale_out: &[&str]) {
    let Some(lab) = Lab::up() else { return };
    let pool = Pool::adopt(&lab, &[]);
    pool.fault(SLOW);
    let mut lives: Vec<(&str, &str)> = of_a_scale_out.iter().map(|stage| ("scale-out", *stage)).collect();
    lives.extend(OUT.map(|stage| ("handover", stage)));
    for (order, stage) in &lives {
        // A stage that is missed is met in another life.
        let what = format!("{whom} dies while a {order} is {stage}");
        let missed = || !pool.under_load(&what, || life_and_death(&pool, whom, order, stage)).0;
        assert!((0..4).any(|_| !missed()), "not met: {what}");
        pool.without_loss("it is over", || std::thread::sleep(Duration::from_secs(1)));
    }
    eprintln!("{whom} died {} times", lives.len());
}

/// From one member to one member again, with a death in between; whether it was met at that stage.
fn life_and_death(pool: &Pool, whom: &str, order: &str, stage: &str) -> bool {
    let base = pool.only_member();
    let made = pool.made();
    if order == "handover" {
        pool.scale_out();
    }
    if stage == "settling" {
        old_worker(pool);
    }
    pool.order(order);
    let running = "virsh -c qemu:///system list --uuid";
    // A clone that is built may not run yet; a base that is stopped may not run any more.
    let ids = match whom {
        "the base" => format!("ids=$({running} | grep {base})"),
        _ => format!(
            "until ids=$({running} | grep -v {base} | grep .); do [ $SECONDS -le $end ] || exit 1; done"
        ),
    };
    let kill = format!(
        "{ids}; for id in $ids; do virsh -c qemu:///system destroy $id; done;
         busybox wget -q -O - --header='Content-Type: application/json' --post-data='{{\"advance_seconds\": 25}}' http://127.0.0.1:8799/clock"
    );
    let met = pool.at_stage(order, &[stage], &kill).is_some();
    eventually(2 * LONG, "one member serves", || brought_back(pool));
    let only = pool.only_member();
    assert!(pool.made() <= made + 1, "one clone at most");
    pool.lab.get_soon(&format!("http://{FIRST_FLOATING_IP}/"), LONG);
    eprintln!("{}", if only == base { "the base serves" } else { "the clone serves" });
    met
}

/// What an operator does where nothing happens by itself: who is off and was the last one is started; a base that is off is handed over.
fn brought_back(pool: &Pool) -> Option<()> {
    let status = pool.status()?;
    // HAProxy may not have noticed yet that the one that is left is dead.
    let serves = || pool.lab.get(&format!("http://{FIRST_FLOATING_IP}/")).is_ok();
    if settled(&status, "single") && serves() {
        return Some(());
    }
    if !status["transition"].is_null() {
        return None;
    }
    let members = status["members"].as_array()?;
    if members.len() > 1 && members.iter().any(|member| member["up"] == true) {
        let _ = pool.ask(&["handover"]);
        return None;
    }
    for member in members {
        let url = format!("8774/v2.1/servers/{}/action", member["server_id"].as_str()?);
        // Refused until Nova knows that it is off.
        pool.lab.call(Method::POST, &url, Some(&json!({"os-start": null})));
    }
    None
}

/// The script that kills HAProxy's worker or master.
pub(crate) fn kill_haproxy(victim: &str) -> String {
    let master = "$(cat /run/lbsidecar/default/haproxy.pid)";
    match victim {
        // The newest of the master's children.
        "worker" => format!("kill -9 $(pgrep -n -P {master})"),
        _ => format!("kill -9 {master}"),
    }
}

/// Without an old worker of HAProxy nothing has to settle.
fn old_worker(pool: &Pool) {
    slow_requests(pool);
    pool.lab.exec(&["sh", "-c", "kill -USR2 $(cat /run/lbsidecar/default/haproxy.pid)"]).unwrap();
    pool.until("an old worker", |status| status["haproxy"]["old_workers"] != json!([]));
}

/// A script is run once at each stage; the service answers after each, and the transition ends as it should.
fn struck_at_each_stage(pool: &Pool, mut script: impl FnMut(&str) -> String) {
    pool.fault(SLOW);
    at_each_stage(pool, |met, order, stages| {
        let stage = pool.at_stage(order, stages, &script(order))?;
        pool.lab.get_soon(&format!("http://{FIRST_FLOATING_IP}/"), LONG);
        met.push(format!("{order} {stage}"));
        Some(stage)
    });
}

/// Leads the pool through whole cycles until `act` was done at each stage. `act` gets the order and the stages that are left, and gives
/// the one that it met. Gives the number of cycles.
fn at_each_stage(
    pool: &Pool,
    mut act: impl FnMut(&mut Vec<String>, &str, &[&str]) -> Option<String>,
) -> usize {
    let mut left = [("scale-out", "balanced", IN.to_vec()), ("handover", "single", OUT.to_vec())];
    let mut met = Vec::new();
    for life in 1..=LIVES {
        for (order, phase, stages) in &mut left {
            // What was refused or called off, since something was away, is ordered again.
            for tries in 0.. {
                assert!(tries < 100, "{phase}: not after {tries} tries; met: {met:?}");
                if stages.first() == Some(&"settling") {
                    old_worker(pool);
                }
                if pool.ask(&[*order]).is_err_and(|why| why.contains("next try in")) {
                    pool.ask(&["resume"]).unwrap();
                }
                while !stages.is_empty()
                    && let Some(stage) = act(&mut met, order, stages)
                {
                    stages.retain(|left| *left != stage);
                }
                let settles = || pool.status().filter(|status| status["transition"].is_null());
                if settled(&eventually(LONG, "the transition's end", settles), phase) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(500));
            }
        }
        if left.iter().all(|(_, _, stages)| stages.is_empty()) {
            eprintln!("in {life} cycles: {}", met.join(", "));
            return life;
        }
    }
    panic!("not met in {LIVES} cycles: {left:?}; met: {met:?}");
}
