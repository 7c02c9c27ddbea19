//! At start: what was stored, made fit for what is there now; or, when nothing was stored, the state rebuilt from marks.
//!
//! It changes nothing outside. What is wrong in the world (a VM gone, a service address elsewhere) is then repaired by the same
//! stages and upkeep as at any other time; this file only makes sure that they start from something true.

use super::{
    cloud::{ServerFacts, ServerStatus},
    event::VipSeen,
    ids::BackendName,
    join::READ_LAG,
    lb::{LbAdmin, LbSeen},
    settings::Settings,
    state::{Member, Place, State},
    time::Timestamp,
    transition::Stage,
    units::Weight,
};

/// What was observed before the first decision.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Servers that carry our mark, and the stored members that still exist.
    pub servers: Vec<ServerFacts>,
    /// The VM that the operator named as base, when there is one.
    pub base: Option<ServerFacts>,
    /// HAProxy, when it runs.
    pub lb: Option<LbSeen>,
    /// Where the service address is, when that is known.
    pub vip: Option<VipSeen>,
    /// The newest state could not be read: a creation that was begun last may be missing from the stored one.
    pub older: bool,
}

/// Makes the state to go on from.
#[must_use]
pub fn recover(stored: Option<State>, facts: &Facts, settings: &Settings, now: Timestamp) -> State {
    let mut state = match stored {
        Some(state) if !state.members.is_empty() || state.transition.is_some() => {
            resume(state, facts, settings, now)
        }
        _ => rebuild(facts, settings, now),
    };
    if facts.older {
        look_first(&mut state, now);
        prove_again(&mut state, facts.lb.as_ref(), now);
    }
    state
}

/// What was made since the state was written carries our mark. It is looked for by its intent, where that is known; else nothing is made
/// before Nova's list must show it: there it counts, and is cleaned up as left over.
fn look_first(state: &mut State, now: Timestamp) {
    if let Some(transition) = &mut state.transition
        && matches!(transition.stage, Stage::Admitting | Stage::Creating { .. })
    {
        transition.stage = Stage::Looking { looks: 0 };
    }
    let listed = now.plus(READ_LAG);
    if state.breaker.not_before < listed {
        state.breaker.not_before = listed;
        state.breaker.why = "the newest state could not be read: looking for what was made since".to_owned();
    }
}

/// One on its way in that HAProxy sends nothing has failed since, whatever it had before; and one that HAProxy does not list is proven
/// like a new one.
fn prove_again(state: &mut State, lb: Option<&LbSeen>, now: Timestamp) {
    let Some(lb) = lb else { return };
    if state.transition.is_none() {
        let listed = |m: &Member| lb.servers.get(&m.backend_name()).is_some_and(|server| server.listed);
        for member in state.members.iter_mut().filter(|m| !listed(m)) {
            (member.place, member.serving_since) = (Place::Unlisted, None);
        }
    }
    let ramping = state.transition.as_mut().filter(|t| matches!(t.stage, Stage::Ramping { .. }));
    let Some(transition) = ramping else { return };
    let Some(member) = state.members.iter_mut().find(|m| Some(m.id) == transition.server) else { return };
    if lb.servers.get(&member.backend_name()).is_none_or(|server| server.weight == 0) {
        (member.place, member.serving_since) = (Place::Listed { weight: Weight::ZERO }, None);
        transition.stage = Stage::Proving { checks: 0, probes: 0 };
        transition.stage_since = now;
    }
}

/// A stored state: its times must lie in this world, which matters when the clock was set back while we were away.
fn resume(mut state: State, facts: &Facts, settings: &Settings, now: Timestamp) -> State {
    let policy = &settings.policy;
    state.no_scale_out_before = state.no_scale_out_before.min(now.plus(policy.cooldown_up));
    state.no_handover_before = state.no_handover_before.min(now.plus(policy.cooldown_down));
    state.breaker.not_before = state.breaker.not_before.min(now.plus(settings.transition.backoff_max));
    state.epoch_since = state.epoch_since.min(now);
    for member in &mut state.members {
        member.serving_since = member.serving_since.map(|since| since.min(now));
    }
    if let Some(transition) = &mut state.transition {
        transition.since = transition.since.min(now);
        transition.stage_since = transition.stage_since.min(now);
        transition.not_before = now;
        // The newest state may be lost, and this the one before it: the call may have gone out all the same.
        if let Stage::Creating { asked } = &mut transition.stage {
            *asked = true;
        }
        let what = format!("{} was under way, in stage {}", transition.kind.name(), transition.stage.name());
        state.note(now, "started", what);
    } else {
        state.note(now, "started", "the stored state is resumed");
    }
    if let Some(base) = &facts.base
        && state.member(base.id).is_none()
    {
        let primary = state.base().map_or_else(|| "no member".to_owned(), |m| m.name.clone());
        let why = format!(
            "a VM named {} ({}) exists, but the pool has moved on and {primary} is its primary: it is left alone",
            base.name, base.id
        );
        if !state.history.iter().any(|entry| entry.why == why) {
            state.note(now, "conflict", why);
        }
    }
    state
}

/// Nothing usable was stored: the base that the operator named, what carries our mark, and HAProxy's word about who serves.
fn rebuild(facts: &Facts, settings: &Settings, now: Timestamp) -> State {
    let mut state = State::new(settings.pool.clone(), now);
    let weight_of = |of: &ServerFacts| lb_weight(of, facts);
    let lb_server = |of: &ServerFacts| facts.lb.as_ref()?.servers.get(&BackendName::of(&of.name, of.id));
    let marked = facts.servers.iter().filter(|s| {
        s.mark.as_ref().is_some_and(|mark| mark.pool == settings.pool)
            // Whom HAProxy lists was a member, and may be the last one that answers, whatever Nova says.
            && (s.status == ServerStatus::Active || lb_server(s).is_some_and(|server| server.listed))
            && s.task_state.as_deref() != Some("deleting")
    });
    let found: Vec<&ServerFacts> = facts.base.iter().chain(marked).collect();
    // One with a part of the weight was on its way in, and goes that way again; unless nobody has more, and clients live by it.
    let most = found.iter().map(|of| weight_of(of)).max().unwrap_or_default();
    let serves = |of: &ServerFacts| weight_of(of) > 0 && weight_of(of) == most;
    let mut members: Vec<Member> =
        found.iter().map(|of| member(of, serves(of), facts, settings, now)).collect();
    members.sort_by_key(|m| (m.generation, m.id));
    members.dedup_by_key(|m| m.id);
    // After a handover the base's name may belong to somebody else: what serves without it is the pool.
    if members.iter().any(|m| m.mark.is_some() && m.is_serving()) {
        members.retain(|m| m.mark.is_some() || m.is_serving());
    }
    // Those that serve come first when there are too many; the rest carries our mark and is cleaned up as left over.
    let cap = usize::try_from(settings.max_members).unwrap_or(usize::MAX);
    let mut by_use = members.clone();
    by_use.sort_by_key(|m| !m.is_serving());
    by_use.truncate(cap);
    members.retain(|m| by_use.iter().any(|kept| kept.id == m.id));

    state.next_generation = members.iter().map(|m| m.generation + 1).max().unwrap_or(1).max(1);
    state.vip_taken = facts.vip == Some(VipSeen::Ours);
    state.members = members;
    if state.members.iter().any(|m| m.mark.is_some()) {
        // When the last change was is not known: as if it had been now.
        state.no_scale_out_before = now.plus(settings.policy.cooldown_up);
        state.no_handover_before = now.plus(settings.policy.cooldown_down);
    }
    let names: Vec<&str> = state.members.iter().map(|m| m.name.as_str()).collect();
    let what = format!(
        "no stored state; found {}",
        if names.is_empty() { "no member".into() } else { names.join(", ") }
    );
    state.note(now, "started", what);
    state
}

/// The weight by which HAProxy sends it traffic now; 0 when it does not.
fn lb_weight(of: &ServerFacts, all: &Facts) -> u16 {
    let seen = all.lb.as_ref().and_then(|lb| lb.servers.get(&BackendName::of(&of.name, of.id)));
    let usable = seen.filter(|s| s.listed && s.up && s.admin == LbAdmin::Ready);
    usable.map_or(0, |s| s.weight.min(Weight::FULL.get()))
}

fn member(facts: &ServerFacts, serves: bool, all: &Facts, settings: &Settings, now: Timestamp) -> Member {
    let seen = all.lb.as_ref().and_then(|lb| lb.servers.get(&BackendName::of(&facts.name, facts.id)));
    let address =
        seen.and_then(|s| s.address).or_else(|| facts.address.map(|ip| (ip, settings.service_port).into()));
    let serves = serves && address.is_some();
    Member {
        id: facts.id,
        name: facts.name.clone(),
        generation: facts.mark.as_ref().map_or(0, |mark| mark.generation),
        mark: facts.mark.clone(),
        address: if serves { address } else { None },
        floating_ip: facts.floating_ip,
        // Whatever is not clearly serving goes the whole way in again, checks and probes first.
        place: if serves { Place::Listed { weight: Weight::FULL } } else { Place::Unlisted },
        serving_since: serves.then_some(now),
        gone: facts.status == ServerStatus::Deleted,
    }
}
