//! The lab's cloud beyond what was recorded: faults, ends of tokens, interrupted lives, and the product's own client on it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod client;
mod faults;
mod identity;
mod networks;
mod rig;
mod servers;
