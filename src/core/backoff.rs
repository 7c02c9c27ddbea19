//! How long to wait before the next try: pure functions, jitter included.

use std::time::Duration;

/// Doubles `first` for each failure after the first and cuts at `max`.
#[must_use]
pub(super) fn doubling(first: Duration, max: Duration, failures: u32) -> Duration {
    let factor = 2_u32.saturating_pow(failures.saturating_sub(1).min(30));
    first.checked_mul(factor).unwrap_or(max).min(max)
}

/// The pause between tries of one effect within a stage: 1 s, 2 s, 4 s, … 30 s.
#[must_use]
pub(super) fn retry_pause(tries: u32) -> Duration {
    doubling(Duration::from_secs(1), Duration::from_secs(30), tries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_and_stays_below_the_cut() {
        let (first, max) = (Duration::from_secs(300), Duration::from_secs(1800));
        let secs: Vec<u64> = (0..6).map(|n| doubling(first, max, n).as_secs()).collect();
        assert_eq!(secs, [300, 300, 600, 1200, 1800, 1800]);
        assert_eq!(doubling(first, max, u32::MAX), max);
    }
}
