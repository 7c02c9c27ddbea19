//! From two readings of a domain's counters to its CPU use, or to the reason why they say nothing.
//!
//! `used = 100 · Σ Δvcpu.N.time / (n · Δt)` over the n vCPUs that both readings have; `steal` is the same over `vcpu.N.delay`, the
//! time in which a vCPU could have run and the host had no core for it; `demand = min(100, used + steal)` is what the guest
//! would use if it could. The counters are nanoseconds (libvirt's `virConnectGetAllDomainStats`), Δt is monotonic.

use std::time::Duration;

use super::{
    guest::{DomainCounters, DomainState},
    units::Percent,
};

/// What a guest used between two readings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// Time on a host CPU, of all its vCPUs' time.
    pub used: Percent,
    /// Time waiting for a host CPU; 0 where libvirt does not tell.
    pub steal: Percent,
    /// Both, at most 100.
    pub demand: Percent,
    /// Memory in use, when the guest tells it.
    pub memory: Option<Percent>,
}

/// Why two readings say nothing about the time between them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// There is nothing to compare with.
    #[error("it is the first reading")]
    FirstSample,
    /// They are too close to each other.
    #[error("two readings within less than half a sample period")]
    TooShort,
    /// The host or we slept in between.
    #[error("{} s between two readings: the host was suspended or stalled", .0.as_secs())]
    TooLong(Duration),
    /// Another QEMU process: counters began anew.
    #[error("its QEMU process is a new one")]
    NewInstance,
    /// It did not run at one of them.
    #[error("it is {0:?}, not running")]
    NotRunning(DomainState),
    /// vCPUs came or went.
    #[error("its number of vCPUs changed")]
    VcpusChanged,
    /// A counter went down.
    #[error("a counter went back")]
    WentBack,
    /// libvirt gave no vCPU counters.
    #[error("libvirt gave no vCPU counters")]
    NoVcpus,
}

/// Compares two readings, `period` being the time that should lie between them.
///
/// # Errors
/// [`Invalid`] when they cannot be compared; the newer one is then the new base line, except for [`Invalid::TooShort`].
pub fn usage(before: &DomainCounters, after: &DomainCounters, period: Duration) -> Result<Usage, Invalid> {
    if before.instance != after.instance {
        return Err(Invalid::NewInstance);
    }
    for reading in [before, after] {
        if reading.state != DomainState::Running {
            return Err(Invalid::NotRunning(reading.state));
        }
    }
    let elapsed = Duration::from_nanos(after.at_ns.checked_sub(before.at_ns).ok_or(Invalid::WentBack)?);
    if elapsed < period / 2 || elapsed.is_zero() {
        return Err(Invalid::TooShort);
    }
    if elapsed > period * 3 {
        return Err(Invalid::TooLong(elapsed));
    }
    if !before.vcpus.keys().eq(after.vcpus.keys()) {
        return Err(Invalid::VcpusChanged);
    }
    if after.vcpus.is_empty() {
        return Err(Invalid::NoVcpus);
    }
    let (mut time, mut delay) = (0_u64, 0_u64);
    for (old, new) in before.vcpus.values().zip(after.vcpus.values()) {
        time = time.saturating_add(new.time_ns.checked_sub(old.time_ns).ok_or(Invalid::WentBack)?);
        if let (Some(old), Some(new)) = (old.delay_ns, new.delay_ns) {
            delay = delay.saturating_add(new.checked_sub(old).ok_or(Invalid::WentBack)?);
        }
    }
    let whole = after.vcpus.len() as f64 * elapsed.as_nanos() as f64;
    let (used, steal) = (100.0 * time as f64 / whole, 100.0 * delay as f64 / whole);
    let memory = after
        .memory
        .filter(|m| m.available_kib > 0)
        .map(|m| Percent::clamped(100.0 * (1.0 - m.usable_kib as f64 / m.available_kib as f64)));
    Ok(Usage {
        used: Percent::clamped(used),
        steal: Percent::clamped(steal),
        demand: Percent::clamped(used + steal),
        memory,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use uuid::Uuid;

    use super::*;
    use crate::core::{guest::VcpuCounters, ids::ServerId};

    const SECOND: u64 = 1_000_000_000;

    fn reading(at: u64, vcpus: &[(u32, u64, Option<u64>)]) -> DomainCounters {
        let vcpus: BTreeMap<u32, VcpuCounters> =
            vcpus.iter().map(|&(n, time_ns, delay_ns)| (n, VcpuCounters { time_ns, delay_ns })).collect();
        DomainCounters {
            server: ServerId(Uuid::nil()),
            instance: Some(7),
            at_ns: at,
            state: DomainState::Running,
            vcpus,
            memory: None,
        }
    }

    fn between(before: &DomainCounters, after: &DomainCounters) -> Result<Usage, Invalid> {
        usage(before, after, Duration::from_secs(1))
    }

    #[test]
    fn it_is_the_mean_over_the_vcpus_that_are_there() {
        // The array has a hole at 1: two vCPUs, one busy, one idle but waiting for a host CPU a tenth of the time.
        let before = reading(0, &[(0, 0, Some(0)), (2, 500, Some(100))]);
        let after = reading(SECOND, &[(0, SECOND, Some(0)), (2, 500, Some(100 + SECOND / 10))]);
        let usage = between(&before, &after).unwrap();
        assert_eq!((usage.used.get(), usage.steal.get(), usage.demand.get()), (50.0, 5.0, 55.0));
    }

    #[test]
    fn it_is_cut_at_a_hundred_and_counts_real_time_not_the_period() {
        let before = reading(0, &[(0, 0, Some(0))]);
        let usage_of = |at, time, delay| between(&before, &reading(at, &[(0, time, Some(delay))])).unwrap();
        assert_eq!(usage_of(SECOND, SECOND + SECOND / 50, 0).used.get(), 100.0);
        assert_eq!(usage_of(2 * SECOND, SECOND, 0).used.get(), 50.0);
        assert_eq!(usage_of(SECOND, SECOND / 2, SECOND).demand.get(), 100.0);
    }

    #[test]
    fn what_cannot_be_compared_is_said_and_never_a_number() {
        let one = |time| [(0, time, None)];
        let before = reading(10 * SECOND, &one(SECOND));
        let same = |change: fn(&mut DomainCounters)| {
            let mut after = reading(11 * SECOND, &one(SECOND + 1));
            change(&mut after);
            between(&before, &after).unwrap_err()
        };
        assert_eq!(same(|r| r.instance = Some(8)), Invalid::NewInstance);
        assert_eq!(same(|r| r.state = DomainState::Paused), Invalid::NotRunning(DomainState::Paused));
        assert_eq!(same(|r| r.at_ns = 10 * SECOND + SECOND / 3), Invalid::TooShort);
        assert_eq!(same(|r| r.at_ns = 20 * SECOND), Invalid::TooLong(Duration::from_secs(10)));
        assert_eq!(same(|r| r.at_ns = 9 * SECOND), Invalid::WentBack);
        assert_eq!(
            same(|r| r.vcpus = [(0, VcpuCounters { time_ns: 1, delay_ns: None })].into()),
            Invalid::WentBack
        );
        assert_eq!(
            same(|r| r.vcpus.extend([(1, VcpuCounters { time_ns: 1, delay_ns: None })])),
            Invalid::VcpusChanged
        );
        let none = reading(10 * SECOND, &[]);
        assert_eq!(between(&none, &reading(11 * SECOND, &[])).unwrap_err(), Invalid::NoVcpus);
    }
}
