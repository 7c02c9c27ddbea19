//! How the pool is, in one word and in a list of what a person should know.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    event::VipSeen,
    machine::Machine,
    settings::{DrainPolicy, LostPrimary},
    state::Member,
    time::Timestamp,
    transition::{Kind, Stage},
};

/// The pool in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Not serving yet.
    Starting,
    /// One member serves.
    Single,
    /// A clone is on its way in.
    ScalingOut,
    /// Several members share the traffic.
    Balanced,
    /// The base is on its way out.
    HandingOver,
    /// Something needs a person.
    Degraded,
    /// The operator said that nothing shall change.
    Held,
}

impl Phase {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Single => "single",
            Phase::ScalingOut => "scaling-out",
            Phase::Balanced => "balanced",
            Phase::HandingOver => "handing-over",
            Phase::Degraded => "degraded",
            Phase::Held => "held",
        }
    }
}

/// Silence of a source that is worth a word.
pub(super) const SILENCE: Duration = Duration::from_secs(15);

impl Machine {
    /// The pool in one word; what a person must look at comes first.
    #[must_use]
    pub fn phase(&self, now: Timestamp) -> Phase {
        let serving = self.state.serving().count();
        if (serving > 0 || self.state.vip_taken) && !self.alarms(now).is_empty() {
            return Phase::Degraded;
        }
        if let Some(transition) = &self.state.transition {
            match transition.kind {
                Kind::ScaleOut { .. } | Kind::RollBack { .. } => return Phase::ScalingOut,
                Kind::Handover => return Phase::HandingOver,
                Kind::Adopt | Kind::Evict { .. } | Kind::Rejoin { .. } => {}
            }
        }
        if self.state.hold.is_some() || self.state.released {
            return Phase::Held;
        }
        match serving {
            0 => Phase::Starting,
            1 => Phase::Single,
            _ => Phase::Balanced,
        }
    }

    /// What a person should look at, in plain words, worst first. Empty when all is well.
    #[must_use]
    pub fn alarms(&self, now: Timestamp) -> Vec<String> {
        let mut alarms = Vec::new();
        let old = |since: &Timestamp| now.since(*since) >= SILENCE;
        if let Some((since, why)) = &self.view.lb_missing
            && old(since)
        {
            alarms.push(format!("HAProxy does not answer: {why}"));
        } else if self.view.lb.is_some() {
            self.unhealthy(now, &mut alarms);
        }
        if let Some((_, why)) = &self.view.apply_failed {
            alarms.push(format!("HAProxy does not take the configuration: {why}"));
        } else if self.view.lb.as_ref().is_some_and(|(_, seen)| seen.file_edited) {
            alarms.push(
                "HAProxy's file was edited by hand: `lbsidecar reload --force` overwrites it".to_owned(),
            );
        }
        if !self.state.released {
            if let Some(VipSeen::Elsewhere(place)) = &self.view.vip
                && self.state.vip_taken
            {
                alarms.push(format!(
                    "the service address is not with us but {place}; `lbsidecar resume` after moving it back"
                ));
            }
            if self.view.vip == Some(VipSeen::Free)
                && self.state.vip_taken
                && self.state.hold.is_some()
                && self.state.transition.is_none()
            {
                alarms.push(
                    "the service address leads to nobody, and is not taken back on hold: `lbsidecar resume`"
                        .to_owned(),
                );
            }
            if let Some(since) = &self.view.vip_unknown
                && old(since)
                && let Some(VipSeen::Unknown(why)) = &self.view.vip
            {
                alarms.push(format!("it is not known where the service address is: {why}"));
            }
        }
        if let Some(why) = &self.view.repair_failed {
            let what = if self.state.released { "given back" } else { "taken" };
            alarms.push(format!("the service address cannot be {what}: {why}"));
        }
        if let Some((since, why)) = &self.view.cloud_missing
            && old(since)
        {
            alarms.push(format!("Nova does not answer: {why}"));
        }
        if let Some((since, why)) = &self.view.guests_missing
            && old(since)
        {
            alarms.push(format!("libvirt does not answer: {why}"));
        }
        if self.state.breaker.open {
            alarms.push(format!(
                "creation failed {} times in a row, the last time: {}; mend that, then `lbsidecar resume`",
                self.state.breaker.failures, self.state.breaker.why
            ));
        }
        if let Some(transition) = &self.state.transition {
            let age = now.since(transition.stage_since);
            let settings = &self.settings.transition;
            match &transition.stage {
                Stage::Emptying { .. }
                    if age > settings.drain_deadline && settings.drain_policy == DrainPolicy::Wait =>
                {
                    alarms.push(format!("the drain takes long ({} s): {}", age.as_secs(), transition.note));
                }
                Stage::Starting if age > settings.build_deadline => {
                    alarms.push(format!(
                        "Nova does not start a VM ({} s): {}",
                        age.as_secs(),
                        transition.note
                    ));
                }
                Stage::Vanishing if age > settings.delete_deadline => {
                    alarms.push(format!("Nova does not finish the deletion ({} s)", age.as_secs()));
                }
                _ if transition.tries >= 3 => {
                    alarms.push(format!("{}: {}", transition.stage.name().as_str(), transition.note));
                }
                _ => {}
            }
        }
        alarms
    }

    /// Members that do not answer, and what comes of that.
    fn unhealthy(&self, now: Timestamp, alarms: &mut Vec<String>) {
        let moving = self.state.moving();
        let nobody = self.state.serving().next().is_none();
        let members =
            || self.state.members.iter().filter(|m| nobody || m.is_serving() || Some(m.id) != moving);
        // Who is still being proven serves nobody.
        let down: Vec<&Member> =
            members().filter(|m| nobody || self.view.is_down(&m.backend_name())).collect();
        if down.is_empty() {
            return;
        }
        let how = |m: &&Member| match self.loss(now, m) {
            Some(loss) => format!("{} is lost: {loss}", m.name),
            None => m.name.clone(),
        };
        let list = down.iter().map(how).collect::<Vec<_>>().join(", ");
        if down.len() < members().count() {
            alarms.push(format!("not healthy: {list}"));
        } else if self.state.vip_taken {
            // Its description may hold secrets, and is written down by `recreate` alone: with the VM gone it is too late for that.
            let copied = self.state.blueprint.is_some() || self.state.pattern().is_some_and(|m| !m.gone);
            let next = match (self.settings.policy.lost_primary, self.replacement_barred(now)) {
                _ if !copied => {
                    "nothing is left that a copy could be made of: make the VM anew, and start lbsidecar without its state file"
                        .to_owned()
                }
                (LostPrimary::Recreate, Some(why)) => format!("no other one is made: {why}"),
                (LostPrimary::Recreate, None) => "what is lost for good is replaced".to_owned(),
                (LostPrimary::Alert, _) => {
                    "bring it back, or let `policy.lost_primary = \"recreate\"` do it".to_owned()
                }
            };
            alarms.push(format!(
                "no member is healthy ({list}); the last good configuration stays and clients get a 503: {next}"
            ));
        }
    }
}
