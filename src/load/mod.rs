//! The counting client: HTTP load that accounts for every single request, so that "nothing was lost" is a count and not a hope.
//!
//! Most load generators reconnect silently when a kept connection dies under a request, and so hide exactly the loss that a
//! load balancer's reload or a server's removal causes. This one never does:
//!
//! - every request has a number (`X-Request-Id: <run>-<n>`) and ends in exactly one way: answered, or lost in a named way;
//! - at every moment `sent == ok + failed + in flight`;
//! - nothing is ever sent twice;
//! - a connection that the server closed *before* the next request was written costs nothing and is counted as `closed_idle`,
//!   as is an answer that says `Connection: close`; an end or a reset *after* the request was written is a loss.
//!
//! ```text
//!  LoadPlan ──► Load::start ──► one task per client ──► Ledger ──► LoadSnapshot, LoadReport
//!                                (client, wire, pace)   (one lock)
//! ```
//!
//! It prints nothing, knows nothing of pools or HAProxy, and speaks plain HTTP/1.1 only.

mod client;
#[cfg(test)]
mod fuzz;
mod handle;
mod ledger;
mod pace;
mod plan;
mod recent;
mod report;
mod wire;

pub use handle::{Load, LoadHandle};
pub use plan::{Attribution, ClientGroup, LoadError, LoadPlan, Method, Reuse, Target};
pub use report::{
    Counts, GroupCounts, Latency, LoadReport, LoadSnapshot, Loss, LossKind, PhaseCounts, Verdict,
};
