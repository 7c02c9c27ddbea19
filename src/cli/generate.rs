//! What is made from the command line's grammar: completion scripts and manual pages.

use std::path::Path;

use clap::CommandFactory;

use super::{args::Cli, out, out::Failure};
use crate::exit::Exit;

pub(super) fn completions(shell: clap_complete::Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "lbsidecar", &mut script);
    out::data(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}

pub(super) fn man(dir: Option<&Path>) -> Result<Exit, Failure> {
    match dir {
        Some(dir) => clap_mangen::generate_to(Cli::command(), dir).map_err(|error| {
            Failure::new(Exit::Failure, format!("failed to write manual pages to {}: {error}", dir.display()))
        })?,
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            out::data(&String::from_utf8_lossy(&page))?;
        }
    }
    Ok(Exit::Ok)
}
