//! Whole cycles under load, one after the other, with a small fault thrown in here and there: nothing is lost, nothing is left over,
//! and the daemon is no bigger at the end. `./x soak --cycles N` runs it.

use std::time::Instant;

use crate::{
    pool::{LONG, Load, Pool, settled},
    support::{Lab, eventually},
};

/// Faults of the cloud, each for a few requests.
const RULES: [&str; 8] = [
    r#"{"path": ".", "what": {"kind": "close"}, "times": 5}"#,
    r#"{"path": ".", "what": {"kind": "delay", "ms": 700}, "times": 10}"#,
    r#"{"path": ".", "what": {"kind": "truncate"}, "times": 5}"#,
    r#"{"path": ".", "what": {"kind": "answer", "status": 503}, "times": 6}"#,
    r#"{"path": ".", "what": {"kind": "answer", "status": 401}, "times": 2}"#,
    r#"{"method": "POST", "path": "/servers$", "what": {"kind": "lost-reply"}, "times": 1}"#,
    r#"{"method": "DELETE", "path": "/servers/", "what": {"kind": "lost-reply", "status": 502}, "times": 1}"#,
    r#"{"method": "GET", "path": "/servers/detail", "what": {"kind": "list-lag", "seconds": 5}, "times": 20}"#,
];

#[test]
#[ignore = "it takes as long as it is told to: ./x soak"]
fn many_cycles_lose_nothing_and_nothing_grows() {
    let cycles: u64 =
        std::env::var("LBSIDECAR_SOAK_CYCLES").map_or(2, |text| text.parse().expect("a number"));
    let seed = std::env::var("LBSIDECAR_SOAK_SEED").map_or(1, |text| text.parse().expect("a number"));
    let Some(lab) = Lab::up() else { return };
    let pool = Pool::adopt(&lab, &[]);
    // The first cycle brings everything in that stays: code, connections, caches.
    pool.scale_out();
    hand_over(&pool);
    let before = size(&pool);
    let (began, made) = (Instant::now(), pool.made());
    let load = Load::begin(&lab);
    let mut dice = seed;
    for cycle in 1..=cycles {
        let mut faults = Vec::new();
        for order in ["scale-out", "handover"] {
            faults.push(fault(&pool, &mut dice));
            let phase = if order == "scale-out" { "balanced" } else { "single" };
            eventually(2 * LONG, phase, || {
                // One that a fault brought to nothing is asked for again.
                let _ = pool.ask(&[order]);
                pool.status().filter(|status| settled(status, phase))
            });
        }
        pool.api_back();
        pool.only_member();
        let (rss, files) = size(&pool);
        eprintln!(
            "cycle {cycle} of {cycles} after {:.0} s: {faults:?}; daemon {rss} KiB, {files} open files",
            began.elapsed().as_secs_f64()
        );
    }
    let report = load.end();
    let after = size(&pool);
    eprintln!(
        "{cycles} cycles (seed {seed}): {} requests, {} failed; daemon before and after: {} and {} KiB, {} and {} open files; \
         {} clones made; nothing left over",
        report["sent"],
        report["total"]["failed"],
        before.0,
        after.0,
        before.1,
        after.1,
        pool.made() - made
    );
    assert_eq!(report["verdict"], "nothing-lost", "{report:#}");
    assert!(after.1 <= before.1 + 8, "open files: {before:?} and {after:?}");
    assert!(after.0 <= before.0 + 8 * 1024, "resident KiB: {before:?} and {after:?}");
}

fn hand_over(pool: &Pool) {
    eventually(LONG, "single", || {
        let _ = pool.ask(&["handover"]);
        pool.status().filter(|status| settled(status, "single"))
    });
}

/// One of the small faults, by a simple generator, so that a seed plays the same ones again.
fn fault(pool: &Pool, dice: &mut u64) -> &'static str {
    *dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    match usize::try_from(*dice >> 33).expect("it fits") % (RULES.len() + 3) {
        0 => "none",
        1 => {
            pool.lab.exec(&["pkill", "-KILL", "-x", "libvirtd"]).expect("it runs");
            "libvirtd killed"
        }
        2 => {
            // Somebody else reloads HAProxy.
            let reload = "kill -USR2 $(cat /run/lbsidecar/default/haproxy.pid)";
            pool.lab.exec(&["sh", "-c", reload]).expect("it runs");
            "HAProxy reloaded"
        }
        n => {
            pool.fault(RULES[n - 3]);
            RULES[n - 3]
        }
    }
}

/// The daemon's resident memory, KiB, and its open files.
fn size(pool: &Pool) -> (u64, usize) {
    let pid = pool.status().expect("a status")["daemon"]["pid"].to_string();
    let status = pool.lab.exec(&["cat", &format!("/proc/{pid}/status")]).expect("the daemon runs");
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    let files = pool.lab.exec(&["ls", &format!("/proc/{pid}/fd")]).expect("the daemon runs").lines().count();
    (rss.trim().trim_end_matches(" kB").parse().expect("KiB"), files)
}
