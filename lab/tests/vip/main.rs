//! The three ways of the service address (`vip.mode`), each from adoption to release on real parts, under load that counts every request.

#![expect(clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]
#![expect(clippy::print_stdout, reason = "the client answers there")]

mod client;
mod modes;
mod pool;
mod refusals;
mod restarts;

#[path = "../end_to_end/support.rs"]
#[allow(dead_code, reason = "the lab's own tests use all of it")]
mod support;
