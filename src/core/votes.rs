//! Votes: from samples to "scale out", "hand over" or "nothing", always with a reason.

use super::{
    cloud::ServerStatus,
    event::VipSeen,
    guest::DomainCounters,
    ids::{IntentId, ServerId},
    machine::Machine,
    sampler::Reading,
    state::{Member, Place},
    time::Timestamp,
    transition::{Kind, Stage, Transition},
    view::{Action, Decision, Runs, Vote},
};

/// A gap between votes longer than this many intervals says that the host slept: begin anew.
const GAP_INTERVALS: u32 = 3;

/// Who wishes a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Votes in a row.
    Votes,
    /// A person.
    Operator,
    /// Nobody serves any more.
    Loss,
}

impl Machine {
    pub(super) fn sampled(&mut self, now: Timestamp, counters: Vec<DomainCounters>) {
        self.view.guests_missing = None;
        let mut seen: Vec<ServerId> = Vec::new();
        for reading in counters {
            if self.state.member(reading.server).is_some() {
                seen.push(reading.server);
                let sampler = self.view.samplers.entry(reading.server).or_default();
                let server = reading.server;
                if sampler.take(now, reading, self.settings.policy.sample) {
                    self.boots(now, server);
                }
            }
        }
        let absent: Vec<ServerId> =
            self.state.members.iter().map(|m| m.id).filter(|id| !seen.contains(id)).collect();
        for id in absent {
            self.view.samplers.entry(id).or_default().miss("libvirt does not know this VM here");
        }
    }

    pub(super) fn sample_missing(&mut self, now: Timestamp, why: String) {
        for member in &self.state.members {
            self.view.samplers.entry(member.id).or_default().miss(&why);
        }
        let since = self.view.guests_missing.take().map_or(now, |(since, _)| since);
        self.view.guests_missing = Some((since, why));
    }

    pub(super) fn new_runs(&mut self) {
        self.view.runs = Runs::default();
    }

    pub(super) fn vote_if_due(&mut self, now: Timestamp) {
        if now < self.view.next_vote {
            return;
        }
        let interval = self.settings.policy.interval;
        let slept = self.view.last_vote.is_some_and(|last| now.since(last) > interval * GAP_INTERVALS);
        if slept {
            self.new_runs();
        }
        self.view.last_vote = Some(now);
        // Keep the beat, but do not make up for beats missed.
        self.view.next_vote = self.view.next_vote.plus(interval);
        if self.view.next_vote <= now {
            self.view.next_vote = now.plus(interval);
        }
        let decision = self.decide(now);
        self.view.decide(decision);
    }

    fn decide(&mut self, now: Timestamp) -> Decision {
        let policy = self.settings.policy.clone();
        let mut readings: Vec<(String, Reading)> = Vec::new();
        let mut warming = None;
        let booting = self.state.serving().find(|member| self.is_booting(member)).map(|m| m.name.clone());
        for member in self.state.members.iter().filter(|m| m.is_serving()) {
            let sampler = self.view.samplers.entry(member.id).or_default();
            readings.push((member.name.clone(), sampler.vote(policy.metric, policy.signal)));
            if member.serving_since.is_some_and(|since| now.since(since) < policy.warm_up) {
                warming = Some(member.name.clone());
            }
        }
        // Those of the others are of no interval: a member that never gets to serve must not gather them.
        let serving = |id: &ServerId| self.state.member(*id).is_some_and(Member::is_serving);
        self.view.samplers.iter_mut().filter(|(id, _)| !serving(id)).for_each(|(_, s)| s.forget());
        let value = mean(&readings);
        let low = readings.iter().all(|(_, r)| r.value.is_some_and(|v| v <= policy.low.get()));
        let (vote, mut reason) = if readings.is_empty() {
            (Vote::Unknown, "no member serves yet".to_owned())
        } else if let Some(name) = booting {
            (Vote::Unknown, format!("{name} has just started: its boot does not vote"))
        } else if let Some(name) = warming {
            (Vote::Unknown, format!("{name} is warming up: its samples do not vote yet"))
        } else {
            match value {
                None => {
                    let why = readings.iter().find_map(|(name, r)| {
                        r.problem.as_ref().map(|problem| format!("no valid reading of {name}: {problem}"))
                    });
                    (Vote::Unknown, why.unwrap_or_else(|| "no valid reading".to_owned()))
                }
                Some(value) if value >= policy.high.get() => (Vote::High, String::new()),
                Some(_) if low => (Vote::Low, String::new()),
                Some(value) => {
                    (Vote::Between, format!("{value:.1}% lies between {} and {}", policy.low, policy.high))
                }
            }
        };
        let runs = &mut self.view.runs;
        match vote {
            Vote::High => *runs = Runs { up: runs.up.saturating_add(1), down: 0 },
            Vote::Low => *runs = Runs { up: 0, down: runs.down.saturating_add(1) },
            Vote::Between => *runs = Runs::default(),
            // Ignorance never shrinks, and it does not grow either.
            Vote::Unknown => runs.down = 0,
        }
        let Runs { up, down } = *runs;
        let mut action = Action::None;
        match vote {
            Vote::High => (action, reason) = self.on_high(now, value.unwrap_or_default()),
            Vote::Low => (action, reason) = self.on_low(now, &readings),
            Vote::Between | Vote::Unknown => {}
        }
        Decision { at: now, value, readings, vote, up_run: up, down_run: down, action, reason }
    }

    fn on_high(&mut self, now: Timestamp, value: f64) -> (Action, String) {
        let (up, min_up, high) = (self.view.runs.up, self.settings.policy.min_up, self.settings.policy.high);
        let said = format!("{value:.1}% is at or above {high} ({up} of {min_up} votes)");
        if let Some(transition) = &mut self.state.transition {
            let can = super::call_off::can_be_called_off(&transition.stage);
            // A DELETE on its way may be refused: then it is not too late.
            if transition.kind == Kind::Handover
                && (can || matches!(transition.stage, Stage::Deleting { .. }))
            {
                transition.cancel = Some(format!("load returned: {said}"));
            }
            if transition.kind == Kind::Handover && can {
                return (Action::Abort, format!("{said}: the handover is called off"));
            }
            return (Action::None, format!("{said}; {} is under way", transition.kind.name()));
        }
        if up < min_up {
            return (Action::None, said);
        }
        if let Some(why) = self.scale_out_barred(now, Wish::Votes) {
            return (Action::None, format!("{said}, but {why}"));
        }
        let why = format!("{said}: scaling out");
        self.begin_scale_out(now, &why);
        (Action::ScaleOut, why)
    }

    fn on_low(&mut self, now: Timestamp, readings: &[(String, Reading)]) -> (Action, String) {
        let (down, min_down, low) =
            (self.view.runs.down, self.settings.policy.min_down, self.settings.policy.low);
        let all = if readings.len() == 1 { "the member is" } else { "every member is" };
        let said = format!("{all} at or below {low} ({down} of {min_down} votes)");
        if let Some(transition) = &self.state.transition {
            return (Action::None, format!("{said}; {} is under way", transition.kind.name()));
        }
        if self.state.serving().count() < 2 {
            return (
                Action::None,
                format!("{said}; only one member serves, so there is nothing to hand over"),
            );
        }
        if down < min_down {
            return (Action::None, said);
        }
        if let Some(why) = self.handover_barred(now, Some(readings)) {
            return (Action::None, format!("{said}, but {why}"));
        }
        let why = format!("{said}: handing over");
        self.begin_handover(now, &why);
        (Action::Handover, why)
    }

    /// Why no scale-out may begin now, if so. What only others know (quota, memory, pressure) is asked when it begins. An operator
    /// may override the cooldown, not the rest.
    pub(super) fn scale_out_barred(&self, now: Timestamp, wish: Wish) -> Option<String> {
        if let Some(why) = self.change_barred() {
            return Some(why);
        }
        let asked_for = self.asked_for();
        let max = self.settings.max_members;
        if asked_for >= usize::try_from(max).unwrap_or(usize::MAX) {
            return Some(format!("the pool is full: {asked_for} of {max} VMs"));
        }
        if wish != Wish::Loss && self.state.serving().all(|m| m.gone) {
            return Some("no member serves that could be copied".to_owned());
        }
        let breaker = &self.state.breaker;
        if breaker.open {
            return Some(format!(
                "creation failed {} times in a row, the last time: {}; mend that, then `lbsidecar resume`",
                breaker.failures, breaker.why
            ));
        }
        if now < breaker.not_before {
            let left = breaker.not_before.since(now).as_secs();
            return Some(format!("{} (next try in {left} s)", breaker.why));
        }
        if wish == Wish::Votes && now < self.state.no_scale_out_before {
            return Some(format!("cooldown: {} s left", self.state.no_scale_out_before.since(now).as_secs()));
        }
        if wish == Wish::Loss {
            return None;
        }
        if let Some(why) = self.without_address() {
            return Some(why);
        }
        let serving: Vec<&Member> = self.state.serving().collect();
        let steal =
            serving.iter().filter_map(|m| self.view.samplers.get(&m.id)?.newest).map(|(_, s)| s.steal.get());
        let steal = steal.fold(0.0, f64::max);
        if steal > self.settings.guards.max_steal.get() {
            return Some(format!(
                "the host itself is the bottleneck: {steal:.0}% steal, a clone here would not help"
            ));
        }
        None
    }

    /// Why no handover may begin now, if so.
    pub(super) fn handover_barred(
        &self,
        now: Timestamp,
        readings: Option<&[(String, Reading)]>,
    ) -> Option<String> {
        if let Some(why) = self.change_barred() {
            return Some(why);
        }
        if let Some(why) = self.without_address().or(self.address_unknown()) {
            return Some(why);
        }
        let base = self.state.base()?;
        if self.view.cloud.get(&base.id).is_some_and(|facts| facts.locked) {
            return Some(format!("{} is locked; `openstack server unlock` it first", base.name));
        }
        let survivors: Vec<&Member> = self.state.serving().skip(1).collect();
        if survivors.is_empty() {
            return Some("only one member serves".to_owned());
        }
        for survivor in &survivors {
            let name = survivor.backend_name();
            if !self.answers(survivor) {
                return Some(format!("{} is not healthy", survivor.name));
            }
            if self.view.lb_server(&name).is_none_or(|s| s.answers_ok == 0) {
                return Some(format!("{} has not answered a request yet", survivor.name));
            }
            if self.view.cloud.get(&survivor.id).is_some_and(|f| f.status != ServerStatus::Active) {
                return Some(format!("{} is not ACTIVE at Nova", survivor.name));
            }
            let served = survivor.serving_since.map(|since| now.since(since)).unwrap_or_default();
            if served < self.settings.policy.min_lifetime {
                let left = self.settings.policy.min_lifetime.saturating_sub(served).as_secs();
                return Some(format!("{} must serve {left} s longer first", survivor.name));
            }
        }
        // An operator's handover has no readings: he may override thresholds and cooldown, not the rest.
        let readings = readings?;
        if now < self.state.no_handover_before {
            return Some(format!("cooldown: {} s left", self.state.no_handover_before.since(now).as_secs()));
        }
        let total: f64 = readings.iter().filter_map(|(_, r)| r.value).sum();
        let projected = total / survivors.len() as f64;
        let bound = self.settings.policy.high.get() - self.settings.policy.margin.get();
        (projected > bound).then(|| {
            format!("the rest would carry {projected:.1}%, above {bound:.1}% (high less margin): it would scale out again")
        })
    }

    /// What bars every change.
    fn change_barred(&self) -> Option<String> {
        if let Some(hold) = &self.state.hold {
            return Some(format!("on hold: {}", hold.why));
        }
        if self.state.released {
            return Some("the service address was released; `lbsidecar resume` takes it back".to_owned());
        }
        if let Some(transition) = &self.state.transition {
            return Some(format!("{} is under way", transition.kind.name()));
        }
        if let Some((_, why)) = &self.view.lb_missing {
            return Some(format!("HAProxy does not answer: {why}"));
        }
        match &self.view.lb {
            None => Some("HAProxy was not seen yet".to_owned()),
            Some((_, seen)) if seen.file_edited => Some(
                "HAProxy's file was edited by hand; look at it, then `lbsidecar reload --force` overwrites it".to_owned(),
            ),
            Some(_) => self.view.cloud_missing.as_ref().map(|(_, why)| format!("Nova does not answer: {why}")),
        }
    }

    /// The service address is with somebody else, who may be a member: clients then come to it past HAProxy, and nothing that is counted
    /// there says whether it is used.
    pub(super) fn without_address(&self) -> Option<String> {
        match &self.view.vip {
            Some(VipSeen::Elsewhere(place)) => {
                Some(format!("the service address is not with us but {place}"))
            }
            _ => None,
        }
    }

    /// It is not known where the service address is: perhaps with the base, whom clients then need.
    pub(super) fn address_unknown(&self) -> Option<String> {
        match &self.view.vip {
            Some(VipSeen::Unknown(why)) => {
                Some(format!("it is not known where the service address is: {why}"))
            }
            _ => None,
        }
    }

    /// Every VM that we ever asked for and have not seen gone, in any state.
    fn asked_for(&self) -> usize {
        let strangers = self.view.cloud.values().filter(|facts| {
            facts.status != ServerStatus::Deleted
                && facts.mark.as_ref().is_some_and(|mark| mark.pool == self.state.pool)
                && self.state.member(facts.id).is_none()
        });
        self.state.members.iter().filter(|m| !m.gone).count() + strangers.count()
    }

    pub(super) fn begin_scale_out(&mut self, now: Timestamp, why: &str) {
        let generation = self.state.next_generation;
        let clone = &self.settings.clone;
        let name = if generation == 1 { clone.clone() } else { format!("{clone}-{generation}") };
        // The intent must differ from every other, not be secret: the pool's own counters make it so.
        let intent = self.new_intent(now, generation);
        let kind = Kind::ScaleOut { intent, name, generation };
        self.begin(now, Transition::begin(kind, None, Stage::Admitting, now), why);
    }

    pub(super) fn begin_handover(&mut self, now: Timestamp, why: &str) {
        let Some(base) = self.state.base().map(|m| m.id) else { return };
        self.begin(now, Transition::begin(Kind::Handover, Some(base), Stage::Settling, now), why);
    }

    fn new_intent(&self, now: Timestamp, generation: u32) -> IntentId {
        let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        let base = self.state.members.first().map_or(0, |m| m.id.0.as_u128());
        for byte in self
            .state
            .pool
            .as_str()
            .bytes()
            .chain(now.0.to_be_bytes())
            .chain(generation.to_be_bytes())
            .chain(base.to_be_bytes())
        {
            // FNV-1a, 128 bits.
            hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
        IntentId(uuid::Builder::from_random_bytes(hash.to_be_bytes()).into_uuid())
    }

    /// A member that a failed rejoin left out of HAProxy, and that is not lost.
    pub(super) fn unlisted_member(&self, now: Timestamp) -> Option<&Member> {
        let lost = |m: &Member| m.gone || self.loss(now, m).is_some();
        self.state.members.iter().find(|m| m.place == Place::Unlisted && !lost(m))
    }
}

/// The mean of all values; unknown when one is.
fn mean(readings: &[(String, Reading)]) -> Option<f64> {
    if readings.is_empty() {
        return None;
    }
    let mut sum = 0.0;
    for (_, reading) in readings {
        sum += reading.value?;
    }
    Some(sum / readings.len() as f64)
}
