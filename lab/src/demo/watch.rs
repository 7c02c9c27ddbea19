//! What is kept of the daemon's status over time: the stages with their lengths, and each VM's CPU by phase.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use lbsidecar::admin::view::{MemberState, StatusView};
use serde::Serialize;

/// A stretch of the story.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// The cycle, from 1.
    pub cycle: u32,
    /// `scale-out` or `handover` with its stage, or what was waited for.
    pub name: String,
    /// When it began, after the load's start.
    pub at_seconds: f64,
    /// How long it took.
    pub seconds: f64,
}

/// The story's timeline.
#[derive(Debug)]
pub struct Watch {
    started: Instant,
    /// The cycle, the name and the beginning of the running step.
    running: (u32, String, Instant),
    /// The steps that are over.
    pub steps: Vec<Step>,
    /// Phase, member: sum of readings and how many.
    cpu: BTreeMap<(String, String), (f64, u32)>,
}

impl Watch {
    /// Begins with a step of this name.
    #[must_use]
    pub fn start(cycle: u32, name: &str) -> Self {
        let now = Instant::now();
        Self { started: now, running: (cycle, name.to_owned(), now), steps: Vec::new(), cpu: BTreeMap::new() }
    }

    /// How long ago it began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The running step.
    #[must_use]
    pub fn now(&self) -> &str {
        &self.running.1
    }

    /// Ends the running step and begins one of this name; nothing when it is the same. Whether it is another one.
    pub fn step(&mut self, cycle: u32, name: &str) -> bool {
        if (self.running.0, self.running.1.as_str()) == (cycle, name) {
            return false;
        }
        let now = Instant::now();
        let (cycle, name, began) = std::mem::replace(&mut self.running, (cycle, name.to_owned(), now));
        self.steps.push(Step {
            cycle,
            name,
            at_seconds: (began - self.started).as_secs_f64(),
            seconds: (now - began).as_secs_f64(),
        });
        true
    }

    /// Notes what the VMs use in this phase.
    pub fn see(&mut self, phase: &str, status: &StatusView) {
        for member in status.members.iter().filter(|m| m.state == MemberState::Serving) {
            if let Some(cpu) = member.demand_percent {
                let (sum, count) = self.cpu.entry((phase.to_owned(), member.name.clone())).or_default();
                *sum += cpu;
                *count += 1;
            }
        }
    }

    /// The mean of each serving VM's CPU in a phase, percent.
    #[must_use]
    pub fn cpu(&self, phase: &str) -> BTreeMap<String, f64> {
        self.cpu
            .iter()
            .filter(|((of, _), _)| of == phase)
            .map(|((_, member), (sum, count))| (member.clone(), sum / f64::from(*count)))
            .collect()
    }

    /// The step that ran at this moment after the load's start.
    #[must_use]
    pub fn at(&self, moment: Duration) -> Option<&Step> {
        let at = moment.as_secs_f64();
        self.steps.iter().find(|step| (step.at_seconds..step.at_seconds + step.seconds).contains(&at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_follow_each_other_without_a_gap() {
        let mut watch = Watch::start(1, "a");
        assert!(!watch.step(1, "a"));
        std::thread::sleep(Duration::from_millis(2));
        assert!(watch.step(1, "b"));
        std::thread::sleep(Duration::from_millis(2));
        assert!(watch.step(2, "b"), "the same step of another cycle is another step");
        let [a, b] = watch.steps.as_slice() else { panic!("{:?}", watch.steps) };
        assert_eq!((a.name.as_str(), b.name.as_str(), b.cycle), ("a", "b", 1));
        assert!((a.at_seconds + a.seconds - b.at_seconds).abs() < 1e-9);
        let moment = Duration::from_secs_f64(b.at_seconds + b.seconds / 2.0);
        assert_eq!(watch.at(moment).map(|step| step.name.as_str()), Some("b"));
    }
}
