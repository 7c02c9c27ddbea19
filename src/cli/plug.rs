//! `plug`: the load balancer port into its namespace, by whoever may do that.

use super::out::{self, Failure};
use crate::{
    config::{self, Env, Flags},
    daemon,
    exit::Exit,
};

pub(super) fn run(flags: &Flags) -> Result<Exit, Failure> {
    let loaded = config::load(flags, &Env::of_process())?;
    let plugged = super::small_runtime()?.block_on(daemon::plug_port(&loaded.config));
    let said = plugged.map_err(|error| Failure::new(error.exit(), format!("failed to {error}")))?;
    out::data(&format!("{said}\n"))?;
    Ok(Exit::Ok)
}
