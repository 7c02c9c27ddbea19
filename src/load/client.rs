//! One client: a connection at most, a request at a time, each entered in the books before it is sent.

use std::{io, os::fd::AsRawFd, sync::Arc};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, recv},
};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    ledger::{Ledger, Lost},
    pace::Pace,
    plan::{ClientGroup, LoadPlan, Method, Reuse},
    report::LossKind,
    wire::{Answer, Broken, read_answer},
};

/// What all clients of a load share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) plan: LoadPlan,
    pub(super) run: String,
    pub(super) ledger: Ledger,
    pub(super) pace: Pace,
    pub(super) deadline: Option<Instant>,
}

/// What all clients of a group share.
#[derive(Debug)]
pub(super) struct GroupRun {
    pub(super) spec: ClientGroup,
    pub(super) column: usize,
    /// The request up to and with `X-Request-Id: <run>-`; the number, an empty line and the body follow.
    head: Vec<u8>,
}

impl GroupRun {
    pub(super) fn new(spec: ClientGroup, column: usize, plan: &LoadPlan, run: &str) -> Self {
        let path = spec.path.as_deref().unwrap_or(&plan.target.path);
        let method = match spec.method {
            Method::Get => "GET",
            Method::Post(_) => "POST",
        };
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: lbsidecar-load\r\n",
            plan.target.host
        );
        if let Method::Post(body) = &spec.method {
            head += &format!("Content-Type: application/octet-stream\r\nContent-Length: {}\r\n", body.len());
        }
        if spec.reuse == Reuse::AskToClose {
            head += "Connection: close\r\n";
        }
        head += &format!("X-Request-Id: {run}-");
        Self { spec, column, head: head.into_bytes() }
    }
}

/// Sends requests until told to stop (`stop` is true or its sender is gone) or the plan's time is over; the request in
/// flight then still gets its answer.
pub(super) async fn run(shared: Arc<Shared>, group: Arc<GroupRun>, mut stop: watch::Receiver<bool>) {
    let mut client =
        Client { shared: &shared, group: &group, kept: None, request: Vec::new(), input: Vec::new() };
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            () = over(shared.deadline) => break,
            () = shared.pace.turn() => {}
        }
        client.one_request().await;
        let (low, high) = (*group.spec.think.start(), *group.spec.think.end());
        let think = low + (high - low).mul_f64(fastrand::f64());
        if think.is_zero() {
            continue;
        }
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            () = over(shared.deadline) => break,
            () = sleep(think) => {}
        }
    }
    shared.ledger.client_left();
}

async fn over(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

struct Client<'a> {
    shared: &'a Shared,
    group: &'a GroupRun,
    /// The connection that the last answer left open.
    kept: Option<TcpStream>,
    request: Vec<u8>,
    input: Vec<u8>,
}

impl Client<'_> {
    async fn one_request(&mut self) {
        let kept = self.kept.take().filter(|connection| {
            let quiet = is_quiet(connection);
            if !quiet {
                self.shared.ledger.closed_idle();
            }
            quiet
        });
        let open = self.shared.ledger.begin();
        self.write_request(open.number);
        let limit = self.shared.plan.request_timeout;
        let outcome = match timeout(limit, self.exchange(kept)).await {
            Ok(outcome) => outcome.and_then(|answer| self.judge(open.number, answer)),
            Err(_) => {
                Err(Lost { kind: LossKind::Timeout, detail: format!("no whole answer within {limit:?}") })
            }
        };
        self.shared.ledger.end(open, self.group.column, outcome);
    }

    fn write_request(&mut self, number: u64) {
        self.request.clear();
        self.request.extend_from_slice(&self.group.head);
        self.request.extend_from_slice(number.to_string().as_bytes());
        self.request.extend_from_slice(b"\r\n\r\n");
        if let Method::Post(body) = &self.group.spec.method {
            self.request.extend_from_slice(body);
        }
    }

    /// Sends the request once, on the kept connection or a new one, and reads the answer.
    async fn exchange(&mut self, kept: Option<TcpStream>) -> Result<Answer, Lost> {
        let reused = kept.is_some();
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        if let Err(error) = connection.write_all(&self.request).await {
            return Err(broken(reused, Broken::Io(0, error)));
        }
        let answer =
            read_answer(&mut connection, &mut self.input, self.shared.plan.attribution.header.as_deref())
                .await
                .map_err(|how| broken(reused, how))?;
        if answer.reusable && self.group.spec.reuse == Reuse::KeepAlive {
            self.kept = Some(connection);
        }
        Ok(answer)
    }

    async fn connect(&self) -> Result<TcpStream, Lost> {
        let plan = &self.shared.plan;
        match timeout(plan.connect_timeout, TcpStream::connect(plan.target.address)).await {
            Ok(Ok(connection)) => {
                self.shared.ledger.connected();
                // Without it the kernel may hold a small request back; it is no loss if the option is refused.
                let _ = connection.set_nodelay(true);
                Ok(connection)
            }
            Ok(Err(error)) => Err(Lost { kind: connect_kind(&error), detail: format!("connect: {error}") }),
            Err(_) => Err(Lost {
                kind: LossKind::ConnectTimeout,
                detail: format!("no connection within {:?}", plan.connect_timeout),
            }),
        }
    }

    /// Whether a whole answer is a good one, and who gave it.
    fn judge(&self, number: u64, answer: Answer) -> Result<Option<String>, Lost> {
        let text = String::from_utf8_lossy(&answer.body);
        let first_line = text.lines().next().unwrap_or_default().trim();
        let shown = || first_line.chars().take(80).collect::<String>();
        let kind = match answer.status {
            200..=399 => None,
            500.. => Some(LossKind::ServerError),
            _ => Some(LossKind::WrongStatus),
        };
        if let Some(kind) = kind {
            return Err(Lost { kind, detail: format!("status {}: {:?}", answer.status, shown()) });
        }
        if let Some(id) = &answer.request_id
            && id.strip_prefix(&self.shared.run).and_then(|rest| rest.strip_prefix('-'))
                != Some(&number.to_string())
        {
            return Err(Lost {
                kind: LossKind::WrongBody,
                detail: format!("the answer is for request {id:?}"),
            });
        }
        if let Some(expected) = &self.group.spec.expect
            && !text.contains(expected.as_str())
        {
            return Err(Lost {
                kind: LossKind::WrongBody,
                detail: format!("the body {:?} does not contain {expected:?}", shown()),
            });
        }
        let named = self.shared.plan.attribution.body_first_line && !first_line.is_empty();
        Ok(answer.member.or_else(|| named.then(shown)))
    }
}

/// Whether nothing has come on a kept connection since the last answer: no end, no reset, no stray bytes. It asks the kernel,
/// because tokio learns of an end only when its driver runs, and that may be after the write.
fn is_quiet(connection: &TcpStream) -> bool {
    let mut byte = [0];
    let peek = recv(connection.as_raw_fd(), &mut byte, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT);
    peek == Err(Errno::EAGAIN)
}

fn connect_kind(error: &io::Error) -> LossKind {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ECONNREFUSED) => LossKind::ConnectRefused,
        Some(Errno::ETIMEDOUT) => LossKind::ConnectTimeout,
        Some(Errno::EADDRNOTAVAIL | Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS) => LossKind::ClientLimit,
        _ => LossKind::ConnectFailed,
    }
}

/// Names a broken exchange. `reused` tells whether the connection had carried an answer before.
fn broken(reused: bool, how: Broken) -> Lost {
    let on = if reused { "a reused connection" } else { "a new connection" };
    let (kind, detail) = match how {
        Broken::Eof(0) if reused => (LossKind::Stale, format!("{on} ended instead of an answer")),
        Broken::Eof(0) => (LossKind::Empty, format!("{on} ended instead of an answer")),
        Broken::Eof(n) => (LossKind::Truncated, format!("{on} ended after {n} bytes of the answer")),
        Broken::Io(0, error) if reused => {
            (LossKind::Stale, format!("{on} broke instead of an answer: {error}"))
        }
        Broken::Io(n, error) => {
            (LossKind::Reset, format!("{on} broke after {n} bytes of the answer: {error}"))
        }
        Broken::Malformed(why) => (LossKind::Malformed, why),
    };
    Lost { kind, detail }
}
