//! `provision` and `cleanup` against the lab's cloud over a driver without a world: what they make, what they leave alone, and
//! every way in which the cloud may refuse.

#![expect(clippy::unwrap_used, reason = "a test ends by panicking")]

mod drift;
mod errors;
mod interrupted;
mod life;
mod stage;
