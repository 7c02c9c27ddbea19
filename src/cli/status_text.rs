//! The pool for people: what needs a person first, then members, votes, what is under way, and the last events.

use jiff::tz::TimeZone;

use super::{
    out::Look,
    table,
    text::{Tone, clean, clock, count, cut, left, right, span, width, wrap},
};
use crate::{
    admin::{
        stored::StoredView,
        view::{Cooldowns, HistoryView, HoldView, SourceView, StatusView, TransitionView, VipPlace},
    },
    core::{cloud::ServerStatus, condition::Phase, transition::StageName},
};

/// Events that are shown.
const EVENTS: usize = 5;
/// Columns of the words at the left.
const LABEL: usize = 10;
/// Where the service address is after a release.
const GIVEN_BACK: &str = "the service address was given back; `lbsidecar resume` takes it again";
/// A view older than this says that the loop hangs.
const STALE_MS: u64 = 3_000;

/// The whole text; no line is wider than the look says.
pub(super) fn text(view: &StatusView, look: &Look, zone: &TimeZone) -> String {
    let mut page = Page { look, lines: Vec::new() };
    page.head(view, zone);
    page.alarms(view);
    page.lines.push(String::new());
    page.lines.extend(table::members(view, look));
    page.nova(view);
    page.lines.push(String::new());
    page.vote(view);
    page.transition(view.transition.as_ref());
    let leaving = view.vip.detail.as_deref().filter(|_| view.vip.place == VipPlace::Ours);
    page.bars(view.hold.as_ref(), view.vip.released.then(|| leaving.unwrap_or(GIVEN_BACK)), &view.cooldowns);
    page.haproxy(view);
    page.sources(view);
    page.events(&view.history, zone);
    page.lines.join("\n") + "\n"
}

/// The pool as it was when its state was written last.
pub(super) fn stored(view: &StoredView, look: &Look, zone: &TimeZone) -> String {
    let mut page = Page { look, lines: Vec::new() };
    page.lines.push(format!(
        "{}  {}  this was meant at {}, {} ago",
        page.paint(Tone::Bold, view.pool.as_str()),
        page.paint(Tone::Bad, "not running"),
        clock(view.at, zone),
        span(view.age_ms),
    ));
    page.lines.push(String::new());
    let longest = view.members.iter().map(|m| width(&clean(&m.name))).max().unwrap_or(0).clamp(6, 32);
    for member in &view.members {
        let address = member.address.map_or_else(|| "-".to_owned(), |address| address.to_string());
        page.lines.push(format!(
            "{}  {}  weight {}  {address}",
            page.paint(Tone::Bold, &left(&clean(&member.name), longest)),
            left(member.state.as_str(), 8),
            right(&member.weight.to_string(), 3),
        ));
    }
    page.transition(view.transition.as_ref());
    page.bars(view.hold.as_ref(), view.released.then_some(GIVEN_BACK), &Cooldowns::default());
    page.events(&view.history, zone);
    page.lines.join("\n") + "\n"
}

struct Page<'a> {
    look: &'a Look,
    lines: Vec<String>,
}

impl Page<'_> {
    fn paint(&self, tone: Tone, text: &str) -> String {
        self.look.paint.of(tone, text)
    }

    /// A word at the left and sentences beside it.
    fn entry(&mut self, label: &str, tone: Tone, text: &str) {
        let columns = self.look.width.saturating_sub(LABEL);
        for (i, line) in wrap(&clean(text), columns).iter().enumerate() {
            let label = left(if i == 0 { label } else { "" }, LABEL);
            self.lines.push(format!("{}{}", self.paint(Tone::Dim, &label), self.paint(tone, line)));
        }
    }

    fn head(&mut self, view: &StatusView, zone: &TimeZone) {
        let place = match view.vip.place {
            VipPlace::Ours => "with us",
            VipPlace::Free => "free",
            VipPlace::Elsewhere if view.vip.released => "released",
            VipPlace::Elsewhere => "elsewhere",
            VipPlace::Unknown => "not seen",
        };
        let service = match view.vip.address {
            Some(address) => clean(&format!("{address} {place} ({})", view.vip.mode)),
            None => "no service address yet".to_owned(),
        };
        let time = clock(view.at, zone);
        let (time, tone) = if view.age_ms > STALE_MS {
            (format!("{time}, {} old", span(view.age_ms)), Tone::Bad)
        } else {
            (time, Tone::Dim)
        };
        let (pool, phase) = (view.pool.as_str(), view.phase.as_str());
        let room = self.look.width.saturating_sub(width(pool) + width(phase) + width(&time) + 6);
        self.lines.push(format!(
            "{}  {}  {}  {}",
            self.paint(Tone::Bold, pool),
            self.paint(phase_tone(view.phase), phase),
            left(&service, room),
            self.paint(tone, &time),
        ));
    }

    fn alarms(&mut self, view: &StatusView) {
        for alarm in &view.alarms {
            for (i, line) in wrap(&clean(alarm), self.look.width.saturating_sub(2)).iter().enumerate() {
                let mark = if i == 0 { "! " } else { "  " };
                self.lines.push(self.paint(Tone::Bad, &format!("{mark}{line}")));
            }
        }
    }

    /// Members that Nova does not call ACTIVE.
    fn nova(&mut self, view: &StatusView) {
        for member in &view.members {
            if let Some(status) = member.nova.filter(|status| *status != ServerStatus::Active) {
                let word = format!("{status:?}").to_uppercase();
                self.entry("", Tone::Fair, &format!("Nova says {word} of {}", member.name));
            }
        }
    }

    fn vote(&mut self, view: &StatusView) {
        let vote = &view.decision;
        let tone = match vote.vote.as_str() {
            "high" => Tone::Bad,
            "low" => Tone::Moving,
            "between" => Tone::Good,
            _ => Tone::Fair,
        };
        let word = clean(&vote.vote);
        let value = vote.value.map_or_else(|| word.clone(), |value| format!("{value:.1}% {word}"));
        let run = |run: u32, min: u32| {
            let dots = match min {
                1..=8 => {
                    "●".repeat(run.min(min) as usize) + &"○".repeat(min.saturating_sub(run) as usize) + " "
                }
                _ => String::new(),
            };
            format!("{dots}{run}/{min}")
        };
        let line = format!(
            "{}  up ≥{:.0}% {}  down ≤{:.0}% {}",
            self.paint(tone, &value),
            vote.high,
            run(vote.up_run, vote.min_up),
            vote.low,
            run(vote.down_run, vote.min_down),
        );
        let age = vote.age_ms.map_or_else(String::new, |age| format!("  {} ago", span(age)));
        self.lines.push(format!(
            "{}{line}{}",
            self.paint(Tone::Dim, &left("vote", LABEL)),
            self.paint(Tone::Dim, &age)
        ));
        self.entry("", Tone::Plain, &vote.reason);
    }

    fn transition(&mut self, transition: Option<&TransitionView>) {
        let Some(transition) = transition else { return };
        let who = transition.server.clone().or_else(|| transition.server_id.map(|id| id.to_string()));
        let who = who.map_or_else(String::new, |who| format!(" of {who}"));
        let tries = match transition.tries {
            0 => String::new(),
            tries => format!(", {tries} failed tries"),
        };
        self.entry(
            "moving",
            Tone::Moving,
            &format!(
                "{}{who} {}{} for {}{tries}, {} in all",
                transition.kind,
                progress(&transition.path, transition.stage),
                transition.stage,
                span(transition.stage_age_ms),
                span(transition.age_ms)
            ),
        );
        if !transition.note.is_empty() {
            self.entry("", Tone::Plain, &transition.note);
        }
        if let Some(why) = &transition.cancel {
            self.entry("", Tone::Fair, &format!("being called off: {why}"));
        }
    }

    /// What bars the next change.
    fn bars(&mut self, hold: Option<&HoldView>, released: Option<&str>, cooldowns: &Cooldowns) {
        if let Some(hold) = hold {
            self.entry("hold", Tone::Fair, &format!("{} (for {})", hold.why, span(hold.age_ms)));
        }
        if let Some(released) = released {
            self.entry("released", Tone::Fair, released);
        }
        let mut left = Vec::new();
        for (what, seconds) in
            [("scale-out", cooldowns.scale_out_seconds_left), ("handover", cooldowns.handover_seconds_left)]
        {
            if seconds > 0 {
                left.push(format!("{what} in {}", span(seconds * 1000)));
            }
        }
        if !left.is_empty() {
            self.entry("cooldown", Tone::Plain, &left.join(" · "));
        }
        // An open breaker is an alarm already.
        let why = cooldowns.last_failure.as_deref().unwrap_or("it failed or was refused");
        if cooldowns.backoff_seconds_left > 0 && !cooldowns.breaker_open {
            let left = span(cooldowns.backoff_seconds_left * 1000);
            self.entry("creation", Tone::Fair, &format!("tried again in {left}: {why}"));
        } else if cooldowns.failed_creations > 0 && !cooldowns.breaker_open {
            self.entry(
                "creation",
                Tone::Fair,
                &format!("{} failed in a row: {why}", cooldowns.failed_creations),
            );
        }
    }

    fn haproxy(&mut self, view: &StatusView) {
        let haproxy = &view.haproxy;
        if !haproxy.answers {
            let why = haproxy.problem.as_deref().unwrap_or("not seen yet");
            self.entry("haproxy", Tone::Bad, &format!("does not answer: {why}"));
            return;
        }
        let mut parts = Vec::new();
        match haproxy.generation {
            Some(generation) => parts.push(format!("generation {generation}")),
            None => parts.push("not a configuration of ours".to_owned()),
        }
        if let Some(pid) = haproxy.worker_pid {
            parts.push(format!("worker {pid}"));
        }
        if !haproxy.old_workers.is_empty() {
            parts.push(format!("{} old", haproxy.old_workers.len()));
        }
        if let Some(rate) = haproxy.request_rate {
            parts.push(format!("{} req/s", count(rate)));
        }
        if let Some(sessions) = haproxy.sessions {
            parts.push(format!("{} sessions", count(sessions)));
        }
        self.entry("haproxy", Tone::Plain, &parts.join(" · "));
    }

    fn sources(&mut self, view: &StatusView) {
        let sources = &view.sources;
        let named = [("libvirt", &sources.libvirt), ("nova", &sources.nova), ("haproxy", &sources.haproxy)];
        let fresh: Vec<String> = named
            .iter()
            .filter(|(_, source)| source.error.is_none())
            .map(|(name, source)| match source.age_ms {
                Some(age) => format!("{name} {} ago", span(age)),
                None => format!("{name} not yet"),
            })
            .collect();
        if !fresh.is_empty() {
            self.entry("heard", Tone::Plain, &fresh.join(" · "));
        }
        for (name, source) in named {
            if let SourceView { error: Some(why), error_age_ms, .. } = source {
                let silent = span(error_age_ms.unwrap_or_default());
                self.entry("", Tone::Bad, &format!("{name} silent for {silent}: {why}"));
            }
        }
    }

    fn events(&mut self, history: &[HistoryView], zone: &TimeZone) {
        if history.is_empty() {
            return;
        }
        self.lines.push(String::new());
        let newest = || history.iter().skip(history.len().saturating_sub(EVENTS));
        let what_columns = newest().map(|event| width(&clean(&event.what))).max().unwrap_or(0).min(20);
        for event in newest() {
            let time = clock(event.at, zone);
            let ago = right(&span(event.age_ms), 6);
            let room = self.look.width.saturating_sub(8 + 1 + 6 + 2 + what_columns + 2);
            self.lines.push(format!(
                "{}  {}  {}",
                self.paint(Tone::Dim, &format!("{time} {ago}")),
                left(&clean(&event.what), what_columns),
                cut(&clean(&event.why), room),
            ));
        }
    }
}

/// A dot for each stage of the path, up to where it is; nothing when it is off the path.
fn progress(path: &[StageName], stage: StageName) -> String {
    match path.iter().position(|on_path| *on_path == stage) {
        Some(here) => format!("{}◉{} ", "●".repeat(here), "○".repeat(path.len() - here - 1)),
        None => String::new(),
    }
}

fn phase_tone(phase: Phase) -> Tone {
    match phase {
        Phase::Single | Phase::Balanced => Tone::Good,
        Phase::ScalingOut | Phase::HandingOver => Tone::Moving,
        Phase::Starting | Phase::Held => Tone::Fair,
        Phase::Degraded => Tone::Bad,
    }
}
