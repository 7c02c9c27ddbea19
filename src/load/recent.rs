//! The last few seconds, second by second: live rate and shares. Pure: the time is handed in.

use std::{collections::VecDeque, time::Duration};

/// Ended requests of the last [`Recent::SECONDS`] whole seconds and of the running one.
#[derive(Debug, Default)]
pub(super) struct Recent {
    buckets: VecDeque<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    second: u64,
    ended: u64,
    /// By member index.
    members: Vec<u64>,
}

impl Recent {
    /// How many whole seconds count.
    pub(super) const SECONDS: u64 = 5;

    /// Counts one ended request; `member` is the index of the member that answered well.
    pub(super) fn record(&mut self, at: Duration, member: Option<usize>) {
        let second = at.as_secs();
        if self.buckets.back().is_none_or(|b| b.second < second) {
            self.buckets.retain(|b| b.second + Self::SECONDS >= second);
            self.buckets.push_back(Bucket { second, ended: 0, members: Vec::new() });
        }
        if let Some(bucket) = self.buckets.back_mut() {
            bucket.ended += 1;
            if let Some(member) = member {
                add(&mut bucket.members, member);
            }
        }
    }

    /// Ended requests a second.
    pub(super) fn rate(&self, now: Duration) -> f64 {
        let ended: u64 = self.live(now).map(|b| b.ended).sum();
        // Whole seconds that have passed, up to the window, and the part of the running one.
        let seconds = now.as_secs().min(Self::SECONDS) as f64 + f64::from(now.subsec_nanos()) / 1e9;
        if seconds > 0.0 { ended as f64 / seconds } else { 0.0 }
    }

    /// Each member's good answers, by member index.
    pub(super) fn members(&self, now: Duration) -> Vec<u64> {
        let mut sum = Vec::new();
        for bucket in self.live(now) {
            for (member, n) in bucket.members.iter().enumerate() {
                add_n(&mut sum, member, *n);
            }
        }
        sum
    }

    fn live(&self, now: Duration) -> impl Iterator<Item = &Bucket> {
        self.buckets.iter().filter(move |b| b.second + Self::SECONDS >= now.as_secs())
    }
}

/// Adds one to the counter with this index, which may be new.
pub(super) fn add(counters: &mut Vec<u64>, index: usize) {
    add_n(counters, index, 1);
}

fn add_n(counters: &mut Vec<u64>, index: usize, n: u64) {
    if counters.len() <= index {
        counters.resize(index + 1, 0);
    }
    if let Some(counter) = counters.get_mut(index) {
        *counter += n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_seconds_fall_out() {
        let mut recent = Recent::default();
        for ms in (0..20_000).step_by(10) {
            recent.record(Duration::from_millis(ms), Some(usize::from(ms >= 15_000)));
        }
        let now = Duration::from_millis(20_000);
        assert!((recent.rate(now) - 100.0).abs() < 1.0, "{}", recent.rate(now));
        assert_eq!(recent.members(now), [0, 500]);
        assert!(recent.rate(Duration::from_secs(60)) == 0.0);
        assert!(recent.buckets.len() <= 6);
    }

    #[test]
    fn the_first_second_is_not_diluted() {
        let mut recent = Recent::default();
        for ms in (0..500).step_by(10) {
            recent.record(Duration::from_millis(ms), None);
        }
        assert!((recent.rate(Duration::from_millis(500)) - 100.0).abs() < 1.0);
    }
}
