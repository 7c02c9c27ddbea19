//! The upper bound of requests a second over all clients.

use std::time::Duration;

use tokio::{
    sync::{Mutex, watch},
    time::Instant,
};

/// Hands out the right to send, one at a time and in the order of asking, no faster than the rate.
///
/// Only the first in the queue sleeps; the others wait for the lock. So a changed rate holds at once for all.
#[derive(Debug)]
pub(super) struct Pace {
    rate: watch::Sender<Option<f64>>,
    /// When the last turn was due.
    last: Mutex<Instant>,
}

impl Pace {
    /// How far the rate may catch up after clients were late: evens out the timer's granularity of a millisecond.
    const CATCH_UP: Duration = Duration::from_millis(100);

    pub(super) fn new(rate: Option<f64>) -> Self {
        Self { rate: watch::Sender::new(rate), last: Mutex::new(Instant::now()) }
    }

    pub(super) fn set(&self, rate: Option<f64>) {
        self.rate.send_replace(rate);
    }

    /// Returns when the caller may send. May be dropped at any time; the right then goes to the next one.
    pub(super) async fn turn(&self) {
        if self.rate.borrow().is_none() {
            return;
        }
        let mut last = self.last.lock().await;
        let mut rate = self.rate.subscribe();
        loop {
            let Some(interval) = interval(*rate.borrow_and_update()) else { return };
            let due = *last + interval;
            tokio::select! {
                () = tokio::time::sleep_until(due) => {
                    let now = Instant::now();
                    *last = due.max(now.checked_sub(Self::CATCH_UP).unwrap_or(now));
                    return;
                }
                // The sender lives in `self`, so this is a change and never an end.
                _ = rate.changed() => {}
            }
        }
    }
}

/// The time between two requests; `None` without a rate. A rate of zero or less is a pause: look again in a day or at a change.
fn interval(rate: Option<f64>) -> Option<Duration> {
    const PAUSE: Duration = Duration::from_secs(86_400);
    rate.map(
        |r| if r > 0.0 { Duration::try_from_secs_f64(1.0 / r).unwrap_or(PAUSE).min(PAUSE) } else { PAUSE },
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_clients_together_keep_the_rate() {
        let pace = Arc::new(Pace::new(Some(100.0)));
        let begin = Instant::now();
        let clients: Vec<_> = (0..10)
            .map(|_| {
                let pace = Arc::clone(&pace);
                tokio::spawn(async move {
                    for _ in 0..50 {
                        pace.turn().await;
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
        let took = begin.elapsed().as_secs_f64();
        assert!((4.8..5.2).contains(&took), "500 turns at 100/s took {took} s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_rate_holds_for_those_who_wait() {
        let pace = Arc::new(Pace::new(Some(0.0001)));
        pace.turn().await;
        let waiting = tokio::spawn({
            let pace = Arc::clone(&pace);
            async move { pace.turn().await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        let begin = Instant::now();
        pace.set(Some(1000.0));
        waiting.await.unwrap();
        assert!(begin.elapsed() < Duration::from_secs(1));
        pace.set(None);
        pace.turn().await;
    }
}
