//! `status`: the pool now, once or again and again.

use std::{
    io,
    time::{Duration, UNIX_EPOCH},
};

use jiff::tz::TimeZone;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use super::{
    args::{Output, StatusArgs},
    frames::Frames,
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
