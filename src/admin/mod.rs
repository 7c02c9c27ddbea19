//! The local way in: what the daemon shows and what operators ask for, over HTTP/1.1 on a Unix socket.
//!
//! ```text
//!  daemon ── watch<Published> ──► server ──► GET /v1/status /v1/explain /metrics /healthz /readyz
//!         ◄── mpsc<AdminRequest> ──┘    ◄── POST /v1/command
//! ```
//!
//! The server shows what the daemon published last and hands commands on; it decides nothing and reads nothing of the
//! machine. The same routes without the command, and a page for a browser, may be bound to a loopback address.

mod build;
pub mod client;
pub mod explain;
mod routes;
pub mod server;
pub mod settings;
pub mod stored;
pub mod view;

use std::{sync::Arc, time::Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use self::{explain::DecisionView, view::StatusView};
use crate::core::event::Command;

pub use self::{build::Surroundings, settings::AdminSettings};

/// Version of what `/v1` answers; it grows when a field changes its meaning or goes away, not when one is added.
pub const SCHEMA: u32 = 1;

/// A command from an operator, on its way to the loop.
#[derive(Debug)]
pub struct AdminRequest {
    /// What is asked for.
    pub command: Command,
    /// What came of it, in plain words: done or begun (`Ok`), or why not (`Err`).
    pub reply: oneshot::Sender<Result<String, String>>,
}

/// What the loop shows of itself after each turn.
#[derive(Debug, Clone)]
pub struct Published {
    /// The pool as it is now.
    pub status: StatusView,
    /// The decisions that `explain` shows, newest last; made again only when there is a new one.
    pub decisions: Arc<Vec<DecisionView>>,
    /// When the loop turned: its sign of life.
    pub turned: Instant,
}

/// The answer to a command, and the body of every error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether it is done or begun.
    pub ok: bool,
    /// What came of it, or why nothing did.
    pub message: String,
}
