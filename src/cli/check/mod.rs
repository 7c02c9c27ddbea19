//! `check`: everything that `run` needs, looked at before it is needed; each line says `ok`, or what to do. It changes nothing.

mod cloud;
mod guest;
mod host;
mod report;

use self::report::Report;
use super::{args::CheckArgs, out::Failure, small_runtime};
use crate::{
    admin::client::Client,
    config::{self, Config, Env, Loaded},
    core::state::State,
    exit::Exit,
    store,
};

pub(super) fn run(args: &CheckArgs) -> Result<Exit, Failure> {
    let mut report = Report::new(&args.out);
    if let Some(config) = configuration(&mut report, args)? {
        small_runtime()?.block_on(look(&mut report, &config, args))?;
    }
    report.end()
}

/// The settings; without them nothing else can be looked at.
fn configuration(report: &mut Report, args: &CheckArgs) -> Result<Option<Config>, Failure> {
    match config::load(&args.flags, &Env::of_process()) {
        Ok(Loaded { config, warnings }) => {
            let core = &config.core;
            let policy = &core.policy;
            report.ok(
                "config",
                format!(
                    "pool {}: base {}, clone {}; {} votes at or above {} scale out, {} at or below {} hand over",
                    core.pool, core.base, core.clone, policy.min_up, policy.high, policy.min_down, policy.low
                ),
            )?;
            for warning in warnings {
                report.warn("config", warning)?;
            }
            report
                .ok("credentials", format!("from {}, for {}", config.cloud.origin, config.cloud.auth_url))?;
            Ok(Some(config))
        }
        Err(problems) => {
            for problem in &problems.0 {
                report.fail("config", problems.exit(), problem.to_string())?;
            }
            Ok(None)
        }
    }
}

async fn look(report: &mut Report, config: &Config, args: &CheckArgs) -> Result<(), Failure> {
    if let Ok(view) = Client::new(&config.places.admin.socket).status().await {
        let phase = view.phase.as_str();
        report.ok("daemon", format!("runs as pid {}, the pool is {phase}", view.daemon.pid))?;
    }
    let state = host::state(report, config)?;
    host::directories(report, config)?;
    let domains = host::libvirt(report, config).await?;
    host::haproxy(report, config).await?;
    let guest = args.guest.then_some(&args.ssh);
    cloud::look(report, config, state.as_ref(), domains.as_deref(), guest).await?;
    host::resources(report)
}
