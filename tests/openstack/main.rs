//! The OpenStack client against a server that answers with what real services were recorded to say.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "in a test that is how a check fails"
)]

mod certificates;
mod copies;
mod errors;
mod hostile;
mod network;
mod servers;
mod snapshots;
mod stage;
mod tokens;
mod transport;
