//! Self-heal: a member that is lost is replaced by the ones that serve, or by a new one when nobody is left.
//!
//! | the member | while another serves | while nobody serves, `recreate` | while nobody serves, `alert` |
//! |---|---|---|---|
//! | a clone that is gone, failed, off or silent | it is removed | it makes room, when it is not the last | it stays |
//! | the operator's VM, gone | it leaves the pool | a new one is made in its place | it stays |
//! | the operator's VM, failed | it leaves the pool, and the VM is left to him | a new one is made in its place | it stays |
//! | the operator's VM, off | it is started (`recreate`) | it is started | it stays |
//!
//! What stays is the last good configuration: HAProxy serves again as soon as any member answers.

use std::time::Duration;

use super::{
    cloud::{BlueprintText, ServerStatus},
    ids::ServerId,
    machine::{Machine, Turn},
    settings::LostPrimary,
    state::{Member, Place},
    time::Timestamp,
    transition::{Kind, Stage, Transition},
    votes::Wish,
};

/// How long HAProxy must get no answer from a VM that Nova says is off or failed: Nova may be wrong, or somebody reboots it.
const SILENT: Duration = Duration::from_secs(30);

/// How a member is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// Nova does not know it any more.
    Gone,
    /// Nova says ERROR, and it does not answer.
    Failed(String),
    /// It is shut off.
    Off,
    /// Nova says ACTIVE, and it has not answered for this long.
    Silent(Duration),
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Loss::Gone => f.write_str("Nova says that it is gone"),
            Loss::Failed(fault) => write!(f, "Nova says ERROR ({fault}), and it does not answer"),
            Loss::Off => f.write_str("it is shut off"),
            Loss::Silent(since) => write!(f, "it has not answered for {} s", since.as_secs()),
        }
    }
}

impl Machine {
    /// Remembers since when each member is down; told once per observation of HAProxy.
    pub(super) fn note_down(&mut self, now: Timestamp) {
        let members = &self.state.members;
        self.view.down_since.retain(|id, _| members.iter().any(|m| m.id == *id));
        for member in members {
            if self.view.is_down(&member.backend_name()) {
                self.view.down_since.entry(member.id).or_insert(now);
            } else {
                self.view.down_since.remove(&member.id);
            }
        }
    }

    /// HAProxy was reloaded, and who was down before may be up.
    pub(super) fn another_worker(&mut self) {
        let members = &self.state.members;
        let listed = |id: &ServerId| members.iter().any(|m| m.id == *id && m.place != Place::Unlisted);
        self.view.down_since.retain(|id, _| !listed(id));
    }

    /// Whether a member is lost, as far as HAProxy and Nova can tell; when one of them does not answer, it is not.
    #[must_use]
    pub fn loss(&self, now: Timestamp, member: &Member) -> Option<Loss> {
        if member.gone {
            return Some(Loss::Gone);
        }
        if self.view.lb_missing.is_some() || self.view.cloud_missing.is_some() {
            return None;
        }
        let facts = self.view.cloud.get(&member.id)?;
        let down = now.since(*self.view.down_since.get(&member.id).unwrap_or(&now));
        match facts.status {
            ServerStatus::Error if down >= SILENT => {
                Some(Loss::Failed(facts.fault.clone().unwrap_or_else(|| "no fault given".to_owned())))
            }
            ServerStatus::Shutoff if down >= SILENT && facts.task_state.is_none() => Some(Loss::Off),
            ServerStatus::Active
                if member.mark.is_some()
                    && member.place != Place::Unlisted
                    && down >= self.settings.transition.healthy_deadline =>
            {
                Some(Loss::Silent(down))
            }
            ServerStatus::Error
            | ServerStatus::Shutoff
            | ServerStatus::Active
            | ServerStatus::Build
            | ServerStatus::Other
            | ServerStatus::Deleted => None,
        }
    }

    /// What to do about lost members, while no transition is in flight.
    pub(super) fn heal(&mut self, now: Timestamp) -> Option<Turn> {
        if self.view.lb_missing.is_some() || self.view.cloud_missing.is_some() {
            return None;
        }
        let lost: Vec<(ServerId, bool, Loss)> = self
            .state
            .members
            .iter()
            .filter_map(|member| Some((member.id, member.mark.is_some(), self.loss(now, member)?)))
            .collect();
        self.tell_lost(now, &lost);
        if lost.is_empty() || self.state.released || !self.state.vip_taken {
            return None;
        }
        let somebody = self.state.serving().any(|m| self.answers(m));
        let recreate = self.settings.policy.lost_primary == LostPrimary::Recreate;
        for (id, ours, loss) in &lost {
            // The operator's own VM is off: perhaps he means it.
            let stays = !ours && *loss == Loss::Off;
            if somebody && !stays && !self.answers(self.state.member(*id)?) {
                return Some(self.evict(now, *id, loss));
            }
            if recreate && *loss == Loss::Off && (stays || !somebody) && now >= self.view.repair_not_before {
                let why = loss.to_string();
                let rejoin = Kind::Rejoin { why: why.clone() };
                self.begin(
                    now,
                    Transition::begin(rejoin, Some(*id), Stage::Starting, now),
                    format!("{why}: starting it"),
                );
                return Some(Turn::Again);
            }
        }
        // An unproven doubt is no reason to make another one: all of them must be lost for good.
        let for_good = |loss: &Loss| matches!(loss, Loss::Gone | Loss::Failed(_));
        if somebody || !recreate || lost.len() < self.state.members.len() {
            return None;
        }
        if lost.len() > 1
            && let Some((id, _, loss)) = lost.iter().rev().find(|(_, ours, loss)| *ours && for_good(loss))
        {
            return Some(self.evict(now, *id, loss));
        }
        let (_, _, loss) = lost.first().filter(|(_, _, loss)| for_good(loss))?;
        if self.scale_out_barred(now, Wish::Loss).is_some() {
            return None;
        }
        self.begin_scale_out(
            now,
            &format!("the primary is lost ({loss}), and nobody serves: making another one"),
        );
        Some(Turn::Again)
    }

    /// Why no other one may be made in place of those that are lost, if so.
    pub(super) fn replacement_barred(&self, now: Timestamp) -> Option<String> {
        if self.state.transition.is_some() { None } else { self.scale_out_barred(now, Wish::Loss) }
    }

    /// A member on its way in is lost: what comes of it, if anything must.
    pub(super) fn lost_on_its_way(&mut self, now: Timestamp, transition: &Transition, id: ServerId) -> bool {
        let listed = matches!(transition.stage, Stage::Proving { .. } | Stage::Ramping { .. });
        if !listed && transition.stage != Stage::Addressing {
            return false;
        }
        let Some(loss) = self.state.member(id).and_then(|member| self.loss(now, member)) else {
            return false;
        };
        let why = loss.to_string();
        // HAProxy is never left without any server: the last one stays in its configuration, whatever becomes of it.
        let another = self.state.members.iter().any(|m| m.id != id && m.place != Place::Unlisted);
        match (&transition.kind, loss) {
            // How long it may be silent is the deadline of the stage.
            (_, Loss::Silent(_)) => return false,
            (_, Loss::Off) if !listed => return false,
            (Kind::ScaleOut { .. }, _) if listed && another => self.undo_scale_out(now, id, why),
            (Kind::ScaleOut { .. }, _) if !listed => self.fail_unlisted(now, why),
            // We switched it off ourselves, perhaps, before the handover was called off.
            (Kind::Rejoin { .. }, Loss::Off) => self.enter(now, Stage::Starting, why),
            (
                Kind::Adopt
                | Kind::ScaleOut { .. }
                | Kind::Rejoin { .. }
                | Kind::Handover
                | Kind::RollBack { .. }
                | Kind::Evict { .. },
                Loss::Gone | Loss::Failed(_) | Loss::Off,
            ) => {
                if matches!(transition.kind, Kind::ScaleOut { .. }) {
                    self.creation_failed(now, &why);
                }
                self.place(id, Place::Unlisted);
                self.end(now, "not brought back", why, true);
            }
        }
        true
    }

    /// What was written down of a member, when it can no longer be asked for.
    pub(super) fn blueprint_of(&self, id: ServerId) -> Option<BlueprintText> {
        let gone = self.state.member(id).is_some_and(|m| m.gone);
        self.state.blueprint.as_ref().filter(|_| gone).map(|blueprint| blueprint.text.clone())
    }

    /// The member whose blueprint is missing.
    pub(super) fn unstudied(&self, now: Timestamp) -> Option<ServerId> {
        let base = self.state.base()?;
        let wanted = self.settings.policy.lost_primary == LostPrimary::Recreate
            && self.state.blueprint.as_ref().is_none_or(|blueprint| blueprint.of != base.id)
            && self.view.status(base.id) == Some(ServerStatus::Active)
            && now >= self.view.study_not_before;
        wanted.then_some(base.id)
    }

    fn evict(&mut self, now: Timestamp, id: ServerId, loss: &Loss) -> Turn {
        let why = loss.to_string();
        let evict = Kind::Evict { why: why.clone() };
        self.begin(now, Transition::begin(evict, Some(id), Stage::Settling, now), why);
        Turn::Again
    }

    /// Each loss goes into the history once.
    fn tell_lost(&mut self, now: Timestamp, lost: &[(ServerId, bool, Loss)]) {
        self.view.lost.retain(|id| lost.iter().any(|(other, _, _)| other == id));
        for (id, _, loss) in lost {
            if self.view.lost.insert(*id)
                && let Some(name) = self.state.member(*id).map(|m| m.name.clone())
            {
                self.state.note(now, "lost", format!("{name}: {loss}"));
            }
        }
    }
}
