//! Seeded simulation of the whole loop: the real core and recovery, a daemon that saves, acts and dies as the shell does, and a model
//! world of Nova, HAProxy with old workers, libvirt and clients, with everything that goes wrong.
//!
//! `LBSIDECAR_SIM_SEEDS=N` widens it, `LBSIDECAR_SIM_SEED=S` lives one seed again and tells its story. A life that breaks a law is
//! shrunk to the mishaps that it takes; `LBSIDECAR_SIM_TOLD=N` says how many of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "it is a test: that is how it fails and tells"
)]

mod balancer;
mod calls;
mod daemon;
mod fates;
mod laws;
mod life;
#[path = "../common/settings.rs"]
mod settings;
mod shrink;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZero,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use fates::What;
use lbsidecar::core::transition::StageName;
use life::{Life, live};
use nix::time::{ClockId, clock_gettime};

/// Lives of each kind in an ordinary test run.
const SEEDS: u64 = 1000;
/// Failing lives that are shrunk and told; the others are only counted.
const TOLD: usize = 3;
/// Failing lives after which no other one is begun: that something is broken is known then.
const ENOUGH: usize = 50;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// What all lives came to.
#[derive(Default)]
struct Sum {
    lives: u64,
    steps: u64,
    crashes: u64,
    cycles: u64,
    heals: u64,
    cpu: f64,
    struck: BTreeMap<What, u64>,
    stages: BTreeSet<StageName>,
    crashed_in: BTreeSet<StageName>,
    bad: BTreeMap<u64, Life>,
}

impl Sum {
    fn add(&mut self, seed: u64, life: Life) {
        self.lives += 1;
        self.steps += life.steps;
        self.crashes += u64::from(life.crashes);
        self.cycles += u64::from(life.cycles);
        self.heals += u64::from(life.heals);
        for mishap in &life.struck {
            *self.struck.entry(mishap.what).or_default() += 1;
        }
        self.stages.extend(&life.stages);
        self.crashed_in.extend(&life.crashed_in);
        if !life.broken.is_empty() {
            self.bad.insert(seed, life);
        }
    }
}

fn cpu_seconds() -> f64 {
    let spent = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux has it");
    spent.tv_sec() as f64 + spent.tv_nsec() as f64 / 1e9
}

/// All lives, on all cores.
fn all(seeds: u64, violent: bool) -> Sum {
    let (sum, next) = (Mutex::new(Sum::default()), AtomicU64::new(0));
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                let began = cpu_seconds();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    let life = live(seed, violent, None, false);
                    let mut sum = sum.lock().expect("no life panics");
                    sum.add(seed, life);
                    if sum.bad.len() >= ENOUGH {
                        next.store(seeds, Ordering::Relaxed);
                    }
                }
                sum.lock().expect("no life panics").cpu += cpu_seconds() - began;
            });
        }
    });
    sum.into_inner().expect("no life panics")
}

fn run(violent: bool) {
    if let Some(seed) = number("LBSIDECAR_SIM_SEED") {
        let life = live(seed, violent, None, true);
        println!("seed {seed}, {}:\n{}", if violent { "violent" } else { "peaceful" }, life.story.join("\n"));
        tell(seed, violent, &life);
        assert!(life.broken.is_empty(), "a law is broken");
        return;
    }
    let seeds = number("LBSIDECAR_SIM_SEEDS").unwrap_or(SEEDS);
    let sum = all(seeds, violent);
    let told = number("LBSIDECAR_SIM_TOLD").map_or(TOLD, |n| n as usize);
    for life in sum.bad.values().take(TOLD) {
        for broken in life.broken.iter().take(1) {
            println!("BROKEN {broken}");
        }
    }
    for (&seed, life) in sum.bad.iter().take(told) {
        tell(seed, violent, life);
    }
    println!(
        "{} lives, {} steps ({:.0} a second a core), {} crashes in {} stages, {} handovers, {} healed, {} bad: {:?}",
        sum.lives,
        sum.steps,
        sum.steps as f64 / sum.cpu,
        sum.crashes,
        sum.crashed_in.len(),
        sum.cycles,
        sum.heals,
        sum.bad.len(),
        sum.bad.keys().take(50).collect::<Vec<_>>(),
    );
    let struck: Vec<String> = sum.struck.iter().map(|(what, n)| format!("{n} × {what}")).collect();
    println!("{}", struck.join(", "));
    assert!(sum.bad.is_empty(), "laws are broken: live one again with LBSIDECAR_SIM_SEED=<seed>");
    if seeds >= SEEDS {
        let never: Vec<&What> = What::ALL.iter().filter(|what| !sum.struck.contains_key(what)).collect();
        let never: Vec<&What> = never.into_iter().filter(|what| violent || !what.is_violent()).collect();
        assert!(never.is_empty(), "the weather was too fine to prove anything: never seen: {never:?}");
        let missed: Vec<StageName> =
            StageName::ALL.into_iter().filter(|stage| !sum.crashed_in.contains(stage)).collect();
        // Without violence hardly anything is ever started again.
        let missed = missed.into_iter().filter(|stage| violent || *stage != StageName::Starting);
        let missed: Vec<StageName> = missed.collect();
        assert!(missed.is_empty(), "no crash in {missed:?}; reached: {:?}", sum.stages);
        assert!(sum.cycles > seeds / 2, "too few handovers to prove anything");
    }
}

/// Why a life is bad, and what it takes to make it so.
fn tell(seed: u64, violent: bool, life: &Life) {
    for broken in life.broken.iter().take(5) {
        println!("seed {seed} BROKEN {broken}");
    }
    if life.broken.is_empty() {
        return;
    }
    let short = shrink::shrink(seed, violent, life);
    println!("seed {seed}, of {} mishaps {} are needed:", life.struck.len(), short.struck.len());
    for line in &short.story {
        println!("    {line}");
    }
    for broken in short.broken.iter().take(1) {
        println!("    BROKEN {broken}");
    }
}

#[test]
fn no_request_is_lost_and_no_law_is_broken() {
    run(false);
}

#[test]
fn no_law_is_broken_when_vms_and_haproxy_die() {
    run(true);
}
