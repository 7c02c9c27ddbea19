//! What `run` needs on this host: directories, libvirt, HAProxy, memory.

use std::{os::unix::fs::PermissionsExt, path::Path};

use nix::unistd::{AccessFlags, access};

use super::{Config, Exit, Failure, Report, State, store};
use crate::{
    cli::text::span,
    core::cloud::FailureKind,
    daemon::exit_of_haproxy,
    guests::{self, DomainSeen},
    haproxy::{Finding, HaproxyError, preflight},
    host,
};

/// The state that `run` would go on from.
pub(super) fn state(report: &mut Report, config: &Config) -> Result<Option<State>, Failure> {
    let places = &config.places;
    match store::peek::<State>(&places.state_dir, &places.pool) {
        Ok(Some(peeked)) => {
            let age = peeked.saved_at.elapsed().unwrap_or_default().as_millis();
            let names: Vec<&str> = peeked.state.members.iter().map(|m| m.name.as_str()).collect();
            let moving = match &peeked.state.transition {
                Some(transition) => {
                    format!("; a {} was under way and is gone on with", transition.kind.name())
                }
                None => String::new(),
            };
            let age = span(u64::try_from(age).unwrap_or(u64::MAX));
            report.ok("state", format!("written {age} ago: {}{moving}", names.join(", ")))?;
            Ok(Some(peeked.state))
        }
        Ok(None) => {
            report.ok("state", "none yet: the pool begins with its base")?;
            Ok(None)
        }
        Err(error) => {
            report.fail("state", error.exit(), format!("failed to {error}"))?;
            Ok(None)
        }
    }
}

/// Whether the pool's directories are ours, or can be made.
pub(super) fn directories(report: &mut Report, config: &Config) -> Result<(), Failure> {
    let places = &config.places;
    for (directory, closed) in [(&places.state_dir, true), (&places.run_dir, false)] {
        let shown = directory.display();
        let mode = directory.metadata().map(|found| found.permissions().mode() & 0o777);
        match (writable(directory), mode) {
            (Err(at), _) => report.fail(
                "directories",
                Exit::NoPermission,
                format!(
                    "{} may not be written by this user: run as root or as the service's user",
                    at.display()
                ),
            )?,
            (Ok(()), Ok(mode)) if closed && mode & 0o077 != 0 => report.fail(
                "directories",
                Exit::Config,
                format!("{shown} is open to others (mode {mode:o}): chmod 700 {shown}"),
            )?,
            (Ok(()), Ok(_)) => report.ok("directories", shown.to_string())?,
            (Ok(()), Err(_)) => report.ok("directories", format!("{shown} will be made"))?,
        }
    }
    Ok(())
}

/// Whether a directory, or the nearest one above it that exists, may be written; if not, which.
fn writable(directory: &Path) -> Result<(), &Path> {
    let existing = directory.ancestors().find(|path| path.exists()).unwrap_or(directory);
    access(existing, AccessFlags::W_OK | AccessFlags::X_OK).map_err(|_| existing)
}

/// The domains of the libvirt daemons that guests are read from; `None` when none can be used.
pub(super) async fn libvirt(
    report: &mut Report,
    config: &Config,
) -> Result<Option<Vec<DomainSeen>>, Failure> {
    let found = match guests::inspect(&config.guests).await {
        Ok(found) => found,
        Err(error) => {
            report.fail("libvirt", error.kind().into(), format!("failed to {error}"))?;
            return Ok(None);
        }
    };
    let mut domains = Vec::new();
    for endpoint in found.endpoints {
        match endpoint.found {
            Ok(seen) => {
                let version =
                    seen.hypervisor_version.map_or_else(String::new, |version| format!(" {version}"));
                report.ok(
                    "libvirt",
                    format!(
                        "{} on {}: {}{version} by libvirt {}, {} domains",
                        endpoint.uri,
                        seen.hostname,
                        seen.hypervisor,
                        seen.daemon,
                        seen.domains.len()
                    ),
                )?;
                domains.extend(seen.domains);
            }
            // A place that was only probed need not be there.
            Err(error) if error.kind() == FailureKind::NotFound => {}
            Err(error) => report.warn("libvirt", format!("failed to {error}"))?,
        }
    }
    Ok(Some(domains))
}

/// The program, the template, what runs, the addresses and limits.
pub(super) async fn haproxy(report: &mut Report, config: &Config) -> Result<(), Failure> {
    for Finding { what, outcome } in preflight(&config.haproxy).await {
        let what = what.trim_start_matches("HAProxy ");
        match outcome {
            Ok(found) => report.ok("haproxy", format!("{what}: {found}"))?,
            // It serves with it; but nothing will be changed until somebody has looked.
            Err(error @ HaproxyError::Edited { .. }) => {
                report.warn("haproxy", format!("failed to {error}"))?
            }
            Err(error) => report.fail("haproxy", exit_of_haproxy(&error), format!("failed to {error}"))?,
        }
    }
    Ok(())
}

/// The host's CPUs and memory, for whoever reads the report.
pub(super) fn resources(report: &mut Report) -> Result<(), Failure> {
    match (host::cpus(), host::memory_available_mib()) {
        (Ok(cpus), Ok(memory)) => {
            let pressure = host::cpu_pressure().map_or_else(String::new, |p| format!(", CPU pressure {p}"));
            report.ok("host", format!("{cpus} CPUs, {memory} MiB of memory available{pressure}"))
        }
        (Err(error), _) | (_, Err(error)) => report.warn("host", format!("failed to {error}")),
    }
}
