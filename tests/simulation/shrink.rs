//! A failing life made short: which of its mishaps are needed for it?

use std::collections::BTreeSet;

use crate::{
    fates::Mishap,
    life::{Life, live},
};

/// Lives that a shrink may cost.
const LIVES: usize = 2000;

/// The shortest life found that breaks the same law, told as a story. Delta debugging (Zeller, Hildebrandt 2002): leave out ever
/// smaller pieces, as long as it still fails.
pub(crate) fn shrink(seed: u64, violent: bool, failing: &Life) -> Life {
    let Some(law) = failing.broken.first().map(|broken| broken.law) else { return Life::default() };
    let mut lives = 0;
    let mut fails = |only: &[Mishap]| {
        lives += 1;
        let set: BTreeSet<Mishap> = only.iter().copied().collect();
        lives <= LIVES && live(seed, violent, Some(set), false).broken.first().is_some_and(|b| b.law == law)
    };
    let mut needed = failing.struck.clone();
    let mut piece = needed.len().div_ceil(2).max(1);
    loop {
        let mut from = 0;
        let mut shorter = false;
        while from < needed.len() {
            let to = (from + piece).min(needed.len());
            let rest: Vec<Mishap> = needed.iter().take(from).chain(needed.iter().skip(to)).copied().collect();
            if fails(&rest) {
                (needed, shorter) = (rest, true);
            } else {
                from = to;
            }
        }
        if piece == 1 && !shorter {
            break;
        }
        piece = if shorter { piece.min(needed.len().max(1)) } else { piece.div_ceil(2) };
    }
    live(seed, violent, Some(needed.into_iter().collect()), true)
}
