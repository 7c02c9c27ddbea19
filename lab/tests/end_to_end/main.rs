//! The lab end to end: labs of the tests' own, with real guests. Where none can run they say so; in CI that is a failure.

#![expect(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test ends by panicking")]

mod crashes;
mod deaths;
mod guests;
mod heal;
mod hostload;
mod lab;
mod members;
mod nova;
mod pool;
mod provision;
mod soak;
mod stages;
mod support;
mod surroundings;
