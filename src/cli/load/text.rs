//! A load as people see it: a line that lives, and the account at its end.

use crate::{
    admin::view::StatusView,
    cli::{
        args::{Output, OutputArgs},
        frames::Frames,
        out::{self, Failure, Look},
        text::{Tone, clean, left, right},
    },
    load::{Counts, LoadReport, LoadSnapshot, Verdict},
};

/// Where there is no terminal, a line comes at every so many beats: five seconds.
const SELDOM: u32 = 10;

/// Where the load is shown while it runs.
pub(super) struct Screen {
    /// `None`: nothing is shown, the answer is for a program.
    look: Option<Look>,
    frames: Frames,
    beats: u32,
    phase: String,
}

impl Screen {
    pub(super) fn new(args: &OutputArgs) -> Self {
        let look = (args.output == Output::Text).then(|| Look::of(args));
        Self { look, frames: Frames::default(), beats: 0, phase: String::new() }
    }

    /// Shows it now. `pool`: what the daemon says, `Some(None)` when it should answer and does not.
    pub(super) fn show(
        &mut self,
        phase: &str,
        now: &LoadSnapshot,
        pool: Option<Option<&StatusView>>,
    ) -> Result<(), Failure> {
        let Some(look) = &self.look else { return Ok(()) };
        if phase != self.phase {
            self.phase = phase.to_owned();
            self.beats = 0;
        }
        let seldom = self.beats.is_multiple_of(SELDOM);
        self.beats += 1;
        if look.is_live() || seldom {
            let mut text = line(phase, now, look);
            match pool {
                Some(Some(view)) => text.push_str(&pool_line(view, look)),
                Some(None) => text.push_str(&look.paint.of(Tone::Fair, "\n  the daemon does not answer")),
                None => {}
            }
            if look.is_live() {
                self.frames.show(&text, look)?;
            } else {
                out::data(&(text + "\n"))?;
            }
        }
        Ok(())
    }
}

fn line(phase: &str, now: &LoadSnapshot, look: &Look) -> String {
    let lost = now.total.failed;
    let tone = if lost == 0 { Tone::Good } else { Tone::Bad };
    let latency = &now.phase.counts.latency;
    let shares: Vec<String> = now
        .recent_shares
        .iter()
        .map(|(member, share)| format!("{} {:.0}%", clean(member), share * 100.0))
        .collect();
    format!(
        "{} {:>4.0}s  {:>6.0} req/s  {}  p50 {:.1} ms  p99 {:.1} ms  {}",
        look.paint.of(Tone::Bold, &left(phase, 6)),
        now.phase.counts.seconds,
        now.requests_per_second,
        look.paint.of(tone, &format!("{lost} lost")),
        latency.p50_ms,
        latency.p99_ms,
        shares.join("  ")
    )
}

fn pool_line(view: &StatusView, look: &Look) -> String {
    let mut text = format!("\n  pool {}: ", view.phase.as_str());
    let members: Vec<String> = view
        .members
        .iter()
        .map(|member| {
            let cpu = member.demand_percent.map_or_else(|| "-".to_owned(), |cpu| format!("{cpu:.0}%"));
            format!("{} {} at {cpu}", clean(&member.name), member.state.as_str())
        })
        .collect();
    text.push_str(&members.join(", "));
    look.paint.of(Tone::Dim, &text)
}

/// The account.
pub(super) fn report(report: &LoadReport, look: &Look) -> String {
    let mut text = format!(
        "\n{}  {}  {}  {}  {}  {}  {}  SHARES\n",
        left("PHASE", 7),
        right("TIME", 7),
        right("ANSWERED", 9),
        right("LOST", 6),
        right("REQ/S", 7),
        right("P50 ms", 8),
        right("P99 ms", 8)
    );
    for phase in report.phases.iter().filter(|phase| phase.counts.ok + phase.counts.failed > 0) {
        // Before its first mark a load has no phase yet.
        let name = if report.phases.len() > 1 { phase.name.as_str() } else { "steady" };
        text.push_str(&row(name, &phase.counts));
    }
    if report.phases.len() > 1 {
        text.push_str(&row("all", &report.total));
    }
    for (kind, number) in &report.total.failed_by_kind {
        let kind = serde_json::to_value(kind).ok().and_then(|k| k.as_str().map(str::to_owned));
        text.push_str(&format!("  {number} lost: {}\n", kind.unwrap_or_default()));
    }
    for loss in report.first_losses.iter().take(5) {
        text.push_str(&format!(
            "  request {} at {:.1} s: {}\n",
            clean(&loss.id),
            loss.at_ms as f64 / 1000.0,
            clean(&loss.detail)
        ));
    }
    let (tone, verdict) = match report.verdict {
        Verdict::NothingLost => {
            (Tone::Good, format!("nothing was lost: {} requests, {} answers", report.sent, report.total.ok))
        }
        Verdict::Lost => (
            Tone::Bad,
            format!("{} of {} requests were lost", report.total.failed + report.unaccounted, report.sent),
        ),
        Verdict::NothingSent => (Tone::Fair, "no request was sent, so nothing is shown".to_owned()),
    };
    text.push_str(&format!("\n{}\n", look.paint.of(tone, &verdict)));
    text
}

fn row(name: &str, counts: &Counts) -> String {
    let all: u64 = counts.members.values().sum();
    let share = |number: &u64| *number as f64 * 100.0 / all.max(1) as f64;
    let shares: Vec<String> = counts
        .members
        .iter()
        .map(|(member, number)| format!("{} {:.0}%", clean(member), share(number)))
        .collect();
    let rate = if counts.seconds > 0.0 { counts.ok as f64 / counts.seconds } else { 0.0 };
    format!(
        "{}  {}  {}  {}  {}  {}  {}  {}\n",
        left(name, 7),
        right(&format!("{:.0}s", counts.seconds), 7),
        right(&counts.ok.to_string(), 9),
        right(&counts.failed.to_string(), 6),
        right(&format!("{rate:.0}"), 7),
        right(&format!("{:.1}", counts.latency.p50_ms), 8),
        right(&format!("{:.1}", counts.latency.p99_ms), 8),
        shares.join("  ")
    )
}
