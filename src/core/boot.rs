//! A member that has just started: its boot is load, but not its clients'.
//!
//! A guest takes all the CPU it has while it boots, and a second VM would not help it. So its samples do not vote until HAProxy's
//! check has been good for `policy.warm_up`. A VM may also be too busy to answer that check, and then help must not wait for it: only what
//! such a VM does not do counts as a start (another QEMU process, a closed port), and after `transition.healthy_deadline` it votes again in any case.

use super::{ids::ServerId, machine::Machine, state::Member, time::Timestamp};

/// HAProxy's word for a port that is closed: nothing listens there. A busy VM lets a connection time out instead.
const CLOSED: &str = "L4CON";

/// A member's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boot {
    /// When it was noticed.
    pub since: Timestamp,
    /// Since when HAProxy's check has been good.
    pub answers_since: Option<Timestamp>,
}

impl Machine {
    /// Notes that a VM runs in a QEMU process that we did not see before.
    pub(super) fn boots(&mut self, now: Timestamp, id: ServerId) {
        self.view.boots.insert(id, Boot { since: now, answers_since: None });
    }

    /// Begins and ends boots by HAProxy's checks; told once per observation of HAProxy, `first` being the first one since we started.
    pub(super) fn note_boots(&mut self, now: Timestamp, first: bool) {
        for member in self.state.members.iter().filter(|member| member.is_serving()) {
            let answers = self.answers(member);
            let closed = self.view.is_down(&member.backend_name())
                && self.view.lb_server(&member.backend_name()).is_some_and(|seen| seen.check == CLOSED);
            // Before our own start anything may have happened: the host may have begun anew.
            if closed || (first && !answers) {
                self.view.boots.entry(member.id).or_insert(Boot { since: now, answers_since: None });
            }
            if let Some(boot) = self.view.boots.get_mut(&member.id) {
                boot.answers_since = if answers { boot.answers_since.or(Some(now)) } else { None };
            }
        }
        let policy = &self.settings;
        self.view.boots.retain(|id, boot| {
            self.state.member(*id).is_some()
                && now.since(boot.since) < policy.transition.healthy_deadline
                && boot.answers_since.is_none_or(|since| now.since(since) < policy.policy.warm_up)
        });
    }

    /// Whether this member's load is still its boot.
    pub(super) fn is_booting(&self, member: &Member) -> bool {
        self.view.boots.contains_key(&member.id)
    }
}
