//! One request of our own to one member, by HAProxy's way to it.
//!
//! HAProxy may live in another network namespace than we do, so that only it can reach the members. The configuration has a Unix
//! socket for this, with a backend of a single server for each member: no other member can answer in its place.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

use super::{Haproxy, master::Master, settings::ServiceMode};
use crate::core::ids::BackendName;

/// How long HAProxy may take to connect for a probe.
pub(super) const CONNECT: Duration = Duration::from_millis(800);
/// How long the whole probe may take.
const DEADLINE: Duration = Duration::from_secs(3);
/// More than the head of any answer.
const LONGEST_HEAD: usize = 16 << 10;

impl Haproxy {
    /// Whether that member answers well now, and what it answered, in words.
    pub async fn probe(&self, server: &BackendName) -> (bool, String) {
        let probed = match self.settings.mode {
            ServiceMode::Http => timeout(DEADLINE, self.probe_http(server)).await,
            ServiceMode::Tcp => timeout(DEADLINE, self.probe_tcp(server)).await,
        };
        match probed {
            Ok(Ok(good)) => (true, good),
            Ok(Err(bad)) => (false, bad),
            Err(_) => (false, format!("no answer within {} s", DEADLINE.as_secs())),
        }
    }

    async fn probe_http(&self, server: &BackendName) -> Result<String, String> {
        let check = &self.settings.check;
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: lbsidecar\r\nUser-Agent: lbsidecar\r\nX-Lbsidecar-Probe: {server}\r\nConnection: close\r\n\r\n",
            check.path
        );
        let mut stream = self.connect_probe().await?;
        let (status, answered_by) = ask(&mut stream, &request).await.map_err(|error| error.to_string())?;
        if answered_by.as_deref() != Some(server.as_str()) {
            return Err("HAProxy cannot reach it".into());
        }
        let answer = format!("GET {} answers {status}", check.path);
        if (check.status_min..=check.status_max).contains(&status) { Ok(answer) } else { Err(answer) }
    }

    /// A connection counts as made when HAProxy still holds it after the time in which it would have given up.
    async fn probe_tcp(&self, server: &BackendName) -> Result<String, String> {
        let text = |error: super::HaproxyError| error.to_string();
        let master: &Master = &self.master;
        let current = master.current().await.map_err(text)?;
        let servers = master.servers(current).await.map_err(text)?;
        let address =
            servers.get(server).and_then(|state| state.address).ok_or("HAProxy does not list it")?;
        let family = if address.is_ipv4() { "TCP4" } else { "TCP6" };
        let (ip, port) = (address.ip(), address.port());
        let mut stream = self.connect_probe().await?;
        let line = format!("PROXY {family} {ip} {ip} {port} {port}\r\n");
        stream.write_all(line.as_bytes()).await.map_err(|error| error.to_string())?;
        let patience = CONNECT + Duration::from_millis(200);
        match timeout(patience, stream.read(&mut [0; 1])).await {
            Err(_) | Ok(Ok(1..)) => Ok(format!("{address} takes connections")),
            Ok(Ok(0) | Err(_)) => Err(format!("{address} takes no connection")),
        }
    }

    async fn connect_probe(&self) -> Result<UnixStream, String> {
        let socket = self.settings.run_dir.join("probe.sock");
        UnixStream::connect(&socket).await.map_err(|error| format!("HAProxy's {}: {error}", socket.display()))
    }
}

/// Sends the request; the answer's status and the member that HAProxy got it from.
async fn ask(stream: &mut UnixStream, request: &str) -> io::Result<(u16, Option<String>)> {
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut answer = httparse::Response::new(&mut headers);
        let parsed = answer.parse(&head).map_err(io::Error::other)?;
        if let (true, Some(status)) = (parsed.is_complete(), answer.code) {
            let answered_by = answer
                .headers
                .iter()
                .find(|header| header.name.eq_ignore_ascii_case("X-Lbsidecar-Server"))
                .map(|header| String::from_utf8_lossy(header.value).into_owned());
            return Ok((status, answered_by));
        }
        if head.len() > LONGEST_HEAD || stream.read_buf(&mut head).await? == 0 {
            return Err(io::Error::other("the connection ended before an answer"));
        }
    }
}
