//! What is made from the command line's grammar: completion scripts and manual pages.

use std::{fs, io, path::Path};

use clap::{Command, CommandFactory};

use super::{args::Cli, out, out::Failure};
use crate::exit::Exit;

/// The day of the last change to the manual pages that matters to their readers.
const PAGES: &str = "2026-11-27";

pub(super) fn completions(shell: clap_complete::Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "lbsidecar", &mut script);
    out::data(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}

pub(super) fn man(dir: Option<&Path>) -> Result<Exit, Failure> {
    match dir {
        Some(dir) => {
            let mut command = Cli::command().disable_help_subcommand(true);
            command.build();
            write(&command, dir).map_err(|error| {
                let why = format!("failed to write manual pages to {}: {error}", dir.display());
                Failure::new(Exit::Failure, why)
            })?;
        }
        None => out::data(&page(&Cli::command())?.1)?,
    }
    Ok(Exit::Ok)
}

/// One page for the command and each one below it.
fn write(command: &Command, dir: &Path) -> io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write(below, dir)?;
    }
    let (name, text) = page(command)?;
    fs::write(dir.join(name), text)
}

/// A page's file name and text.
fn page(command: &Command) -> io::Result<(String, String)> {
    let page = clap_mangen::Man::new(command.clone())
        .date(PAGES)
        .source(concat!("lbsidecar ", env!("CARGO_PKG_VERSION")))
        .manual("lbsidecar");
    let mut text = Vec::new();
    page.render(&mut text)?;
    // A break and an empty line and a break are one break, to whoever looks at the source.
    Ok((page.get_filename(), String::from_utf8_lossy(&text).replace("\n.br\n\n.br\n", "\n.br\n")))
}
