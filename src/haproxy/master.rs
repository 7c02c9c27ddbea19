//! Talks to HAProxy's master CLI, and through it to each single worker (`@!<pid> command`).
//!
//! Every question goes through the master, because only there it is certain which worker answers: a stats socket may still be
//! answered by the worker before, and shows nothing of those that live on.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::{Instant, sleep, timeout_at},
};

use super::{
    csv::Table,
    error::HaproxyError,
    processes::Processes,
    server_state::{self, ServerState},
};
use crate::core::ids::BackendName;

/// The backend that holds the pool's servers.
pub(super) const BACKEND: &str = "app";
/// The frontend that clients speak to.
pub(super) const FRONTEND: &str = "service";

/// How long one question may take, the master's moments of deafness while it executes itself anew included.
const DEADLINE: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_millis(10);
/// More than any table of a pool's size; what is longer is not for us.
const LONGEST_ANSWER: u64 = 8 << 20;

/// The master, by its socket and the file with its pid.
#[derive(Debug, Clone)]
pub(super) struct Master {
    socket: PathBuf,
    pid_file: PathBuf,
    /// The program's name, as the kernel keeps it.
    program: String,
}

/// What a server is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Weight(u16),
    Ready,
    Drain,
    Maint,
    /// Not usable until its health checks say otherwise.
    Down,
    /// Usable until they do.
    Up,
}

/// A session of the service, as `show sess` lists it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Session {
    /// What it is called in commands.
    id: String,
    /// The server that it has been given to.
    pub(super) server: Option<BackendName>,
}

impl Session {
    /// Reads `0x5581a0: proto=tcpv4 src=192.0.2.7:4711 fe=service be=app srv=vm-1 …`; `None` when it is of something else.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (id, rest) = line.split_once(": ")?;
        let field = |name: &str| rest.split_whitespace().find_map(|word| word.strip_prefix(name));
        let server = if field("be=") == Some(BACKEND) { field("srv=") } else { None };
        let ours = field("fe=") == Some(FRONTEND) || server.is_some();
        // Without a server it says `<none>`.
        ours.then(|| Self {
            id: id.to_owned(),
            server: server.and_then(|name| BackendName::try_new(name).ok()),
        })
    }
}

impl Master {
    /// The master of `binary` that keeps its files in `run_dir`.
    pub(super) fn new(run_dir: &Path, binary: &Path) -> Self {
        // The kernel keeps 15 bytes (TASK_COMM_LEN, with its zero, is 16).
        let program = binary.file_name().unwrap_or_default().to_string_lossy().chars().take(15).collect();
        Self { socket: run_dir.join("master.sock"), pid_file: run_dir.join("haproxy.pid"), program }
    }

    pub(super) fn pid_file(&self) -> &Path {
        &self.pid_file
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The worker that takes new connections.
    pub(super) async fn current(&self) -> Result<u32, HaproxyError> {
        self.processes().await?.current.ok_or_else(changing)
    }

    /// Who runs.
    pub(super) async fn processes(&self) -> Result<Processes, HaproxyError> {
        let until = Instant::now() + DEADLINE;
        loop {
            let answer = self.ask("show proc", until).await?;
            match Processes::parse(&answer) {
                Some(processes) => return Ok(processes),
                None if Instant::now() < until => sleep(RETRY).await,
                None => return Err(unexpected("show proc", &answer)),
            }
        }
    }

    /// The description in a worker's configuration; empty when it has none.
    pub(super) async fn description(&self, pid: u32) -> Result<String, HaproxyError> {
        let info = self.worker(pid, "show info").await?;
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        match field("Pid:").and_then(|text| text.parse::<u32>().ok()) {
            Some(found) if found == pid => Ok(field("description:").unwrap_or_default().to_owned()),
            _ => Err(unexpected("show info", &info)),
        }
    }

    /// A worker's statistics.
    pub(super) async fn statistics(&self, pid: u32) -> Result<Table, HaproxyError> {
        let answer = self.worker(pid, "show stat").await?;
        Table::parse(&answer).ok_or_else(|| unexpected("show stat", &answer))
    }

    /// The state of the pool's servers in a worker.
    pub(super) async fn servers(&self, pid: u32) -> Result<BTreeMap<BackendName, ServerState>, HaproxyError> {
        let answer = self.worker(pid, "show servers state").await?;
        server_state::parse(&answer, BACKEND).ok_or_else(|| unexpected("show servers state", &answer))
    }

    /// The servers that are down, in the form of a state file.
    pub(super) async fn servers_down(&self, pid: u32) -> Result<String, HaproxyError> {
        Ok(server_state::only_down(&self.worker(pid, "show servers state").await?, BACKEND))
    }

    /// Changes a server at run time. Only the current worker obeys.
    pub(super) async fn order(
        &self,
        pid: u32,
        server: &BackendName,
        order: Order,
    ) -> Result<(), HaproxyError> {
        let what = match order {
            Order::Weight(weight) => format!("weight {weight}"),
            Order::Ready => "state ready".into(),
            Order::Drain => "state drain".into(),
            Order::Maint => "state maint".into(),
            Order::Down => "health down".into(),
            Order::Up => "health up".into(),
        };
        self.silent(pid, &format!("set server {BACKEND}/{server} {what}")).await
    }

    /// Ends the sessions that a worker has open to a server.
    pub(super) async fn cut(&self, pid: u32, server: &BackendName) -> Result<(), HaproxyError> {
        self.silent(pid, &format!("shutdown sessions server {BACKEND}/{server}")).await
    }

    /// Ends the sessions that an *old* worker has open to a server: it refuses every command that names a server, but it ends
    /// sessions one by one.
    pub(super) async fn cut_in_old(&self, pid: u32, server: &BackendName) -> Result<(), HaproxyError> {
        for session in self.sessions(pid).await? {
            if session.server.as_ref() == Some(server) {
                // It may have ended by itself meanwhile, which is as good.
                self.worker(pid, &format!("shutdown session {}", session.id)).await?;
            }
        }
        Ok(())
    }

    /// The service's sessions in a worker.
    pub(super) async fn sessions(&self, pid: u32) -> Result<Vec<Session>, HaproxyError> {
        let answer = self.worker(pid, "show sess").await?;
        Ok(answer.lines().filter_map(Session::parse).collect())
    }

    /// Asks for a reload; what HAProxy says of it, which before 2.7 is nothing.
    pub(super) async fn reload(&self) -> Result<String, HaproxyError> {
        let until = Instant::now() + DEADLINE;
        let stream = self.connect(until).await?;
        // The master may execute itself anew before it has answered.
        Ok(converse(stream, "reload", until).await.unwrap_or_default())
    }

    /// A command of which success prints nothing.
    async fn silent(&self, pid: u32, command: &str) -> Result<(), HaproxyError> {
        let answer = self.worker(pid, command).await?;
        if answer.trim().is_empty() { Ok(()) } else { Err(unexpected(command, &answer)) }
    }

    async fn worker(&self, pid: u32, command: &str) -> Result<String, HaproxyError> {
        let answer = self.ask(&format!("@!{pid} {command}"), Instant::now() + DEADLINE).await?;
        if answer.starts_with("Can't find the target PID") {
            return Err(HaproxyError::WorkerGone { pid });
        }
        Ok(answer)
    }

    /// One command, one connection; asked again when it was cut. All commands sent this way may be repeated.
    async fn ask(&self, command: &str, until: Instant) -> Result<String, HaproxyError> {
        loop {
            match self.exchange(command, until).await {
                Err(error) if self.may_come_back(&error, until) => sleep(RETRY).await,
                answer => return answer.map_err(|error| self.unreachable(&error)),
            }
        }
    }

    async fn exchange(&self, command: &str, until: Instant) -> io::Result<String> {
        let stream = timeout_at(until, UnixStream::connect(&self.socket)).await??;
        converse(stream, command, until).await
    }

    async fn connect(&self, until: Instant) -> Result<UnixStream, HaproxyError> {
        loop {
            match timeout_at(until, UnixStream::connect(&self.socket)).await.unwrap_or_else(|e| Err(e.into()))
            {
                Err(error) if self.may_come_back(&error, until) => sleep(RETRY).await,
                stream => return stream.map_err(|error| self.unreachable(&error)),
            }
        }
    }

    /// Whether the master is only deaf for a moment, because it executes itself anew, and not dead.
    fn may_come_back(&self, error: &io::Error, until: Instant) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound};
        let passes = matches!(error.kind(), ConnectionRefused | ConnectionReset | BrokenPipe | NotFound);
        passes && Instant::now() + RETRY < until && self.may_live()
    }

    fn may_live(&self) -> bool {
        match fs::read_to_string(&self.pid_file) {
            // An empty file is about to be written.
            Ok(pid) => pid.trim().is_empty() || self.is_program(pid.trim()),
            Err(_) => self.socket.exists(),
        }
    }

    /// Whether the process that the pid file names runs, and is HAProxy.
    pub(super) fn is_alive(&self) -> bool {
        fs::read_to_string(&self.pid_file).is_ok_and(|pid| self.is_program(pid.trim()))
    }

    /// Whether that process is HAProxy: a pid may have gone to somebody else.
    fn is_program(&self, pid: &str) -> bool {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"));
        !pid.is_empty() && name.is_ok_and(|name| name.trim() == self.program)
    }

    fn unreachable(&self, error: &io::Error) -> HaproxyError {
        HaproxyError::Unreachable { socket: self.socket.clone(), why: error.to_string() }
    }
}

/// Bears with what was disturbed by a worker that came or went meanwhile, for a while: there is always a next worker.
#[derive(Debug)]
pub(super) struct Patience {
    until: Instant,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { until: Instant::now() + DEADLINE }
    }

    /// Waits a little before the next try, or gives the error back when another try would not help.
    pub(super) async fn with(&self, error: HaproxyError) -> Result<(), HaproxyError> {
        let passes = matches!(
            error,
            HaproxyError::WorkerGone { .. } | HaproxyError::Command { .. } | HaproxyError::Unconfirmed(_)
        );
        if !passes || Instant::now() >= self.until {
            return Err(error);
        }
        sleep(2 * RETRY).await;
        Ok(())
    }
}

/// Sends one command and reads the answer to its end.
async fn converse(mut stream: UnixStream, command: &str, until: Instant) -> io::Result<String> {
    timeout_at(until, async {
        stream.write_all(format!("{command}\n").as_bytes()).await?;
        // The master's side of the conversation stays open until ours is closed.
        stream.shutdown().await?;
        let mut answer = Vec::new();
        if (&mut stream).take(LONGEST_ANSWER).read_to_end(&mut answer).await? as u64 == LONGEST_ANSWER {
            return Err(io::Error::other("the answer is too long"));
        }
        Ok(String::from_utf8_lossy(&answer).trim_start_matches('\n').to_owned())
    })
    .await?
}

/// Workers came or went while they were looked at.
pub(super) fn changing() -> HaproxyError {
    HaproxyError::Unconfirmed("its workers keep changing".into())
}

fn unexpected(command: &str, answer: &str) -> HaproxyError {
    HaproxyError::Command { command: command.to_owned(), answer: answer.trim().chars().take(200).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_of_the_service_are_told_from_others() {
        let line = |fe: &str, be: &str, srv: &str| {
            format!(
                "0x55f0: proto=tcpv4 src=127.0.0.1:5 fe={fe} be={be} srv={srv} ts=00 age=0s calls=1 exp=10s"
            )
        };
        let server = |name| Some(Session { id: "0x55f0".into(), server: BackendName::try_new(name).ok() });
        assert_eq!(Session::parse(&line("service", "app", "vm-1")), server("vm-1"));
        assert_eq!(Session::parse(&line("service", "app", "<none>")), server("<none>"));
        assert_eq!(Session::parse(&line("service", "<NONE>", "<none>")), server("<none>"));
        assert_eq!(Session::parse(&line("probe", "probe.vm-1", "vm-1")), None);
        assert_eq!(Session::parse(&line("GLOBAL", "<NONE>", "<none>")), None);
        assert_eq!(Session::parse(""), None);
    }
}
