//! What operators ask the daemon to do: the command goes over, its sentence comes back.

use super::{out, out::Failure, small_runtime};
use crate::{admin::client::Client, core::event::Command, exit::Exit};

pub(super) fn run(client: &Client, command: &Command) -> Result<Exit, Failure> {
    let message = small_runtime()?.block_on(client.command(command))?;
    out::data(&format!("{}\n", super::text::clean(&message)))?;
    Ok(Exit::Ok)
}
