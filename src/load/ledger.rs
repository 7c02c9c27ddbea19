//! The books: every request is entered when it begins and struck off when it ends, under one lock, so that all numbers that
//! are read together belong to the same instant.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::{
    plan::LoadError,
    recent::{Recent, add},
    report::{Counts, GroupCounts, Latency, LoadReport, LoadSnapshot, Loss, LossKind, PhaseCounts, Verdict},
};

/// More names than this are counted together: a server that answers pages instead of its name must not fill the memory.
const MEMBERS_KEPT: usize = 64;

/// How a request was lost, for the books.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) kind: LossKind,
    pub(super) detail: String,
}

/// A request that was begun and has not ended.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) number: u64,
    begun: Instant,
}

/// The books of one load.
#[derive(Debug)]
pub(super) struct Ledger(Mutex<Books>);

#[derive(Debug)]
struct Books {
    run: String,
    started: Instant,
    clients: usize,
    sent: u64,
    total: Tally,
    phases: Vec<(String, Tally)>,
    groups: Vec<GroupCounts>,
    members: Vec<String>,
    recent: Recent,
    last_ok: Instant,
    last_end: Instant,
    losses: Vec<Loss>,
}

impl Ledger {
    pub(super) fn new(run: String) -> Result<Self, LoadError> {
        let now = Instant::now();
        // Microseconds up to two minutes, three digits.
        let total = Tally::new(now, Histogram::new_with_bounds(1, 120_000_000, 3)?);
        Ok(Self(Mutex::new(Books {
            run,
            started: now,
            clients: 0,
            sent: 0,
            phases: vec![("start".to_owned(), total.fresh(now))],
            total,
            groups: Vec::new(),
            members: Vec::new(),
            recent: Recent::default(),
            last_ok: now,
            last_end: now,
            losses: Vec::new(),
        })))
    }

    /// A panic of another holder cannot leave the counters half-way in a manner that matters more than losing all of them.
    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters `clients` of a group; the index is its column. A group that comes back under its name goes on in its column.
    pub(super) fn open_group(&self, name: &str, clients: usize) -> usize {
        let mut books = self.books();
        books.clients += clients;
        books.groups.iter().position(|g| g.name == name).unwrap_or_else(|| {
            books.groups.push(GroupCounts { name: name.to_owned(), ..GroupCounts::default() });
            books.groups.len() - 1
        })
    }

    pub(super) fn client_left(&self) {
        self.books().clients -= 1;
    }

    /// Enters a request.
    pub(super) fn begin(&self) -> Open {
        let mut books = self.books();
        books.sent += 1;
        Open { number: books.sent, begun: Instant::now() }
    }

    /// Strikes a request off: `Ok` with the member that answered, if it said so.
    pub(super) fn end(&self, request: Open, group: usize, outcome: Result<Option<String>, Lost>) {
        let mut guard = self.books();
        let books = &mut *guard;
        let now = Instant::now();
        let at = now - books.started;
        let took = now - request.begun;
        books.last_end = now;
        let mut member_index = None;
        match outcome {
            Ok(member) => {
                member_index = member.map(|name| books.member(name));
                let gap = now - books.last_ok;
                books.last_ok = now;
                for tally in books.tallies() {
                    tally.ok(took, member_index);
                    tally.longest_gap = tally.longest_gap.max(gap);
                }
                if let Some(group) = books.groups.get_mut(group) {
                    group.ok += 1;
                }
            }
            Err(Lost { kind, detail }) => {
                for tally in books.tallies() {
                    *tally.failed.entry(kind).or_default() += 1;
                }
                let mut name = String::new();
                if let Some(group) = books.groups.get_mut(group) {
                    group.failed += 1;
                    name.clone_from(&group.name);
                }
                if books.losses.len() < LoadReport::KEPT_LOSSES {
                    books.losses.push(Loss {
                        id: format!("{}-{}", books.run, request.number),
                        at_ms: millis(at),
                        after_ms: millis(took),
                        group: name,
                        kind,
                        detail,
                    });
                }
            }
        }
        books.recent.record(at, member_index);
    }

    /// Notes that the server closed a kept connection between requests.
    pub(super) fn closed_idle(&self) {
        self.books().tallies().for_each(|t| t.closed_idle += 1);
    }

    /// Notes that a connection was opened.
    pub(super) fn connected(&self) {
        self.books().tallies().for_each(|t| t.connections += 1);
    }

    /// Ends the running phase and starts one of this name.
    pub(super) fn mark(&self, name: &str) {
        let mut books = self.books();
        let now = Instant::now();
        let fresh = books.total.fresh(now);
        if let Some((_, running)) = books.phases.last_mut() {
            running.until = Some(now);
        }
        books.phases.push((name.to_owned(), fresh));
    }

    pub(super) fn snapshot(&self) -> LoadSnapshot {
        let books = self.books();
        let now = Instant::now();
        let at = now - books.started;
        let recent = books.recent.members(at);
        let recent_sum: u64 = recent.iter().sum();
        LoadSnapshot {
            clients: books.clients,
            sent: books.sent,
            in_flight: books.open(),
            requests_per_second: books.recent.rate(at),
            recent_shares: books
                .members
                .iter()
                .zip(recent)
                .filter(|(_, n)| *n > 0)
                .map(|(name, n)| (name.clone(), n as f64 / recent_sum as f64))
                .collect(),
            total: books.counts(&books.total, now),
            phase: books.phases.last().map(|p| books.phase(p, now)).unwrap_or_default(),
        }
    }

    /// Closes the books when the last client has left.
    pub(super) fn report(&self, target: String) -> LoadReport {
        let books = self.books();
        let now = Instant::now();
        let total = books.counts(&books.total, now);
        let unaccounted = books.open();
        LoadReport {
            run: books.run.clone(),
            target,
            verdict: match (books.sent, total.failed + unaccounted) {
                (0, _) => Verdict::NothingSent,
                (_, 0) => Verdict::NothingLost,
                _ => Verdict::Lost,
            },
            sent: books.sent,
            unaccounted,
            total,
            phases: books.phases.iter().map(|p| books.phase(p, now)).collect(),
            groups: books.groups.clone(),
            first_losses: books.losses.clone(),
        }
    }
}

impl Books {
    /// The tallies that an event goes into: all and the running phase.
    fn tallies(&mut self) -> impl Iterator<Item = &mut Tally> {
        std::iter::once(&mut self.total).chain(self.phases.last_mut().map(|(_, tally)| tally))
    }

    fn open(&self) -> u64 {
        self.sent - self.total.ok - self.total.failed.values().sum::<u64>()
    }

    fn member(&mut self, name: String) -> usize {
        self.members.iter().position(|m| *m == name).unwrap_or_else(|| {
            if self.members.len() < MEMBERS_KEPT {
                self.members.push(name);
            } else if self.members.len() == MEMBERS_KEPT {
                self.members.push("(others)".to_owned());
            }
            self.members.len() - 1
        })
    }

    fn phase(&self, (name, tally): &(String, Tally), now: Instant) -> PhaseCounts {
        PhaseCounts { name: name.clone(), counts: self.counts(tally, now) }
    }

    fn counts(&self, tally: &Tally, now: Instant) -> Counts {
        // A silence that goes on counts too, as long as somebody waits for an answer or did so until the last loss.
        let silent_until = if self.open() > 0 { now } else { self.last_end };
        let running_gap = match tally.until {
            None => silent_until.saturating_duration_since(self.last_ok.max(tally.from)),
            Some(_) => Duration::ZERO,
        };
        let ms = |micros: u64| micros as f64 / 1e3;
        Counts {
            seconds: (tally.until.unwrap_or(now) - tally.from).as_secs_f64(),
            ok: tally.ok,
            failed: tally.failed.values().sum(),
            failed_by_kind: tally.failed.clone(),
            closed_idle: tally.closed_idle,
            connections: tally.connections,
            members: self
                .members
                .iter()
                .zip(&tally.members)
                .filter(|(_, n)| **n > 0)
                .map(|(name, n)| (name.clone(), *n))
                .collect(),
            latency: Latency {
                p50_ms: ms(tally.latency.value_at_quantile(0.5)),
                p99_ms: ms(tally.latency.value_at_quantile(0.99)),
                max_ms: ms(tally.latency.max()),
            },
            longest_gap_ms: tally.longest_gap.max(running_gap).as_secs_f64() * 1e3,
        }
    }
}

/// The counters of one stretch of time.
#[derive(Debug)]
struct Tally {
    from: Instant,
    until: Option<Instant>,
    ok: u64,
    failed: BTreeMap<LossKind, u64>,
    closed_idle: u64,
    connections: u64,
    /// By member index.
    members: Vec<u64>,
    latency: Histogram<u64>,
    longest_gap: Duration,
}

impl Tally {
    fn new(from: Instant, latency: Histogram<u64>) -> Self {
        Self {
            from,
            until: None,
            ok: 0,
            failed: BTreeMap::new(),
            closed_idle: 0,
            connections: 0,
            members: Vec::new(),
            latency,
            longest_gap: Duration::ZERO,
        }
    }

    /// An empty one with the same bounds.
    fn fresh(&self, from: Instant) -> Self {
        Self::new(from, Histogram::new_from(&self.latency))
    }

    fn ok(&mut self, took: Duration, member: Option<usize>) {
        self.ok += 1;
        self.latency.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        if let Some(member) = member {
            add(&mut self.members, member);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn books_balance_and_phases_add_up() {
        let ledger = Ledger::new("r".to_owned()).unwrap();
        let group = ledger.open_group("a", 2);
        let first = ledger.begin();
        let second = ledger.begin();
        assert_eq!((first.number, second.number), (1, 2));
        tokio::time::advance(Duration::from_millis(20)).await;
        ledger.end(first, group, Ok(Some("vm".to_owned())));
        let s = ledger.snapshot();
        assert_eq!((s.sent, s.in_flight, s.total.ok, s.clients), (2, 1, 1, 2));
        ledger.mark("after");
        tokio::time::advance(Duration::from_millis(500)).await;
        ledger.end(second, group, Err(Lost { kind: LossKind::Stale, detail: "eof".to_owned() }));
        ledger.client_left();
        ledger.client_left();
        let r = ledger.report("t".to_owned());
        assert_eq!(
            (r.verdict, r.sent, r.unaccounted, r.total.ok, r.total.failed),
            (Verdict::Lost, 2, 0, 1, 1)
        );
        assert_eq!(
            r.phases.iter().map(|p| (p.name.as_str(), p.counts.ok, p.counts.failed)).collect::<Vec<_>>(),
            [("start", 1, 0), ("after", 0, 1)]
        );
        assert_eq!(r.total.members, BTreeMap::from([("vm".to_owned(), 1)]));
        assert_eq!((r.first_losses[0].id.as_str(), r.first_losses[0].at_ms), ("r-2", 520));
        assert!((r.total.longest_gap_ms - 500.0).abs() < 1.0, "{}", r.total.longest_gap_ms);
        assert!((19.0..21.0).contains(&r.total.latency.p50_ms));
    }

    #[test]
    fn a_forgotten_request_is_a_loss() {
        let ledger = Ledger::new("r".to_owned()).unwrap();
        assert_eq!(ledger.report(String::new()).verdict, Verdict::NothingSent);
        let _never_ended = ledger.begin();
        let r = ledger.report(String::new());
        assert_eq!((r.verdict, r.unaccounted), (Verdict::Lost, 1));
    }

    #[test]
    fn names_without_end_are_counted_together() {
        let ledger = Ledger::new("r".to_owned()).unwrap();
        for n in 0..200 {
            let open = ledger.begin();
            ledger.end(open, 0, Ok(Some(format!("page {n}"))));
        }
        let members = ledger.snapshot().total.members;
        assert_eq!((members.len(), members["(others)"]), (65, 136));
    }
}
