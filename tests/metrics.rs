//! The pool's metrics as a scraper sees them.

#![allow(clippy::unwrap_used, reason = "a test stops where it cannot go on")]

use std::{collections::BTreeMap, time::Duration};

use lbsidecar::{
    config::{self, Env, Flags},
    core::{
        guest::{DomainCounters, DomainState, VcpuCounters},
        ids::ServerId,
        machine::Machine,
        sampler::Sampler,
        state::{Member, Place, State},
        time::Timestamp,
        units::Weight,
        view::{Action, Decision, Vote},
    },
    telemetry::Metrics,
};
use uuid::Uuid;

/// The samples in the text, without comments.
fn samples(metrics: &Metrics) -> BTreeMap<String, f64> {
    let text = metrics.encode();
    assert!(text.ends_with("# EOF\n"));
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(series, value)| (series.to_owned(), value.parse().unwrap()))
        .collect()
}

fn machine() -> Machine {
    let variables = ["OS_AUTH_URL", "OS_USERNAME", "OS_PASSWORD", "OS_PROJECT_NAME"];
    let env = Env {
        variables: variables.map(|name| (name.to_owned(), "http://x".to_owned())).into(),
        root: "/nonexistent".into(),
        directory: "/nonexistent".into(),
    };
    let flags = Flags { clone: Some("c".into()), ..Flags::default() };
    let settings = config::load(&flags, &env).unwrap().config.core;
    let state = State::new(settings.pool.clone(), Timestamp(0));
    Machine::new(state, settings, Timestamp(0))
}

#[test]
fn the_pool_is_shown_and_a_gone_member_is_gone() {
    let metrics = Metrics::new();
    let mut machine = machine();
    let id = ServerId(Uuid::from_u128(7));
    machine.state.members.push(Member {
        id,
        name: "vm-test".into(),
        mark: None,
        generation: 0,
        address: Some("192.0.2.1:80".parse().unwrap()),
        floating_ip: None,
        place: Place::Listed { weight: Weight::FULL },
        serving_since: Some(Timestamp(1)),
        gone: false,
    });
    let mut sampler = Sampler::default();
    for (second, time_ns) in [(1, 0), (2, 250_000_000)] {
        let vcpus = [(0, VcpuCounters { time_ns, delay_ns: Some(0) })].into();
        let counters = DomainCounters {
            server: id,
            instance: Some(1),
            at_ns: second * 1_000_000_000,
            state: DomainState::Running,
            vcpus,
            memory: None,
        };
        sampler.take(Timestamp(second * 1000), counters, Duration::from_secs(1));
    }
    machine.view.samplers.insert(id, sampler);
    let decision = |at, vote| Decision {
        at: Timestamp(at),
        value: Some(25.0),
        readings: Vec::new(),
        vote,
        up_run: 0,
        down_run: 0,
        action: Action::None,
        reason: String::new(),
    };
    machine.view.decide(decision(1000, Vote::Between));
    metrics.show(&machine, Timestamp(2500));
    machine.view.decide(decision(2000, Vote::Between));
    machine.view.decide(decision(3000, Vote::High));
    metrics.show(&machine, Timestamp(3500));
    metrics.show(&machine, Timestamp(3600));

    let now = samples(&metrics);
    let guest = "{vm=\"vm-test\",server=\"00000000-0000-0000-0000-000000000007\"}";
    for (series, value) in [
        ("replicas{state=\"serving\"}", 1.0),
        (&format!("guest_cpu_ratio{guest}"), 0.25),
        ("decisions_total{vote=\"between\",action=\"none\"}", 2.0),
        ("decisions_total{vote=\"high\",action=\"none\"}", 1.0),
        ("pool_cpu_ratio", 0.25),
        ("last_tick_timestamp_seconds", 3.6),
        ("stale_guests", 0.0),
        ("libvirt_connected", 1.0),
        ("haproxy_connected", 0.0),
    ] {
        assert_eq!(now.get(&format!("lbsidecar_{series}")), Some(&value), "{series}");
    }
    let phases: f64 =
        now.iter().filter(|(series, _)| series.starts_with("lbsidecar_phase{")).map(|(_, v)| v).sum();
    assert_eq!(phases, 1.0);

    machine.state.members.clear();
    metrics.show(&machine, Timestamp(4000));
    let now = samples(&metrics);
    assert!(!now.keys().any(|series| series.contains("vm=")), "{now:?}");
    assert_eq!(now["lbsidecar_replicas{state=\"serving\"}"], 0.0);
}
