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
use tokio::sync::{mpsc, oneshot};
use tracing::info;

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

/// The next command whose sender still waits for the answer; `None` when the server has ended. One whose sender was told that there
/// is no answer in time, or hung up, is not to be carried out later. Nothing is lost when this is dropped before it is done.
pub async fn next_order(commands: &mut mpsc::Receiver<AdminRequest>) -> Option<AdminRequest> {
    loop {
        let request = commands.recv().await?;
        if !request.reply.is_closed() {
            return Some(request);
        }
        info!(command = ?request.command, "operator: nobody waits for the answer any more, so it is not carried out");
    }
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
