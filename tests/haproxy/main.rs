//! The HAProxy adapter against a real HAProxy and small local members.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod change;
#[expect(dead_code, reason = "used by tests that follow")]
mod support;
