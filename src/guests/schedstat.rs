//! vCPU times in nanoseconds out of the host's scheduler, for samples that follow each other faster than libvirt's times can tell.
//!
//! libvirt reads `vcpu.N.time` from /proc/PID/task/TID/stat, which counts in ticks of 10 ms: 20 % of a sample of 100 ms. The same
//! thread's `schedstat` (kernel documentation: scheduler/sched-stats.rst) has its time on a CPU and its time in the run queue in
//! nanoseconds. Only guests of this host can be refined; for all others libvirt's own numbers stay.

use std::collections::BTreeMap;

use procfs::process::{Process, Task, all_processes};

use super::libvirt::connection::monotonic_ns;
use crate::core::{
    guest::{DomainCounters, DomainState, VcpuCounters},
    ids::ServerId,
};

/// The vCPU threads of the guests that were read before.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    known: BTreeMap<ServerId, Qemu>,
}

/// One QEMU process.
#[derive(Debug)]
struct Qemu {
    instance: Option<u32>,
    /// By vCPU number; empty when the process is not on this host or its threads cannot be told apart. An open task directory
    /// never means another thread, also when the number is given out again.
    threads: BTreeMap<u32, Task>,
}

impl Scheduler {
    /// Replaces the vCPU times of the guests that run here, and the moment of their reading.
    pub(super) fn refine(&mut self, readings: &mut [DomainCounters]) {
        self.known.retain(|server, _| readings.iter().any(|reading| reading.server == *server));
        for reading in readings.iter_mut().filter(|reading| reading.state == DomainState::Running) {
            let qemu = self.known.entry(reading.server).or_insert_with(|| Qemu::find(reading));
            if qemu.instance != reading.instance {
                *qemu = Qemu::find(reading);
            }
            if let Some(vcpus) = qemu.read(&reading.vcpus) {
                reading.vcpus = vcpus;
                reading.at_ns = monotonic_ns();
            } else if !qemu.threads.is_empty() {
                // A vCPU came or went: look again at the next reading.
                self.known.remove(&reading.server);
            }
        }
    }
}

impl Qemu {
    /// libvirt starts QEMU with the domain's UUID on its command line and with names for its threads.
    fn find(reading: &DomainCounters) -> Self {
        let uuid = reading.server.to_string();
        let named = |process: &Process| {
            process.cmdline().is_ok_and(|words| {
                words.windows(2).any(|pair| matches!(pair, [flag, id] if flag == "-uuid" && *id == uuid))
            })
        };
        let process = all_processes().ok().and_then(|all| all.flatten().find(named));
        let threads = process.and_then(|process| process.tasks().ok()).map(|tasks| {
            tasks.flatten().filter_map(|task| Some((vcpu_number(&task.stat().ok()?.comm)?, task))).collect()
        });
        Self { instance: reading.instance, threads: threads.unwrap_or_default() }
    }

    /// The scheduler's numbers for the vCPUs that libvirt told; `None` when they are not all to be had.
    fn read(&self, told: &BTreeMap<u32, VcpuCounters>) -> Option<BTreeMap<u32, VcpuCounters>> {
        let read = |(number, told): (&u32, &VcpuCounters)| {
            let scheduled = self.threads.get(number)?.schedstat().ok()?;
            let seen = VcpuCounters {
                time_ns: scheduled.sum_exec_runtime,
                delay_ns: told.delay_ns.map(|_| scheduled.run_delay),
            };
            agrees(told, &seen).then_some((*number, seen))
        };
        told.iter().map(read).collect()
    }
}

/// The number in a vCPU thread's name (`CPU 0/KVM`, `CPU 1/TCG`).
fn vcpu_number(name: &str) -> Option<u32> {
    let (number, _) = name.strip_prefix("CPU ")?.split_once('/')?;
    number.parse().ok()
}

/// Both count the same time, and the second was read later. A kernel without scheduler statistics tells zeros, which must not
/// be taken for an idle guest.
fn agrees(told: &VcpuCounters, seen: &VcpuCounters) -> bool {
    seen.time_ns >= told.time_ns / 10 * 9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vcpu_threads_are_told_by_their_names() {
        assert_eq!(vcpu_number("CPU 0/KVM"), Some(0));
        assert_eq!(vcpu_number("CPU 12/TCG"), Some(12));
        for other in ["qemu-system-x86", "ALL CPUs/TCG", "IO iothread1", "CPU x/KVM", "vnc_worker"] {
            assert_eq!(vcpu_number(other), None, "{other}");
        }
    }

    #[test]
    fn zeros_are_not_an_idle_guest() {
        let vcpu = |time_ns| VcpuCounters { time_ns, delay_ns: None };
        assert!(agrees(&vcpu(1_000_000_000), &vcpu(1_003_456_789)));
        assert!(agrees(&vcpu(0), &vcpu(1_234)));
        assert!(!agrees(&vcpu(1_000_000_000), &vcpu(0)));
    }
}
