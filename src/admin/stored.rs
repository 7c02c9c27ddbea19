//! What `status` shows while the daemon does not run: the pool as it was when its state was written last.
//!
//! It is what was meant then, not what is true now: nobody looked at anything since.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    SCHEMA, build,
    view::{HistoryView, HoldView, MemberState, TransitionView},
};
use crate::core::{
    ids::{PoolName, ServerId},
    state::State,
    time,
};

/// The pool as it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredView {
    /// [`super::SCHEMA`].
    pub schema: u32,
    /// When the state was written.
    pub at: Timestamp,
    /// How long ago that was.
    pub age_ms: u64,
    /// The pool.
    pub pool: PoolName,
    /// `not-running`, where the pool's phase would be.
    pub phase: String,
    /// The members, oldest first.
    pub members: Vec<StoredMember>,
    /// The transition that was in flight; the next start goes on with it.
    pub transition: Option<TransitionView>,
    /// The operator's word that nothing shall change.
    pub hold: Option<HoldView>,
    /// Whether the operator gave the service address back to a VM.
    pub released: bool,
    /// What had happened, newest last.
    pub history: Vec<HistoryView>,
}

/// A member as it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredMember {
    /// The VM's name.
    pub name: String,
    /// Its id, at Nova and at libvirt.
    pub server_id: ServerId,
    /// What it did for the pool.
    pub state: MemberState,
    /// 0 for the first base, one more for each clone.
    pub generation: u32,
    /// Where HAProxy reaches it.
    pub address: Option<SocketAddr>,
    /// Its weight in HAProxy's file.
    pub weight: u16,
}

impl StoredView {
    /// A state that was written at `saved`, looked at `now`.
    #[must_use]
    pub fn of(state: &State, saved: time::Timestamp, now: time::Timestamp) -> Self {
        Self {
            schema: SCHEMA,
            at: build::moment(saved),
            age_ms: build::age(saved, now),
            pool: state.pool.clone(),
            phase: "not-running".to_owned(),
            members: state
                .members
                .iter()
                .map(|member| StoredMember {
                    name: member.name.clone(),
                    server_id: member.id,
                    state: build::member_state(member, state.transition.as_ref()),
                    generation: member.generation,
                    address: member.address,
                    weight: member.lb_server().map_or(0, |line| line.weight.get()),
                })
                .collect(),
            transition: state.transition.as_ref().map(|t| build::transition(state, t, now)),
            hold: build::hold(state, now),
            released: state.released,
            history: build::history(state, now),
        }
    }
}
