//! One reload, confirmed.
//!
//! A reload is not done when it was asked for: before HAProxy 2.7 the command says nothing at all, a request that comes while
//! another reload is under way gets lost, and systemd reports success even for one that failed. It is done when a new worker
//! says that it runs the wanted generation.

use std::{fs, time::Duration};

use tokio::time::{Instant, sleep};
use tracing::warn;

use super::{
    Haproxy, check::first_alerts, description::Description, processes::Processes, render::STATE_FILE,
};

/// A state file that says nothing of any server; it begins with a version number.
pub(super) const NO_STATES: &str = "1\n";
/// How often it is asked for before we give up.
const TRIES: u32 = 3;
/// How long one try may take; a port that is taken is retried for two seconds by HAProxy itself.
const DEADLINE: Duration = Duration::from_secs(6);
/// How long the master may take to begin; one that answers and has not begun by then has not got the request.
const BEGIN: Duration = Duration::from_secs(1);
/// How long the worker from before may be listed as the current one after a reload.
const SETTLE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(10);

/// What is seen of a reload that was asked for.
enum Look {
    /// The worker that was wanted.
    Live(u32),
    /// The master says that it failed.
    Failed,
    /// A new worker runs something else: our request met another reload, and was lost.
    OtherWorker,
    /// It has reloaded, and the worker is the one from before. Versions that count no failures say it in no other way.
    SameWorker,
    /// Nothing has happened yet.
    Nothing,
    /// No answer now.
    Deaf,
}

/// Why a reload that was asked for did not bring the worker that was wanted.
enum Missed {
    NotLoaded,
    NotBegun,
    Overtaken,
    TimedOut,
}

impl Haproxy {
    /// Has the file that lies there loaded; the new worker's pid.
    ///
    /// # Errors
    /// Why the wanted generation did not go live, in words. The worker before serves on.
    pub(super) async fn reload(&self, want: &Description) -> Result<u32, String> {
        // A new worker takes every server for up until it has checked it itself. Those that the worker before found down would get
        // requests until then. Afterwards the file must say nothing: what is down now may be well when somebody else reloads.
        let down = match self.master.current().await {
            Ok(pid) => self.master.servers_down(pid).await.unwrap_or_else(|_| NO_STATES.to_owned()),
            Err(_) => NO_STATES.to_owned(),
        };
        self.write_states(&down)?;
        let reloaded = self.reload_until_live(want).await;
        if let Err(why) = self.write_states(NO_STATES) {
            warn!(why, "the next worker may take a server for down that is not");
        }
        reloaded
    }

    /// Writes the file that a new worker reads the state of servers from.
    pub(super) fn write_states(&self, text: &str) -> Result<(), String> {
        let path = self.settings.run_dir.join(STATE_FILE);
        fs::write(&path, text).map_err(|error| format!("write {}: {error}", path.display()))
    }

    async fn reload_until_live(&self, want: &Description) -> Result<u32, String> {
        let said_before = self.log_length();
        let mut why = "";
        for _ in 0..TRIES {
            let before = self.master.processes().await.map_err(|error| error.to_string())?;
            let answer = self.master.reload().await.map_err(|error| error.to_string())?;
            let missed = if answer.contains("Success=0") {
                Missed::NotLoaded
            } else {
                match self.wait_until_live(want, &before).await {
                    Ok(pid) => return Ok(pid),
                    Err(missed) => missed,
                }
            };
            why = match missed {
                Missed::NotLoaded => {
                    // From 2.7 on the answer holds the messages, before that only the log does.
                    let alerts = first_alerts(&answer).or_else(|| first_alerts(&self.log_since(said_before)));
                    if let Some(alerts) = alerts {
                        return Err(alerts);
                    }
                    // Without a reason it may as well have been disturbed by somebody else's reload.
                    "HAProxy could not load it"
                }
                Missed::NotBegun => "HAProxy does not begin to reload",
                Missed::Overtaken => "other reloads came in between",
                Missed::TimedOut => "no new worker in time",
            };
        }
        Err(format!("{why}; {} may say more", self.log_name()))
    }

    async fn wait_until_live(&self, want: &Description, before: &Processes) -> Result<u32, Missed> {
        let asked = Instant::now();
        loop {
            match self.look_for(want, before).await {
                Look::Live(pid) => return Ok(pid),
                Look::Failed => return Err(Missed::NotLoaded),
                Look::SameWorker if asked.elapsed() >= SETTLE => return Err(Missed::NotLoaded),
                Look::OtherWorker => return Err(Missed::Overtaken),
                Look::Nothing if asked.elapsed() >= BEGIN => return Err(Missed::NotBegun),
                _ if asked.elapsed() >= DEADLINE => return Err(Missed::TimedOut),
                _ => sleep(POLL).await,
            }
        }
    }

    async fn look_for(&self, want: &Description, before: &Processes) -> Look {
        // No answer is not bad news: the master is deaf while it executes itself anew.
        let Ok(now) = self.master.processes().await else { return Look::Deaf };
        if now == *before {
            return Look::Nothing;
        }
        if now.reloads > before.reloads && now.failed > 0 {
            return Look::Failed;
        }
        let Some(pid) = now.current.filter(|pid| Some(*pid) != before.current) else {
            return Look::SameWorker;
        };
        match self.master.description(pid).await {
            Ok(description) if description == want.to_string() => Look::Live(pid),
            Ok(_) => Look::OtherWorker,
            Err(_) => Look::Deaf,
        }
    }
}
