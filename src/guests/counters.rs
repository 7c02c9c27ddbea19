//! From libvirt's typed parameters to counters. Pure: what libvirt called a thing and its number go in.
//!
//! The names are those of `virConnectGetAllDomainStats` (libvirt-domain.html), times are nanoseconds, memory is KiB.

use std::collections::BTreeMap;

use crate::core::{
    guest::{DomainCounters, DomainState, GuestMemory, VcpuCounters},
    ids::ServerId,
};

/// Memory statistics older than this say how the guest was, not how it is: its balloon driver hangs, or nobody gave the
/// balloon a `<stats period>` and they are from boot. Nova's default period is 10 s.
const MEMORY_MAX_AGE_S: u64 = 120;

/// When and of what a reading was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    /// The domain's UUID.
    pub(super) server: ServerId,
    /// libvirt's id of its QEMU process.
    pub(super) instance: Option<u32>,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub(super) at_ns: u64,
    /// Seconds since the Unix epoch, to know the age of the balloon's statistics.
    pub(super) wall_s: u64,
}

/// Puts one domain's parameters together. What is not among them is absent in the result, never zero.
pub(super) fn parse<'a>(taken: Taken, params: impl IntoIterator<Item = (&'a str, u64)>) -> DomainCounters {
    let mut state = DomainState::Unknown;
    let mut vcpus: BTreeMap<u32, (Option<u64>, Option<u64>)> = BTreeMap::new();
    let (mut available, mut usable, mut updated) = (None, None, None);
    for (name, value) in params {
        match name {
            "state.state" => state = domain_state(value),
            "balloon.available" => available = Some(value),
            "balloon.usable" => usable = Some(value),
            "balloon.last-update" => updated = Some(value),
            _ => {
                // `vcpu.current` and `vcpu.maximum` have no number; the numbers have holes where a vCPU is offline.
                let Some((number, what)) = name.strip_prefix("vcpu.").and_then(|rest| rest.split_once('.'))
                else {
                    continue;
                };
                let Ok(number) = number.parse() else { continue };
                match what {
                    "time" => vcpus.entry(number).or_default().0 = Some(value),
                    "delay" => vcpus.entry(number).or_default().1 = Some(value),
                    _ => {}
                }
            }
        }
    }
    let fresh = updated.is_some_and(|at| at != 0 && taken.wall_s.saturating_sub(at) <= MEMORY_MAX_AGE_S);
    let memory = match (available, usable) {
        (Some(available_kib), Some(usable_kib)) if fresh => Some(GuestMemory { available_kib, usable_kib }),
        _ => None,
    };
    DomainCounters {
        server: taken.server,
        instance: taken.instance,
        at_ns: taken.at_ns,
        state,
        vcpus: vcpus
            .into_iter()
            .filter_map(|(number, (time_ns, delay_ns))| {
                Some((number, VcpuCounters { time_ns: time_ns?, delay_ns }))
            })
            .collect(),
        memory,
    }
}

/// `virDomainState` by number.
pub(super) fn domain_state(number: u64) -> DomainState {
    match number {
        // 2 is "blocked on a resource", which Xen told of an idle guest.
        1 | 2 => DomainState::Running,
        // 7 is the guest's own sleep.
        3 | 7 => DomainState::Paused,
        4 | 5 => DomainState::Off,
        6 => DomainState::Crashed,
        _ => DomainState::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    /// Taken from a guest that Nova (Zed) booted, through libvirt 9.0: `virsh domstats --vcpu --state --balloon`.
    const RECORDED: &str = "state.state=1 state.reason=5 balloon.current=131072 balloon.maximum=131072 \
        balloon.swap_in=0 balloon.unused=65320 balloon.available=94788 balloon.usable=71040 \
        balloon.last-update=1795494357 balloon.rss=222200 vcpu.current=1 vcpu.maximum=1 vcpu.0.state=1 \
        vcpu.0.time=3810000000 vcpu.0.wait=0 vcpu.0.delay=220554204";

    fn parse_text(text: &str, wall_s: u64) -> DomainCounters {
        let taken = Taken { server: ServerId(Uuid::nil()), instance: Some(5), at_ns: 7, wall_s };
        let params = text.split_whitespace().map(|pair| {
            let (name, value) = pair.split_once('=').unwrap();
            (name, value.parse().unwrap())
        });
        parse(taken, params)
    }

    #[test]
    fn a_recorded_reading_is_understood() {
        let counters = parse_text(RECORDED, 1_795_494_360);
        assert_eq!((counters.instance, counters.at_ns, counters.state), (Some(5), 7, DomainState::Running));
        let vcpu = VcpuCounters { time_ns: 3_810_000_000, delay_ns: Some(220_554_204) };
        assert_eq!(counters.vcpus, BTreeMap::from([(0, vcpu)]));
        assert_eq!(counters.memory, Some(GuestMemory { available_kib: 94_788, usable_kib: 71_040 }));
    }

    #[test]
    fn offline_vcpus_leave_holes_and_old_libvirts_tell_no_delay() {
        let counters =
            parse_text("state.state=1 vcpu.maximum=4 vcpu.0.time=10 vcpu.2.state=1 vcpu.3.time=30", 0);
        let vcpu = |time_ns| VcpuCounters { time_ns, delay_ns: None };
        assert_eq!(counters.vcpus, BTreeMap::from([(0, vcpu(10)), (3, vcpu(30))]));
        assert_eq!(counters.memory, None);
    }

    #[test]
    fn memory_is_absent_when_the_guest_never_told_it_or_not_lately() {
        let never = RECORDED.replace("last-update=1795494357", "last-update=0");
        assert_eq!(parse_text(&never, 1_795_494_360).memory, None);
        assert_eq!(parse_text(RECORDED, 1_795_494_357 + MEMORY_MAX_AGE_S + 1).memory, None);
        assert_eq!(
            parse_text(&RECORDED.replace("balloon.usable", "balloon.else"), 1_795_494_360).memory,
            None
        );
        let ahead = parse_text(RECORDED, 1_795_494_300);
        assert!(
            ahead.memory.is_some(),
            "a clock of the other host that is ahead must not hide a fresh reading"
        );
    }

    #[test]
    fn every_state_has_a_meaning() {
        let states: Vec<DomainState> = (0..=8).map(domain_state).collect();
        use DomainState::{Crashed, Off, Paused, Running, Unknown};
        assert_eq!(states, [Unknown, Running, Running, Paused, Off, Off, Crashed, Paused, Unknown]);
    }
}
