//! A value exactly at a threshold counts.

use lbsidecar::core::{condition::Phase, view::Vote};

use crate::{settings::settings, world::World};

#[test]
fn a_value_exactly_at_a_threshold_counts() {
    let mut world = World::by(settings());
    world.until("adopted", 60, |w| w.phase() == Phase::Single && w.machine.state.transition.is_none());
    let voted = |vote: Vote, value: f64| {
        move |w: &World| {
            w.machine.view.decisions.back().is_some_and(|d| d.vote == vote && d.value == Some(value))
        }
    };
    let policy = settings().policy;
    let (high, low) = (policy.high.get(), policy.low.get());
    world.load(high);
    world.until("high", 30, voted(Vote::High, high));
    world.load(high - 1.0);
    world.until("neither", 30, voted(Vote::Between, high - 1.0));
    world.load(low);
    world.until("low", 30, voted(Vote::Low, low));
    world.load(low + 1.0);
    world.until("neither", 30, voted(Vote::Between, low + 1.0));
}
