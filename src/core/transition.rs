//! Transitions: what may be in flight, in which stage, and which stage may follow which.
//!
//! A transition moves one member in or out. Its stages carry what they need to go on after a restart; the table
//! [`StageName::next`] is the only truth about their order, and `docs/state-machine.md` is generated from it.

use serde::{Deserialize, Serialize};

use super::{
    ids::{IntentId, ServerId},
    time::Timestamp,
};

/// A member on its way in or out. At most one exists at a time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Transition {
    /// What it is for.
    pub kind: Kind,
    /// The VM that moves; unknown until Nova gave it an id.
    pub server: Option<ServerId>,
    /// How far it is.
    pub stage: Stage,
    /// When it began.
    pub since: Timestamp,
    /// When this stage began.
    pub stage_since: Timestamp,
    /// Failed tries within this stage.
    pub tries: u32,
    /// Not before this moment is the stage's effect tried again.
    pub not_before: Timestamp,
    /// What it waits for or what went wrong last, in plain words. Not worth a write to disk.
    #[serde(skip)]
    pub note: String,
    /// It shall be called off as soon as the effect in flight has ended; why.
    pub cancel: Option<String>,
}

/// Two transitions are the same when they would be stored the same: the note is talk.
impl PartialEq for Transition {
    fn eq(&self, other: &Self) -> bool {
        let Self { kind, server, stage, since, stage_since, tries, not_before, note: _, cancel } = self;
        (kind, server, stage, since, stage_since, tries, not_before, cancel)
            == (
                &other.kind,
                &other.server,
                &other.stage,
                &other.since,
                &other.stage_since,
                &other.tries,
                &other.not_before,
                &other.cancel,
            )
    }
}

impl Transition {
    /// A transition that begins now.
    #[must_use]
    pub fn begin(kind: Kind, server: Option<ServerId>, stage: Stage, now: Timestamp) -> Self {
        Self {
            kind,
            server,
            stage,
            since: now,
            stage_since: now,
            tries: 0,
            not_before: now,
            note: String::new(),
            cancel: None,
        }
    }
}

/// What a transition is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
pub enum Kind {
    /// Take over a VM that serves already: put HAProxy before it and the service address on HAProxy.
    Adopt,
    /// Make a clone and let it serve.
    ScaleOut {
        /// The intention, in the clone's metadata.
        intent: IntentId,
        /// The clone's name.
        name: String,
        /// The clone's generation.
        generation: u32,
    },
    /// Drain and delete the base; the rest stays.
    Handover,
    /// Undo a scale-out that failed.
    RollBack {
        /// Why it failed.
        why: String,
        /// Whether the failure counts for back-off and breaker; an operator's abort does not.
        counts: bool,
    },
    /// Remove a member or an orphan of ours that is of no use any more.
    Evict {
        /// Why.
        why: String,
    },
    /// Bring a member back into rotation after a handover was called off, or one that fell out of it.
    Rejoin {
        /// Why.
        why: String,
    },
}

impl Kind {
    /// Its name for people and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Adopt => "adopt",
            Kind::ScaleOut { .. } => "scale-out",
            Kind::Handover => "handover",
            Kind::RollBack { .. } => "roll-back",
            Kind::Evict { .. } => "evict",
            Kind::Rejoin { .. } => "rejoin",
        }
    }
}

/// How far a transition is. The first half brings a member in, the second takes one out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "name")]
pub enum Stage {
    /// Is there room for a clone: quota, memory, disk, host pressure?
    Admitting,
    /// The POST. `asked` is on disk before the call goes out.
    Creating {
        /// Whether the call may have gone out.
        asked: bool,
    },
    /// The POST's answer was lost: look for its intent before anything else.
    Looking {
        /// Times we looked and found nothing.
        looks: u32,
    },
    /// Nova builds it.
    Building,
    /// A stopped member is started again.
    Starting,
    /// Find (or give it) the address that HAProxy reaches it at.
    Addressing,
    /// Into HAProxy's file with weight 0, one reload.
    Listing,
    /// HAProxy's check and our own probe must be good, several times in a row.
    Proving {
        /// Good observations of HAProxy's check in a row.
        checks: u32,
        /// Good probes of our own in a row.
        probes: u32,
    },
    /// Weight rises step by step.
    Ramping {
        /// The step, from 0.
        step: usize,
        /// Whether this step's weight is applied.
        applied: bool,
    },
    /// A drained member gets its weight back: it never left HAProxy.
    Restoring,
    /// The service address is moved to HAProxy.
    TakingVip,

    /// Wait until no old HAProxy worker is left: an old one cannot be told to drain.
    Settling,
    /// Weight 0 in the file, `drain` at run time.
    Draining,
    /// Wait until no worker has a session or a queued request for it, twice in a row.
    Emptying {
        /// Observations without sessions, in a row.
        zeros: u32,
        /// Whether the remaining sessions were cut by policy.
        forced: bool,
    },
    /// Out of HAProxy's file, one reload.
    Unlisting,
    /// Count once more on every worker.
    Recounting {
        /// Observations without sessions, in a row.
        zeros: u32,
    },
    /// A graceful shutdown of the VM.
    Stopping {
        /// Whether Nova was asked.
        asked: bool,
    },
    /// A last image of it, when the operator wants one.
    Snapshotting,
    /// The DELETE: the point of no return. `sent` is on disk before the call goes out.
    Deleting {
        /// Whether the call may have gone out.
        sent: bool,
    },
    /// Wait until Nova says that it is gone.
    Vanishing,
    /// Give back what belonged to it: its own floating IP.
    Releasing,
}

/// Where a stage leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A member comes into rotation.
    In,
    /// A member leaves.
    Out,
}

/// A stage without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is described at the stage of the same name")]
pub enum StageName {
    Admitting,
    Creating,
    Looking,
    Building,
    Starting,
    Addressing,
    Listing,
    Proving,
    Ramping,
    Restoring,
    TakingVip,
    Settling,
    Draining,
    Emptying,
    Unlisting,
    Recounting,
    Stopping,
    Snapshotting,
    Deleting,
    Vanishing,
    Releasing,
}

impl StageName {
    /// All of them, in order.
    pub const ALL: [StageName; 21] = [
        StageName::Admitting,
        StageName::Creating,
        StageName::Looking,
        StageName::Building,
        StageName::Starting,
        StageName::Addressing,
        StageName::Listing,
        StageName::Proving,
        StageName::Ramping,
        StageName::Restoring,
        StageName::TakingVip,
        StageName::Settling,
        StageName::Draining,
        StageName::Emptying,
        StageName::Unlisting,
        StageName::Recounting,
        StageName::Stopping,
        StageName::Snapshotting,
        StageName::Deleting,
        StageName::Vanishing,
        StageName::Releasing,
    ];

    /// The stages that may follow this one; a transition may end only where [`StageName::may_end`] says so.
    #[must_use]
    pub fn next(self) -> &'static [StageName] {
        use StageName as S;
        match self {
            S::Admitting => &[S::Creating],
            // A creation that surely was not made ends; one with an unclear answer is looked for.
            S::Creating => &[S::Building, S::Looking],
            S::Looking => &[S::Building],
            // A failed build is deleted.
            S::Building => &[S::Addressing, S::Deleting],
            S::Starting => &[S::Addressing],
            S::Addressing => &[S::Listing, S::Deleting],
            // What was listed leaves by the long way, even when it never had weight.
            S::Listing => &[S::Proving, S::Settling, S::Unlisting],
            // One that was shut off meanwhile is started once more.
            S::Proving => &[S::Ramping, S::Settling, S::Starting],
            S::Ramping => &[S::TakingVip, S::Settling, S::Starting],
            S::Restoring => &[],
            S::TakingVip => &[],
            // One that HAProxy does not list needs no drain, and one that is gone no deletion either.
            S::Settling => &[S::Draining, S::Recounting, S::Releasing, S::Listing],
            // A HAProxy that died before it was told is asked again for old workers.
            S::Draining => &[S::Emptying, S::Restoring, S::Settling, S::Listing],
            S::Emptying => &[S::Unlisting, S::Restoring, S::Listing],
            // From here a handover that is called off needs the whole way in again; a roll-back does from its beginning.
            S::Unlisting => &[S::Recounting, S::Listing],
            // The operator's own VM is not deleted when it fails.
            S::Recounting => &[S::Stopping, S::Deleting, S::Releasing, S::Listing],
            S::Stopping => &[S::Snapshotting, S::Deleting, S::Starting],
            S::Snapshotting => &[S::Deleting, S::Starting],
            S::Deleting => &[S::Vanishing, S::Releasing, S::Starting],
            S::Vanishing => &[S::Releasing],
            S::Releasing => &[],
        }
    }

    /// Whether it brings a member in or takes one out.
    #[must_use]
    pub fn way(self) -> Way {
        use StageName as S;
        match self {
            S::Admitting
            | S::Creating
            | S::Looking
            | S::Building
            | S::Starting
            | S::Addressing
            | S::Listing
            | S::Proving
            | S::Ramping
            | S::Restoring
            | S::TakingVip => Way::In,
            S::Settling
            | S::Draining
            | S::Emptying
            | S::Unlisting
            | S::Recounting
            | S::Stopping
            | S::Snapshotting
            | S::Deleting
            | S::Vanishing
            | S::Releasing => Way::Out,
        }
    }

    /// Whether a transition may end in this stage.
    #[must_use]
    pub fn may_end(self) -> bool {
        use StageName as S;
        match self {
            // Refused, surely not created, or aborted before anything was made.
            S::Admitting | S::Creating | S::Looking => true,
            // A member that serves, or a handover called off before it touched anything.
            S::Ramping | S::Restoring | S::TakingVip | S::Settling => true,
            // Gone. (`Starting` and `Addressing` end when the VM turns out to be lost: it is evicted next.)
            S::Releasing | S::Starting | S::Addressing => true,
            S::Listing | S::Proving => true,
            S::Building
            | S::Draining
            | S::Emptying
            | S::Unlisting
            | S::Recounting
            | S::Stopping
            | S::Snapshotting
            | S::Deleting
            | S::Vanishing => false,
        }
    }

    /// Its name for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        use StageName as S;
        match self {
            S::Admitting => "admitting",
            S::Creating => "creating",
            S::Looking => "looking",
            S::Building => "building",
            S::Starting => "starting",
            S::Addressing => "addressing",
            S::Listing => "listing",
            S::Proving => "proving",
            S::Ramping => "ramping",
            S::Restoring => "restoring",
            S::TakingVip => "taking-vip",
            S::Settling => "settling",
            S::Draining => "draining",
            S::Emptying => "emptying",
            S::Unlisting => "unlisting",
            S::Recounting => "recounting",
            S::Stopping => "stopping",
            S::Snapshotting => "snapshotting",
            S::Deleting => "deleting",
            S::Vanishing => "vanishing",
            S::Releasing => "releasing",
        }
    }
}

impl std::fmt::Display for StageName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Stage {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> StageName {
        match self {
            Stage::Admitting => StageName::Admitting,
            Stage::Creating { .. } => StageName::Creating,
            Stage::Looking { .. } => StageName::Looking,
            Stage::Building => StageName::Building,
            Stage::Starting => StageName::Starting,
            Stage::Addressing => StageName::Addressing,
            Stage::Listing => StageName::Listing,
            Stage::Proving { .. } => StageName::Proving,
            Stage::Ramping { .. } => StageName::Ramping,
            Stage::Restoring => StageName::Restoring,
            Stage::TakingVip => StageName::TakingVip,
            Stage::Settling => StageName::Settling,
            Stage::Draining => StageName::Draining,
            Stage::Emptying { .. } => StageName::Emptying,
            Stage::Unlisting => StageName::Unlisting,
            Stage::Recounting { .. } => StageName::Recounting,
            Stage::Stopping { .. } => StageName::Stopping,
            Stage::Snapshotting => StageName::Snapshotting,
            Stage::Deleting { .. } => StageName::Deleting,
            Stage::Vanishing => StageName::Vanishing,
            Stage::Releasing => StageName::Releasing,
        }
    }
}

/// The diagram of all stages, in Mermaid's `stateDiagram-v2` notation.
#[must_use]
pub fn diagram() -> String {
    let mut text = String::from("stateDiagram-v2\n");
    for start in ["Admitting: scale-out", "Addressing: adopt", "Settling: handover, roll-back, evict"] {
        if let Some((stage, what)) = start.split_once(": ") {
            text.push_str(&format!("    [*] --> {} : {what}\n", stage.to_lowercase()));
        }
    }
    for stage in StageName::ALL {
        let name = stage.as_str().replace('-', "_");
        for next in stage.next() {
            text.push_str(&format!("    {name} --> {}\n", next.as_str().replace('-', "_")));
        }
        if stage.may_end() {
            text.push_str(&format!("    {name} --> [*]\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_stage_can_be_reached_and_leads_to_an_end() {
        let mut reached: BTreeSet<StageName> =
            [StageName::Admitting, StageName::Addressing, StageName::Settling, StageName::Deleting].into();
        for _ in StageName::ALL {
            let more: Vec<StageName> = reached.iter().flat_map(|s| s.next()).copied().collect();
            reached.extend(more);
        }
        assert_eq!(reached.len(), StageName::ALL.len(), "unreachable stages: {reached:?}");

        let mut ends: BTreeSet<StageName> = StageName::ALL.into_iter().filter(|s| s.may_end()).collect();
        for _ in StageName::ALL {
            for stage in StageName::ALL {
                if stage.next().iter().any(|next| ends.contains(next)) {
                    ends.insert(stage);
                }
            }
        }
        assert_eq!(ends.len(), StageName::ALL.len(), "stages without a way out: {ends:?}");
    }

    #[test]
    fn after_the_delete_there_is_only_forward() {
        let mut after: BTreeSet<StageName> = [StageName::Vanishing].into();
        for _ in StageName::ALL {
            let more: Vec<StageName> = after.iter().flat_map(|s| s.next()).copied().collect();
            after.extend(more);
        }
        assert_eq!(after, BTreeSet::from([StageName::Vanishing, StageName::Releasing]));
    }
}
