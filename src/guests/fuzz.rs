//! Statistics as libvirt might give them: counters come out as they went in, or not at all.

use super::counters::{Taken, parse};
use crate::{core::ids::ServerId, mutate};

#[test]
fn no_statistics_break_the_counters() {
    let seeds = mutate::seeds("guests", "txt");
    mutate::cases("domain statistics", |rng| {
        let text = mutate::wrong(rng, &seeds);
        let params: Vec<(&str, u64)> = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name, value.parse().unwrap_or_else(|_| rng.u64(..))))
            .collect();
        let taken = Taken {
            server: ServerId(uuid::Uuid::nil()),
            instance: None,
            at_ns: rng.u64(..),
            wall_s: rng.u64(..),
        };
        let counters = parse(taken, params.iter().copied());
        assert!(counters.vcpus.len() <= params.len());
    });
}
