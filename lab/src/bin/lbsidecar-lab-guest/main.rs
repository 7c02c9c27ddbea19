//! The HTTP service inside a lab guest.
//!
//! It runs in the guest's initramfs with nothing but the C library beside it, so it uses the standard library and `nix` only, and
//! costs nothing while nobody asks. One thread per connection: a guest has few clients and slow answers (`/burn`, `/slow`)
//! must not hold up fast ones.
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
mod routes;

use std::{net::TcpListener, sync::Arc, thread};

/// Stack of a connection's thread: hundreds of them fit into a small guest.
const STACK: usize = 96 * 1024;

fn main() {
    let guest = Arc::new(routes::Guest::read());
    let listener = match TcpListener::bind(("0.0.0.0", 80)) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("guest: failed to listen on port 80: {error}");
            std::process::exit(1);
        }
    };
    eprintln!("guest: serving as {}", guest.hostname);
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let guest = Arc::clone(&guest);
        // A refused thread (out of memory) drops the stream: the client sees a reset, which is the truth.
        let _ = thread::Builder::new().stack_size(STACK).spawn(move || connection::serve(stream, &guest));
    }
}
