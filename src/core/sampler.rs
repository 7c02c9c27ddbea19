//! From readings of one member to its value for a vote.

use std::time::Duration;

use super::{
    cpu::{self, Invalid},
    guest::DomainCounters,
    settings::{Metric, Signal},
    time::Timestamp,
    units::Percent,
};

/// Sub-samples of one member since the last vote.
#[derive(Debug, Default)]
pub struct Sampler {
    last: Option<DomainCounters>,
    /// The QEMU process at the last reading, if there was one.
    instance: Option<Option<u32>>,
    subs: Vec<Sub>,
    gap: Option<String>,
    /// The newest valid sub-sample, for `status`.
    pub newest: Option<(Timestamp, Sub)>,
}

/// One sub-sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sub {
    /// Time on a host CPU.
    pub used: Percent,
    /// Time waiting for a host CPU.
    pub steal: Percent,
    /// Both.
    pub demand: Percent,
    /// Memory in use, when the guest tells it.
    pub memory: Option<Percent>,
}

/// What one member brings to a vote.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Its value; `None` when it is not known, and then `problem` says why.
    pub value: Option<f64>,
    /// The mean of `used` over the interval.
    pub used: f64,
    /// The mean of `steal` over the interval.
    pub steal: f64,
    /// Sub-samples in the interval.
    pub samples: usize,
    /// Why the value is not known or not to be trusted.
    pub problem: Option<String>,
}

impl Sampler {
    /// Takes a reading in. Whether its QEMU process is another one than at the last reading.
    pub fn take(&mut self, now: Timestamp, counters: DomainCounters, period: Duration) -> bool {
        let known = self.instance.replace(counters.instance);
        let started = counters.instance.is_some() && known.is_some_and(|known| known != counters.instance);
        let usage = match &self.last {
            Some(last) => cpu::usage(last, &counters, period),
            None => Err(Invalid::FirstSample),
        };
        match usage {
            Ok(usage) => {
                let sub =
                    Sub { used: usage.used, steal: usage.steal, demand: usage.demand, memory: usage.memory };
                self.subs.push(sub);
                self.newest = Some((now, sub));
            }
            // The two readings were too close to mean anything: keep the older one as the base line.
            Err(Invalid::TooShort) => return started,
            Err(Invalid::FirstSample) => {}
            Err(invalid) => self.gap = Some(invalid.to_string()),
        }
        self.last = Some(counters);
        started
    }

    /// Notes that there was no reading.
    pub fn miss(&mut self, why: &str) {
        self.gap = Some(why.to_owned());
        self.last = None;
    }

    /// Forgets what was sampled so far; the last reading stays as a base line.
    pub fn forget(&mut self) {
        self.subs.clear();
        self.gap = None;
    }

    /// Ends the interval: the member's reading, and an empty window for the next one.
    pub fn vote(&mut self, metric: Metric, signal: Signal) -> Reading {
        let subs = std::mem::take(&mut self.subs);
        let gap = self.gap.take();
        let mean = |f: fn(&Sub) -> f64| {
            if subs.is_empty() { 0.0 } else { subs.iter().map(f).sum::<f64>() / subs.len() as f64 }
        };
        let (used, steal) = (mean(|s| s.used.get()), mean(|s| s.steal.get()));
        let values: Option<Vec<f64>> = subs.iter().map(|sub| signal_of(sub, signal)).collect();
        let (value, problem) = match (values, gap) {
            (_, Some(gap)) => (None, Some(gap)),
            (None, None) => {
                (None, Some("the guest does not tell its memory (balloon statistics)".to_owned()))
            }
            (Some(values), None) => match aggregate(values, metric) {
                Some(value) => (Some(value), None),
                None => (None, Some("no reading in this interval".to_owned())),
            },
        };
        Reading { value, used, steal, samples: subs.len(), problem }
    }
}

fn signal_of(sub: &Sub, signal: Signal) -> Option<f64> {
    let memory = sub.memory.map(Percent::get);
    match signal {
        Signal::Cpu => Some(sub.demand.get()),
        Signal::Mem => memory,
        Signal::MaxCpuMem => memory.map(|memory| memory.max(sub.demand.get())),
    }
}

/// One value out of an interval's values; `None` of none.
fn aggregate(mut values: Vec<f64>, metric: Metric) -> Option<f64> {
    let last = values.last().copied()?;
    let count = values.len();
    Some(match metric {
        Metric::Last => last,
        Metric::Mean => values.iter().sum::<f64>() / count as f64,
        Metric::Max => values.iter().copied().fold(f64::MIN, f64::max),
        Metric::P95 => {
            values.sort_by(f64::total_cmp);
            // Nearest rank: the smallest value with at least 95 % of all at or below it.
            let rank = (count * 95).div_ceil(100).max(1);
            values.get(rank - 1).copied().unwrap_or(last)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_means_what_it_says() {
        let values: Vec<f64> = (1..=20).map(f64::from).rev().collect();
        let of = |metric| aggregate(values.clone(), metric).unwrap();
        assert_eq!(of(Metric::Max), 20.0);
        assert_eq!(of(Metric::Mean), 10.5);
        assert_eq!(of(Metric::Last), 1.0);
        assert_eq!(of(Metric::P95), 19.0);
        assert_eq!(aggregate(vec![], Metric::Max), None);
    }

    #[test]
    fn a_gap_anywhere_in_the_interval_makes_the_value_unknown() {
        let mut sampler = Sampler::default();
        let sub = Sub {
            used: Percent::clamped(5.0),
            steal: Percent::clamped(0.0),
            demand: Percent::clamped(5.0),
            memory: None,
        };
        sampler.subs.push(sub);
        sampler.miss("libvirt did not answer");
        sampler.subs.push(sub);
        let reading = sampler.vote(Metric::Max, Signal::Cpu);
        assert_eq!((reading.value, reading.samples), (None, 2));
        sampler.subs.push(sub);
        assert_eq!(
            sampler.vote(Metric::Max, Signal::Cpu).value,
            Some(5.0),
            "the gap must not outlive its interval"
        );
    }

    #[test]
    fn memory_that_is_not_told_is_not_zero() {
        let mut sampler = Sampler::default();
        sampler.subs.push(Sub {
            used: Percent::clamped(5.0),
            steal: Percent::clamped(0.0),
            demand: Percent::clamped(5.0),
            memory: None,
        });
        assert_eq!(sampler.vote(Metric::Max, Signal::MaxCpuMem).value, None);
    }
}
