//! Real CPU work: for a stretch of CPU time, or in the background for a stretch of wall time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};

/// Work between two looks at the clock.
const BATCH: u64 = 20_000;

/// Burns this much CPU time of the calling thread, so that burns at the same time queue up as real work does.
pub(crate) fn burn(time: Duration) {
    let end = cpu_time() + time;
    while cpu_time() < end {
        work();
    }
}

/// CPU time of the calling thread.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

fn work() {
    let mut value = 1_u64;
    for step in 0..BATCH {
        value = std::hint::black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step));
    }
}

/// The background load: at most one at a time, a newer one ends the older.
#[derive(Debug, Default)]
pub(crate) struct Load {
    generation: Arc<AtomicU64>,
}

impl Load {
    /// Burns every CPU for `time`; zero only ends what runs.
    pub(crate) fn start(&self, time: Duration) {
        let mine = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        if time.is_zero() {
            return;
        }
        let end = Instant::now() + time;
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            let generation = Arc::clone(&self.generation);
            let _ = thread::Builder::new().stack_size(64 * 1024).spawn(move || {
                while generation.load(Ordering::Relaxed) == mine && Instant::now() < end {
                    work();
                }
            });
        }
    }
}
