//! Where events come from: one task per source, each asking at its own pace and telling also when it gets no answer.
//!
//! A source never decides anything. While a transition is in flight all of them look more often.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Mutex, broadcast, broadcast::error::RecvError, mpsc, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use tracing::info;

use super::{address::ServiceAddress, cloud};
use crate::{
    core::{
        event::{Event, VipSeen},
        ids::{PoolName, ServerId},
    },
    guests::{Guests, Lifecycle},
    haproxy::Haproxy,
    telemetry::Metrics,
};

/// Pace of the machine's own clock, and so the resolution of its deadlines.
const TICK: Duration = Duration::from_millis(250);
/// How long after libvirt has told of one of our VMs Nova is asked: it hears of it as we do, and what follows at once is told with it.
const NOVA_HEARS: Duration = Duration::from_secs(1);

/// What the sources must know of the state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Focus {
    /// The members and the VM in transition.
    pub(super) servers: Vec<ServerId>,
    /// Whether a transition is in flight.
    pub(super) busy: bool,
}

/// The parts that are looked at.
pub(super) struct Sources {
    pub(super) pool: PoolName,
    pub(super) guests: Arc<Guests>,
    pub(super) sample: Duration,
    pub(super) metrics: Arc<Metrics>,
    pub(super) haproxy: Arc<Mutex<Haproxy>>,
    pub(super) address: Arc<ServiceAddress>,
    pub(super) focus: watch::Receiver<Focus>,
    pub(super) events: mpsc::Sender<Event>,
}

impl Sources {
    /// Starts all of them; they end when the returned set is dropped.
    pub(super) fn start(self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(tick(self.events.clone()));
        let told = self.guests.events();
        tasks.spawn(guests(self.guests, self.sample, self.metrics, self.focus.clone(), self.events.clone()));
        tasks.spawn(haproxy(self.haproxy, self.focus.clone(), self.events.clone()));
        let address = Arc::clone(&self.address);
        tasks.spawn(servers(self.pool, address, told, self.focus.clone(), self.events.clone()));
        tasks.spawn(service_address(self.address, self.focus, self.events));
        tasks
    }
}

/// Ends when one of them ends, as none does while the loop hears it: why.
pub(super) async fn broken_off(tasks: &mut JoinSet<()>) -> String {
    match tasks.join_next().await {
        Some(Err(panic)) => panic.to_string(),
        Some(Ok(())) | None => "it ended".to_owned(),
    }
}

async fn tick(events: mpsc::Sender<Event>) {
    let mut beat = steady(TICK);
    loop {
        beat.tick().await;
        if events.send(Event::Tick).await.is_err() {
            return;
        }
    }
}

async fn guests(
    guests: Arc<Guests>,
    sample: Duration,
    metrics: Arc<Metrics>,
    focus: watch::Receiver<Focus>,
    events: mpsc::Sender<Event>,
) {
    let mut beat = steady(sample);
    loop {
        beat.tick().await;
        let servers = focus.borrow().servers.clone();
        let began = Instant::now();
        let event = match guests.sample(&servers).await {
            Ok(counters) => Event::Sampled(counters),
            Err(error) => Event::SampleMissing(error.to_string()),
        };
        metrics.polled(began.elapsed());
        if events.send(event).await.is_err() {
            return;
        }
    }
}

async fn haproxy(
    haproxy: Arc<Mutex<Haproxy>>,
    mut focus: watch::Receiver<Focus>,
    events: mpsc::Sender<Event>,
) {
    loop {
        let sent = {
            // Sent before the lock is given back: an observation made before an apply is also told before it.
            let haproxy = haproxy.lock().await;
            let event = match haproxy.observe().await {
                Ok(seen) => Event::LbSeen(seen),
                Err(error) => Event::LbUnseen(error.to_string()),
            };
            events.send(event).await
        };
        if sent.is_err() {
            return;
        }
        pause(&mut focus, Duration::from_secs(1), Duration::from_millis(200)).await;
    }
}

async fn servers(
    pool: PoolName,
    address: Arc<ServiceAddress>,
    mut told: broadcast::Receiver<Lifecycle>,
    mut focus: watch::Receiver<Focus>,
    events: mpsc::Sender<Event>,
) {
    loop {
        let known = focus.borrow().servers.clone();
        let event = match cloud::observe(address.cloud(), &address.reach(), &pool, &known).await {
            Ok(servers) => Event::CloudSeen(servers),
            Err(error) => Event::CloudUnseen(error.to_string()),
        };
        if events.send(event).await.is_err() {
            return;
        }
        let ours = focus.clone();
        tokio::select! {
            () = pause(&mut focus, Duration::from_secs(5), Duration::from_secs(1)) => {}
            () = something_happens(&mut told, &ours) => tokio::time::sleep(NOVA_HEARS).await,
        }
    }
}

/// Waits until libvirt tells of one of our VMs, and says so: a person who looks for the cause finds the moment here.
async fn something_happens(told: &mut broadcast::Receiver<Lifecycle>, focus: &watch::Receiver<Focus>) {
    loop {
        match told.recv().await {
            Ok(Lifecycle { server, what }) if focus.borrow().servers.contains(&server) => {
                info!(%server, ?what, "libvirt tells of a VM");
                return;
            }
            Ok(_) => {}
            // What was lost may have been of ours.
            Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

async fn service_address(
    address: Arc<ServiceAddress>,
    mut focus: watch::Receiver<Focus>,
    events: mpsc::Sender<Event>,
) {
    loop {
        let seen = address.seen().await;
        let known = address.found().filter(|_| seen == VipSeen::Ours);
        if let Some(known) = known
            && events.send(Event::VipKnown(known.floating_ip.address)).await.is_err()
        {
            return;
        }
        if events.send(Event::VipSeen(seen)).await.is_err() {
            return;
        }
        pause(&mut focus, Duration::from_secs(5), Duration::from_secs(2)).await;
    }
}

/// Waits until the next look: shorter while a transition is in flight, and cut short when one begins.
async fn pause(focus: &mut watch::Receiver<Focus>, idle: Duration, busy: Duration) {
    let was_busy = focus.borrow_and_update().busy;
    let changed = async {
        // Without a transition nothing is urgent but its beginning.
        while focus.changed().await.is_ok() {
            if focus.borrow_and_update().busy && !was_busy {
                return;
            }
        }
        std::future::pending::<()>().await;
    };
    let _ = tokio::time::timeout(if was_busy { busy } else { idle }, changed).await;
}

fn steady(period: Duration) -> tokio::time::Interval {
    let mut beat = interval(period);
    // Beats that were missed (the host slept) are not made up for.
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat
}
