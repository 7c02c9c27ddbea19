//! The metrics as a scraper sees them, and the lists that must keep up with the core.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use super::{Metrics, metrics, names};

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
