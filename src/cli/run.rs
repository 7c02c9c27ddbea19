//! `run`: the daemon in the foreground.

use tracing::warn;

use super::out::Failure;
use crate::{
    config::{self, Env, Flags},
    daemon::{self, Reread},
    exit::Exit,
    telemetry,
};

pub(super) fn run(flags: &Flags) -> Result<Exit, Failure> {
    let env = Env::of_process();
    let loaded = config::load(flags, &env)?;
    let log = telemetry::log::init(&loaded.config.places.log)
        .map_err(|error| Failure::new(Exit::Failure, format!("failed to {error}")))?;
    for warning in &loaded.warnings {
        warn!(reason = %warning, "configuration");
    }
    let (mut current, flags) = (loaded.config.clone(), flags.clone());
    let reread: Reread = Box::new(move || {
        let changed = current.reread(&flags, &env).map_err(|problems| problems.to_string())?;
        current = changed.config;
        log.set_filter(&current.places.log.filter).map_err(|error| error.to_string())?;
        let said = changed.refused.into_iter().chain(changed.warnings).collect();
        Ok((current.core.clone(), said))
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match runtime.block_on(daemon::run(loaded.config, reread)) {
        Ok(()) => Ok(Exit::Ok),
        Err(error) => Err(Failure::new(error.exit(), format!("failed to {error}"))),
    }
}
