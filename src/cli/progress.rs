//! What is under way, for people: on a terminal one live line with the step and its age, elsewhere a line for each step that ended. It
//! keeps what was done, so that a run that is cut off can say what it leaves behind.

use std::{
    io::{self, IsTerminal, Write},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use super::text;
use crate::provision::Event;

/// How often the live line is written again.
const BEAT: Duration = Duration::from_millis(200);
/// After this long a step that goes on is named where there is no live line.
const PATIENCE: u64 = 30;

/// What is shown, and what was done.
pub(super) struct Progress {
    live: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    current: Option<(String, Instant)>,
    done: Vec<String>,
    named: u64,
}

impl Progress {
    pub(super) fn new() -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { live: io::stderr().is_terminal() && !dumb, state: Mutex::default() }
    }

    /// Takes an event in and shows it.
    pub(super) fn event(&self, event: Event) {
        let mut state = self.state();
        match event {
            Event::Began(what) => {
                state.current = Some((what, Instant::now()));
                state.named = 0;
            }
            Event::Done(what) => {
                let age = state.current.take().map_or(Duration::ZERO, |(_, since)| since.elapsed());
                self.line(&format!("  done: {} ({})", text::clean(&what), span(age)));
                state.done.push(what);
            }
            Event::Again(why) => self.line(&format!("  again: {}", text::clean(&why))),
            Event::Failed(what) => self.line(&format!("  failed: {}", text::clean(&what))),
        }
    }

    /// What was done, in words.
    pub(super) fn done(&self) -> Vec<String> {
        self.state().done.clone()
    }

    /// What is under way, or failed.
    pub(super) fn current(&self) -> Option<String> {
        self.state().current.as_ref().map(|(what, _)| what.clone())
    }

    /// Shows `work` going on until it ends; `None` when it was interrupted.
    pub(super) async fn show<T>(&self, work: impl Future<Output = T>) -> io::Result<Option<T>> {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut work = std::pin::pin!(work);
        let ended = loop {
            tokio::select! {
                ended = &mut work => break Some(ended),
                _ = interrupt.recv() => break None,
                _ = terminate.recv() => break None,
                _ = beat.tick() => self.tick(),
            }
        };
        if self.live {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
        Ok(ended)
    }

    fn tick(&self) {
        let mut state = self.state();
        let Some((what, since)) = &state.current else { return };
        let age = since.elapsed();
        if self.live {
            let width =
                terminal_size::terminal_size_of(io::stderr()).map_or(80, |(width, _)| usize::from(width.0));
            let line = text::cut(&format!("  {} {}", span(age), text::clean(what)), width.saturating_sub(1));
            let _ = write!(io::stderr().lock(), "\r\x1b[K{line}");
        } else if age.as_secs() / PATIENCE > state.named {
            let line = format!("  still: {} ({})", text::clean(what), span(age));
            state.named = age.as_secs() / PATIENCE;
            self.line(&line);
        }
    }

    fn line(&self, line: &str) {
        let start = if self.live { "\r\x1b[K" } else { "" };
        let _ = writeln!(io::stderr().lock(), "{start}{line}");
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn span(age: Duration) -> String {
    text::span(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}
