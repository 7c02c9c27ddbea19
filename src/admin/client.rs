//! The other end of the admin socket: what the commands use to ask the daemon.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::{Answer, explain::ExplainView, view::StatusView};
use crate::{core::event::Command, exit::Exit};

/// How long a question may take; longer than the server gives itself, so that it is the server who says what hangs.
const DEADLINE: Duration = Duration::from_secs(12);
/// Longest answer.
const ANSWER: usize = 4 * 1024 * 1024;

/// Why the daemon gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("reach the daemon: it does not run, nobody listens on {}", .0.display())]
    NotRunning(PathBuf),
    /// The socket is there, and closed to us.
    #[error("open {}: permission denied; run this as root, or join the group that owns the socket", .0.display())]
    NoPermission(PathBuf),
    /// It does not answer.
    #[error("ask the daemon on {}: no answer within {} s; its log says what hangs", .0.display(), DEADLINE.as_secs())]
    Silent(PathBuf),
    /// The connection broke, or what came is not what we speak.
    #[error("ask the daemon on {}: {why}", socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// What went wrong.
        why: String,
    },
    /// The daemon said no.
    #[error("{0}")]
    Refused(String),
}

impl ClientError {
    /// How a command ends with it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            ClientError::NotRunning(_) => Exit::NotRunning,
            ClientError::NoPermission(_) => Exit::NoPermission,
            ClientError::Silent(_) => Exit::Unavailable,
            ClientError::Broken { .. } | ClientError::Refused(_) => Exit::Failure,
        }
    }
}

/// Asks the daemon of one pool; one connection a question.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the daemon that listens there.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Where the daemon listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The pool as it is now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn status(&self) -> Result<StatusView, ClientError> {
        self.decode(&self.ask(Method::GET, "/v1/status", Bytes::new()).await?)
    }

    /// The last `limit` decisions.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn explain(&self, limit: usize) -> Result<ExplainView, ClientError> {
        self.decode(&self.ask(Method::GET, &format!("/v1/explain?limit={limit}"), Bytes::new()).await?)
    }

    /// Hands a command on; the daemon's sentence about what came of it.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the reason when the daemon does not do it; others when it was not reached.
    pub async fn command(&self, command: &Command) -> Result<String, ClientError> {
        let body = serde_json::to_vec(command).map_err(|error| self.broken(error))?;
        let answer: Answer = self.decode(&self.ask(Method::POST, "/v1/command", body.into()).await?)?;
        Ok(answer.message)
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        tokio::time::timeout(DEADLINE, self.exchange(method, path, body))
            .await
            .unwrap_or_else(|_| Err(ClientError::Silent(self.socket.clone())))
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning(self.socket.clone())
            }
            io::ErrorKind::PermissionDenied => ClientError::NoPermission(self.socket.clone()),
            _ => self.broken(error),
        })?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(error))?;
        // The connection ends with the answer; what breaks it shows in the answer too.
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| self.broken(error))?;
        let response = sender.send_request(request).await.map_err(|error| self.broken(error))?;
        let status = response.status();
        let body =
            Limited::new(response.into_body(), ANSWER).collect().await.map_err(|error| self.broken(error))?;
        driver.abort();
        let body = body.to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        Err(match serde_json::from_slice::<Answer>(&body) {
            Ok(answer) => ClientError::Refused(answer.message),
            Err(_) => self.broken(format!("HTTP status {status}")),
        })
    }

    fn decode<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| {
            self.broken(format!("the answer is not one that this version understands ({error}); is the daemon of another version?"))
        })
    }

    fn broken(&self, why: impl ToString) -> ClientError {
        ClientError::Broken { socket: self.socket.clone(), why: why.to_string() }
    }
}
