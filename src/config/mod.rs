//! Flags, environment and files become settings, each checked and each with its origin.
//!
//! ```text
//! defaults ← /etc/lbsidecar/config.toml ← config.d/*.toml ← LBSIDECAR_* ← flags      layers, files
//!                           │ one Values: a typed value, its key and its origin      keys, values, setting
//!                           ▼
//!             all mistakes at once, or Config                                        checks, cloud, build
//! ```
//!
//! Nothing here changes anything on disk but [`Config::prepare`].

mod build;
mod checks;
mod choices;
mod cloud;
mod diff;
mod docs;
mod env;
mod files;
mod flags;
mod keys;
mod layers;
mod password;
mod problem;
mod secret_file;
mod setting;
#[cfg(test)]
mod tests;
mod values;

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

pub use self::{
    diff::Changed,
    docs::{example, reference},
    env::Env,
    flags::{Flags, PlaceFlags, ProvisionFlags},
    problem::{Origin, Problem, Problems},
    values::Effective,
};
use self::{keys::Values, layers::Layered, password::Password, values::Unset};
use crate::{
    admin::settings::AdminSettings,
    core::{ids::PoolName, settings::Settings},
    guests::settings::GuestsSettings,
    haproxy::settings::HaproxySettings,
    openstack::settings::CloudSettings,
    provision::settings::ProvisionSettings,
    telemetry::LogSettings,
    vip::settings::VipSettings,
};

/// Everything that the operator chose.
#[derive(Debug, Clone)]
pub struct Config {
    /// The pool and its policy.
    pub core: Settings,
    /// How guests are read.
    pub guests: GuestsSettings,
    /// How to reach the cloud.
    pub cloud: CloudSettings,
    /// Where HAProxy lives.
    pub haproxy: HaproxySettings,
    /// How the service address reaches it.
    pub vip: VipSettings,
    /// What `provision` makes.
    pub provision: ProvisionSettings,
    /// Where the pool's things are.
    pub places: Places,
    /// The password of the statistics page, when it was made up just now.
    password: Password,
    values: Values,
}

/// Where a pool's things are: all that a command needs that talks to a running daemon.
#[derive(Debug, Clone)]
pub struct Places {
    /// The pool.
    pub pool: PoolName,
    /// The pool's own directory for what must survive a reboot, as `/var/lib/lbsidecar/default`.
    pub state_dir: PathBuf,
    /// The pool's own directory for sockets, as `/run/lbsidecar/default`.
    pub run_dir: PathBuf,
    /// Where the daemon is asked.
    pub admin: AdminSettings,
    /// What is logged.
    pub log: LogSettings,
}

/// A configuration without mistakes.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// It.
    pub config: Config,
    /// Doubts, one sentence each.
    pub warnings: Vec<String>,
}

/// Reads, layers and checks everything.
///
/// # Errors
/// Every mistake at once.
pub fn load(flags: &Flags, env: &Env) -> Result<Loaded, Problems> {
    let Layered { values, problems, warnings } = layers::read(flags, env);
    assemble(values, env, problems, warnings)
}

/// Checks `values` and makes settings of them; `problems` and `warnings` are what was found before.
fn assemble(
    values: Values,
    env: &Env,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
) -> Result<Loaded, Problems> {
    let mut found = checks::Findings { problems, warnings };
    found.problems.extend(missing(&values, &found.problems));
    found.all(&values, env);
    let cloud = cloud::find(&values, env, &mut found);
    let places = build::places(&values, env);
    let password = places.as_ref().ok().and_then(|places| password::find(&values, env, places, &mut found));
    if !found.problems.is_empty() {
        return Err(Problems(found.problems));
    }
    let (Some(cloud), Some(password)) = (cloud, password) else {
        let why = "the credentials were not read, and nobody said why: this is a bug";
        return Err(Problems(vec![Problem::of(None, "", why)]));
    };
    let one = |problem| Problems(vec![problem]);
    let places = places.map_err(one)?;
    let vip = build::vip(&values, &places).map_err(one)?;
    let haproxy = build::haproxy(&values, env, &places, &vip, password.secret.clone()).map_err(one)?;
    let core = build::core(&values, env).map_err(one)?;
    let provision = build::provision(&values, env).map_err(one)?;
    let guests = build::guests(&values).map_err(one)?;
    Ok(Loaded {
        config: Config { core, guests, cloud, haproxy, vip, provision, places, password, values },
        warnings: found.warnings.iter().map(ToString::to_string).collect(),
    })
}

/// The keys that must be set and are not.
fn missing(values: &Values, problems: &[Problem]) -> Vec<Problem> {
    let effective = values.effective();
    let unset = |name| effective.iter().any(|row| row.key == name && row.value.is_none());
    let told = |name| problems.iter().any(|problem| problem.touches(&[name]) && !problem.subject.is_empty());
    keys::KEYS
        .iter()
        .filter(|key| key.unset == Unset::Required && unset(key.name) && !told(key.name))
        .map(|key| {
            let flags = layers::flags_of(key.name).join(", ");
            let why = format!(
                "it is not set: give it by {flags}, {}, or {} in [{}] of the configuration file",
                key.variable(),
                key.leaf(),
                key.table()
            );
            Problem::of(None, key.name, why)
        })
        .collect()
}

/// Finds out where a pool's things are, whatever the rest of its configuration looks like.
///
/// # Errors
/// Every mistake in the files themselves and in the keys that say where things are.
pub fn places(flags: &PlaceFlags, env: &Env) -> Result<Places, Problems> {
    let values = readable(flags, env, PLACES)?;
    build::places(&values, env).map_err(|problem| Problems(vec![problem]))
}

/// Finds out how the service address reaches HAProxy, too, without a look at any secret.
///
/// # Errors
/// Every mistake in the files themselves and in the keys that say that.
pub fn service_address(flags: &PlaceFlags, env: &Env) -> Result<(Places, VipSettings), Problems> {
    const VIP: &[&str] =
        &["vip.mode", "vip.interface", "vip.address", "vip.netns", "vip.plug", "vip.ovs_command"];
    let values = readable(flags, env, &[PLACES, VIP].concat())?;
    let one = |problem| Problems(vec![problem]);
    let places = build::places(&values, env).map_err(one)?;
    let vip = build::vip(&values, &places).map_err(one)?;
    Ok((places, vip))
}

/// The keys that say where things are.
const PLACES: &[&str] =
    &["pool.name", "daemon.state_dir", "daemon.run_dir", "admin.listen", "log.filter", "log.format"];

/// All values, where there is no mistake in those of `keys`.
fn readable(flags: &PlaceFlags, env: &Env, keys: &[&str]) -> Result<Values, Problems> {
    let layered = layers::read(&Flags { places: flags.clone(), ..Flags::default() }, env);
    let mut problems = layered.problems;
    problems.retain(|problem| problem.touches(keys));
    if problems.is_empty() { Ok(layered.values) } else { Err(Problems(problems)) }
}

/// Why the daemon's places could not be made ready.
#[derive(Debug, thiserror::Error)]
#[error("make {} ready: {source}", path.display())]
pub struct PrepareError {
    /// The directory or file.
    pub path: PathBuf,
    /// The cause.
    pub source: io::Error,
}

impl Config {
    /// Every key with its value and origin, and at the end what was found of the cloud, its secret as `***`.
    #[must_use]
    pub fn effective(&self) -> Vec<Effective> {
        let mut rows = self.values.effective();
        rows.extend(cloud::effective(&self.cloud));
        rows
    }

    /// Makes the pool's directories and keeps the statistics page's password when it is new. Only the daemon calls this: what
    /// another user made, it could not write.
    ///
    /// # Errors
    /// When a directory cannot be made or the password not be written.
    pub fn prepare(&mut self) -> Result<(), PrepareError> {
        // The service's group may ask for the status; HAProxy's own sockets in there are for their owner alone.
        for (path, mode) in [
            (&self.places.state_dir, 0o700),
            (&self.places.run_dir, 0o750),
            (&self.haproxy.config_dir, 0o700),
        ] {
            directory(path, mode).map_err(|source| PrepareError { path: path.clone(), source })?;
        }
        if let Some(path) = self.password.keep_in.take() {
            password::keep(&self.password.secret, &path).map_err(|source| PrepareError { path, source })?;
        }
        Ok(())
    }
}

/// Makes a directory, and takes rights beyond `mode` from one that is there.
fn directory(path: &Path, mode: u32) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    let now = fs::metadata(path)?.permissions().mode() & 0o777;
    if now & !mode != 0 {
        fs::set_permissions(path, Permissions::from_mode(now & mode))?;
    }
    Ok(())
}
