//! Every metric, once: its name, type, labels and meaning. `docs/metrics.md` is made from this list.

use std::fmt::Write;

/// One metric.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name {
    /// Without the prefix `lbsidecar_`, and for counters without the `_total` that is appended.
    pub(super) name: &'static str,
    /// What kind it is.
    pub(super) kind: Kind,
    /// Its labels.
    pub(super) labels: &'static [&'static str],
    /// What it says; no full stop, which the encoder appends.
    pub(super) help: &'static str,
}

/// Kinds of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Goes up only.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets.
    Histogram,
}

macro_rules! names {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(pub(super) const $constant: Name =
            Name { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)+

        /// All of them, in the order of the documentation.
        pub(super) const ALL: &[Name] = &[$($constant),+];
    };
}

names! {
    BUILD_INFO = Gauge "build_info" ["version"] "Always 1; the label says which version runs";
    LAST_TICK = Gauge "last_tick_timestamp_seconds" [] "When the loop turned last; it stands still when the daemon hangs";
    PHASE = Gauge "phase" ["phase"] "1 for the phase that the pool is in, 0 for the others";
    PHASE_ENTERED = Gauge "phase_entered_timestamp_seconds" [] "When the pool entered its phase";
    ALARMS = Gauge "alarms" [] "Things that a person should look at; `lbsidecar status` names them";
    BREAKER_OPEN = Gauge "breaker_open" [] "1 when so many creations failed that no more are tried until an operator says so";
    VIP_HELD = Gauge "vip_held" [] "1 while the service address leads to HAProxy";
    REPLICAS = Gauge "replicas" ["state"] "VMs of the pool: serving with full weight, joining, or leaving";
    TRANSITION = Gauge "transition" ["kind"] "1 for the transition in flight";
    DECISIONS = Counter "decisions" ["vote", "action"] "Votes and what came of them; `lbsidecar explain` tells each one's reason";
    POOL_LOAD = Gauge "pool_cpu_ratio" [] "The value of the last vote, 0 to 1: the mean over the serving VMs; NaN when it is not known";
    GUEST_CPU = Gauge "guest_cpu_ratio" ["vm", "server"] "Time on a host CPU in the newest sample, 0 to 1, of all the VM's CPUs";
    GUEST_STEAL = Gauge "guest_steal_ratio" ["vm", "server"] "Time runnable but waiting for a host CPU, 0 to 1";
    GUEST_MEMORY = Gauge "guest_memory_ratio" ["vm", "server"] "Memory in use as the balloon driver tells it, 0 to 1; NaN when it does not";
    GUEST_WEIGHT = Gauge "guest_weight" ["vm", "server"] "Weight in HAProxy, 0 to 256";
    GUEST_SESSIONS = Gauge "guest_sessions" ["vm", "server"] "Sessions open to the VM, over all HAProxy workers";
    STALE_GUESTS = Gauge "stale_guests" [] "VMs of the pool without a fresh sample";
    LIBVIRT_CONNECTED = Gauge "libvirt_connected" [] "1 while libvirt answers";
    LIBVIRT_POLL = Histogram "libvirt_poll_duration_seconds" [] "How long one reading of all VMs took";
    OPENSTACK_CONNECTED = Gauge "openstack_connected" [] "1 while Nova answers";
    OPENSTACK_REQUESTS = Counter "openstack_requests" ["service", "operation", "code"] "Requests to the cloud; code `none` when no answer came";
    OPENSTACK_DURATION = Histogram "openstack_request_duration_seconds" ["service"] "How long they took";
    HAPROXY_CONNECTED = Gauge "haproxy_connected" [] "1 while HAProxy answers";
    HAPROXY_GENERATION = Gauge "haproxy_config_generation" [] "Generation of the running configuration; it counts reloads";
    HAPROXY_OLD_WORKERS = Gauge "haproxy_old_workers" [] "Workers of former configurations that still serve sessions";
    EFFECTS = Counter "effects" ["effect", "outcome"] "What was done to Nova, Neutron and HAProxy, and whether it succeeded";
    EFFECT_DURATION = Histogram "effect_duration_seconds" ["effect"] "How long it took";
    STATE_WRITE_ERRORS = Counter "state_write_errors" [] "Times that the state could not be written";
}

impl Name {
    /// As Prometheus sees it.
    pub(super) fn exposed(&self) -> String {
        let suffix = if self.kind == Kind::Counter { "_total" } else { "" };
        format!("lbsidecar_{}{suffix}", self.name)
    }
}

/// `docs/metrics.md`.
#[must_use]
pub fn reference() -> String {
    let mut text = "\
# Metrics

This file is made from the list in `src/telemetry/names.rs`; a test compares them.

The daemon serves them as OpenMetrics text under `/metrics` on its Unix socket, and on `admin.listen` when that is set:

    curl --unix-socket /run/lbsidecar/default/lbsidecar.sock http://localhost/metrics

HAProxy's own metrics are beside its statistics page, under `/metrics` of `haproxy.stats_bind`. Series of a VM (`guest_…`) end when it leaves the pool.

| name | type | labels | what it says |
|---|---|---|---|
"
    .to_owned();
    for name in ALL {
        let kind = match name.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = name.labels.iter().map(|label| format!("`{label}`")).collect();
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "| `{}` | {kind} | {} | {} |", name.exposed(), labels.join(", "), name.help);
    }
    text
}
