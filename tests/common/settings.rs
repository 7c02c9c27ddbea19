//! The rules that the tests of the core play by: short deadlines, the usual thresholds.

use std::time::Duration;

use lbsidecar::core::{ids::PoolName, settings::*, units::Percent};

/// Thresholds 60 and 20, four votes, two members.
pub(crate) fn settings() -> Settings {
    let secs = Duration::from_secs;
    let percent = |value| Percent::try_new(value).unwrap();
    Settings {
        pool: PoolName::try_new("web").unwrap(),
        base: "vm-test".into(),
        clone: "vm-test-clone".into(),
        service_port: 80,
        max_members: 2,
        policy: PolicySettings {
            high: percent(60.0),
            low: percent(20.0),
            min_up: 4,
            min_down: 4,
            metric: Metric::Max,
            signal: Signal::Cpu,
            sample: secs(1),
            interval: secs(5),
            margin: percent(15.0),
            warm_up: secs(10),
            cooldown_up: secs(30),
            cooldown_down: secs(60),
            min_lifetime: secs(60),
            lost_primary: LostPrimary::Alert,
        },
        clone_spec: CloneSettings {
            source: CloneSource::Image,
            image: None,
            flavor: None,
            network: None,
            key_name: None,
            security_groups: None,
            user_data: None,
        },
        transition: TransitionSettings {
            build_deadline: secs(120),
            healthy_deadline: secs(60),
            proofs: 3,
            proof_spacing: secs(1),
            ramp: vec![1, 10, 50, 100],
            ramp_step: secs(2),
            drain_deadline: secs(90),
            drain_policy: DrainPolicy::Wait,
            stop_deadline: secs(30),
            delete_deadline: secs(300),
            snapshot_before_delete: false,
            snapshot_retain: 2,
            backoff_first: secs(30),
            backoff_max: secs(120),
            breaker_after: 3,
        },
        guards: GuardSettings {
            reserve_memory_mib: 256,
            max_cpu_pressure: percent(60.0),
            max_steal: percent(30.0),
        },
    }
}
