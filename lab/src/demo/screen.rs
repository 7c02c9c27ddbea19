//! What a person sees while the story runs: the status in place on a terminal, else a line for each thing that happens.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::{Duration, Instant},
};

use lbsidecar::{
    admin::view::StatusView,
    cli::{Frames, Look, status_text},
    load::LoadSnapshot,
};

use super::watch::Watch;

/// Time between two lines when nothing happens.
const QUIET: Duration = Duration::from_secs(10);

/// Where the story is shown.
#[derive(Debug)]
pub(super) enum Screen {
    /// On a terminal, in place.
    Live(Frames),
    /// As lines, on standard error when standard output is for a program.
    Lines {
        /// Whether standard output is for a program.
        quiet_stdout: bool,
        /// When the last line was written.
        last: Instant,
    },
}

/// What is shown.
#[derive(Debug)]
pub(super) struct Picture<'a> {
    /// Where in the story we are.
    pub(super) place: String,
    pub(super) watch: &'a Watch,
    /// The clients, and those that burn CPU.
    pub(super) load: Option<[&'a LoadSnapshot; 2]>,
    /// The last time that calm got fewer requests.
    pub(super) eased: Option<&'a str>,
    pub(super) status: Option<&'a StatusView>,
}

impl Screen {
    pub(super) fn new(quiet_stdout: bool) -> Self {
        if !quiet_stdout && Look::of_stdout(false).is_live() {
            Self::Live(Frames::default())
        } else {
            Self::Lines { quiet_stdout, last: Instant::now() }
        }
    }

    /// Says what the pictures show from now on, where they are lines.
    pub(super) fn tell(&self, line: &str) {
        if let Self::Lines { quiet_stdout, .. } = self {
            say(*quiet_stdout, line);
        }
    }

    /// Shows the picture; `news`: something else than a moment ago.
    pub(super) fn show(&mut self, picture: &Picture<'_>, news: bool) {
        match self {
            Self::Live(frames) => {
                let look = Look::of_stdout(false);
                let mut text = format!(
                    "{:<7}{}, {}\n",
                    "demo",
                    picture.place,
                    minutes(picture.watch.elapsed().as_secs_f64())
                );
                if let Some(load) = picture.load {
                    text.push_str(&format!("{:<7}{}\n", "load", counts(load)));
                }
                if let Some(eased) = picture.eased {
                    text.push_str(&format!("{:<7}{eased}\n", "eased"));
                }
                if let Some(status) = picture.status {
                    text.push('\n');
                    text.push_str(&status_text(status, &look));
                }
                // A terminal that went away is no reason to stop counting.
                let _ = frames.show(&text, &look);
            }
            Self::Lines { quiet_stdout, last } => {
                if !news && last.elapsed() < QUIET {
                    return;
                }
                *last = Instant::now();
                let mut line = format!("{:>6.1} s  {}", picture.watch.elapsed().as_secs_f64(), picture.place);
                if let Some(load) = picture.load {
                    line.push_str(&format!("  [{}]", counts(load)));
                }
                if let Some(status) = picture.status {
                    for member in &status.members {
                        if let Some(cpu) = member.demand_percent {
                            line.push_str(&format!("  {} {cpu:.0} %", member.name));
                        }
                    }
                }
                say(*quiet_stdout, &line);
            }
        }
    }
}

/// Prints a line for a person.
pub(super) fn say(quiet_stdout: bool, line: &str) {
    // Nobody may be reading any more.
    let _ = if quiet_stdout { writeln!(io::stderr(), "{line}") } else { writeln!(io::stdout(), "{line}") };
}

fn counts([clients, burners]: [&LoadSnapshot; 2]) -> String {
    let sent = clients.sent + burners.sent;
    let failed = clients.total.failed + burners.total.failed;
    let rate = clients.requests_per_second + burners.requests_per_second;
    let mut text = format!("{} requests, {failed} failed, {rate:.0}/s", number(sent));
    let shares = shares(&clients.recent_shares);
    if !shares.is_empty() {
        text.push_str(&format!(": {shares}"));
    }
    text
}

/// `vm-test 50 %, vm-test-clone 50 %`.
pub(super) fn shares(shares: &BTreeMap<String, f64>) -> String {
    let one = |(name, share): (&String, &f64)| format!("{name} {:.0} %", 100.0 * share);
    shares.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A number with its thousands apart.
pub(super) fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Seconds as minutes and seconds.
pub(super) fn minutes(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    if whole < 60 { format!("{whole} s") } else { format!("{} min {:02} s", whole / 60, whole % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(1_000), "1 000");
        assert_eq!(number(1_234_567), "1 234 567");
        assert_eq!(minutes(59.9), "59 s");
        assert_eq!(minutes(61.0), "1 min 01 s");
    }
}
