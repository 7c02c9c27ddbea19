//! Everything that can happen, and everything that we can ask for.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{
    cloud::{BlueprintText, FailureKind, ServerFacts},
    guest::DomainCounters,
    ids::{BackendName, FloatingIpId, IntentId, ServerId},
    lb::{LbModel, LbSeen},
};

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Time went on.
    Tick,
    /// libvirt answered; members that it did not know are absent.
    Sampled(Vec<DomainCounters>),
    /// libvirt did not answer, or not in time.
    SampleMissing(String),
    /// HAProxy answered.
    LbSeen(LbSeen),
    /// HAProxy did not answer.
    LbUnseen(String),
    /// Nova answered: our members, what carries our mark, and the VM in transition. A VM that Nova says is gone has the status
    /// `Deleted`; one that was not asked for is absent.
    CloudSeen(Vec<ServerFacts>),
    /// Nova did not answer.
    CloudUnseen(String),
    /// Where the service address is.
    VipSeen(VipSeen),
    /// Which address the service address is that is with us.
    VipKnown(Ipv4Addr),
    /// An effect ended.
    Done {
        /// Which.
        ticket: Ticket,
        /// How.
        outcome: Outcome,
    },
}

/// Numbers the effects, so that an answer to a question no longer asked does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Where the service address is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VipSeen {
    /// With us.
    Ours,
    /// With nobody.
    Free,
    /// Somewhere else; the text says where.
    Elsewhere(String),
    /// Not known; the text says why.
    Unknown(String),
}

/// A thing to do, with the ticket that its outcome will carry.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Request {
    /// The number.
    pub ticket: Ticket,
    /// What to do.
    pub effect: Effect,
}

/// A thing to do. All of them may be asked for again, except [`Effect::Create`] and [`Effect::Snapshot`], whose intent is on disk before
/// and is looked for before any repetition.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Bring HAProxy's file and run time to this.
    Apply {
        /// What HAProxy shall be.
        model: LbModel,
        /// Overwrite a file that somebody edited by hand.
        force: bool,
    },
    /// One request of our own to one member, through HAProxy.
    Probe(BackendName),
    /// Cut what sessions this server still has.
    CutSessions(BackendName),
    /// Is there room for a copy of this VM: quota, memory, disk, host?
    Admit {
        /// The VM to be copied.
        base: ServerId,
        /// The name that the copy would get: it must not be a stranger's.
        name: String,
        /// What it was like, when it is gone.
        blueprint: Option<BlueprintText>,
    },
    /// Make a copy of a VM.
    Create {
        /// Goes into its metadata.
        intent: IntentId,
        /// Its name.
        name: String,
        /// Goes into its metadata.
        generation: u32,
        /// The VM to copy.
        base: ServerId,
        /// What it was like, when it is gone.
        blueprint: Option<BlueprintText>,
    },
    /// Write down what a copy of this VM needs, for the time when it is gone.
    Study(ServerId),
    /// Which server carries this intent?
    FindIntent(IntentId),
    /// The address that HAProxy reaches it at; in `host` mode a floating IP is given to it if it has none.
    Address(ServerId),
    /// Power it off, gracefully.
    Stop(ServerId),
    /// Power it on.
    Start(ServerId),
    /// Make an image of it and wait until that is active; then delete the oldest of ours.
    Snapshot {
        /// The VM.
        server: ServerId,
        /// Snapshots that stay.
        keep: u32,
    },
    /// Delete it.
    Delete(ServerId),
    /// Give a floating IP of ours back.
    ReleaseAddress(FloatingIpId),
    /// Move the service address to HAProxy, from any of these members or from nobody. The answer is `Done`; or `Addressed`, when the
    /// member that had it had to be given another address first: apply that, then ask again.
    TakeVip {
        /// The serving members, and where HAProxy reaches them now.
        members: Vec<(ServerId, SocketAddr)>,
    },
    /// Move the service address to this VM.
    GiveVip(ServerId),
}

impl Effect {
    /// A short, stable name for logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Effect::Apply { .. } => "apply",
            Effect::Probe(_) => "probe",
            Effect::CutSessions(_) => "cut-sessions",
            Effect::Admit { .. } => "admit",
            Effect::Create { .. } => "create",
            Effect::Study(_) => "study",
            Effect::FindIntent(_) => "find-intent",
            Effect::Address(_) => "address",
            Effect::Stop(_) => "stop",
            Effect::Start(_) => "start",
            Effect::Snapshot { .. } => "snapshot",
            Effect::Delete(_) => "delete",
            Effect::ReleaseAddress(_) => "release-address",
            Effect::TakeVip { .. } => "take-vip",
            Effect::GiveVip(_) => "give-vip",
        }
    }
}

/// How an effect ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Done; there is nothing more to say.
    Done,
    /// HAProxy runs this generation and says what the model says.
    Applied {
        /// The generation.
        generation: u64,
    },
    /// The probe's result.
    Probed {
        /// Whether that member answered well.
        ok: bool,
        /// What it answered.
        why: String,
    },
    /// There is room.
    Admitted,
    /// There is no room, or it would not help.
    Refused(String),
    /// What a copy of it needs.
    Studied(BlueprintText),
    /// The VM that Nova made.
    Created(ServerId),
    /// The VM with that intent, if there is one.
    Found(Option<ServerId>),
    /// Where HAProxy reaches it.
    Addressed {
        /// Which VM.
        server: ServerId,
        /// The address.
        address: SocketAddr,
        /// The floating IP that we gave it, if we did.
        floating_ip: Option<FloatingIpId>,
    },
    /// It did not work.
    Failed {
        /// What kind of failure.
        kind: FailureKind,
        /// The whole sentence, for people.
        why: String,
    },
}

/// What an operator may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Change nothing until `Resume`.
    Hold {
        /// Why.
        why: String,
    },
    /// Decide again; also closes the breaker and takes a released service address back.
    Resume,
    /// Add a member now.
    ScaleOut,
    /// Drain and delete the base now.
    Handover,
    /// Call the transition in flight off.
    Abort,
    /// Give the service address back to the primary and stop deciding.
    Release,
    /// Render HAProxy's configuration again and apply it, over edits made by hand if told so.
    Reload {
        /// Overwrite a file that somebody edited.
        force: bool,
    },
}
