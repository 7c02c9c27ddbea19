//! The cloud's clock: the wall clock that can be pushed forward, or one that only moves when it is told.
//!
//! Whatever in the cloud happens after a while (a token expires, a server is scheduled, a floating IP becomes ACTIVE) asks
//! this clock, so that a test decides when it happens and never has to sleep.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

/// A clock; share it by `Arc`.
#[derive(Debug)]
pub struct Clock {
    /// The moment at which a manual clock started; `None` for the wall clock.
    manual: Option<Timestamp>,
    /// By how much it was pushed forward so far.
    pushed: watch::Sender<Duration>,
}

impl Clock {
    /// The wall clock.
    #[must_use]
    pub fn wall() -> Self {
        Self { manual: None, pushed: watch::Sender::new(Duration::ZERO) }
    }

    /// A clock that starts now and moves only by [`Clock::advance`].
    #[must_use]
    pub fn manual() -> Self {
        Self { manual: Some(Self::wall().now()), pushed: watch::Sender::new(Duration::ZERO) }
    }

    /// The cloud's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let pushed = SignedDuration::try_from(*self.pushed.borrow()).unwrap_or(SignedDuration::MAX);
        let start = self.manual.unwrap_or_else(Timestamp::now);
        start.checked_add(pushed).unwrap_or(Timestamp::MAX)
    }

    /// Pushes the clock forward and wakes all who sleep by it.
    pub fn advance(&self, by: Duration) {
        self.pushed.send_modify(|pushed| *pushed = pushed.saturating_add(by));
    }

    /// How long ago `then` was; zero when it is to come.
    #[must_use]
    pub fn since(&self, then: Timestamp) -> Duration {
        self.now().duration_since(then).try_into().unwrap_or_default()
    }

    /// Returns when this clock has moved on by `length`.
    pub async fn sleep(&self, length: Duration) {
        let start = self.now();
        let mut pushed = self.pushed.subscribe();
        loop {
            let Some(left) = length.checked_sub(self.since(start)).filter(|left| !left.is_zero()) else {
                return;
            };
            let moved = pushed.changed();
            if self.manual.is_some() {
                // The sender lives in `self`, so it cannot be gone.
                let _ = moved.await;
            } else {
                tokio::select! { () = tokio::time::sleep(left) => {}, _ = moved => {} }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_stands_still_until_it_is_advanced() {
        let clock = std::sync::Arc::new(Clock::manual());
        let start = clock.now();
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_secs(3600)).await }
        });
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(3599));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_secs(1));
        sleeper.await.unwrap();
        assert_eq!(clock.since(start), Duration::from_secs(3600));
    }
}
