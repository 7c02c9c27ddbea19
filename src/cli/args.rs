//! The command line's grammar, and with it the help texts, the completions and the manual pages.

use std::{fmt::Write, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::{
    cleanup::CleanupArgs, host_nat::HostNat, load::LoadArgs, provision::ProvisionArgs,
    snapshot::SnapshotArgs, ssh::SshArgs,
};
use crate::{
    config::{Flags, PlaceFlags},
    exit::Exit,
};

/// Scales one OpenStack VM out to a clone and back behind HAProxy, without losing a request
///
/// When the VM's CPU stays high, a clone is made and shares its traffic. When both stay low, the first VM is drained and
/// deleted and the clone stays. HAProxy runs on its own: stopping or upgrading lbsidecar stops no traffic.
#[derive(Debug, Parser)]
#[command(name = "lbsidecar", version, after_help = exit_codes(), max_term_width = 100, arg_required_else_help = true)]
#[command(disable_help_subcommand = true)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) places: PlaceFlags,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Watch the pool, and scale it out and back: the daemon
    Run(Box<Flags>),
    /// Show the pool: members, votes, what is under way, alarms
    Status(StatusArgs),
    /// Show the last decisions: readings, value, vote, action and reason
    Explain(ExplainArgs),
    /// Look at everything that `run` needs, and say what is missing; changes nothing
    Check(Box<CheckArgs>),
    /// Show every setting as it holds, and where it comes from
    Config(Box<ConfigArgs>),
    /// Print the configuration that HAProxy gets for the pool as it is now
    Render(Box<RenderArgs>),
    /// Make what the pool lives in: network, router, security groups, key pair, base, floating IP, load balancer port
    Provision(Box<ProvisionArgs>),
    /// Make an image of a member, for clones to boot from
    Snapshot(Box<SnapshotArgs>),
    /// Remove everything that carries the pool's mark, and nothing else
    Cleanup(Box<CleanupArgs>),
    /// Put the load balancer port into its network namespace; the only step that needs root, at boot and after `provision`
    Plug(Box<Flags>),
    /// Put the service address on the host and take it off for a daemon that may not; `lbsidecar-address@` runs it (vip.mode = "host")
    Address,
    /// Add a member now
    ScaleOut,
    /// Drain and delete the base now; the clone stays
    Handover,
    /// Call off what is under way; a handover can be called off until the DELETE is sent
    Abort,
    /// Begin nothing new until `resume`; what is under way is finished, traffic goes on
    Hold {
        /// Why; `status` shows it
        why: Vec<String>,
    },
    /// Decide again after `hold`, `release` or a run of failed creations
    Resume,
    /// Give the service address back to the primary VM and stop deciding
    Release,
    /// Render HAProxy's configuration again and apply it
    Reload {
        /// Overwrite a configuration file that was edited by hand
        #[arg(long)]
        force: bool,
    },
    /// Load the pool and count every request: the whole story, or a steady rate
    Load(Box<LoadArgs>),
    /// Let the cloud's external network reach the Internet through this host, or no longer
    #[command(subcommand)]
    HostNat(HostNat),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one for each command into a directory
    Man {
        /// The directory
        dir: Option<PathBuf>,
    },
}

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people
    Text,
    /// For programs
    Json,
}

#[derive(Debug, Args)]
pub(super) struct OutputArgs {
    /// How it is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text", hide_possible_values = true)]
    #[arg(help = "How it is written: text, json")]
    pub(super) output: Output,
    /// Write no colours, also on a terminal (or NO_COLOR)
    #[arg(long)]
    pub(super) no_color: bool,
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    pub(super) out: OutputArgs,
    /// Show it again and again, every SECONDS
    #[arg(long, short, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = seconds)]
    pub(super) watch: Option<Duration>,
}

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    pub(super) out: OutputArgs,
    /// How many decisions, at most 200
    #[arg(short = 'n', long = "limit", value_name = "NUMBER", default_value_t = 20)]
    pub(super) limit: usize,
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    pub(super) out: OutputArgs,
    /// Ask the base itself, over SSH, whether it reaches the Internet, and say which layer is wrong when it does not
    #[arg(long)]
    pub(super) guest: bool,
    #[command(flatten)]
    pub(super) ssh: SshArgs,
    #[command(flatten)]
    pub(super) flags: Flags,
}

#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    #[command(flatten)]
    pub(super) out: OutputArgs,
    /// Print a configuration file with every key, its meaning and its default instead
    #[arg(long)]
    pub(super) example: bool,
    #[command(flatten)]
    pub(super) flags: Flags,
}

#[derive(Debug, Args)]
pub(super) struct RenderArgs {
    /// Have HAProxy read it first (`haproxy -c`)
    #[arg(long)]
    pub(super) check: bool,
    #[command(flatten)]
    pub(super) flags: Flags,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        Ok(_) | Err(_) => Err("use a number of seconds from 0.1 to 3600".to_owned()),
    }
}

/// The list of exit codes at the end of `--help`.
fn exit_codes() -> String {
    let mut text = String::from("Exit codes:\n");
    for exit in Exit::ALL {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:>2}  {}", exit as u8, exit.meaning());
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_command_line_that_every_user_has_seen_is_taken() {
        let line =
            "lbsidecar run --clone vm-test-clone --high 60 --low 20 --min-up 4 --min-down 4 --metric max";
        let Command::Run(flags) = Cli::try_parse_from(line.split(' ')).unwrap().command else { panic!() };
        assert_eq!((flags.clone.as_deref(), flags.high.as_deref()), (Some("vm-test-clone"), Some("60")));
        assert_eq!((flags.min_up.as_deref(), flags.metric.as_deref()), (Some("4"), Some("max")));
    }

    #[test]
    fn places_are_taken_before_and_after_the_command() {
        for line in [["lbsidecar", "--pool", "a", "run"], ["lbsidecar", "run", "--pool", "a"]] {
            let cli = Cli::try_parse_from(line).unwrap();
            let Command::Run(flags) = cli.command else { panic!("{line:?}") };
            assert_eq!(flags.places.pool.as_deref(), Some("a"), "{line:?}");
        }
        for line in [["lbsidecar", "--pool", "a", "status"], ["lbsidecar", "status", "--pool", "a"]] {
            let cli = Cli::try_parse_from(line).unwrap();
            assert_eq!(cli.places.pool.as_deref(), Some("a"), "{line:?}");
        }
    }

    #[test]
    fn watch_takes_a_sane_number_of_seconds() {
        let watch = |line: &[&str]| match Cli::try_parse_from(line).map(|cli| cli.command) {
            Ok(Command::Status(args)) => Ok(args.watch),
            _ => Err(()),
        };
        assert_eq!(watch(&["lbsidecar", "status"]), Ok(None));
        assert_eq!(watch(&["lbsidecar", "status", "--watch"]), Ok(Some(Duration::from_secs(1))));
        assert_eq!(watch(&["lbsidecar", "status", "--watch=0.5"]), Ok(Some(Duration::from_millis(500))));
        for bad in ["0", "-1", "NaN", "inf", "x", "1e9"] {
            assert_eq!(watch(&["lbsidecar", "status", &format!("--watch={bad}")]), Err(()), "{bad}");
        }
    }
}
