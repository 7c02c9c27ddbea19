//! `host` mode without rights of one's own: a small unit (`lbsidecar-address@`) has them, and does what it is asked on its socket.
//!
//! A request is one line, `add 203.0.113.10`, and so is the answer: `ok`, or why not. The unit knows the interface from the
//! configuration, which is root's: no request can choose another.

use std::{
    fmt, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    time::timeout,
};
use tracing::{info, warn};

use super::{
    VipError,
    error::{Rights, system},
    host,
};

/// How long one side waits for the other's line.
const DEADLINE: Duration = Duration::from_secs(5);
/// Longer than the longest request, and than what is worth to be told of an answer.
const LINE: u64 = 500;

/// An interface of the host, and who may change its addresses: we, or the unit behind a socket where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    interface: String,
    socket: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Add,
    Remove,
    Announce,
}

/// One line of a client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Request {
    verb: Verb,
    address: Ipv4Addr,
}

impl Holder {
    /// `interface`, by way of `socket` where that exists.
    #[must_use]
    pub fn new(interface: String, socket: PathBuf) -> Self {
        Self { interface, socket }
    }

    /// Whether the interface holds `address`, by whatever prefix. Everybody may look.
    ///
    /// # Errors
    /// [`VipError`], of kind `NotFound` when there is no such interface.
    pub async fn present(&self, address: Ipv4Addr) -> Result<bool, VipError> {
        host::present(&self.interface, address).await
    }

    /// See [`host::add`].
    ///
    /// # Errors
    /// [`VipError`]: no such interface, no rights, or the unit does not answer.
    pub async fn add(&self, address: Ipv4Addr) -> Result<(), VipError> {
        self.have(Request { verb: Verb::Add, address }).await
    }

    /// See [`host::remove`].
    ///
    /// # Errors
    /// As of [`Holder::add`].
    pub async fn remove(&self, address: Ipv4Addr) -> Result<(), VipError> {
        self.have(Request { verb: Verb::Remove, address }).await
    }

    /// See [`host::announce`].
    ///
    /// # Errors
    /// As of [`Holder::add`].
    pub async fn announce(&self, address: Ipv4Addr) -> Result<(), VipError> {
        self.have(Request { verb: Verb::Announce, address }).await
    }

    async fn have(&self, request: Request) -> Result<(), VipError> {
        if !self.socket.exists() {
            return request.act(&self.interface).await;
        }
        let answer = timeout(DEADLINE, ask(&self.socket, request)).await;
        let answer = answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(system(
            "ask",
            self.socket.display(),
            Rights::Address,
        ))?;
        match answer.trim_end() {
            "ok" => Ok(()),
            why => Err(VipError::Unit { request: request.to_string(), why: why.to_owned() }),
        }
    }

    /// Serves requests, one after the other, until none has come for `idle`.
    ///
    /// # Errors
    /// The listening socket fails.
    pub async fn serve(&self, listener: &UnixListener, idle: Duration) -> io::Result<()> {
        while let Ok(client) = timeout(idle, listener.accept()).await {
            let (client, _) = client?;
            let served = timeout(DEADLINE, self.answer(client)).await;
            if let Err(error) = served.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                warn!(%error, "a client did not ask, or did not wait for the answer");
            }
        }
        Ok(())
    }

    async fn answer(&self, mut client: UnixStream) -> io::Result<()> {
        let mut line = String::new();
        BufReader::new((&mut client).take(LINE)).read_line(&mut line).await?;
        let done = match line.trim_end().parse::<Request>() {
            Ok(request) => {
                let done = request.act(&self.interface).await.map_err(|error| error.to_string());
                info!(%request, interface = %self.interface, ?done, "asked");
                done
            }
            Err(why) => Err(why),
        };
        let answer = done.map_or_else(|why| format!("failed to {why}\n"), |()| "ok\n".to_owned());
        client.write_all(answer.as_bytes()).await
    }
}

async fn ask(socket: &Path, request: Request) -> io::Result<String> {
    let mut unit = UnixStream::connect(socket).await?;
    unit.write_all(format!("{request}\n").as_bytes()).await?;
    let mut answer = String::new();
    unit.take(LINE).read_to_string(&mut answer).await?;
    Ok(answer)
}

impl Request {
    async fn act(self, interface: &str) -> Result<(), VipError> {
        match self.verb {
            Verb::Add => host::add(interface, self.address).await,
            Verb::Remove => host::remove(interface, self.address).await,
            Verb::Announce => host::announce(interface, self.address).await,
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.verb {
            Verb::Add => "add",
            Verb::Remove => "remove",
            Verb::Announce => "announce",
        };
        write!(f, "{verb} {}", self.address)
    }
}

impl FromStr for Request {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let wrong = || format!("understand {line:?}: it is not add, remove or announce with an address");
        let (verb, address) = line.split_once(' ').ok_or_else(wrong)?;
        let verb = match verb {
            "add" => Verb::Add,
            "remove" => Verb::Remove,
            "announce" => Verb::Announce,
            _ => return Err(wrong()),
        };
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let nobodys = address.is_unspecified() || address.is_loopback() || address.is_multicast();
        if nobodys || address.is_broadcast() || address.is_link_local() {
            return Err(format!("{verb:?} {address}: no service can have this address"));
        }
        Ok(Self { verb, address })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where it cannot go on")]

    use super::*;

    /// A holder without rights or interface, with another one like it behind its socket; what it is told.
    async fn asked(request: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("address.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let holder = Holder::new("no-such-link".to_owned(), socket.clone());
        let serving = holder.serve(&listener, Duration::from_millis(300));
        let asking = async {
            let mut client = UnixStream::connect(&socket).await.unwrap();
            client.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let (served, answer) = tokio::join!(serving, asking);
        served.unwrap();
        answer
    }

    #[tokio::test]
    async fn only_three_things_can_be_asked_with_an_address_that_a_service_can_have() {
        for wrong in [
            "\n",
            "add\n",
            "flush 10.20.20.5\n",
            "add 10.20.20.5 dev eth0\n",
            "add ::1\n",
            "add 10.20.20.5;id\n",
        ] {
            let said = asked(wrong).await;
            assert!(said.starts_with("failed to understand"), "{wrong:?}: {said}");
        }
        for nobodys in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "169.254.169.254"] {
            let said = asked(&format!("add {nobodys}\n")).await;
            assert!(said.contains("no service can have this address"), "{said}");
        }
        let said = asked(&format!("add {}\n", "1".repeat(400))).await;
        assert!(said.starts_with("failed to understand"), "{said}");
    }

    #[tokio::test]
    async fn what_the_unit_cannot_do_is_the_askers_error() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("address.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let unit = Holder::new("no-such-link".to_owned(), PathBuf::new());
        let holder = Holder::new("another-link".to_owned(), socket);
        let serving = unit.serve(&listener, Duration::from_millis(300));
        let (served, done) = tokio::join!(serving, holder.add(Ipv4Addr::new(10, 20, 20, 5)));
        served.unwrap();
        let said = done.unwrap_err().to_string();
        assert!(said.contains("lbsidecar-address@") && said.contains("10.20.20.5 on no-such-link"), "{said}");
        drop(listener);
        let said = holder.remove(Ipv4Addr::new(10, 20, 20, 5)).await.unwrap_err().to_string();
        assert!(said.contains("address.sock") && said.contains("onnection refused"), "{said}");
    }
}
