//! Whether and when a call is made again. Pure: the dice and the clock are the caller's.

use std::time::Duration;

/// How often a call is made at most. What lasts longer is the core's to retry, with its own back-off.
pub(super) const ATTEMPTS: u32 = 4;
/// The longest wait that a service may ask for. When it asks for more, its refusal is passed on at once.
const LONGEST: Duration = Duration::from_secs(10);
/// The pause after the first attempt; it doubles after each.
const FIRST: Duration = Duration::from_millis(200);

/// The pause before the next attempt, or `None` when there shall be none.
///
/// `made` attempts were made, `asked` is the service's `Retry-After`, `dice` is 0 to 100 and spreads clients that failed
/// together.
pub(super) fn pause(made: u32, asked: Option<Duration>, dice: u32) -> Option<Duration> {
    if made >= ATTEMPTS || asked.is_some_and(|asked| asked > LONGEST) {
        return None;
    }
    let whole = FIRST.saturating_mul(1 << made.saturating_sub(1).min(16));
    let own = whole / 2 + whole * dice.min(100) / 200;
    Some(own.max(asked.unwrap_or_default()))
}

/// `Retry-After` in seconds, the only form that OpenStack uses; a date is not understood and our own pause applies.
pub(super) fn retry_after(header: &str) -> Option<Duration> {
    header.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        assert_eq!(pause(1, None, 100), Some(Duration::from_millis(200)));
        assert_eq!(pause(1, None, 0), Some(Duration::from_millis(100)));
        assert_eq!(pause(3, None, 100), Some(Duration::from_millis(800)));
        assert_eq!(pause(ATTEMPTS, None, 50), None);
        assert_eq!(pause(0, None, u32::MAX), Some(Duration::from_millis(200)));
    }

    #[test]
    fn what_the_service_asks_for_is_kept_to() {
        assert_eq!(pause(1, retry_after("3"), 50), Some(Duration::from_secs(3)));
        assert_eq!(pause(1, retry_after("3600"), 50), None);
        assert_eq!(retry_after("Wed, 21 Oct 2026 07:28:00 GMT"), None);
        assert_eq!(retry_after("-1"), None);
    }
}
