//! The daemon's metrics. They are set from what the loop shows and from what adapters tell; nothing is decided by them.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Metric, Registry},
};

use super::names::{self, Name};
use crate::core::{
    condition::Phase,
    event::VipSeen,
    machine::Machine,
    state::{Member, Place},
    time::Timestamp,
    view::{Action, Decision, Vote},
};

type Ratio = Gauge<f64, AtomicU64>;

/// All metrics, created with 0 where their labels are known beforehand.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    last_tick: Ratio,
    phase: Family<PhaseLabel, Gauge>,
    phase_entered: Ratio,
    alarms: Gauge,
    breaker_open: Gauge,
    vip_held: Gauge,
    replicas: Family<StateLabel, Gauge>,
    transition: Family<KindLabel, Gauge>,
    decisions: Family<DecisionLabels, Counter>,
    pool_load: Ratio,
    guests: Guests,
    stale_guests: Gauge,
    libvirt_connected: Gauge,
    libvirt_poll: Histogram,
    openstack_connected: Gauge,
    openstack_requests: Family<RequestLabels, Counter>,
    openstack_duration: Family<ServiceLabel, Histogram, fn() -> Histogram>,
    haproxy_connected: Gauge,
    haproxy_generation: Gauge,
    haproxy_old_workers: Gauge,
    effects: Family<EffectLabels, Counter>,
    effect_duration: Family<EffectLabel, Histogram, fn() -> Histogram>,
    state_write_errors: Counter,
    shown: Mutex<Shown>,
}

/// The series of each VM.
#[derive(Debug, Default)]
struct Guests {
    cpu: Family<GuestLabels, Ratio>,
    steal: Family<GuestLabels, Ratio>,
    memory: Family<GuestLabels, Ratio>,
    weight: Family<GuestLabels, Gauge>,
    sessions: Family<GuestLabels, Gauge>,
}

/// What was shown last.
#[derive(Debug, Default)]
struct Shown {
    phase: Option<Phase>,
    decision: Option<Timestamp>,
    guests: BTreeSet<GuestLabels>,
}

macro_rules! labels {
    ($($name:ident { $($label:ident: $type:ty),+ })+) => {$(
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
        struct $name { $($label: $type),+ }
    )+};
}
labels! {
    PhaseLabel { phase: &'static str }
    StateLabel { state: &'static str }
    KindLabel { kind: &'static str }
    DecisionLabels { vote: &'static str, action: &'static str }
    GuestLabels { vm: String, server: String }
    RequestLabels { service: &'static str, operation: &'static str, code: String }
    ServiceLabel { service: &'static str }
    EffectLabels { effect: &'static str, outcome: &'static str }
    EffectLabel { effect: &'static str }
}

pub(super) const PHASES: [Phase; 7] = [
    Phase::Starting,
    Phase::Single,
    Phase::ScalingOut,
    Phase::Balanced,
    Phase::HandingOver,
    Phase::Degraded,
    Phase::Held,
];
const STATES: [&str; 3] = ["serving", "joining", "leaving"];
pub(super) const KINDS: [&str; 6] = ["adopt", "scale-out", "handover", "roll-back", "evict", "rejoin"];
const VOTES: [Vote; 4] = [Vote::High, Vote::Low, Vote::Between, Vote::Unknown];
const ACTIONS: [Action; 4] = [Action::None, Action::ScaleOut, Action::Handover, Action::Abort];
const SERVICES: [&str; 4] = ["identity", "compute", "network", "image"];
pub(super) const EFFECTS: [&str; 15] = [
    "apply",
    "probe",
    "cut-sessions",
    "admit",
    "create",
    "study",
    "find-intent",
    "address",
    "stop",
    "start",
    "snapshot",
    "delete",
    "release-address",
    "take-vip",
    "give-vip",
];

/// A VM without a sample for this long is stale.
const STALE: Duration = Duration::from_secs(15);

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Creates all of them.
    #[must_use]
    pub fn new() -> Self {
        let mut to = Registry::with_prefix("lbsidecar");
        let build_info: Family<Vec<(&'static str, &'static str)>, Gauge> = Family::default();
        build_info.get_or_create(&vec![("version", env!("CARGO_PKG_VERSION"))]).set(1);
        register(&mut to, names::BUILD_INFO, build_info);
        // From half a millisecond to a minute, in steps of three.
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.0005, 3.0, 12));
        let metrics = Self {
            last_tick: register(&mut to, names::LAST_TICK, Gauge::default()),
            phase: register(&mut to, names::PHASE, Family::default()),
            phase_entered: register(&mut to, names::PHASE_ENTERED, Gauge::default()),
            alarms: register(&mut to, names::ALARMS, Gauge::default()),
            breaker_open: register(&mut to, names::BREAKER_OPEN, Gauge::default()),
            vip_held: register(&mut to, names::VIP_HELD, Gauge::default()),
            replicas: register(&mut to, names::REPLICAS, Family::default()),
            transition: register(&mut to, names::TRANSITION, Family::default()),
            decisions: register(&mut to, names::DECISIONS, Family::default()),
            pool_load: register(&mut to, names::POOL_LOAD, Gauge::default()),
            guests: Guests {
                cpu: register(&mut to, names::GUEST_CPU, Family::default()),
                steal: register(&mut to, names::GUEST_STEAL, Family::default()),
                memory: register(&mut to, names::GUEST_MEMORY, Family::default()),
                weight: register(&mut to, names::GUEST_WEIGHT, Family::default()),
                sessions: register(&mut to, names::GUEST_SESSIONS, Family::default()),
            },
            stale_guests: register(&mut to, names::STALE_GUESTS, Gauge::default()),
            libvirt_connected: register(&mut to, names::LIBVIRT_CONNECTED, Gauge::default()),
            libvirt_poll: register(&mut to, names::LIBVIRT_POLL, histogram()),
            openstack_connected: register(&mut to, names::OPENSTACK_CONNECTED, Gauge::default()),
            openstack_requests: register(&mut to, names::OPENSTACK_REQUESTS, Family::default()),
            openstack_duration: register(
                &mut to,
                names::OPENSTACK_DURATION,
                Family::new_with_constructor(histogram),
            ),
            haproxy_connected: register(&mut to, names::HAPROXY_CONNECTED, Gauge::default()),
            haproxy_generation: register(&mut to, names::HAPROXY_GENERATION, Gauge::default()),
            haproxy_old_workers: register(&mut to, names::HAPROXY_OLD_WORKERS, Gauge::default()),
            effects: register(&mut to, names::EFFECTS, Family::default()),
            effect_duration: register(
                &mut to,
                names::EFFECT_DURATION,
                Family::new_with_constructor(histogram),
            ),
            state_write_errors: register(&mut to, names::STATE_WRITE_ERRORS, Counter::default()),
            shown: Mutex::default(),
            registry: to,
        };
        metrics.zero();
        metrics
    }

    /// Creates the series whose labels are known.
    fn zero(&self) {
        for phase in PHASES {
            self.phase.get_or_create_owned(&PhaseLabel { phase: phase.as_str() });
        }
        for state in STATES {
            self.replicas.get_or_create_owned(&StateLabel { state });
        }
        for kind in KINDS {
            self.transition.get_or_create_owned(&KindLabel { kind });
        }
        for labels in
            VOTES.iter().flat_map(|vote| ACTIONS.iter().map(|action| decision_labels(*vote, *action)))
        {
            self.decisions.get_or_create_owned(&labels);
        }
        for service in SERVICES {
            self.openstack_duration.get_or_create_owned(&ServiceLabel { service });
        }
        for effect in EFFECTS {
            for outcome in ["done", "failed"] {
                self.effects.get_or_create_owned(&EffectLabels { effect, outcome });
            }
            self.effect_duration.get_or_create_owned(&EffectLabel { effect });
        }
        self.pool_load.set(f64::NAN);
    }

    /// All metrics as OpenMetrics text (`application/openmetrics-text; version=1.0.0`).
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// An effect ended.
    pub fn effect(&self, effect: &'static str, done: bool, elapsed: Duration) {
        let outcome = if done { "done" } else { "failed" };
        self.effects.get_or_create(&EffectLabels { effect, outcome }).inc();
        self.effect_duration.get_or_create(&EffectLabel { effect }).observe(elapsed.as_secs_f64());
    }

    /// A request to the cloud ended; `status` is `None` when no answer came.
    pub fn request(
        &self,
        service: &'static str,
        operation: &'static str,
        status: Option<u16>,
        elapsed: Duration,
    ) {
        let code = status.map_or("none".to_owned(), |status| status.to_string());
        self.openstack_requests.get_or_create(&RequestLabels { service, operation, code }).inc();
        self.openstack_duration.get_or_create(&ServiceLabel { service }).observe(elapsed.as_secs_f64());
    }

    /// libvirt was read, or did not answer in time.
    pub fn polled(&self, elapsed: Duration) {
        self.libvirt_poll.observe(elapsed.as_secs_f64());
    }

    /// The state could not be written.
    pub fn state_unsaved(&self) {
        self.state_write_errors.inc();
    }

    /// Shows the pool as it is now.
    pub fn show(&self, machine: &Machine, now: Timestamp) {
        let (state, view) = (&machine.state, &machine.view);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        self.last_tick.set(seconds(now));
        let phase = machine.phase(now);
        if shown.phase != Some(phase) {
            shown.phase = Some(phase);
            self.phase_entered.set(seconds(now));
            for other in PHASES {
                self.phase
                    .get_or_create(&PhaseLabel { phase: other.as_str() })
                    .set(i64::from(other == phase));
            }
        }
        self.alarms.set(whole(machine.alarms(now).len()));
        self.breaker_open.set(i64::from(state.breaker.open));
        self.vip_held.set(i64::from(matches!(view.vip, Some(VipSeen::Ours))));
        for name in STATES {
            let count = state.members.iter().filter(|member| member_state(member) == name).count();
            self.replicas.get_or_create(&StateLabel { state: name }).set(whole(count));
        }
        let in_flight = state.transition.as_ref().map(|transition| transition.kind.name());
        for kind in KINDS {
            self.transition.get_or_create(&KindLabel { kind }).set(i64::from(in_flight == Some(kind)));
        }
        self.libvirt_connected.set(i64::from(view.guests_missing.is_none() && !view.samplers.is_empty()));
        self.openstack_connected.set(i64::from(view.cloud_missing.is_none() && view.cloud_at.is_some()));
        self.haproxy_connected.set(i64::from(view.lb_missing.is_none() && view.lb.is_some()));
        if let Some((_, seen)) = &view.lb {
            self.haproxy_generation.set(seen.generation.and_then(|g| i64::try_from(g).ok()).unwrap_or(0));
            self.haproxy_old_workers.set(whole(seen.old_workers.len()));
        }
        self.show_decisions(view.decisions.iter().rev(), &mut shown);
        self.show_guests(machine, now, &mut shown);
    }

    /// Counts the decisions that were not counted yet; newest first.
    fn show_decisions<'a>(&self, decisions: impl Iterator<Item = &'a Decision>, shown: &mut Shown) {
        let mut newest = None;
        for decision in decisions.take_while(|decision| shown.decision.is_none_or(|last| decision.at > last))
        {
            newest.get_or_insert(decision);
            self.decisions.get_or_create(&decision_labels(decision.vote, decision.action)).inc();
        }
        if let Some(decision) = newest {
            shown.decision = Some(decision.at);
            self.pool_load.set(decision.value.map_or(f64::NAN, |value| value / 100.0));
        }
    }

    fn show_guests(&self, machine: &Machine, now: Timestamp, shown: &mut Shown) {
        let (state, view) = (&machine.state, &machine.view);
        let mut present = BTreeSet::new();
        let mut stale = 0;
        for member in &state.members {
            let labels = GuestLabels { vm: member.name.clone(), server: member.id.to_string() };
            let newest = view.samplers.get(&member.id).and_then(|sampler| sampler.newest);
            let fresh = newest.filter(|(at, _)| now.since(*at) < STALE);
            if fresh.is_none() {
                stale += 1;
            }
            let ratio = |value: Option<f64>| value.map_or(f64::NAN, |percent| percent / 100.0);
            let of =
                |family: &Family<GuestLabels, Ratio>, value| family.get_or_create(&labels).set(ratio(value));
            of(&self.guests.cpu, fresh.map(|(_, sub)| sub.used.get()));
            of(&self.guests.steal, fresh.map(|(_, sub)| sub.steal.get()));
            of(&self.guests.memory, fresh.and_then(|(_, sub)| sub.memory).map(|memory| memory.get()));
            let seen = view.lb_server(&member.backend_name());
            let number = |value: Option<u64>| value.and_then(|value| i64::try_from(value).ok()).unwrap_or(0);
            self.guests.weight.get_or_create(&labels).set(number(seen.map(|seen| seen.weight.into())));
            self.guests.sessions.get_or_create(&labels).set(number(seen.map(|seen| seen.sessions)));
            present.insert(labels);
        }
        for gone in shown.guests.difference(&present) {
            self.guests.cpu.remove(gone);
            self.guests.steal.remove(gone);
            self.guests.memory.remove(gone);
            self.guests.weight.remove(gone);
            self.guests.sessions.remove(gone);
        }
        self.stale_guests.set(stale);
        shown.guests = present;
    }
}

fn register<M: Metric + Clone>(registry: &mut Registry, name: Name, metric: M) -> M {
    registry.register(name.name, name.help, metric.clone());
    metric
}

fn seconds(moment: Timestamp) -> f64 {
    moment.since(Timestamp::default()).as_secs_f64()
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn member_state(member: &Member) -> &'static str {
    match member.place {
        _ if member.is_serving() => "serving",
        Place::Listed { .. } => "joining",
        Place::Unlisted if member.serving_since.is_none() => "joining",
        Place::Draining | Place::Unlisted => "leaving",
    }
}

fn decision_labels(vote: Vote, action: Action) -> DecisionLabels {
    DecisionLabels {
        vote: match vote {
            Vote::High => "high",
            Vote::Low => "low",
            Vote::Between => "between",
            Vote::Unknown => "unknown",
        },
        action: match action {
            Action::None => "none",
            Action::ScaleOut => "scale-out",
            Action::Handover => "handover",
            Action::Abort => "abort",
        },
    }
}
