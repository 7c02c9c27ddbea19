//! The metrics as a scraper sees them, and the lists that must keep up with the core.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use uuid::Uuid;

use super::{Metrics, metrics, names};
use crate::{
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
};

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
fn every_metric_is_there_from_the_start() {
    let metrics = Metrics::new();
    let text = metrics.encode();
    // What VMs there are and what is asked of the cloud shows only later.
    for name in names::ALL
        .iter()
        .filter(|name| !name.labels.contains(&"server") && !name.labels.contains(&"operation"))
    {
        let kind = format!("{:?}", name.kind).to_lowercase();
        assert!(
            text.contains(&format!("# TYPE lbsidecar_{} {kind}\n", name.name)),
            "{} is missing",
            name.name
        );
    }
    let samples = samples(&metrics);
    for series in [
        "lbsidecar_effects_total{effect=\"give-vip\",outcome=\"failed\"}",
        "lbsidecar_decisions_total{vote=\"high\",action=\"scale-out\"}",
        "lbsidecar_phase{phase=\"held\"}",
        "lbsidecar_state_write_errors_total",
        "lbsidecar_effect_duration_seconds_count{effect=\"apply\"}",
    ] {
        assert_eq!(samples.get(series), Some(&0.0), "{series}");
    }
    assert!(samples["lbsidecar_pool_cpu_ratio"].is_nan());
    let version = format!("lbsidecar_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(samples.get(&version), Some(&1.0));
}

#[test]
fn what_is_told_is_counted() {
    let metrics = Metrics::new();
    metrics.effect("create", true, Duration::from_secs(2));
    metrics.effect("create", false, Duration::from_secs(1));
    metrics.request("compute", "create server", Some(202), Duration::from_millis(50));
    metrics.request("compute", "create server", None, Duration::from_secs(30));
    metrics.state_unsaved();
    metrics.polled(Duration::from_millis(2));
    let samples = samples(&metrics);
    for (series, value) in [
        ("effects_total{effect=\"create\",outcome=\"done\"}", 1.0),
        ("effects_total{effect=\"create\",outcome=\"failed\"}", 1.0),
        ("effect_duration_seconds_sum{effect=\"create\"}", 3.0),
        ("openstack_requests_total{service=\"compute\",operation=\"create server\",code=\"202\"}", 1.0),
        ("openstack_requests_total{service=\"compute\",operation=\"create server\",code=\"none\"}", 1.0),
        ("openstack_request_duration_seconds_count{service=\"compute\"}", 2.0),
        ("state_write_errors_total", 1.0),
        ("libvirt_poll_duration_seconds_count", 1.0),
    ] {
        assert_eq!(samples.get(&format!("lbsidecar_{series}")), Some(&value), "{series}");
    }
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

#[test]
fn the_lists_of_names_are_those_of_the_core() {
    let source = |file: &str| {
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/core").join(file)).unwrap()
    };
    // The arms of the one function of each file that gives names.
    let names = |file: &str, function: &str| -> Vec<String> {
        let source = source(file);
        let body = source.split_once(function).unwrap().1.split_once("\n    }\n").unwrap().0;
        body.lines()
            .filter_map(|line| Some(line.split_once("=> \"")?.1.split_once('"')?.0.to_owned()))
            .collect()
    };
    assert_eq!(names("event.rs", "pub fn name(&self) -> &'static str {"), metrics::EFFECTS);
    assert_eq!(names("transition.rs", "pub fn name(&self) -> &'static str {"), metrics::KINDS);
    assert_eq!(
        names("condition.rs", "pub fn as_str(self) -> &'static str {"),
        metrics::PHASES.map(|p| p.as_str())
    );
}

#[test]
fn the_documentation_is_that_of_the_code() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    if std::env::var_os("LBSIDECAR_WRITE_DOCS").is_some() {
        fs::write(&file, names::reference()).unwrap();
    }
    assert!(
        fs::read_to_string(&file).unwrap_or_default() == names::reference(),
        "docs/metrics.md is stale: run this test with LBSIDECAR_WRITE_DOCS=1 and commit it"
    );
}
