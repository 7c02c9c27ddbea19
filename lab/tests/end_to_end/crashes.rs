//! The daemon dies by SIGKILL at every place of two whole cycles where it saves or acts, once at each, and is started again: no
//! request is lost, nothing is made twice, nothing is left over.

use std::{collections::BTreeSet, fs};

use crate::{
    pool::{Pool, settled},
    support::{Lab, eventually},
};

#[test]
fn a_daemon_killed_at_every_save_and_effect_loses_and_doubles_nothing() {
    let Some(lab) = Lab::up() else { return };
    let file = lab.directory().join("crashes");
    // Also while the base is taken over, where kept connections may lose a request: the load comes after that.
    let pool = Pool::adopt(&lab, &[("TEST_LBSIDECAR_CRASHES", file.to_str().unwrap())]);
    pool.without_loss("two cycles", || {
        for _ in 0..2 {
            // An order whose creation surely did not go out ends with the life that it was given in.
            while !pool.status().is_some_and(|status| settled(&status, "balanced")) {
                let _ = pool.ask(&["scale-out"]);
            }
            eventually(crate::pool::LONG, "the clone alone", || {
                let _ = pool.ask(&["handover"]);
                pool.status().filter(|status| settled(status, "single"))
            });
        }
    });

    let told = fs::read_to_string(&file).unwrap();
    let died: BTreeSet<&str> = told.lines().collect();
    eprintln!("{told}{} deaths", died.len());
    for (when, effects) in [
        (
            "before",
            &["admit", "create", "address", "apply", "probe", "stop", "delete", "take-vip", "find-intent"][..],
        ),
        ("during", &["create", "apply", "delete"]),
        (
            "after",
            &["admit", "create", "address", "apply", "probe", "stop", "delete", "take-vip", "find-intent"],
        ),
    ] {
        for effect in effects {
            let place = format!("{when} {effect}: ");
            assert!(died.iter().any(|line| line.starts_with(&place)), "it never died {place}");
        }
    }
    for (transition, stages) in [
        (
            "scale-out",
            &["Admitting", "Creating", "Building", "Addressing", "Listing", "Proving", "Ramping"][..],
        ),
        (
            "handover",
            &["Draining", "Emptying", "Unlisting", "Recounting", "Stopping", "Deleting", "Vanishing"],
        ),
    ] {
        for stage in stages {
            for when in ["before", "after"] {
                let place = format!("{when} save: {transition} {stage}");
                assert!(died.iter().any(|line| line.starts_with(&place)), "it never died {place}");
            }
        }
    }
    let made = pool.made();
    let history = pool.status().unwrap()["history"].to_string();
    let undone = history.matches("\"rolled back\"").count();
    assert_eq!(made, 1 + 2 + undone, "the base, a clone a cycle, and those that were rolled back: {history}");
    assert_ne!(pool.only_member(), pool.base);
}
