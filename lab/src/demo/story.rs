//! The story, played inside the lab: steady load, high load, scale-out, split, calm, handover, and all that again.

use std::{
    process::{ExitCode, Termination},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use lbsidecar::{
    admin::view::{MemberState, StatusView, VipPlace},
    cli::{Look, status_text},
    exit::Exit,
    load::LoadSnapshot,
};
use serde::{Deserialize, Serialize};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval},
};
use uuid::Uuid;

use super::{
    api::Api,
    drive::Drive,
    outcome::Outcome,
    rig::{BASE, BURN, Programs, SERVICE, boot_base, burners, clients, expect_clean},
    screen::{Picture, Screen, say},
    sidecar::{COMMAND_LINE, Home, Sidecar},
    tide::Tide,
    watch::Watch,
};
use crate::directory::Directory;

/// How long the load is only watched: alone, and when both serve.
const STEADY: Duration = Duration::from_secs(8);
const BALANCED: Duration = Duration::from_secs(15);
/// A stretch that takes longer than this does not come to an end.
const DEADLINE: Duration = Duration::from_secs(240);
/// How long CPU may take to follow the rate: the vote that saw the change, and one whole vote.
const PATIENCE: Duration = Duration::from_secs(12);
/// Time between two looks at the daemon.
const LOOK: Duration = Duration::from_millis(100);
/// Looks between two pictures.
const PICTURE: u32 = 5;
/// Exit code of what Ctrl-C ended, as shells have it.
const INTERRUPTED: u8 = 130;

/// What is played and how it is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// How often scale-out and handover are played.
    pub(crate) cycles: u32,
    /// Requests a second on the mean, without those that burn CPU.
    pub(crate) rate: u32,
    /// Whether everything stays up at the end.
    pub(crate) keep: bool,
    /// Whether the outcome is for a program.
    pub(crate) json: bool,
}

/// Plays it. The process must be in the lab.
pub(crate) fn run(directory: &Directory, settings: Settings) -> Result<ExitCode> {
    tokio::runtime::Runtime::new()?.block_on(play(directory, settings))
}

async fn play(directory: &Directory, settings: Settings) -> Result<ExitCode> {
    let mut story = Story::open(directory, settings)?;
    let played = tokio::select! {
        played = story.play() => Some(played),
        () = interrupted() => None,
    };
    let was_interrupted = played.is_none();
    let played = played.unwrap_or_else(|| bail!("interrupted"));
    let outcome = story.close(played).await?;
    Ok(match outcome {
        _ if was_interrupted => ExitCode::from(INTERRUPTED),
        Verdict::Good => Exit::Ok.report(),
        Verdict::Lost => Exit::Degraded.report(),
        Verdict::Broken => Exit::Failure.report(),
    })
}

/// Returns when somebody wants an end.
async fn interrupted() {
    let wait = async |kind| match signal(kind) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = wait(SignalKind::interrupt()) => {}
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::hangup()) => {}
    }
}

#[derive(Debug, Clone, Copy)]
enum Verdict {
    Good,
    /// Requests were lost.
    Lost,
    /// The story did not come to its end.
    Broken,
}

#[derive(Debug)]
struct Story {
    settings: Settings,
    programs: Programs,
    home: Home,
    sidecar: Option<Sidecar>,
    load: Option<Loads>,
    watch: Watch,
    screen: Screen,
    cycle: u32,
    complete: u32,
    phase: String,
    tide: Tide,
    /// Each time that calm was not calm enough, in words.
    eased: Vec<String>,
    last: Option<StatusView>,
}

/// The clients, and beside them those that burn CPU: their answers are slow on purpose and would hide everybody's latency.
#[derive(Debug)]
struct Loads {
    clients: Drive,
    burners: Drive,
    counted: [LoadSnapshot; 2],
}

impl Story {
    fn open(directory: &Directory, settings: Settings) -> Result<Self> {
        let programs = Programs::beside(std::env::current_exe().context("failed to find this program")?)?;
        let home = Home::create(programs.lbsidecar.clone(), directory.demo())?;
        Ok(Self {
            screen: Screen::new(settings.json),
            tide: Tide::new(f64::from(settings.rate)),
            eased: Vec::new(),
            settings,
            programs,
            home,
            sidecar: None,
            load: None,
            watch: Watch::start(0, "boot"),
            cycle: 0,
            complete: 0,
            phase: "start".to_owned(),
            last: None,
        })
    }

    async fn play(&mut self) -> Result<()> {
        let api = Api::open().await?;
        self.say(&format!("booting {BASE}"));
        let mut primary = boot_base(&api).await?;
        self.say(&format!("{BASE} serves at {SERVICE}; starting lbsidecar {}", COMMAND_LINE.join(" ")));
        self.sidecar = Some(Sidecar::start(&self.home)?);
        self.step("adopt");
        self.until("the base to be taken over", is_adopted).await?;
        self.watch = Watch::start(1, "steady");
        self.start_load().await?;
        for cycle in 1..=self.settings.cycles {
            self.cycle = cycle;
            primary = self.cycle(&api, primary).await?;
            self.complete = cycle;
        }
        Ok(())
    }

    async fn start_load(&mut self) -> Result<()> {
        let lab = &self.programs.lab;
        let mut steady = Drive::start(lab, SERVICE, Some(self.tide.calm()))?;
        let mut burning = Drive::start(lab, SERVICE, None)?;
        let counted = [steady.count().await?, burning.count().await?];
        for group in clients() {
            steady.begin(group).await?;
        }
        self.load = Some(Loads { clients: steady, burners: burning, counted });
        Ok(())
    }

    /// One scale-out and one handover; the new primary.
    async fn cycle(&mut self, api: &Api, base: Uuid) -> Result<Uuid> {
        self.phase("steady").await?;
        self.step("steady");
        self.watch_for(STEADY).await?;

        self.phase("high load").await?;
        self.step("votes for a clone");
        self.pace(self.tide.busy()).await?;
        self.load()?.burners.begin(burners()).await?;
        self.until("a scale-out", |view| is_moving(view, "scale-out") || serving(view) == 2).await?;
        self.phase("scale-out").await?;
        self.until("the clone to serve", |view| view.transition.is_none() && serving(view) == 2).await?;

        self.phase("balanced").await?;
        self.step("both serve");
        self.watch_for(BALANCED).await?;

        self.load()?.burners.end(BURN).await?;
        self.phase("calm").await?;
        self.step("votes for the handover");
        self.calm_down().await?;
        self.phase("handover").await?;
        self.until("the base to be gone", |view| view.transition.is_none() && serving(view) == 1).await?;

        let primary =
            self.last.as_ref().and_then(|view| view.members.first()).map(|member| member.server_id.0);
        let primary = primary.filter(|id| *id != base).context("the base was not replaced")?;
        self.step("nothing is left over");
        expect_clean(api, primary, Duration::from_secs(10)).await?;
        let (asked, expected) = (api.creations().await?, 1 + self.cycle as usize);
        ensure!(asked == expected, "Nova was asked for {asked} servers instead of {expected}");
        Ok(primary)
    }

    /// Fewer requests, until the daemon hands over. On a slow host that takes still fewer.
    async fn calm_down(&mut self) -> Result<()> {
        let begins = |view: &StatusView| is_moving(view, "handover") || serving(view) == 1;
        self.pace(self.tide.calm()).await?;
        let end = Instant::now() + DEADLINE;
        while !self.within(PATIENCE, begins).await? {
            ensure!(Instant::now() < end, "waited {} s for a handover", DEADLINE.as_secs());
            let Some(decision) = self.last.as_ref().map(|view| &view.decision) else { continue };
            let (before, low) = (self.tide.calm(), decision.low);
            if let Some(cpu) = decision.value.filter(|cpu| self.tide.ease(*cpu, low)) {
                let after = self.tide.calm();
                let eased = format!(
                    "to {after:.0} requests a second when calm, in cycle {}: {before:.0} kept a VM at {cpu:.0} % CPU, above {low:.0} %, on this \
                     host",
                    self.cycle
                );
                self.screen.tell(&format!("eased {eased}"));
                self.eased.push(eased);
                self.pace(after).await?;
            }
        }
        Ok(())
    }

    /// Watches until `done`.
    async fn until(&mut self, what: &str, done: impl Fn(&StatusView) -> bool) -> Result<()> {
        let is_done = self.within(DEADLINE, done).await?;
        ensure!(is_done, "waited {} s for {what}", DEADLINE.as_secs());
        Ok(())
    }

    /// Watches until `done`, or for this long. Whether it is done.
    async fn within(&mut self, time: Duration, done: impl Fn(&StatusView) -> bool) -> Result<bool> {
        let end = Instant::now() + time;
        self.looks(|view| view.is_some_and(&done) || Instant::now() > end).await?;
        Ok(self.last.as_ref().is_some_and(done))
    }

    async fn watch_for(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        self.looks(|_| Instant::now() > end).await
    }

    /// Looks at the daemon and the load, and shows them, until `enough` of the newest status.
    async fn looks(&mut self, enough: impl Fn(Option<&StatusView>) -> bool) -> Result<()> {
        let mut beat = interval(LOOK);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for look in 0_u32.. {
            beat.tick().await;
            let Some(sidecar) = &mut self.sidecar else { bail!("there is no daemon to look at") };
            if let Some(status) = sidecar.ended()? {
                bail!("the daemon ended ({status})");
            }
            let mut news = false;
            // While it starts, it does not answer yet.
            let seen = sidecar.status().await.ok();
            if let Some(view) = &seen {
                if let Some(transition) = view.transition.as_ref().filter(|t| t.kind != "adopt") {
                    news = self.watch.step(self.cycle, &format!("{}: {}", transition.kind, transition.stage));
                }
                self.watch.see(&self.phase, view);
            }
            let enough = enough(seen.as_ref());
            self.last = seen.or(self.last.take());
            if news || enough || look % PICTURE == 0 {
                if let Some(load) = &mut self.load {
                    load.counted = [load.clients.count().await?, load.burners.count().await?];
                }
                self.show(news);
            }
            if enough {
                return Ok(());
            }
        }
        Ok(())
    }

    fn show(&mut self, news: bool) {
        let place = match self.cycle {
            0 => self.watch.now().to_owned(),
            cycle => format!("cycle {cycle} of {}: {}", self.settings.cycles, self.watch.now()),
        };
        let load = self.load.as_ref().map(|load| load.counted.each_ref());
        let eased = self.eased.last().map(String::as_str);
        let picture = Picture { place, watch: &self.watch, load, eased, status: self.last.as_ref() };
        self.screen.show(&picture, news);
    }

    fn step(&mut self, name: &str) {
        if self.watch.step(self.cycle, name) {
            self.show(true);
        }
    }

    /// Begins a phase of the counts.
    async fn phase(&mut self, name: &str) -> Result<()> {
        self.phase = format!("{} {name}", self.cycle);
        let phase = self.phase.clone();
        self.load()?.clients.mark(&phase).await
    }

    /// Changes the clients' rate, requests a second.
    async fn pace(&mut self, rate: f64) -> Result<()> {
        self.load()?.clients.pace(rate).await
    }

    fn load(&mut self) -> Result<&mut Loads> {
        self.load.as_mut().context("there is no load yet")
    }

    fn say(&self, line: &str) {
        say(self.settings.json, line);
    }

    /// Ends load and daemon, and tells what came of it all.
    async fn close(mut self, played: Result<()>) -> Result<Verdict> {
        let problem = played.err().map(|error| format!("{error:#}"));
        // The pictures end here: what follows stays on the screen.
        self.screen = Screen::new(true);
        self.step("closed");
        let mut outcome = None;
        if let Some(load) = self.load.take() {
            let burners = load.burners.finish().await?;
            let clients = load.clients.finish().await?;
            outcome =
                Some(Outcome::new(&self.watch, clients, burners, [self.complete, self.settings.cycles]));
        }
        if let Some(sidecar) = self.sidecar.take()
            && !self.settings.keep
        {
            sidecar.end().await?;
        }
        let Some(mut outcome) = outcome else {
            self.explain(problem.as_deref().unwrap_or("nothing was played"));
            return Ok(Verdict::Broken);
        };
        outcome.conclude(problem, self.eased.clone());
        if self.settings.json {
            say(false, &serde_json::to_string_pretty(&outcome)?);
        } else {
            say(false, &format!("\n{}", outcome.text()));
        }
        if outcome.ok {
            return Ok(Verdict::Good);
        }
        self.explain(outcome.problem.as_deref().unwrap_or("requests were lost"));
        Ok(if outcome.failed > 0 { Verdict::Lost } else { Verdict::Broken })
    }

    /// What a person needs to find out what went wrong.
    fn explain(&self, problem: &str) {
        if let Some(view) = &self.last {
            say(true, &format!("the last status:\n{}", status_text(view, &Look::of_stdout(true))));
        }
        say(true, &self.home.logs(40));
        say(true, &format!("demo: {problem}"));
    }
}

fn is_adopted(view: &StatusView) -> bool {
    view.vip.place == VipPlace::Ours && view.transition.is_none() && serving(view) == 1
}

fn is_moving(view: &StatusView, kind: &str) -> bool {
    view.transition.as_ref().is_some_and(|transition| transition.kind == kind)
}

fn serving(view: &StatusView) -> usize {
    view.members.iter().filter(|member| member.state == MemberState::Serving).count()
}
