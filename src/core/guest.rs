//! What libvirt tells about one domain: raw counters, as read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ids::ServerId;

/// One reading of a domain's counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainCounters {
    /// The domain's UUID, which is the Nova server's id.
    pub server: ServerId,
    /// libvirt's id of the running QEMU process; a new one means a new QEMU and counters from zero.
    pub instance: Option<u32>,
    /// CLOCK_MONOTONIC beside the call, nanoseconds.
    pub at_ns: u64,
    /// The run state at the reading.
    pub state: DomainState,
    /// Counters per vCPU number; absent vCPUs are absent (the array in libvirt's answer has holes).
    pub vcpus: BTreeMap<u32, VcpuCounters>,
    /// Memory as the balloon driver tells it, when it does.
    pub memory: Option<GuestMemory>,
}

/// Counters of one vCPU since its QEMU started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VcpuCounters {
    /// Time on a host CPU, nanoseconds (`vcpu.N.time`).
    pub time_ns: u64,
    /// Time runnable but waiting for a host CPU, nanoseconds (`vcpu.N.delay`, libvirt ≥ 7.2).
    pub delay_ns: Option<u64>,
}

/// Memory of a guest in KiB (`balloon.*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestMemory {
    /// What the guest has.
    pub available_kib: u64,
    /// What it could still use without swapping.
    pub usable_kib: u64,
}

/// A domain's run state (`virDomainState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DomainState {
    /// Executing (also "blocked" on I/O, which is running).
    Running,
    /// Paused or suspended: it uses no CPU, and that says nothing about its load.
    Paused,
    /// Being shut down or off.
    Off,
    /// Crashed.
    Crashed,
    /// Anything else.
    Unknown,
}
