//! The durable state: what must survive a crash. Everything that can be observed again is in [`super::view`] instead.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
};

use serde::{Deserialize, Serialize};

use super::{
    cloud::{BlueprintText, Mark},
    ids::{BackendName, FloatingIpId, PoolName, ServerId},
    lb::{LbMode, LbModel, LbServer},
    time::Timestamp,
    transition::{Stage, Transition},
    units::Weight,
};

/// How many history entries are kept.
const HISTORY: usize = 50;

/// All that the daemon must not forget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The pool that it belongs to.
    pub pool: PoolName,
    /// The members, oldest first. The first that serves is the base.
    pub members: Vec<Member>,
    /// What a new member needs, for the case that no member is left that could be copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blueprint: Option<Blueprint>,
    /// The transition in flight.
    pub transition: Option<Transition>,
    /// Counts membership changes; samples from before the newest one do not vote.
    pub epoch: u64,
    /// When the newest membership change happened.
    pub epoch_since: Timestamp,
    /// The generation that the next clone gets.
    pub next_generation: u32,
    /// No scale-out before this moment.
    pub no_scale_out_before: Timestamp,
    /// No handover before this moment.
    pub no_handover_before: Timestamp,
    /// Failed creations.
    pub breaker: Breaker,
    /// The operator's word that nothing shall change.
    pub hold: Option<Hold>,
    /// Whether the service address was given back to a VM on the operator's word.
    pub released: bool,
    /// Whether the service address was taken at least once.
    pub vip_taken: bool,
    /// Which address it is, once it was with us: while it is with a VM, nothing at Neutron tells it from that VM's own ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_address: Option<Ipv4Addr>,
    /// What happened, newest last.
    pub history: VecDeque<History>,
}

/// What the cloud needs to make a member that is like another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blueprint {
    /// The member that it was taken of.
    pub of: ServerId,
    /// What was written down.
    pub text: BlueprintText,
}

/// One VM of the pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its id, at Nova and at libvirt.
    pub id: ServerId,
    /// Its name.
    pub name: String,
    /// Our mark on it; `None` for a base that the operator named.
    pub mark: Option<Mark>,
    /// 0 for the first base, one more for each clone.
    pub generation: u32,
    /// Where HAProxy reaches it.
    pub address: Option<SocketAddr>,
    /// A floating IP of its own that we gave it (`host` mode).
    pub floating_ip: Option<FloatingIpId>,
    /// Its place in HAProxy.
    pub place: Place,
    /// Since when it serves with full weight.
    pub serving_since: Option<Timestamp>,
    /// Nova's last word of it is that there is no such VM. Whatever answers at its address is somebody else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
}

/// A member's place in HAProxy: the file and the run-time state both follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "in")]
pub enum Place {
    /// Not in the configuration.
    Unlisted,
    /// In rotation with this weight; 0 while it is proven.
    Listed {
        /// The weight.
        weight: Weight,
    },
    /// Weight 0 in the file, `drain` at run time.
    Draining,
}

/// Failed creations, their back-off, and the breaker that stops them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Breaker {
    /// Failures in a row.
    pub failures: u32,
    /// No creation before this moment.
    pub not_before: Timestamp,
    /// Open: no creation until the operator resumes.
    pub open: bool,
    /// The last failure, in plain words.
    pub why: String,
}

/// The operator's word that nothing shall change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Why, as the operator said it.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When.
    pub at: Timestamp,
    /// What: a short, stable word (`scale-out`, `handover`, `roll-back`, …).
    pub what: String,
    /// Details and reason in plain words.
    pub why: String,
}

impl State {
    /// An empty state.
    #[must_use]
    pub fn new(pool: PoolName, now: Timestamp) -> Self {
        Self {
            pool,
            members: Vec::new(),
            blueprint: None,
            transition: None,
            epoch: 0,
            epoch_since: now,
            next_generation: 1,
            no_scale_out_before: Timestamp::default(),
            no_handover_before: Timestamp::default(),
            breaker: Breaker::default(),
            hold: None,
            released: false,
            vip_taken: false,
            service_address: None,
            history: VecDeque::new(),
        }
    }

    /// The member with this id.
    #[must_use]
    pub fn member(&self, id: ServerId) -> Option<&Member> {
        self.members.iter().find(|m| m.id == id)
    }

    /// The member with this id, to change.
    pub fn member_mut(&mut self, id: ServerId) -> Option<&mut Member> {
        self.members.iter_mut().find(|m| m.id == id)
    }

    /// Members that take traffic with full weight, oldest first.
    pub fn serving(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|m| m.is_serving())
    }

    /// The oldest serving member.
    #[must_use]
    pub fn base(&self) -> Option<&Member> {
        self.serving().next()
    }

    /// What a new member is a copy of: the oldest serving member, or what is left of the pool when nobody serves.
    #[must_use]
    pub fn pattern(&self) -> Option<&Member> {
        self.serving()
            .find(|m| !m.gone)
            .or_else(|| self.base())
            .or_else(|| self.members.iter().find(|m| Some(m.id) != self.moving()))
    }

    /// The member that the transition in flight moves.
    #[must_use]
    pub fn moving(&self) -> Option<ServerId> {
        self.transition.as_ref().and_then(|t| t.server)
    }

    /// The serving members, and where HAProxy reaches them.
    #[must_use]
    pub fn addresses(&self) -> Vec<(ServerId, SocketAddr)> {
        self.serving().filter_map(|m| Some((m.id, m.address?))).collect()
    }

    /// What HAProxy shall be.
    #[must_use]
    pub fn lb_model(&self) -> LbModel {
        LbModel {
            servers: self.members.iter().filter_map(Member::lb_server).collect(),
            closing: self.released,
        }
    }

    /// Notes something in the history.
    pub fn note(&mut self, at: Timestamp, what: &str, why: impl Into<String>) {
        if self.history.len() >= HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(History { at, what: what.into(), why: why.into() });
    }

    /// Checks what must hold after every step.
    ///
    /// # Errors
    /// The broken rule, in plain words.
    pub fn check_invariants(&self, max_members: u32) -> Result<(), String> {
        for (i, member) in self.members.iter().enumerate() {
            if self.members.iter().skip(i + 1).any(|other| other.id == member.id) {
                return Err(format!("member {} is listed twice", member.id));
            }
            if member.place != Place::Unlisted && member.address.is_none() {
                return Err(format!("member {} is in HAProxy without an address", member.name));
            }
            let moving = self.moving() == Some(member.id);
            if member.place == Place::Draining && !moving {
                return Err(format!("member {} drains without a transition", member.name));
            }
            if matches!(member.place, Place::Listed { weight } if weight != Weight::FULL) && !moving {
                return Err(format!("member {} has a part weight without a transition", member.name));
            }
        }
        let unmade = self.transition.as_ref().is_some_and(|t| {
            t.server.is_none() && matches!(t.stage, Stage::Creating { .. } | Stage::Looking { .. })
        });
        let asked_for = self.members.iter().filter(|m| !m.gone).count() + usize::from(unmade);
        // An operator may lower the cap below what is there; then nothing is added, and nothing is deleted for it either.
        if unmade && asked_for > usize::try_from(max_members).unwrap_or(usize::MAX) {
            return Err(format!("{asked_for} VMs asked for, {max_members} allowed"));
        }
        if let Some(Transition { stage: Stage::Deleting { .. } | Stage::Vanishing, server: Some(id), .. }) =
            &self.transition
            && self.member(*id).is_some_and(|m| m.place != Place::Unlisted)
        {
            return Err(format!("server {id} is being deleted while HAProxy still lists it"));
        }
        Ok(())
    }
}

impl Member {
    /// Whether it takes traffic with full weight.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.serving_since.is_some() && self.place == (Place::Listed { weight: Weight::FULL })
    }

    /// Its name in HAProxy.
    #[must_use]
    pub fn backend_name(&self) -> BackendName {
        BackendName::of(&self.name, self.id)
    }

    /// Its line in HAProxy, if it has one.
    #[must_use]
    pub fn lb_server(&self) -> Option<LbServer> {
        let (weight, mode) = match self.place {
            Place::Unlisted => return None,
            Place::Listed { weight } => (weight, LbMode::Ready),
            Place::Draining => (Weight::ZERO, LbMode::Drain),
        };
        Some(LbServer { name: self.backend_name(), address: self.address?, weight, mode })
    }
}
