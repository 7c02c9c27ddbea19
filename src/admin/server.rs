//! Listening: the Unix socket, the loopback address, and what one connection may cost.
//!
//! Binding comes after the pool's lock is held, so that a socket left over by a killed daemon can be told from one in use.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{Router, serve::Listener};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tracing::{debug, info};

use super::{AdminSettings, routes};

pub use super::routes::Ports;

/// Connections at once on each of the two listeners; more of them wait.
const CONNECTIONS: usize = 32;
/// How long a client may take for the head of a request.
const HEAD: Duration = Duration::from_secs(5);
/// Longest head of a request.
const HEAD_SIZE: usize = 16 * 1024;
/// After this a connection ends with the answer under way, so that nobody holds one for ever.
const LIFETIME: Duration = Duration::from_secs(120);
/// What the answer under way may then still take.
const LAST_ANSWER: Duration = Duration::from_secs(15);

/// Why the admin server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Somebody else answers there.
    #[error("bind the admin socket {}: another daemon answers there", .0.display())]
    InUse(PathBuf),
    /// Something that is not ours to remove lies there.
    #[error("bind the admin socket {}: there is a file that is not a socket; move it away or choose another path", .0.display())]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("bind the admin socket {}: {source}", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The address is one that others could reach.
    #[error(
        "bind the admin page to {0}: only loopback addresses are allowed, since it asks nobody for a password"
    )]
    NotLoopback(SocketAddr),
    /// The system refused.
    #[error("bind the admin page to {address}: {source}")]
    Address {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// The admin server, bound but not yet serving. Its socket file goes when it is dropped.
#[derive(Debug)]
pub struct Server {
    unix: UnixListener,
    tcp: Option<TcpListener>,
    _socket_file: SocketFile,
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may be gone already; the next start copes with one that is left.
        let _ = fs::remove_file(&self.0);
    }
}

impl Server {
    /// Binds both listeners. The pool's lock must be held.
    ///
    /// # Errors
    /// [`AdminError`] when an address is taken, forbidden or not fit.
    pub async fn bind(settings: &AdminSettings) -> Result<Self, AdminError> {
        let tcp = match settings.listen {
            Some(address) if !address.ip().is_loopback() => return Err(AdminError::NotLoopback(address)),
            Some(address) => {
                let bound = TcpListener::bind(address).await;
                Some(bound.map_err(|source| AdminError::Address { address, source })?)
            }
            None => None,
        };
        let unix = bind_unix(&settings.socket)?;
        info!(socket = %settings.socket.display(), listen = ?settings.listen, "admin server listens");
        Ok(Self { unix, tcp, _socket_file: SocketFile(settings.socket.clone()) })
    }

    /// Serves until it is dropped.
    pub async fn serve(self, ports: Ports) {
        let Self { unix, tcp, _socket_file } = self;
        let all = accept(unix, routes::all(ports.clone()));
        match tcp {
            Some(tcp) => tokio::join!(all, accept(tcp, routes::read_only(ports))).0,
            None => all.await,
        }
    }
}

/// Makes the socket under another name, closes it to strangers, and only then moves it to its place, over one that a
/// killed daemon left: at no moment can anybody connect who may not.
fn bind_unix(path: &Path) -> Result<UnixListener, AdminError> {
    let failed = |source| AdminError::Socket { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(AdminError::NotASocket(path.to_owned())),
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(AdminError::InUse(path.to_owned())),
        Ok(_) => debug!(socket = %path.display(), "a socket without a listener is replaced"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let fresh = path.with_extension("new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&fresh).map_err(failed)?;
    let placed = fs::set_permissions(&fresh, fs::Permissions::from_mode(0o660))
        .and_then(|()| fs::rename(&fresh, path));
    if let Err(error) = placed {
        let _ = fs::remove_file(&fresh);
        return Err(failed(error));
    }
    Ok(listener)
}

/// Takes connections for ever, each in a task of its own that ends with this future.
async fn accept<L: Listener>(mut listener: L, router: Router) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    // The semaphore is never closed.
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        while connections.try_join_next().is_some() {}
        // Errors (out of file descriptors, a client gone already) are waited out inside.
        let (stream, _) = listener.accept().await;
        let router = router.clone();
        connections.spawn(async move {
            serve_one(stream, router).await;
            drop(slot);
        });
    }
}

async fn serve_one<S>(stream: S, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_SIZE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = match timeout(LIFETIME, connection.as_mut()).await {
        Ok(ended) => ended,
        Err(_) => {
            connection.as_mut().graceful_shutdown();
            timeout(LAST_ANSWER, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection to the admin server broke off");
    }
}
