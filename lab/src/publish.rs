//! Ports of the lab that are reachable from the host's loopback.
//!
//! The keeper, in the host's network, listens; for each client it opens the lab's `forward.sock`, says in one line where to, and
//! copies bytes. The server, in the lab's network, connects there. So no packet crosses the border.

use std::{
    fmt,
    fs::File,
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsFd,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::oneshot,
};

/// How long a connection inside the lab may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// One port: where on the host's loopback, and what it leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Publication {
    /// Port on 127.0.0.1; 0 is any free one.
    pub(crate) port: u16,
    /// What it leads to.
    pub(crate) target: Target,
}

/// An address in the lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Target {
    /// A network namespace under `/run/netns`, when not the lab's main one.
    pub(crate) netns: Option<String>,
    /// Address and port.
    pub(crate) address: SocketAddr,
}

impl FromStr for Publication {
    type Err = String;

    /// `PORT:[NETNS/]ADDRESS:PORT`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (port, target) = text.split_once(':').ok_or("expected PORT:[NETNS/]ADDRESS:PORT")?;
        let port = port.parse().map_err(|_| format!("{port} is not a port number"))?;
        Ok(Self { port, target: target.parse()? })
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (netns, address) =
            text.split_once('/').map_or((None, text), |(netns, address)| (Some(netns), address));
        if netns.is_some_and(|name| name.is_empty() || name.starts_with('.')) {
            return Err("the namespace's name is missing".to_owned());
        }
        let address = address.parse().map_err(|_| format!("{address} is not ADDRESS:PORT"))?;
        Ok(Self { netns: netns.map(str::to_owned), address })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(netns) = &self.netns {
            write!(f, "{netns}/")?;
        }
        write!(f, "{}", self.address)
    }
}

/// Takes the ports on the host's loopback.
pub(crate) async fn listen(publications: &[Publication]) -> Result<Vec<(TcpListener, Target)>> {
    let mut listeners = Vec::new();
    for Publication { port, target } in publications {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, *port))
            .await
            .with_context(|| format!("failed to publish {target} on 127.0.0.1:{port}"))?;
        listeners.push((listener, target.clone()));
    }
    Ok(listeners)
}

/// The ports that were taken.
pub(crate) fn taken(listeners: &[(TcpListener, Target)]) -> Result<Vec<Publication>> {
    listeners
        .iter()
        .map(|(listener, target)| {
            Ok(Publication { port: listener.local_addr()?.port(), target: target.clone() })
        })
        .collect()
}

/// Forwards whoever comes, for as long as the runtime lives.
pub(crate) fn accept(listeners: Vec<(TcpListener, Target)>, forward: PathBuf) {
    for (listener, target) in listeners {
        let forward = forward.clone();
        tokio::spawn(async move {
            loop {
                // An error is a client that left at once, or too many open files, which passes.
                let Ok((client, _)) = listener.accept().await else {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                let (forward, target) = (forward.clone(), target.clone());
                tokio::spawn(async move {
                    if let Err(error) = pass_in(client, &forward, &target).await {
                        tracing::debug!(%target, %error, "forwarding ended");
                    }
                });
            }
        });
    }
}

async fn pass_in(mut client: TcpStream, forward: &Path, target: &Target) -> std::io::Result<()> {
    let mut inside = UnixStream::connect(forward).await?;
    inside.write_all(format!("{target}\n").as_bytes()).await?;
    copy_bidirectional(&mut client, &mut inside).await.map(|_| ())
}

/// The lab's end: connects to what each client names in its first line.
pub(crate) fn serve(listener: UnixListener) {
    tokio::spawn(async move {
        loop {
            let Ok((client, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            tokio::spawn(async move {
                if let Err(error) = pass_out(client).await {
                    tracing::debug!(error = format!("{error:#}"), "forwarding ended");
                }
            });
        }
    });
}

async fn pass_out(client: UnixStream) -> Result<()> {
    let mut client = BufReader::new(client);
    let mut line = String::new();
    client.read_line(&mut line).await?;
    let target: Target = line.trim_end().parse().map_err(anyhow::Error::msg)?;
    let mut inside = connect(target).await?;
    copy_bidirectional(&mut client, &mut inside).await?;
    Ok(())
}

/// Connects in the target's namespace. The socket stays there wherever it is used from.
async fn connect(target: Target) -> Result<TcpStream> {
    let (answer, answered) = oneshot::channel();
    // A thread of its own: the namespace is the thread's, and one of a pool would carry it on to others.
    std::thread::spawn(move || {
        let connect = || -> Result<std::net::TcpStream> {
            if let Some(netns) = &target.netns {
                let netns = File::open(Path::new("/run/netns").join(netns))?;
                setns(netns.as_fd(), CloneFlags::CLONE_NEWNET)?;
            }
            let stream = std::net::TcpStream::connect_timeout(&target.address, CONNECT_DEADLINE)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        };
        let _ = answer.send(connect().with_context(|| format!("failed to connect to {target}")));
    });
    Ok(TcpStream::from_std(answered.await??)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publications_are_read_and_written() {
        let publication: Publication = "8404:lbsidecar-web/127.0.0.1:8404".parse().unwrap();
        assert_eq!(publication.port, 8404);
        assert_eq!(publication.target.netns.as_deref(), Some("lbsidecar-web"));
        assert_eq!(publication.target.to_string(), "lbsidecar-web/127.0.0.1:8404");
        assert_eq!("80:10.20.20.9:80".parse::<Publication>().unwrap().target.netns, None);
        for bad in
            ["", "80", "x:10.20.20.9:80", "80:10.20.20.9", "80:/10.20.20.9:80", "80:../x/10.20.20.9:80"]
        {
            assert!(bad.parse::<Publication>().is_err(), "{bad}");
        }
    }
}
