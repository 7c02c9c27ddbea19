//! The table of members, with each one's load against the thresholds.

use super::{
    out::Look,
    text::{Paint, Tone, clean, count, cut, left, right, width},
};
use crate::{
    admin::view::{DecisionNow, MemberState, MemberView, StatusView},
    core::settings::Signal,
};

/// From this width on there is room for steal, generation and address.
const WIDE: usize = 110;
/// A sample older than this is shown as old.
const STALE_MS: u64 = 10_000;

/// A line of titles and a line for each member.
pub(super) fn members(view: &StatusView, look: &Look) -> Vec<String> {
    if view.members.is_empty() {
        return vec!["no members yet".to_owned()];
    }
    let wide = look.width >= WIDE;
    let longest = view.members.iter().map(|m| width(&clean(&m.name))).max().unwrap_or(0);
    let wide_columns = if wide { 2 + 5 + 2 + 3 + 2 + 21 } else { 0 };
    // State, number, weight, split, requests, sessions, check, and the gaps between them.
    let others = 2 + 8 + 2 + 1 + 4 + 2 + 3 + 2 + 5 + 2 + 5 + 2 + 5 + 2 + 6;
    let name_columns = longest.clamp(6, look.width.saturating_sub(others + wide_columns + 11).max(6));
    let bar_columns = look.width.saturating_sub(name_columns + others + wide_columns).clamp(6, 32);

    let titles = match view.decision.signal {
        Signal::Cpu => "CPU",
        Signal::Mem => "MEMORY",
        Signal::MaxCpuMem => "CPU/MEM",
    };
    let mut title = format!(
        "{}  {}  {}  {}  {}  {}  {}  {}",
        left("MEMBER", name_columns),
        left("STATE", 8),
        left(titles, bar_columns + 5),
        right("WGT", 3),
        right("SPLIT", 5),
        right("REQ/S", 5),
        right("SESS", 5),
        left("CHECK", 6),
    );
    if wide {
        title.push_str(&format!("  {}  {}  {}", right("STEAL", 5), right("GEN", 3), "ADDRESS"));
    }
    let mut lines = vec![look.paint.of(Tone::Dim, title.trim_end())];
    for member in &view.members {
        lines.push(line(member, &view.decision, look.paint, name_columns, bar_columns, wide));
    }
    lines
}

fn line(
    member: &MemberView,
    rules: &DecisionNow,
    paint: Paint,
    name_columns: usize,
    bar_columns: usize,
    wide: bool,
) -> String {
    let load = load(member, rules.signal);
    let stale = member.sample_age_ms.is_none_or(|age| age > STALE_MS);
    let tone = match load {
        _ if stale => Tone::Dim,
        Some(load) if load >= rules.high => Tone::Bad,
        Some(load) if load <= rules.low => Tone::Moving,
        Some(_) | None => Tone::Good,
    };
    let number = load.map_or_else(|| "-".to_owned(), |load| format!("{load:.0}%"));
    let check = match (&member.check, member.up) {
        (None, _) => (Tone::Dim, "-".to_owned()),
        (Some(check), None) => (Tone::Dim, clean(check)),
        (Some(check), Some(true)) => (Tone::Good, clean(check)),
        (Some(check), Some(false)) => (Tone::Bad, clean(check)),
    };
    // Only a column that another one follows is filled up.
    let check = paint.of(check.0, &if wide { left(&check.1, 6) } else { cut(&check.1, 6) });
    let number_of = |number: Option<u64>| right(&number.map_or_else(|| "-".to_owned(), count), 5);
    let mut line = format!(
        "{}  {}  {} {}  {}  {}  {}  {}  {}",
        paint.of(Tone::Bold, &left(&clean(&member.name), name_columns)),
        paint.of(state_tone(member.state), &left(member.state.as_str(), 8)),
        bar(load, rules, bar_columns, tone, paint),
        paint.of(tone, &right(&number, 4)),
        right(&member.weight.to_string(), 3),
        right(&member.share_percent.map_or_else(|| "-".to_owned(), |share| format!("{share:.0}%")), 5),
        number_of(member.requests_per_second),
        number_of(member.sessions),
        check,
    );
    if wide {
        let steal = member.steal_percent.map_or_else(|| "-".to_owned(), |steal| format!("{steal:.0}%"));
        let address = member.address.map_or_else(|| "-".to_owned(), |address| address.to_string());
        line.push_str(&format!(
            "  {}  {}  {}",
            right(&steal, 5),
            right(&member.generation.to_string(), 3),
            paint.of(Tone::Dim, &address)
        ));
    }
    line.trim_end().to_owned()
}

/// What votes, of one member.
fn load(member: &MemberView, signal: Signal) -> Option<f64> {
    match signal {
        Signal::Cpu => member.demand_percent,
        Signal::Mem => member.memory_percent,
        Signal::MaxCpuMem => Some(member.demand_percent?.max(member.memory_percent?)),
    }
}

/// A bar in eighths of a column; the thresholds stand where it has not come to.
fn bar(load: Option<f64>, rules: &DecisionNow, columns: usize, tone: Tone, paint: Paint) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths =
        load.map_or(0, |load| (load.clamp(0.0, 100.0) / 100.0 * columns as f64 * 8.0).round() as usize);
    let mut filled = "█".repeat(eighths / 8);
    filled.push_str(EIGHTHS.get(eighths % 8).copied().unwrap_or_default());
    let cell_of = |percent: f64| (percent / 100.0 * columns as f64) as usize;
    let (low, high) = (cell_of(rules.low), cell_of(rules.high));
    let rest: String =
        (width(&filled)..columns).map(|cell| if cell == low || cell == high { '┊' } else { ' ' }).collect();
    paint.of(tone, &filled) + &paint.of(Tone::Dim, &rest)
}

fn state_tone(state: MemberState) -> Tone {
    match state {
        MemberState::Serving => Tone::Good,
        MemberState::Joining | MemberState::Proving | MemberState::Ramping => Tone::Moving,
        MemberState::Draining | MemberState::Leaving => Tone::Fair,
        MemberState::Out => Tone::Bad,
    }
}
