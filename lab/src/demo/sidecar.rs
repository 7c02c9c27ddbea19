//! The daemon under demonstration, started as an operator would start it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use lbsidecar::admin::{
    client::{Client, ClientError},
    view::StatusView,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// The command line: what a user of the seed typed, word by word.
pub const COMMAND_LINE: [&str; 13] = [
    "run",
    "--clone",
    "vm-test-clone",
    "--high",
    "60",
    "--low",
    "20",
    "--min-up",
    "4",
    "--min-down",
    "4",
    "--metric",
    "max",
];
const SETTINGS: &str = include_str!("demo.toml");
/// Where `lbsidecar` looks for the daemon when nobody says anything else.
const RUN_DIR: &str = "/run/lbsidecar/default";
/// Time for the effect in flight to end when the daemon is told to.
const END_DEADLINE: Duration = Duration::from_secs(15);

/// Where the daemon's files are.
#[derive(Debug, Clone)]
pub struct Home {
    program: PathBuf,
    directory: PathBuf,
}

impl Home {
    /// Makes the directory and writes the configuration; `program` is `lbsidecar`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn create(program: PathBuf, directory: PathBuf) -> Result<Self> {
        let home = Self { program, directory };
        fs::create_dir_all(&home.directory)
            .and_then(|()| fs::write(home.config(), SETTINGS))
            .with_context(|| format!("failed to write {}", home.config().display()))?;
        Ok(home)
    }

    fn config(&self) -> PathBuf {
        self.directory.join("config.toml")
    }

    fn log(&self) -> PathBuf {
        self.directory.join("lbsidecar.log")
    }

    /// The last lines of the daemon's log and of HAProxy's, for a person who wants to know what went wrong.
    #[must_use]
    pub fn logs(&self, lines: usize) -> String {
        let haproxy = Path::new(RUN_DIR).join("haproxy.log");
        let mut text = String::new();
        for path in [&self.log(), &haproxy] {
            let all = fs::read_to_string(path).unwrap_or_else(|error| error.to_string());
            let all: Vec<&str> = all.lines().collect();
            text.push_str(&format!("the end of {}:\n", path.display()));
            for line in all.iter().skip(all.len().saturating_sub(lines)) {
                text.push_str(&format!("  {line}\n"));
            }
        }
        text
    }
}

/// A running daemon. It stays when this is dropped, as a daemon does.
#[derive(Debug)]
pub struct Sidecar {
    home: Home,
    child: Child,
    client: Client,
}

impl Sidecar {
    /// Starts it.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(home: &Home) -> Result<Self> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(home.log())
            .with_context(|| format!("failed to open {}", home.log().display()))?;
        let child = Command::new(&home.program)
            .args(COMMAND_LINE)
            .env("LBSIDECAR_CONFIG", home.config())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // What a terminal sends is not for a daemon.
            .process_group(0)
            .spawn()
            .with_context(|| format!("failed to start {}", home.program.display()))?;
        let client = Client::new(Path::new(RUN_DIR).join("lbsidecar.sock"));
        Ok(Self { home: home.clone(), child, client })
    }

    /// What `lbsidecar status` would show.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self) -> Result<StatusView, ClientError> {
        self.client.status().await
    }

    /// Asks for what an operator asks for.
    ///
    /// # Errors
    /// The daemon's reason why not.
    pub async fn command(&self, command: &lbsidecar::core::event::Command) -> Result<String, ClientError> {
        self.client.command(command).await
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Kills it, as a crash or the kernel would, and gives what is needed to start it again.
    ///
    /// # Errors
    /// When the system does not let us.
    pub async fn kill(mut self) -> Result<Home> {
        self.child.kill().await.context("failed to kill the daemon")?;
        Ok(self.home)
    }

    /// Ends it, as systemd would.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn end(mut self) -> Result<()> {
        let Some(pid) = self.child.id() else { return Ok(()) };
        kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM).context("failed to end the daemon")?;
        let ended = timeout(END_DEADLINE, self.child.wait()).await;
        let status = ended.with_context(|| format!("the daemon did not end within {END_DEADLINE:?}"))??;
        anyhow::ensure!(status.success(), "the daemon ended with {status}");
        Ok(())
    }
}
