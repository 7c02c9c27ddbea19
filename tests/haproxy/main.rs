//! The HAProxy adapter against a real HAProxy and small local members.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test stops where it cannot go on, and its helpers are for its own modules"
)]

mod change;
mod config;
mod injection;
mod life;
mod loss;
mod preflight;
mod reload;
mod support;
mod watch;
