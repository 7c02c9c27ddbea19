//! The phases: each sets the load, and lasts until the pool has answered it.

use std::{net::IpAddr, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    LoadArgs,
    args::Phase,
    burners::{Burners, Share},
    record::Record,
    text::Screen,
};
use crate::{
    admin::{
        client::Client,
        view::{MemberState, StatusView},
    },
    cli::out::{self, Failure},
    load::{ClientGroup, LoadHandle, LoadSnapshot},
};

/// How often the counts and the pool are looked at.
const BEAT: Duration = Duration::from_millis(500);
/// How long the daemon may take for its answer before the counts are shown without it.
const ASK: Duration = Duration::from_secs(2);
/// Requests a second that no VM feels.
const CALM_RATE: f64 = 5.0;
/// `calm` lasts at least so long, so that something is counted in it.
const CALM_SECONDS: f64 = 5.0;
/// What burns, and what does not.
const BURN: &str = "burn";
const CALM: &str = "calm";

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// As it was to.
    Done,
    /// By a signal, or by `load --stop`.
    Interrupted,
    /// Its time was over in this phase.
    OutOfTime(&'static str),
}

impl End {
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            End::Done => "done",
            End::Interrupted => "interrupted",
            End::OutOfTime(_) => "out-of-time",
        }
    }
}

pub(super) struct Story<'a> {
    args: &'a LoadArgs,
    client: &'a Client,
    load: &'a LoadHandle,
    record: Record,
    burners: Option<Burners>,
    screen: Screen,
    interrupt: Signal,
    terminate: Signal,
    /// Requests a second that one member could do at full load, once that was seen.
    full_rate: Option<f64>,
}

impl<'a> Story<'a> {
    pub(super) fn new(
        args: &'a LoadArgs,
        client: &'a Client,
        load: &'a LoadHandle,
        record: Record,
        burners: Option<Burners>,
        screen: Screen,
    ) -> Result<Self, Failure> {
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { args, client, load, record, burners, screen, interrupt, terminate, full_rate: None })
    }

    /// No story: until the time is over.
    pub(super) async fn steady(&mut self) -> Result<End, Failure> {
        let mut beat = interval(BEAT);
        loop {
            tokio::select! {
                biased;
                _ = self.interrupt.recv() => return Ok(End::Interrupted),
                _ = self.terminate.recv() => return Ok(End::Interrupted),
                _ = beat.tick() => {}
            }
            let now = self.load.snapshot();
            self.screen.show("steady", &now, None)?;
            if now.clients == 0 {
                return Ok(End::Done);
            }
        }
    }

    /// One phase after the other; at the end nothing burns any more.
    pub(super) async fn tell(&mut self) -> Result<End, Failure> {
        let mut end = Ok(End::Done);
        for phase in self.args.phases() {
            end = self.phase(phase).await;
            if !matches!(end, Ok(End::Done)) {
                break;
            }
        }
        if let Some(burners) = &mut self.burners {
            for left in burners.stop().await {
                out::talk(&left);
            }
        }
        end
    }

    async fn phase(&mut self, phase: Phase) -> Result<End, Failure> {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut begun = false;
        loop {
            tokio::select! {
                biased;
                _ = self.interrupt.recv() => return Ok(End::Interrupted),
                _ = self.terminate.recv() => return Ok(End::Interrupted),
                _ = beat.tick() => {}
            }
            let view = timeout(ASK, self.client.status()).await.ok().and_then(Result::ok);
            if let Some(view) = &view
                && !begun
            {
                self.begin(phase, view).await?;
                begun = true;
            }
            let now = self.load.snapshot();
            self.screen.show(phase.as_str(), &now, Some(view.as_ref()))?;
            if now.total.seconds >= self.args.hard_stop().as_secs_f64() {
                return Ok(End::OutOfTime(phase.as_str()));
            }
            if let Some(view) = &view {
                // What the one member can do, as long as nobody else takes a part of it.
                if phase == Phase::Full && view.members.iter().filter(|member| member.weight > 0).count() == 1
                {
                    self.full_rate = Some(now.requests_per_second);
                }
                if begun && self.is_over(phase, &now, view) {
                    return Ok(End::Done);
                }
            }
        }
    }

    async fn begin(&mut self, phase: Phase, view: &StatusView) -> Result<(), Failure> {
        self.load.mark(phase.as_str());
        let calm = |clients| ClientGroup {
            name: CALM.to_owned(),
            ..ClientGroup::keep_alive(clients, Duration::ZERO)
        };
        if self.burners.is_some() {
            // The CPU is burnt by others; these are there to be counted.
            self.load.set_rate(Some(CALM_RATE));
            self.load.start_group(calm(2))?;
            return self.burn(phase, view).await;
        }
        let burn_ms = self.args.story_burn_ms();
        let burn = ClientGroup { path: Some(self.args.burn_path_of(burn_ms)), ..self.args.busy(BURN) };
        match phase {
            Phase::Full => {
                self.load.stop_group(CALM);
                self.load.set_rate(None);
                self.load.start_group(burn)?;
            }
            Phase::Split => {
                self.load.stop_group(CALM);
                // Half of what all can do: as a guess, with one vCPU each.
                let guess = f64::from(1000 / burn_ms.min(1000)) * serving(view).len().max(1) as f64 / 2.0;
                self.load.set_rate(Some(self.full_rate.filter(|rate| *rate > 0.0).unwrap_or(guess)));
                self.load.start_group(burn)?;
            }
            Phase::Calm => {
                self.load.stop_group(BURN);
                self.load.set_rate(Some(CALM_RATE));
                self.load.start_group(calm(2))?;
            }
        }
        Ok(())
    }

    /// The same with burners in the guests.
    async fn burn(&mut self, phase: Phase, view: &StatusView) -> Result<(), Failure> {
        let Some(burners) = &mut self.burners else { return Ok(()) };
        let guests = serving(view);
        let share = match phase {
            Phase::Full => Share::Full,
            Phase::Split => Share::Half,
            Phase::Calm => {
                for left in burners.stop().await {
                    out::talk(&left);
                }
                return self.record.note(Vec::new());
            }
        };
        burners.add(&guests);
        self.record.note(burners.lines())?;
        let seconds = self.args.hard_stop().as_secs();
        burners
            .start(&guests, share, seconds)
            .await
            .map_err(|why| Failure::new(crate::exit::Exit::Unavailable, why))
    }

    fn is_over(&self, phase: Phase, now: &LoadSnapshot, view: &StatusView) -> bool {
        let serving = serving(view).len();
        match phase {
            Phase::Full => serving >= 2,
            // A handover ends it early.
            Phase::Split => now.phase.counts.seconds >= self.args.split_for.as_secs_f64() || serving < 2,
            Phase::Calm => {
                view.members.len() <= 1
                    && view.transition.is_none()
                    && now.phase.counts.seconds >= CALM_SECONDS
            }
        }
    }
}

/// Where the members are that take their full part.
fn serving(view: &StatusView) -> Vec<IpAddr> {
    let members = view.members.iter().filter(|member| member.state == MemberState::Serving);
    members.filter_map(|member| member.address.map(|address| address.ip())).collect()
}
