//! The loop: one task owns the state. An event goes in, the state is saved, and only then the effects go out.

use std::sync::Arc;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{Duration, timeout},
};
use tracing::{debug, error, info, warn};

use super::{
    clock::SteadyClock,
    crash::Place,
    executor::Executor,
    notify::Notifier,
    publish::Publisher,
    sources::{Focus, broken_off},
};
use crate::{
    admin::{AdminRequest, next_order},
    core::{
        cloud::FailureKind,
        event::{Event, Outcome, Request},
        machine::Machine,
        settings::Settings,
        state::{History, State},
        view::Action,
    },
    store::Store,
};

/// How long an effect in flight may still take when we are told to end.
const GRACE: Duration = Duration::from_secs(5);

/// Reads the configuration again: the rules from now on, and a sentence for each thing that the operator should know, such as a
/// change that takes a restart.
pub type Reread = Box<dyn FnMut() -> Result<(Settings, Vec<String>), String> + Send>;

/// Why the loop ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum LoopError {
    /// The system.
    #[error("set up signals: {0}")]
    Signals(#[from] std::io::Error),
    /// What was last heard of it would count for ever.
    #[error("go on without a source of what is known of the pool: {0}; this is a bug, and a start mends it")]
    Source(String),
}

/// Everything that the loop owns.
pub(super) struct Loop {
    pub(super) clock: SteadyClock,
    pub(super) machine: Machine,
    pub(super) store: Store<State>,
    pub(super) executor: Arc<Executor>,
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) sender: mpsc::Sender<Event>,
    pub(super) admin: mpsc::Receiver<AdminRequest>,
    pub(super) focus: watch::Sender<Focus>,
    pub(super) publisher: Publisher,
    pub(super) notifier: Notifier,
    pub(super) reread: Reread,
    /// Ends when dropped.
    pub(super) sources: JoinSet<()>,
}

/// What is on disk.
#[derive(Default)]
struct Durable {
    /// The state as last saved.
    saved: Option<State>,
    /// Why the state could not be saved.
    failed: Option<String>,
}

impl Loop {
    /// Runs until it is told to end.
    ///
    /// # Errors
    /// [`LoopError`]; what could be saved is.
    pub(super) async fn run(mut self) -> Result<(), LoopError> {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut hangup = signal(SignalKind::hangup())?;
        let mut durable = Durable::default();
        let started = self.publisher.started();
        // Former lives told theirs; this one begins with how it started.
        let history = &self.machine.state.history;
        let mut told = history.iter().rev().find(|entry| entry.at < started).cloned();
        self.act(&mut durable, Vec::new()).await;
        self.notifier.ready();
        info!(pool = %self.machine.state.pool, "running");
        let ended = loop {
            tokio::select! {
                Some(event) = self.events.recv() => {
                    let now = self.clock.now();
                    let decisions = self.machine.view.decisions.back().map(|d| d.at);
                    let requests = self.machine.step(now, event);
                    if let Some(decision) = self.machine.view.decisions.back()
                        && Some(decision.at) != decisions
                    {
                        if decision.action == Action::None {
                            debug!(value = decision.value, vote = ?decision.vote, reason = %decision.reason, "decision");
                        } else {
                            info!(value = decision.value, vote = ?decision.vote, reason = %decision.reason, "decision");
                        }
                    }
                    self.act(&mut durable, requests).await;
                }
                Some(AdminRequest { command, reply }) = next_order(&mut self.admin) => {
                    let (answer, requests) = self.machine.command(self.clock.now(), &command);
                    info!(?command, answer = ?answer, "operator");
                    self.act(&mut durable, requests).await;
                    self.answer(reply, answer, durable.failed.as_deref());
                }
                () = told_to_end(&mut terminate, &mut interrupt) => break Ok(()),
                why = broken_off(&mut self.sources) => {
                    error!(%why, "a source broke off: this is a bug");
                    break Err(LoopError::Source(why));
                }
                _ = hangup.recv() => self.reread(),
            }
            self.tell_history(&mut told);
        };
        info!("ending; HAProxy serves on");
        self.notifier.stopping();
        self.end().await;
        ended
    }

    /// Saves the state when it changed; what was asked for goes out only after that.
    async fn act(&mut self, durable: &mut Durable, requests: Vec<Request>) {
        let urgent = !requests.is_empty();
        // After a failure it is tried again even without a change: what is taken back may leave the state as it is on disk.
        if durable.failed.is_some() || durable.saved.as_ref() != Some(&self.machine.state) {
            let now = self.clock.now();
            let place = Place::of(&self.machine.state);
            place.reached("before", "save");
            match self.store.save(&self.machine.state).await {
                Ok(()) => {
                    place.reached("after", "save");
                    if durable.failed.take().is_some() {
                        info!("the state can be saved again");
                    }
                    durable.saved = Some(self.machine.state.clone());
                    self.publisher.saved(now);
                }
                Err(problem) => {
                    if durable.failed.is_none() {
                        error!(reason = %problem, "the state cannot be saved: nothing new is begun");
                    }
                    let why = problem.to_string();
                    self.publisher.unsaved(&why);
                    durable.failed = Some(why);
                }
            }
        }
        for request in requests {
            if durable.failed.is_none() {
                self.send_out(request);
            } else {
                self.machine.withdraw(request.ticket);
            }
        }
        let state = &self.machine.state;
        let mut servers: Vec<_> = state.members.iter().map(|m| m.id).collect();
        servers.extend(state.moving().filter(|id| state.member(*id).is_none()));
        let focus = Focus { servers, busy: state.transition.is_some() };
        self.focus.send_if_modified(|old| {
            let changed = *old != focus;
            *old = focus;
            changed
        });
        let line = self.publisher.publish(&self.machine, self.clock.now(), urgent);
        self.notifier.alive(line);
    }

    /// Begins an effect; its outcome comes back as an event, also when the code behind it panics.
    fn send_out(&self, Request { ticket, effect }: Request) {
        let (executor, sender) = (Arc::clone(&self.executor), self.sender.clone());
        let place = Place::of(&self.machine.state);
        tokio::spawn(async move {
            let name = effect.name();
            place.reached("before", name);
            place.reached_soon("during", name);
            let task = tokio::spawn(async move { executor.execute(effect).await });
            let outcome = task.await.unwrap_or_else(|panic| {
                error!(effect = name, %panic, "an effect broke off: this is a bug");
                Outcome::Failed { kind: FailureKind::Unknown, why: format!("{name} broke off: {panic}") }
            });
            place.reached("after", name);
            // The loop may have ended meanwhile.
            let _ = sender.send(Event::Done { ticket, outcome }).await;
        });
    }

    fn answer(
        &self,
        reply: oneshot::Sender<Result<String, String>>,
        answer: Result<String, String>,
        unsaved: Option<&str>,
    ) {
        let answer = match unsaved {
            Some(why) => Err(format!("the state cannot be saved, so this waits until it can: {why}")),
            None => answer,
        };
        // Who asked may have hung up.
        let _ = reply.send(answer);
    }

    fn reread(&mut self) {
        self.notifier.reloading();
        match (self.reread)() {
            Ok((settings, said)) => {
                for what in said {
                    warn!(reason = %what, "configuration");
                }
                self.machine.set_settings(settings);
                info!("configuration read again");
            }
            Err(problems) => error!(%problems, "the new configuration is wrong; the old one stays"),
        }
        self.notifier.ready();
    }

    fn tell_history(&self, told: &mut Option<History>) {
        let history = &self.machine.state.history;
        if history.back() == told.as_ref() {
            return;
        }
        let new = history.iter().rev().take_while(|entry| Some(*entry) != told.as_ref()).count();
        for entry in history.iter().skip(history.len().saturating_sub(new)) {
            info!(what = %entry.what, reason = %entry.why, "history");
        }
        *told = history.back().cloned();
    }

    /// Lets the effect in flight come to its end, so that the next start need not ask what became of it.
    async fn end(&mut self) {
        let last = async {
            while self.machine.view.pending.is_some() {
                let Some(event) = self.events.recv().await else { return };
                if let Event::Done { ticket, outcome } = event {
                    self.machine.finish(self.clock.now(), ticket, outcome);
                    return;
                }
            }
        };
        if timeout(GRACE, last).await.is_err() {
            warn!("an effect was still under way; the next start looks what became of it");
        }
        if let Err(problem) = self.store.save(&self.machine.state).await {
            error!(reason = %problem, "the state could not be saved at the end; the one saved before stands");
        }
        self.sources.abort_all();
    }
}

/// Ends when we are told to end.
async fn told_to_end(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        admin::Surroundings,
        config::{self, Env, Flags},
        core::recover::{Facts, recover},
        daemon::{DaemonError, ServiceAddress},
        exit::Exit,
        haproxy::Haproxy,
        openstack::Cloud,
        telemetry::Metrics,
    };

    /// A pool without a member, whose sources are `sources`, in a directory of its own.
    fn pool(root: &tempfile::TempDir, sources: JoinSet<()>) -> Loop {
        let root = root.path();
        let place = |name: &str| root.join(name).to_str().unwrap().to_owned();
        let variables = [
            ("OS_AUTH_URL", "https://127.0.0.1:9/v3".to_owned()),
            ("OS_USERNAME", "admin".to_owned()),
            ("OS_PASSWORD", "hush".to_owned()),
            ("OS_PROJECT_NAME", "admin".to_owned()),
            ("LBSIDECAR_POOL_CLONE", "vm-test-clone".to_owned()),
            ("LBSIDECAR_DAEMON_STATE_DIR", place("state")),
            ("LBSIDECAR_DAEMON_RUN_DIR", place("run")),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).into();
        let env = Env { variables, root: root.to_owned(), directory: root.to_owned() };
        let mut config = config::load(&Flags::default(), &env).unwrap().config;
        config.prepare().unwrap();
        let clock = SteadyClock::start();
        let state = recover(None, &Facts::default(), &config.core, clock.now());
        let (metrics, (sender, events)) = (Arc::new(Metrics::new()), mpsc::channel(1));
        let cloud = Cloud::new(config.cloud).unwrap();
        let address = Arc::new(ServiceAddress::new(cloud, config.vip, &config.haproxy));
        let executor = Executor {
            settings: config.core.clone(),
            haproxy: Arc::new(tokio::sync::Mutex::new(Haproxy::new(config.haproxy).unwrap())),
            address: Arc::clone(&address),
            metrics: Arc::clone(&metrics),
        };
        Loop {
            clock,
            store: Store::open(&config.places.state_dir, &config.core.pool).unwrap(),
            machine: Machine::new(state, config.core, clock.now()),
            executor: Arc::new(executor),
            events,
            sender,
            admin: mpsc::channel(1).1,
            focus: watch::channel(Focus::default()).0,
            publisher: Publisher::new(address, metrics, Surroundings::default(), watch::channel(None).0),
            notifier: Notifier::new(),
            reread: Box::new(|| Err("not asked for".to_owned())),
            sources,
        }
    }

    #[tokio::test]
    async fn a_source_that_breaks_off_ends_the_daemon() {
        let root = tempfile::tempdir().unwrap();
        let mut sources = JoinSet::new();
        sources.spawn(std::future::pending());
        sources.spawn(async { panic!("on purpose") });
        let ended = timeout(Duration::from_secs(20), pool(&root, sources).run()).await.unwrap();
        let error = DaemonError::from(ended.unwrap_err());
        assert!(error.to_string().contains("on purpose"), "{error}");
        assert_eq!(error.exit(), Exit::Internal);
        assert!(root.path().join("state/default/state.json").exists(), "what is known is saved");
    }
}
