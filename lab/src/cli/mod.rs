//! The command line of `lbsidecar-lab`.

mod commands;
mod up;

use std::{
    ffi::OsString,
    io::Write,
    path::{Path, PathBuf},
    process::{ExitCode, Termination},
};

use anyhow::Result;
use clap::{Parser, Subcommand};
use lbsidecar::exit::Exit;

pub(crate) use self::{commands::down as stop, up::start};
use crate::{
    cloud::options::Seed,
    demo,
    directory::Directory,
    server::{self, Libvirt},
    space,
};

/// A whole single-node cloud in namespaces of its own.
///
/// Everything in it is real but the cloud's API, which is one process: bridges, address translation, libvirt, QEMU guests. It has no way out
/// to any network, and nothing of it is left when it ends.
#[derive(Debug, Parser)]
#[command(name = "lbsidecar-lab", version)]
struct Arguments {
    /// The lab's directory [default: lbsidecar-lab/default in $XDG_RUNTIME_DIR, or /tmp/lbsidecar-lab-UID/default]
    #[arg(long, env = "LBSIDECAR_LAB_DIR", global = true)]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start a lab, and return when its cloud and its libvirt answer
    Up {
        /// Stay, and end the lab when this process ends
        #[arg(long)]
        foreground: bool,
        /// Make a port of the lab reachable on this machine's loopback, port 0 being any free one; without a value the usual ones
        #[arg(long, value_name = "PORT:[NETNS/]ADDRESS:PORT", num_args = 0..=1, default_missing_value = up::USUAL)]
        publish: Vec<String>,
        /// Without networks, router, security group and key pair: what `lbsidecar provision` starts from
        #[arg(long)]
        empty: bool,
        /// Make no namespaces and start no libvirtd: in those that this process is in, with the one that runs there, until it is killed
        #[arg(long, conflicts_with_all = ["foreground", "publish"])]
        here: bool,
    },
    /// Play the whole story: scale-out, split and handover, under load that counts every request
    ///
    /// A lab is made for it and ended with it. Exit code 0: every cycle was complete and no request was lost; 2: requests were lost.
    Demo {
        #[command(flatten)]
        wishes: demo::Wishes,
        /// Make the service, HAProxy's statistics and the live page reachable on this machine's loopback; or what the value says
        #[arg(long, value_name = "PORT:[NETNS/]ADDRESS:PORT", num_args = 0..=1, default_missing_value = up::USUAL)]
        publish: Vec<String>,
    },
    /// Run a command in the lab
    Exec {
        /// The command and its arguments
        #[arg(required = true, last = true)]
        command: Vec<OsString>,
    },
    /// Print the variables that programs in the lab need, for a shell to eval
    Env,
    /// Say what is in the lab, as JSON
    Status,
    /// End the lab
    Down,
    /// Write the guests' kernel, initramfs and kernel arguments to a directory, as images for another cloud
    ///
    /// There the guest takes its address by DHCP, and its name, key and user data from the metadata service.
    GuestImage { to: PathBuf },
    #[command(hide = true)]
    Story { settings: String },
    #[command(hide = true)]
    Load {
        target: std::net::SocketAddr,
        #[arg(long)]
        rate: Option<f64>,
    },
    #[command(hide = true)]
    Keep {
        #[arg(long)]
        foreground: bool,
    },
    #[command(hide = true)]
    Init,
    #[command(hide = true)]
    Serve,
    #[command(hide = true)]
    Become {
        #[arg(required = true, last = true)]
        command: Vec<OsString>,
    },
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Started by the link in /proc, it would be `exe` in lists of processes.
    let _ = nix::sys::prctl::set_name(c"lbsidecar-lab");
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("LBSIDECAR_LAB_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info")),
        )
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .init();
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "lbsidecar-lab: {error:#}");
            if error.is::<up::Missing>() { Exit::Unavailable.report() } else { Exit::Failure.report() }
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    let directory = Directory::new(arguments.dir)?;
    match arguments.command {
        Verb::Up { foreground, publish, empty, here } => {
            let seed = if empty { Seed::Empty } else { Seed::Lab };
            if here {
                up::prepare(&directory, &[], seed)?;
                server::run(&directory, Libvirt::Present)?;
            }
            up::up(&directory, foreground, &up::publications(&publish)?, seed)?;
        }
        Verb::Exec { command } => return space::exec(&directory, &command),
        Verb::Env => commands::env(&directory)?,
        Verb::Status => commands::status(&directory)?,
        Verb::Down => commands::down(&directory)?,
        Verb::GuestImage { to } => up::guest_image(&to)?,
        Verb::Demo { wishes, publish } => {
            return demo::run(&directory, &wishes, &up::publications(&publish)?);
        }
        Verb::Story { settings } => return demo::story(&directory, serde_json::from_str(&settings)?),
        Verb::Load { target, rate } => demo::load(target, rate)?,
        Verb::Keep { foreground } => space::keep(&directory, foreground)?,
        Verb::Init => space::init(&directory)?,
        Verb::Serve => server::run(&directory, Libvirt::Own)?,
        Verb::Become { command } => return space::become_command(&command),
    }
    Ok(ExitCode::SUCCESS)
}

/// The search path, with the directories of system programs, which distributions keep from ordinary users.
pub(crate) fn search_path() -> OsString {
    let mut directories: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    for system in ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"] {
        if !directories.iter().any(|directory| directory == Path::new(system)) {
            directories.push(system.into());
        }
    }
    std::env::join_paths(directories).unwrap_or_default()
}

/// Whether a program is in the search path.
pub(crate) fn is_installed(program: &str) -> bool {
    std::env::split_paths(&search_path()).any(|directory| directory.join(program).is_file())
}

/// Prints lines for people or programs; a closed pipe is not an error.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
