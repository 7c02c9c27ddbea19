//! The HTTP service inside a lab guest.
//!
//! It runs in the guest's initramfs with nothing but the C library beside it, so it uses the standard library and `nix` only, and
//! costs nothing while nobody asks. One thread has all connections, since memory is small; requests that take their time (`/burn`,
//! `/slow`) get a thread each.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | the host name |
//! | `GET /healthz` | `ok` |
//! | `GET /info` | JSON: host name, server id, address, first line of `/proc/stat`, marker |
//! | `GET /burn?ms=N` | after N ms of CPU time of its own |
//! | `GET /load?s=N` | at once; burns all CPUs for N s in the background, 0 stops |
//! | `GET /slow?ms=N` | after N ms of sleep |
//! | `POST /echo` | the number of bytes received |
//! | `POST /mark?v=TEXT` | writes the text to the guest's disk, from where snapshots and `/info` have it |

mod burn;
mod connection;
mod http;
mod routes;
mod server;

use std::{net::TcpListener, process::ExitCode};

fn main() -> ExitCode {
    let guest = routes::Guest::read();
    eprintln!("guest: serving as {}", guest.hostname);
    let served = TcpListener::bind(("0.0.0.0", 80)).and_then(|listener| server::run(&listener, guest));
    if let Err(error) = served {
        eprintln!("guest: failed to serve: {error}");
    }
    ExitCode::FAILURE
}
