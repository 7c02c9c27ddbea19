//! From the machine to what is shown of it. Reads only; nothing here changes or decides anything.

use std::net::IpAddr;

use super::{
    SCHEMA,
    explain::vote_word,
    view::{
        Cooldowns, DaemonView, DecisionNow, HaproxyView, HistoryView, HoldView, MemberState, MemberView,
        SourceView, Sources, StatusView, TransitionView, VipPlace, VipView,
    },
};
use crate::core::{
    condition::Phase,
    event::VipSeen,
    machine::Machine,
    state::{History, Member, Place, State},
    time::Timestamp,
    transition::{Kind, StageName, Transition},
    units::Weight,
};

/// What `status` shows and the machine does not know.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The service address, once it is known.
    pub vip_address: Option<IpAddr>,
    /// `port`, `host` or `static`.
    pub vip_mode: String,
    /// HAProxy's version, once it is known.
    pub haproxy_version: Option<String>,
    /// When the daemon started.
    pub started: Timestamp,
    /// When the state was written last, in this life.
    pub state_saved: Option<Timestamp>,
    /// Why the state cannot be written.
    pub state_problem: Option<String>,
}

impl StatusView {
    /// The machine at `now`.
    #[must_use]
    pub fn of(machine: &Machine, now: Timestamp, around: &Surroundings) -> Self {
        let state = &machine.state;
        Self {
            schema: SCHEMA,
            at: moment(now),
            age_ms: 0,
            pool: state.pool.clone(),
            phase: if around.state_problem.is_some() { Phase::Degraded } else { machine.phase(now) },
            alarms: alarms(machine, now, around),
            vip: vip(machine, around),
            members: members(machine, now),
            decision: decision(machine, now),
            haproxy: haproxy(machine, now, around),
            transition: state.transition.as_ref().map(|t| transition(state, t, now)),
            cooldowns: Cooldowns {
                scale_out_seconds_left: seconds_left(state.no_scale_out_before, now),
                handover_seconds_left: seconds_left(state.no_handover_before, now),
                backoff_seconds_left: seconds_left(state.breaker.not_before, now),
                failed_creations: state.breaker.failures,
                breaker_open: state.breaker.open,
                last_failure: (state.breaker.failures > 0 || now < state.breaker.not_before)
                    .then(|| state.breaker.why.clone()),
            },
            hold: hold(state, now),
            sources: sources(machine, now),
            history: history(state, now),
            daemon: DaemonView {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                uptime_seconds: now.since(around.started).as_secs(),
                state_age_ms: around.state_saved.map(|saved| age(saved, now)),
                state_problem: around.state_problem.clone(),
            },
        }
    }
}

/// A moment of the core for people and JSON.
pub(super) fn moment(at: Timestamp) -> jiff::Timestamp {
    i64::try_from(at.0)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .unwrap_or(jiff::Timestamp::MAX)
}

pub(super) fn age(then: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(now.since(then).as_millis()).unwrap_or(u64::MAX)
}

/// Whole seconds, rounded up: 0 only when nothing is left.
fn seconds_left(until: Timestamp, now: Timestamp) -> u64 {
    until.0.saturating_sub(now.0).div_ceil(1000)
}

fn alarms(machine: &Machine, now: Timestamp, around: &Surroundings) -> Vec<String> {
    let unsaved = around
        .state_problem
        .iter()
        .map(|why| format!("the state cannot be saved, so nothing new is begun: {why}"));
    unsaved.chain(machine.alarms(now)).collect()
}

fn vip(machine: &Machine, around: &Surroundings) -> VipView {
    let (place, detail) = match &machine.view.vip {
        Some(VipSeen::Ours) => (VipPlace::Ours, machine.leaving()),
        Some(VipSeen::Free) => (VipPlace::Free, None),
        Some(VipSeen::Elsewhere(who)) => (VipPlace::Elsewhere, Some(who.clone())),
        Some(VipSeen::Unknown(why)) => (VipPlace::Unknown, Some(why.clone())),
        None => (VipPlace::Unknown, None),
    };
    VipView {
        address: around.vip_address,
        mode: around.vip_mode.clone(),
        place,
        detail,
        released: machine.state.released,
    }
}

fn members(machine: &Machine, now: Timestamp) -> Vec<MemberView> {
    let mut members: Vec<MemberView> =
        machine.state.members.iter().map(|m| member(machine, m, now)).collect();
    let total: u64 = members.iter().filter_map(|m| m.requests_per_second).sum();
    if total > 0 {
        for member in &mut members {
            member.share_percent = member.requests_per_second.map(|rate| 100.0 * rate as f64 / total as f64);
        }
    }
    members
}

fn member(machine: &Machine, member: &Member, now: Timestamp) -> MemberView {
    let backend = member.backend_name();
    let newest = machine.view.samplers.get(&member.id).and_then(|sampler| sampler.newest);
    let sub = newest.map(|(_, sub)| sub);
    let listed = machine.view.lb_server(&backend).filter(|seen| seen.listed);
    MemberView {
        name: member.name.clone(),
        server_id: member.id,
        state: member_state(member, machine.state.transition.as_ref()),
        nova: machine.view.status(member.id),
        generation: member.generation,
        address: member.address,
        weight: member.lb_server().map_or(0, |line| line.weight.get()),
        share_percent: None,
        cpu_percent: sub.map(|s| s.used.get()),
        demand_percent: sub.map(|s| s.demand.get()),
        steal_percent: sub.map(|s| s.steal.get()),
        memory_percent: sub.and_then(|s| s.memory).map(|m| m.get()),
        sample_age_ms: newest.map(|(at, _)| age(at, now)),
        // Old workers' sessions count although the current worker no longer lists the server.
        sessions: machine.view.lb_server(&backend).map(|seen| seen.sessions),
        queued: machine.view.lb_server(&backend).map(|seen| seen.queued),
        requests_per_second: listed.map(|seen| seen.request_rate),
        requests: listed.map(|seen| seen.requests),
        check: listed.map(|seen| seen.check.clone()),
        up: listed.filter(|seen| seen.is_checked()).map(|seen| seen.up),
        serving_seconds: member
            .serving_since
            .filter(|_| member.is_serving())
            .map(|since| now.since(since).as_secs()),
        backend,
    }
}

pub(super) fn member_state(member: &Member, transition: Option<&Transition>) -> MemberState {
    let moving = transition.filter(|t| t.server == Some(member.id));
    match member.place {
        Place::Draining => MemberState::Draining,
        Place::Listed { weight } if weight == Weight::ZERO => MemberState::Proving,
        Place::Listed { .. } if member.is_serving() => MemberState::Serving,
        Place::Listed { .. } => MemberState::Ramping,
        Place::Unlisted => match moving.map(|t| &t.kind) {
            None => MemberState::Out,
            Some(Kind::Adopt | Kind::ScaleOut { .. } | Kind::Rejoin { .. }) => MemberState::Joining,
            Some(Kind::Handover | Kind::RollBack { .. } | Kind::Evict { .. }) => MemberState::Leaving,
        },
    }
}

fn decision(machine: &Machine, now: Timestamp) -> DecisionNow {
    let policy = &machine.settings().policy;
    let last = machine.view.decisions.back();
    DecisionNow {
        signal: policy.signal,
        metric: policy.metric,
        value: last.and_then(|d| d.value),
        high: policy.high.get(),
        low: policy.low.get(),
        // The runs of this moment, not those of the vote: a membership change begins them anew.
        up_run: machine.view.runs.up,
        min_up: policy.min_up,
        down_run: machine.view.runs.down,
        min_down: policy.min_down,
        vote: last.map_or("none", |d| vote_word(d.vote)).to_owned(),
        reason: last.map_or_else(|| "no vote yet".to_owned(), |d| d.reason.clone()),
        age_ms: last.map(|d| age(d.at, now)),
    }
}

fn haproxy(machine: &Machine, now: Timestamp, around: &Surroundings) -> HaproxyView {
    let view = &machine.view;
    let seen = view.lb.as_ref().map(|(_, seen)| seen);
    let missing = view.lb_missing.as_ref().map(|(_, why)| why.clone());
    HaproxyView {
        answers: seen.is_some() && missing.is_none(),
        problem: missing.or_else(|| view.apply_failed.as_ref().map(|(_, why)| why.clone())),
        version: around.haproxy_version.clone(),
        generation: seen.and_then(|s| s.generation),
        worker_pid: seen.map(|s| s.worker_pid),
        old_workers: seen.map(|s| s.old_workers.clone()).unwrap_or_default(),
        file_edited: seen.is_some_and(|s| s.file_edited),
        sessions: seen.map(|s| s.sessions),
        requests: seen.map(|s| s.requests),
        request_rate: seen.map(|s| s.request_rate),
        age_ms: view.lb.as_ref().map(|(at, _)| age(*at, now)),
    }
}

pub(super) fn transition(state: &State, transition: &Transition, now: Timestamp) -> TransitionView {
    let named = match &transition.kind {
        Kind::ScaleOut { name, .. } => Some(name.clone()),
        Kind::Adopt | Kind::Handover | Kind::RollBack { .. } | Kind::Evict { .. } | Kind::Rejoin { .. } => {
            None
        }
    };
    let member = transition.server.and_then(|id| state.member(id)).map(|m| m.name.clone());
    TransitionView {
        kind: transition.kind.name().to_owned(),
        stage: transition.stage.name(),
        path: path(&transition.kind).to_vec(),
        server_id: transition.server,
        server: member.or(named),
        note: transition.note.clone(),
        tries: transition.tries,
        cancel: transition.cancel.clone(),
        since: moment(transition.since),
        age_ms: age(transition.since, now),
        stage_age_ms: age(transition.stage_since, now),
    }
}

pub(super) fn hold(state: &State, now: Timestamp) -> Option<HoldView> {
    state.hold.as_ref().map(|hold| HoldView {
        why: hold.why.clone(),
        since: moment(hold.since),
        age_ms: age(hold.since, now),
    })
}

pub(super) fn history(state: &State, now: Timestamp) -> Vec<HistoryView> {
    let view = |entry: &History| HistoryView {
        at: moment(entry.at),
        age_ms: age(entry.at, now),
        what: entry.what.clone(),
        why: entry.why.clone(),
    };
    state.history.iter().map(view).collect()
}

/// The stages of a transition that meets no trouble.
fn path(kind: &Kind) -> &'static [StageName] {
    use StageName as S;
    match kind {
        Kind::Adopt => &[S::Addressing, S::Listing, S::Proving, S::Ramping, S::TakingVip],
        Kind::ScaleOut { .. } => {
            &[S::Admitting, S::Creating, S::Building, S::Addressing, S::Listing, S::Proving, S::Ramping]
        }
        Kind::Handover => &[
            S::Settling,
            S::Draining,
            S::Emptying,
            S::Unlisting,
            S::Recounting,
            S::Stopping,
            S::Deleting,
            S::Vanishing,
            S::Releasing,
        ],
        Kind::RollBack { .. } | Kind::Evict { .. } | Kind::Rejoin { .. } => &[],
    }
}

fn sources(machine: &Machine, now: Timestamp) -> Sources {
    let view = &machine.view;
    let source = |answered: Option<Timestamp>, missing: &Option<(Timestamp, String)>| SourceView {
        age_ms: answered.map(|at| age(at, now)),
        error: missing.as_ref().map(|(_, why)| why.clone()),
        error_age_ms: missing.as_ref().map(|(since, _)| age(*since, now)),
    };
    let sampled = view.samplers.values().filter_map(|s| s.newest.map(|(at, _)| at)).max();
    Sources {
        libvirt: source(sampled, &view.guests_missing),
        nova: source(view.cloud_at, &view.cloud_missing),
        haproxy: source(view.lb.as_ref().map(|(at, _)| *at), &view.lb_missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::IntentId;

    #[test]
    fn the_paths_that_are_shown_are_paths_of_the_machine() {
        let scale_out = Kind::ScaleOut {
            intent: IntentId(uuid::Uuid::nil()),
            name: "vm-test-clone".into(),
            generation: 1,
        };
        for kind in [Kind::Adopt, scale_out, Kind::Handover] {
            let path = path(&kind);
            for step in path.windows(2) {
                assert!(step[0].next().contains(&step[1]), "{:?} does not lead to {:?}", step[0], step[1]);
            }
            assert!(path.last().unwrap().may_end(), "{kind:?}");
        }
    }
}
