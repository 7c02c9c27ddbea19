//! From the core's model and the settings to the text of `haproxy.cfg`.
//!
//! Only numbers, addresses, validated names and [`quoted`] strings reach the template: HAProxy's grammar is one directive a
//! line, so that a line break in a name would be a directive of somebody else's. The text depends on nothing but its inputs.

use std::collections::BTreeSet;

use secrecy::ExposeSecret;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    description::Description,
    error::HaproxyError,
    settings::{HaproxySettings, ServiceMode, StatsPage},
};
use crate::core::{lb::LbModel, units::Weight};

/// What the new worker of a reload is told of the old one's servers.
pub(super) const STATE_FILE: &str = "servers.state";

const EMBEDDED: &str = include_str!("../../templates/haproxy.cfg.tera");

/// The template in use.
#[derive(Debug)]
pub(super) struct Template {
    /// Its file, or that it is the embedded one.
    name: String,
    source: String,
}

/// A rendered file, not yet accepted by HAProxy. It holds a password.
pub(super) struct Rendered {
    pub(super) text: String,
    pub(super) description: Description,
}

#[derive(Serialize)]
struct Context {
    pool: String,
    mode: &'static str,
    binds: Vec<String>,
    bind_nonlocal: bool,
    servers: Vec<Server>,
    closing: bool,
    sockets: Sockets,
    state_file: String,
    timeouts: Timeouts,
    check: Check,
    stats: Stats,
    max_connections: u32,
}

#[derive(Serialize)]
struct Server {
    name: String,
    address: String,
    ip: String,
    port: u16,
    weight: u16,
}

#[derive(Serialize)]
struct Sockets {
    admin: String,
    probe: String,
    stats: String,
}

#[derive(Serialize)]
struct Timeouts {
    server_ms: u128,
    keep_alive_ms: u128,
    hard_stop_ms: u128,
}

#[derive(Serialize)]
struct Check {
    path: String,
    status_min: u16,
    status_max: u16,
    interval_ms: u128,
    fast_interval_ms: u128,
    probe_connect_ms: u128,
}

#[derive(Serialize)]
struct Stats {
    bind: String,
    login: String,
}

impl Template {
    /// The operator's template, or the embedded one.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn load(settings: &HaproxySettings) -> Result<Self, HaproxyError> {
        match &settings.template {
            None => Ok(Self { name: "haproxy.cfg.tera (embedded)".into(), source: EMBEDDED.into() }),
            Some(path) => Ok(Self {
                name: path.display().to_string(),
                source: std::fs::read_to_string(path).map_err(|source| HaproxyError::File {
                    operation: "read template",
                    path: path.clone(),
                    source,
                })?,
            }),
        }
    }

    /// Renders the file for `model`, as generation `generation`.
    ///
    /// # Errors
    /// A template that does not render or leaves out what we must find again; a setting that cannot be written down.
    pub(super) fn render(
        &self,
        settings: &HaproxySettings,
        model: &LbModel,
        generation: u64,
    ) -> Result<Rendered, HaproxyError> {
        let mut names = BTreeSet::new();
        if let Some(twice) = model.servers.iter().find(|server| !names.insert(&server.name)) {
            return Err(self.error(format!("server {} is listed twice", twice.name)));
        }
        let mut context = context(settings, model)?;
        let weights: Vec<u16> = context.servers.iter().map(|server| server.weight).collect();
        // What is the same for all weights and generations is the structure.
        for server in &mut context.servers {
            server.weight = Weight::ZERO.get();
        }
        let digest = Sha256::digest(self.fill(&context, "")?);
        let structure = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        for (server, weight) in context.servers.iter_mut().zip(weights) {
            server.weight = weight;
        }
        let description = Description { pool: settings.pool.clone(), generation, structure };
        let text = self.fill(&context, &description.to_string())?;
        if Description::in_file(&text).as_ref() != Some(&description) {
            return Err(self.error("it must hold `description {{ description }}` in its global section"));
        }
        Ok(Rendered { text, description })
    }

    fn fill(&self, context: &Context, description: &str) -> Result<String, HaproxyError> {
        let mut tera = tera::Tera::default();
        tera.add_raw_template(&self.name, &self.source).map_err(|error| self.tera_error(&error))?;
        let mut values = tera::Context::from_serialize(context).map_err(|error| self.tera_error(&error))?;
        values.insert("description", description);
        tera.render(&self.name, &values).map_err(|error| self.tera_error(&error))
    }

    fn tera_error(&self, error: &tera::Error) -> HaproxyError {
        self.error(match error.kind() {
            tera::ErrorKind::SyntaxError(report) | tera::ErrorKind::RenderingError(report) => {
                let span = report.span();
                format!("line {}, column {}: {}", span.start_line, span.start_col + 1, report.message())
            }
            other => other.to_string(),
        })
    }

    /// The template is to blame.
    pub(super) fn error(&self, why: impl Into<String>) -> HaproxyError {
        HaproxyError::Template { name: self.name.clone(), why: why.into() }
    }
}

fn context(settings: &HaproxySettings, model: &LbModel) -> Result<Context, HaproxyError> {
    let in_run_dir = |name| quoted("run_dir", &settings.run_dir.join(name).display().to_string());
    let check = &settings.check;
    if !check.path.starts_with('/') || check.path.contains(' ') {
        return Err(HaproxyError::Setting {
            key: "check.path",
            why: format!("{:?} is not an absolute path without spaces", check.path),
        });
    }
    Ok(Context {
        pool: settings.pool.to_string(),
        mode: match settings.mode {
            ServiceMode::Http => "http",
            ServiceMode::Tcp => "tcp",
        },
        binds: settings.binds.iter().map(ToString::to_string).collect(),
        bind_nonlocal: settings.bind_nonlocal,
        servers: model
            .servers
            .iter()
            .map(|server| Server {
                name: server.name.to_string(),
                address: server.address.to_string(),
                ip: server.address.ip().to_string(),
                port: server.address.port(),
                weight: server.weight.get(),
            })
            .collect(),
        closing: model.closing,
        sockets: Sockets {
            admin: in_run_dir("admin.sock")?,
            probe: in_run_dir("probe.sock")?,
            stats: in_run_dir("stats.sock")?,
        },
        state_file: in_run_dir(STATE_FILE)?,
        timeouts: Timeouts {
            server_ms: settings.server_timeout.as_millis(),
            keep_alive_ms: settings.keep_alive_timeout.as_millis(),
            hard_stop_ms: settings.hard_stop_after.as_millis(),
        },
        check: Check {
            path: quoted("check.path", &check.path)?,
            status_min: check.status_min,
            status_max: check.status_max,
            interval_ms: check.interval.as_millis().max(1),
            // A server that changes its mind is asked more often, until it has made it up.
            fast_interval_ms: (check.interval.as_millis() / 3).max(1),
            probe_connect_ms: super::probe::CONNECT.as_millis(),
        },
        stats: Stats { bind: settings.stats.bind.to_string(), login: login(&settings.stats)? },
        max_connections: settings.max_connections,
    })
}

/// User and password of the statistics page, as they stand in the file.
pub(super) fn login(stats: &StatsPage) -> Result<String, HaproxyError> {
    if stats.user.contains(':') {
        return Err(HaproxyError::Setting { key: "stats.user", why: "a user name cannot hold ':'".into() });
    }
    quoted("stats.password", &format!("{}:{}", stats.user, stats.password.expose_secret()))
}

/// `text` between double quotes, as HAProxy reads it (section 2.2 of its configuration manual: within them `\`, `"` and `$` are
/// special).
///
/// # Errors
/// Control characters: a line break cannot be quoted.
fn quoted(key: &'static str, text: &str) -> Result<String, HaproxyError> {
    if text.chars().any(char::is_control) {
        return Err(HaproxyError::Setting { key, why: "it holds a control character".into() });
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        if matches!(c, '\\' | '"' | '$') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    Ok(quoted)
}
