//! The demo from outside: a lab is made, the story is played in it, and the lab is ended.

use std::{
    io::Write,
    process::{ExitCode, Stdio},
};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use super::{rig::Programs, story};
use crate::{
    cli::{start, stop},
    cloud::options::Seed,
    directory::Directory,
    publish::Publication,
    space,
};

/// What may be wished for.
#[derive(Debug, Args)]
pub(crate) struct Wishes {
    /// How often to scale out and hand over
    #[arg(long, default_value_t = 2, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=100))]
    cycles: u32,
    /// Requests a second through the guests, beside those that burn CPU: the mean of busy and calm hours
    #[arg(long, default_value_t = 310, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=2000))]
    rate: u32,
    /// Leave the lab and everything in it up at the end
    #[arg(long)]
    keep: bool,
    /// How the outcome is written
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table for people
    Text,
    /// For programs; what a person may want to read goes to standard error
    Json,
}

/// Plays the demo in a lab of its own.
pub(crate) fn run(directory: &Directory, wishes: &Wishes, publish: &[Publication]) -> Result<ExitCode> {
    let programs = Programs::beside(std::env::current_exe().context("failed to find this program")?)?;
    let lab = start(directory, !wishes.keep, publish, Seed::Lab)?;
    tell(&lab.said);
    if !publish.is_empty() {
        let password = directory.state().join("default/stats-password");
        tell(&format!(
            "  the statistics page is for the user lbsidecar, its password is in {}\n",
            password.display()
        ));
    }
    let settings = story::Settings {
        cycles: wishes.cycles,
        rate: wishes.rate,
        keep: wishes.keep,
        json: wishes.output == Output::Json,
    };
    let signals = space::hold_signals()?;
    let story = space::ourselves(directory)
        .args(["exec", "--"])
        .arg(&programs.lab)
        .arg("--dir")
        .arg(directory.path())
        .arg("story")
        .arg(serde_json::to_string(&settings)?)
        .stdin(Stdio::null())
        .spawn()
        .context("failed to start the story")?;
    let code = space::wait(story, &signals)?;
    if wishes.keep {
        let lab = format!("{} --dir {}", programs.lab.display(), directory.path().display());
        tell(&format!(
            "the lab stays up\n  look:  {lab} exec -- {} status --watch\n  end:   {lab} down\n",
            programs.lbsidecar.display()
        ));
    } else {
        stop(directory)?;
    }
    Ok(ExitCode::from(code))
}

/// Says something to a person; standard output belongs to the story.
fn tell(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
