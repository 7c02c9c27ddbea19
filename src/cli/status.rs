//! `status`: the pool now, once or again and again.

use std::{
    io::{self, Write},
    time::{Duration, UNIX_EPOCH},
};

use jiff::tz::TimeZone;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use super::{
    args::{Output, StatusArgs},
    out::{self, Failure, Look},
    small_runtime, status_text,
    text::Tone,
};
use crate::{
    admin::{
        client::{Client, ClientError},
        stored::StoredView,
        view::StatusView,
    },
    config::Places,
    core::{condition::Phase, state::State, time::Timestamp},
    exit::Exit,
    store,
};

pub(super) fn run(places: &Places, args: &StatusArgs) -> Result<Exit, Failure> {
    let (runtime, client) = (small_runtime()?, Client::new(&places.admin.socket));
    if let Some(period) = args.watch {
        return runtime.block_on(watch(&client, args, period));
    }
    let view = match runtime.block_on(client.status()) {
        Err(error @ ClientError::NotRunning(_)) => return stored(places, args, &error),
        answer => answer?,
    };
    out::data(&match args.out.output {
        Output::Json => out::json(&view)?,
        Output::Text => status_text::text(&view, &Look::of(&args.out), &TimeZone::system()),
    })?;
    Ok(exit(&view))
}

/// The daemon does not run: what it wrote down last, with its age.
fn stored(places: &Places, args: &StatusArgs, error: &ClientError) -> Result<Exit, Failure> {
    out::talk(&format!("failed to {error}"));
    let peeked = match store::peek::<State>(&places.state_dir, &places.pool) {
        Ok(Some(peeked)) => peeked,
        Ok(None) => return Ok(Exit::NotRunning),
        Err(error) => {
            out::talk(&format!("failed to {error}"));
            return Ok(Exit::NotRunning);
        }
    };
    let saved = Timestamp::default().plus(peeked.saved_at.duration_since(UNIX_EPOCH).unwrap_or_default());
    let now = saved.plus(peeked.saved_at.elapsed().unwrap_or_default());
    let view = StoredView::of(&peeked.state, saved, now);
    out::data(&match args.out.output {
        Output::Json => out::json(&view)?,
        Output::Text => status_text::stored(&view, &Look::of(&args.out), &TimeZone::system()),
    })?;
    Ok(Exit::NotRunning)
}

fn exit(view: &StatusView) -> Exit {
    if view.phase == Phase::Degraded { Exit::Degraded } else { Exit::Ok }
}

/// Shows it until Ctrl-C; a daemon that does not answer for a while is part of what is shown.
async fn watch(client: &Client, args: &StatusArgs, period: Duration) -> Result<Exit, Failure> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut beat = interval(period);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Exit::NotRunning;
    let mut frames = Frames::default();
    loop {
        tokio::select! {
            _ = interrupt.recv() => return Ok(last),
            _ = terminate.recv() => return Ok(last),
            _ = beat.tick() => {}
        }
        let answer = tokio::select! {
            _ = interrupt.recv() => return Ok(last),
            _ = terminate.recv() => return Ok(last),
            answer = client.status() => answer,
        };
        if let Err(error @ ClientError::NoPermission(_)) = answer {
            return Err(error.into());
        }
        last = answer.as_ref().map_or_else(ClientError::exit, exit);
        match args.out.output {
            // One line a view, so that a program can read them one by one.
            Output::Json => match answer {
                Ok(view) => out::data(&(serde_json::to_string(&view).map_err(io::Error::other)? + "\n"))?,
                Err(error) => out::talk(&format!("failed to {error}")),
            },
            Output::Text => {
                let look = Look::of(&args.out);
                let text = match answer {
                    Ok(view) => status_text::text(&view, &look, &TimeZone::system()),
                    Err(error) => look.paint.of(Tone::Bad, &format!("failed to {error}")) + "\n",
                };
                frames.show(&text, &look)?;
            }
        }
    }
}

/// Frames on a terminal, each over the one before; one after the other where there is no terminal.
#[derive(Debug, Default)]
struct Frames {
    /// Lines of the frame before, and the size of the terminal that they were made for.
    before: Option<(usize, (usize, usize))>,
    cursor_hidden: bool,
}

impl Frames {
    fn show(&mut self, text: &str, look: &Look) -> Result<(), Failure> {
        let Some(height) = look.height else { return out::data(&format!("{text}\n")) };
        let size = (look.width, height);
        let mut frame = String::new();
        if !self.cursor_hidden {
            frame.push_str("\x1b[?25l");
            self.cursor_hidden = true;
        }
        match self.before {
            Some((lines, before)) if before == size => frame.push_str(&format!("\r\x1b[{lines}A")),
            // After a change of size nobody knows where the old lines are.
            Some(_) => frame.push_str("\x1b[2J\x1b[H"),
            None => {}
        }
        let mut lines = 0;
        for line in text.lines().take(height.saturating_sub(1)) {
            frame.push_str(line);
            frame.push_str("\x1b[K\n");
            lines += 1;
        }
        frame.push_str("\x1b[J");
        self.before = Some((lines, size));
        out::data(&frame)
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        if self.cursor_hidden {
            // Over the `^C` that the terminal echoed.
            let _ = io::stdout().write_all(b"\r\x1b[K\x1b[?25h");
            let _ = io::stdout().flush();
        }
    }
}
