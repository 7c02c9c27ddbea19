//! What came of the demo, for people and for programs.

use std::{collections::BTreeMap, time::Duration};

use lbsidecar::load::{LoadReport, Loss, LossKind, PhaseCounts};
use serde::Serialize;

use super::{
    screen::{minutes, number, shares},
    watch::{Step, Watch},
};

/// The whole demo.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    /// Whether nothing was lost, every cycle was complete and nothing is left over.
    pub(super) ok: bool,
    /// Why the story ended early.
    pub(super) problem: Option<String>,
    /// Whole cycles that were played, of those that were wished for.
    pub(super) cycles: [u32; 2],
    /// How long the load ran.
    pub(super) seconds: f64,
    /// Requests sent.
    pub(super) sent: u64,
    /// Requests lost.
    pub(super) failed: u64,
    /// Each time that calm was not calm enough for this host and got fewer requests.
    pub(super) eased: Vec<String>,
    /// Requests lost, by kind.
    pub(super) failed_by_kind: BTreeMap<LossKind, u64>,
    /// Good answers and lost requests by group of clients.
    groups: BTreeMap<String, [u64; 2]>,
    /// Good answers by member.
    members: BTreeMap<String, u64>,
    /// The clients' counts by phase; those that burn CPU are not in them, since they are slow on purpose.
    phases: Vec<Phase>,
    /// Every step with its length.
    steps: Vec<Step>,
    /// The first lost requests.
    first_losses: Vec<LossAt>,
}

#[derive(Debug, Serialize)]
struct Phase {
    #[serde(flatten)]
    counts: PhaseCounts,
    /// Each serving VM's mean CPU, percent.
    cpu: BTreeMap<String, f64>,
}

/// A lost request and the step in which it was lost.
#[derive(Debug, Serialize)]
struct LossAt {
    step: Option<String>,
    #[serde(flatten)]
    loss: Loss,
}

impl Outcome {
    pub(super) fn new(watch: &Watch, clients: LoadReport, burners: LoadReport, cycles: [u32; 2]) -> Self {
        let seconds = clients.total.seconds;
        let mut outcome = Self {
            ok: false,
            problem: None,
            cycles,
            seconds,
            sent: 0,
            failed: 0,
            eased: Vec::new(),
            failed_by_kind: BTreeMap::new(),
            groups: BTreeMap::new(),
            members: BTreeMap::new(),
            phases: Vec::new(),
            steps: watch.steps.clone(),
            first_losses: Vec::new(),
        };
        for report in [&clients, &burners] {
            outcome.sent += report.sent;
            outcome.failed += report.total.failed + report.unaccounted;
            for (kind, n) in &report.total.failed_by_kind {
                *outcome.failed_by_kind.entry(*kind).or_default() += n;
            }
            for group in &report.groups {
                outcome.groups.insert(group.name.clone(), [group.ok, group.failed]);
            }
            for (member, n) in &report.total.members {
                *outcome.members.entry(member.clone()).or_default() += n;
            }
            for loss in &report.first_losses {
                let step = watch.at(Duration::from_millis(loss.at_ms));
                let step = step.map(|step| format!("cycle {}, {}", step.cycle, step.name));
                outcome.first_losses.push(LossAt { step, loss: loss.clone() });
            }
        }
        for counts in clients.phases.into_iter().filter(|phase| phase.counts.ok + phase.counts.failed > 0) {
            outcome.phases.push(Phase { cpu: watch.cpu(&counts.name), counts });
        }
        outcome
    }

    /// Says whether it was good: the story came to its end, and every request got its answer.
    pub(super) fn conclude(&mut self, problem: Option<String>, eased: Vec<String>) {
        self.ok = problem.is_none() && self.sent > 0 && self.failed == 0;
        self.problem = problem;
        self.eased = eased;
    }

    /// Good answers and lost requests a second, all clients together.
    fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.sent as f64 / self.seconds } else { 0.0 }
    }

    /// The table at the end.
    pub(super) fn text(&self) -> String {
        let mut text = self.phase_table() + "\n" + &self.step_table() + "\n";
        let mut line = |label: &str, what: String| text.push_str(&format!("{label:<10} {what}\n"));
        line(
            "requests",
            format!("{} in {}, {:.0} a second", number(self.sent), minutes(self.seconds), self.rate()),
        );
        let groups: Vec<_> =
            self.groups.iter().map(|(name, [ok, _])| format!("{name} {}", number(*ok))).collect();
        line("", groups.join(", "));
        let answered: u64 = self.members.values().sum();
        let parts = self.members.iter().map(|(name, n)| (name.clone(), *n as f64 / answered.max(1) as f64));
        line("split", shares(&parts.collect()));
        let kinds: Vec<_> = self
            .failed_by_kind
            .iter()
            .map(|(kind, n)| {
                format!("{} {n}", serde_json::to_string(kind).unwrap_or_default().trim_matches('"'))
            })
            .collect();
        line(
            "failed",
            if kinds.is_empty() {
                self.failed.to_string()
            } else {
                format!("{}: {}", self.failed, kinds.join(", "))
            },
        );
        for at in &self.first_losses {
            let (loss, step) = (&at.loss, at.step.as_deref().unwrap_or("?"));
            line(
                "",
                format!(
                    "{:.1} s ({step}): {} after {} ms: {}",
                    loss.at_ms as f64 / 1000.0,
                    loss.group,
                    loss.after_ms,
                    loss.detail
                ),
            );
        }
        for eased in &self.eased {
            line("eased", eased.clone());
        }
        line(
            "cycles",
            format!(
                "{} of {} complete, with nothing left over at Nova or libvirt",
                self.cycles[0], self.cycles[1]
            ),
        );
        if let Some(problem) = &self.problem {
            line("problem", problem.clone());
        }
        text
    }

    fn phase_table(&self) -> String {
        let mut text = format!(
            "{:<14}{:>8}{:>10}{:>7}{:>8}{:>9}{:>9}{:>9}   {}\n",
            "phase",
            "seconds",
            "requests",
            "req/s",
            "failed",
            "p50 ms",
            "p99 ms",
            "max ms",
            "split, and CPU where it serves"
        );
        for Phase { counts: PhaseCounts { name, counts }, cpu } in &self.phases {
            let requests = counts.ok + counts.failed;
            let rate = if counts.seconds > 0.0 { requests as f64 / counts.seconds } else { 0.0 };
            let answered: u64 = counts.members.values().sum();
            let members = counts.members.iter().map(|(member, n)| {
                let cpu = cpu.get(member).map(|cpu| format!(" ({cpu:.0} %)")).unwrap_or_default();
                format!("{member} {:.1} %{cpu}", 100.0 * *n as f64 / answered.max(1) as f64)
            });
            text.push_str(&format!(
                "{name:<14}{:>8.1}{:>10}{rate:>7.0}{:>8}{:>9.1}{:>9.1}{:>9.1}   {}\n",
                counts.seconds,
                number(requests),
                counts.failed,
                counts.latency.p50_ms,
                counts.latency.p99_ms,
                counts.latency.max_ms,
                members.collect::<Vec<_>>().join(", "),
            ));
        }
        text
    }

    /// A line a step, a column a cycle.
    fn step_table(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        let mut place = 0;
        for step in &self.steps {
            // A step that was too short to be seen in an earlier cycle goes where it belongs.
            match names.iter().position(|name| *name == step.name) {
                Some(at) => place = at + 1,
                None => {
                    names.insert(place.min(names.len()), &step.name);
                    place += 1;
                }
            }
        }
        let last = self.steps.iter().map(|step| step.cycle).max().unwrap_or(0);
        let mut text = format!("{:<28}", "seconds");
        for cycle in 1..=last {
            text.push_str(&format!("{:>9}", format!("cycle {cycle}")));
        }
        text.push('\n');
        for name in names {
            text.push_str(&format!("{name:<28}"));
            for cycle in 1..=last {
                let took: Vec<f64> = self
                    .steps
                    .iter()
                    .filter(|s| s.cycle == cycle && s.name == name)
                    .map(|s| s.seconds)
                    .collect();
                let cell =
                    if took.is_empty() { "-".to_owned() } else { format!("{:.1}", took.iter().sum::<f64>()) };
                text.push_str(&format!("{cell:>9}"));
            }
            text.push('\n');
        }
        text
    }
}
