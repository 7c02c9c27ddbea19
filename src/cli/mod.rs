//! The commands: what a person or a script types, and what they get back.
//!
//! Data goes to stdout, talk to stderr. Every command ends with an [`Exit`], which `--help` lists; a reader who has gone
//! away (a broken pipe) is no error. Nothing is decided here: commands ask the daemon, or run it.

mod address;
mod args;
mod check;
mod cleanup;
mod explain;
mod frames;
mod generate;
mod host_nat;
mod load;
mod operate;
mod out;
mod plug;
mod progress;
mod provision;
mod render;
mod run;
mod show_config;
mod snapshot;
mod ssh;
mod status;
mod status_text;
mod table;
#[cfg(test)]
mod tests;
mod text;

use clap::Parser;
use jiff::tz::TimeZone;

use self::{
    args::{Cli, Command},
    out::Failure,
};
pub use self::{frames::Frames, out::Look};
use crate::{
    admin::{client::Client, view::StatusView},
    config::{self, Env, PlaceFlags},
    core::event::Command as Ask,
    exit::Exit,
};

/// The pool as `status` shows it to people.
#[must_use]
pub fn status_text(view: &StatusView, look: &Look) -> String {
    status_text::text(view, look, &TimeZone::system())
}

/// Reads the command line, does what it says, and tells how it ended.
#[must_use]
pub fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come as "errors" too, and go to stdout.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            let _ = error.print();
            return exit;
        }
    };
    match dispatch(cli) {
        Ok(exit) => exit,
        Err(failure) => failure.tell(),
    }
}

fn dispatch(cli: Cli) -> Result<Exit, Failure> {
    let Cli { places, command } = cli;
    match command {
        Command::Run(args) => run::run(&args),
        Command::Status(args) => status::run(&config::places(&places, &Env::of_process())?, &args),
        Command::Explain(args) => explain::run(&client(&places)?, &args),
        Command::Check(args) => check::run(&args),
        Command::Config(args) => show_config::run(&args),
        Command::Render(args) => render::run(&args),
        Command::Provision(args) => provision::run(&places, &args),
        Command::Snapshot(args) => snapshot::run(&places, &args),
        Command::Cleanup(args) => cleanup::run(&places, &args),
        Command::Plug(args) => plug::run(&args),
        Command::Address => address::run(&places),
        Command::ScaleOut => operate::run(&client(&places)?, &Ask::ScaleOut),
        Command::Handover => operate::run(&client(&places)?, &Ask::Handover),
        Command::Abort => operate::run(&client(&places)?, &Ask::Abort),
        Command::Hold { why } => {
            let why = if why.is_empty() { "asked for by the operator".to_owned() } else { why.join(" ") };
            operate::run(&client(&places)?, &Ask::Hold { why })
        }
        Command::Resume => operate::run(&client(&places)?, &Ask::Resume),
        Command::Release => operate::run(&client(&places)?, &Ask::Release),
        Command::Reload { force } => operate::run(&client(&places)?, &Ask::Reload { force }),
        Command::Load(args) => load::run(&config::places(&places, &Env::of_process())?, &args),
        Command::HostNat(command) => host_nat::run(&command),
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { dir } => generate::man(dir.as_deref()),
    }
}

/// A client of the daemon that these flags point to.
fn client(places: &PlaceFlags) -> Result<Client, Failure> {
    Ok(Client::new(config::places(places, &Env::of_process())?.admin.socket))
}

/// A runtime for commands that only ask: one thread is enough.
fn small_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
