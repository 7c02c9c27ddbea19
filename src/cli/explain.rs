//! `explain`: how the last decisions came about.

use jiff::tz::TimeZone;

use super::{
    args::{ExplainArgs, Output},
    out::{self, Failure, Look},
    small_runtime,
    text::{Tone, clean, clock, left, wrap},
};
use crate::{
    admin::{
        client::Client,
        explain::{DecisionView, ExplainView, ReadingView},
    },
    exit::Exit,
};

pub(super) fn run(client: &Client, args: &ExplainArgs) -> Result<Exit, Failure> {
    let view = small_runtime()?.block_on(client.explain(args.limit))?;
    let text = match args.out.output {
        Output::Json => out::json(&view)?,
        Output::Text => text(&view, &Look::of(&args.out), &TimeZone::system()),
    };
    out::data(&text)?;
    Ok(Exit::Ok)
}

/// One paragraph a decision, oldest first, so that the newest stands above the prompt.
pub(super) fn text(view: &ExplainView, look: &Look, zone: &TimeZone) -> String {
    let rules = format!(
        "{}: scale out after {} votes at or above {:.0}%, hand over after {} with every member at or below {:.0}%",
        view.pool, view.min_up, view.high, view.min_down, view.low,
    );
    let mut text = String::new();
    for line in wrap(&rules, look.width) {
        text.push_str(&look.paint.of(Tone::Bold, &line));
        text.push('\n');
    }
    if view.decisions.is_empty() {
        text.push_str("no vote yet\n");
    }
    for decision in &view.decisions {
        text.push_str(&paragraph(view, decision, look, zone));
    }
    text
}

const INDENT: usize = 10;

fn paragraph(view: &ExplainView, decision: &DecisionView, look: &Look, zone: &TimeZone) -> String {
    let time = clock(decision.at, zone);
    let value = decision.value.map_or_else(|| "unknown".to_owned(), |value| format!("{value:.1}%"));
    let tone = match decision.vote.as_str() {
        "high" => Tone::Bad,
        "low" => Tone::Moving,
        "between" => Tone::Good,
        _ => Tone::Fair,
    };
    let action = match decision.action.as_str() {
        "none" => String::new(),
        action => format!("  ▶ {action}"),
    };
    let mut text = format!(
        "{time}  {} {}  up {}/{}  down {}/{}{}\n",
        look.paint.of(tone, &left(&clean(&decision.vote), 7)),
        left(&value, 7),
        decision.up_run,
        view.min_up,
        decision.down_run,
        view.min_down,
        look.paint.of(Tone::Bold, &clean(&action)),
    );
    let columns = look.width.saturating_sub(INDENT);
    for line in wrap(&clean(&decision.reason), columns) {
        text.push_str(&format!("{:INDENT$}{line}\n", ""));
    }
    for reading in &decision.readings {
        for line in wrap(&clean(&reading_line(reading)), columns) {
            text.push_str(&format!("{:INDENT$}{}\n", "", look.paint.of(Tone::Dim, &line)));
        }
    }
    text
}

fn reading_line(reading: &ReadingView) -> String {
    let ReadingView { member, used_percent, steal_percent, samples, .. } = reading;
    match (&reading.value, &reading.problem) {
        (Some(value), _) => format!(
            "{member} {value:.1}% of {samples} samples (mean used {used_percent:.1}%, steal {steal_percent:.1}%)"
        ),
        (None, Some(problem)) => format!("{member} unknown: {problem}"),
        (None, None) => format!("{member} unknown"),
    }
}
