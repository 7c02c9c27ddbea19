//! What the operator chose, as far as decisions depend on it. All checked by `config`; the core trusts it.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{ids::PoolName, units::Percent};

/// The pool and its policy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    /// The pool's name.
    pub pool: PoolName,
    /// Name or UUID of the VM that serves at first (`--base`).
    pub base: String,
    /// Name of the first clone (`--clone`); later ones get `-2`, `-3`, …
    pub clone: String,
    /// The port that members serve on.
    pub service_port: u16,
    /// How many VMs we may ever have asked for and not seen gone.
    pub max_members: u32,
    /// Thresholds and votes.
    pub policy: PolicySettings,
    /// How a clone is made.
    pub clone_spec: CloneSettings,
    /// How members come and go.
    pub transition: TransitionSettings,
    /// What guards a scale-out.
    pub guards: GuardSettings,
}

/// Thresholds, votes and cooldowns.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PolicySettings {
    /// A value at or above it votes for scale-out.
    pub high: Percent,
    /// A value at or below it votes for handover.
    pub low: Percent,
    /// Votes in a row for a scale-out.
    pub min_up: u32,
    /// Votes in a row for a handover.
    pub min_down: u32,
    /// How the sub-samples of an interval become one value.
    pub metric: Metric,
    /// What is measured.
    pub signal: Signal,
    /// Time between sub-samples.
    pub sample: Duration,
    /// Time between votes.
    pub interval: Duration,
    /// A handover's projected load must stay this far below `high` (percentage points).
    pub margin: Percent,
    /// After a member began to serve, or answers again after a start, its samples do not vote for this long.
    pub warm_up: Duration,
    /// No scale-out for this long after a transition.
    pub cooldown_up: Duration,
    /// No handover for this long after a transition.
    pub cooldown_down: Duration,
    /// A clone serves at least this long before the base may go.
    pub min_lifetime: Duration,
    /// What is done when the primary is lost and nobody else serves.
    pub lost_primary: LostPrimary,
}

/// What is done when the primary is lost and nobody else serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LostPrimary {
    /// Bring it back: start it when it is off, make another one when it is gone or failed.
    Recreate,
    /// Say so, keep the last good configuration, and wait for a person.
    Alert,
}

/// How the sub-samples of an interval become one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// The highest (the seed's meaning).
    Max,
    /// The mean.
    Mean,
    /// The newest.
    Last,
    /// The 95th percentile.
    P95,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signal {
    /// CPU demand: used plus stolen.
    Cpu,
    /// Memory in use, as the balloon driver tells it.
    Mem,
    /// The higher of both.
    MaxCpuMem,
}

/// What a clone takes from the base, and what the operator sets instead. `None` means: as the base has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CloneSettings {
    /// What it boots from.
    pub source: CloneSource,
    /// Image name or id.
    pub image: Option<String>,
    /// Flavor name or id.
    pub flavor: Option<String>,
    /// Network name or id.
    pub network: Option<String>,
    /// Key pair name.
    pub key_name: Option<String>,
    /// Security group names or ids.
    pub security_groups: Option<Vec<String>>,
    /// A file with user data, for clouds whose API does not show the base's.
    pub user_data: Option<PathBuf>,
}

/// What a clone boots from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CloneSource {
    /// The image that the base was booted from.
    Image,
    /// The newest snapshot of ours of the base.
    Snapshot,
}

/// How members come and go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TransitionSettings {
    /// From POST to ACTIVE.
    pub build_deadline: Duration,
    /// From ACTIVE to proven healthy.
    pub healthy_deadline: Duration,
    /// Good checks and good probes in a row before a member gets weight.
    pub proofs: u32,
    /// Time between two looks at HAProxy's check that count as two: its check interval.
    pub proof_spacing: Duration,
    /// Weights of the ramp in percent of a full share, rising, ending with 100.
    pub ramp: Vec<u16>,
    /// Time on each step of the ramp.
    pub ramp_step: Duration,
    /// How long a drain may take before `drain_policy` applies.
    pub drain_deadline: Duration,
    /// What happens at the drain deadline.
    pub drain_policy: DrainPolicy,
    /// How long a VM may take to shut down before it is deleted all the same.
    pub stop_deadline: Duration,
    /// From DELETE to gone; past it an alarm is raised, nothing else.
    pub delete_deadline: Duration,
    /// Whether the base is snapshotted before it is deleted.
    pub snapshot_before_delete: bool,
    /// Snapshots of ours that stay after one more was made.
    pub snapshot_retain: u32,
    /// First back-off after a failed creation; it doubles.
    pub backoff_first: Duration,
    /// Longest back-off.
    pub backoff_max: Duration,
    /// Failed creations in a row that open the breaker.
    pub breaker_after: u32,
}

/// What happens when a drain passes its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrainPolicy {
    /// Go on waiting and say who holds it up.
    Wait,
    /// Call the handover off.
    Abort,
    /// Cut the remaining sessions.
    Force,
}

/// What guards a scale-out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GuardSettings {
    /// Memory of the host that stays free beyond the flavor's, in MiB.
    pub reserve_memory_mib: u64,
    /// Highest `/proc/pressure/cpu` "some avg10" at which a clone still helps.
    pub max_cpu_pressure: Percent,
    /// Highest steal of the pool's members at which a clone on the same host still helps.
    pub max_steal: Percent,
}
