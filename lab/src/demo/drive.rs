//! The load: the counting client as a process in the lab's namespace `client`, steered by lines of JSON on its standard input.
//!
//! Each order has one line of answer. The end of the orders is the end of the load.

use std::{
    fs::File,
    io::{self, Write},
    net::SocketAddr,
    os::fd::AsFd,
    path::Path,
    process::Stdio,
};

use anyhow::{Context, Result, bail};
use lbsidecar::load::{ClientGroup, Load, LoadHandle, LoadPlan, LoadReport, LoadSnapshot};
use nix::sched::{CloneFlags, setns};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::world::net::CLIENT_NETNS;

/// What the load is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Order {
    /// These clients begin.
    Begin(ClientGroup),
    /// The clients of this name end.
    End(String),
    /// No more requests a second than this.
    Pace(f64),
    /// From now on this phase is counted.
    Mark(String),
    /// Say how it is.
    Count,
    /// End, and say how it was.
    Finish,
}

/// What the load says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Done,
    Refused(String),
    Counted(Box<LoadSnapshot>),
    Finished(Box<LoadReport>),
}

/// Runs the load in this process, which must have one thread yet, for as long as there are orders.
pub(crate) fn run(target: SocketAddr, rate: Option<f64>) -> Result<()> {
    let client = Path::new("/run/netns").join(CLIENT_NETNS);
    let client = File::open(&client)
        .with_context(|| format!("failed to open {}: is this process in the lab?", client.display()))?;
    setns(client.as_fd(), CloneFlags::CLONE_NEWNET).context("failed to enter the clients' namespace")?;
    // The clients run on the runtime's own threads; this one reads the orders.
    let runtime = tokio::runtime::Runtime::new()?;
    let _inside = runtime.enter();
    let plan = LoadPlan { rate, ..LoadPlan::new(target.into(), Vec::new()) };
    let mut load = Some(Load::start(plan)?);
    for line in io::stdin().lines() {
        let order = serde_json::from_str(&line?).context("failed to understand an order")?;
        let answer = runtime.block_on(answer(&mut load, order));
        let mut out = io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(&answer)?)?;
        out.flush()?;
    }
    Ok(())
}

async fn answer(slot: &mut Option<LoadHandle>, order: Order) -> Answer {
    let Some(load) = slot.take() else { return Answer::Refused("the load is over".to_owned()) };
    let answer = match order {
        Order::Begin(group) => match load.start_group(group) {
            Ok(()) => Answer::Done,
            Err(error) => Answer::Refused(format!("failed to {error}")),
        },
        Order::End(name) => {
            load.stop_group(&name);
            Answer::Done
        }
        Order::Pace(rate) => {
            load.set_rate(Some(rate));
            Answer::Done
        }
        Order::Mark(phase) => {
            load.mark(&phase);
            Answer::Done
        }
        Order::Count => Answer::Counted(Box::new(load.snapshot())),
        Order::Finish => return Answer::Finished(Box::new(load.stop().await)),
    };
    *slot = Some(load);
    answer
}

/// The steering end. The load ends at once when this is dropped.
#[derive(Debug)]
pub struct Drive {
    _child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Drive {
    /// Starts a load without clients yet. `program` is the lab's own; this process must be in the lab.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(program: &Path, target: SocketAddr, rate: Option<f64>) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("load").arg(target.to_string());
        if let Some(rate) = rate {
            command.arg("--rate").arg(rate.to_string());
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // What a terminal sends is for the one who steers, who wants the report after it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("failed to start {}", program.display()))?;
        let orders = child.stdin.take().context("the load has no input")?;
        let answers = child.stdout.take().context("the load has no output")?;
        Ok(Self { _child: child, orders, answers: BufReader::new(answers).lines() })
    }

    /// Starts a group of clients.
    ///
    /// # Errors
    /// When the group makes no requests, or the load has ended.
    pub async fn begin(&mut self, group: ClientGroup) -> Result<()> {
        self.done(Order::Begin(group)).await
    }

    /// Lets a group's clients end after their request in flight.
    ///
    /// # Errors
    /// When the load has ended.
    pub async fn end(&mut self, name: &str) -> Result<()> {
        self.done(Order::End(name.to_owned())).await
    }

    /// Changes the bound of requests a second, at once.
    ///
    /// # Errors
    /// When the load has ended.
    pub async fn pace(&mut self, rate: f64) -> Result<()> {
        self.done(Order::Pace(rate)).await
    }

    /// Begins a phase of the counts.
    ///
    /// # Errors
    /// When the load has ended.
    pub async fn mark(&mut self, phase: &str) -> Result<()> {
        self.done(Order::Mark(phase.to_owned())).await
    }

    /// All counts of this moment.
    ///
    /// # Errors
    /// When the load has ended.
    pub async fn count(&mut self) -> Result<LoadSnapshot> {
        match self.ask(Order::Count).await? {
            Answer::Counted(snapshot) => Ok(*snapshot),
            other => bail!("the load answered {other:?} when asked for its counts"),
        }
    }

    /// Ends all clients, each after its request in flight, and gives the report.
    ///
    /// # Errors
    /// When the load has ended before.
    pub async fn finish(mut self) -> Result<LoadReport> {
        match self.ask(Order::Finish).await? {
            Answer::Finished(report) => Ok(*report),
            other => bail!("the load answered {other:?} when told to finish"),
        }
    }

    async fn done(&mut self, order: Order) -> Result<()> {
        match self.ask(order).await? {
            Answer::Done => Ok(()),
            other => bail!("the load answered {other:?}"),
        }
    }

    async fn ask(&mut self, order: Order) -> Result<Answer> {
        let mut asked = async || {
            self.orders.write_all((serde_json::to_string(&order)? + "\n").as_bytes()).await?;
            self.answers.next_line().await?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
        };
        let line = asked().await.context("failed to reach the load: it has ended")?;
        match serde_json::from_str(&line).context("failed to understand the load's answer")? {
            Answer::Refused(why) => bail!("the load refused: {why}"),
            answer => Ok(answer),
        }
    }
}
