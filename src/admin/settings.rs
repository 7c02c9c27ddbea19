//! Where the local way in is.

use std::{net::SocketAddr, path::PathBuf};

/// The sockets of the admin server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminSettings {
    /// The Unix socket: everything, for whoever may open it.
    pub socket: PathBuf,
    /// A loopback address for the routes that only read, and the page; `None`: not there.
    pub listen: Option<SocketAddr>,
}
