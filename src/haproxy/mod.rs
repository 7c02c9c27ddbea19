//! HAProxy: rendered, checked, applied, reloaded, watched and probed.
//!
//! One [`Haproxy`] is one HAProxy instance of ours, for one pool, with a configuration file that nobody else writes:
//!
//! ```text
//! LbModel ─ render ─► haproxy.cfg ─ check ─ rename ─┬─► run-time orders (weight, drain, maint)   apply
//!                                                   └─► reload, confirmed by generation          reload
//! LbSeen ◄─ show proc, and show stat of every worker, current and old                            observe
//! ```
//!
//! The file always says what the run time says (a drained server has weight 0), so that a reload by anybody, or a restart after a
//! crash, is harmless. HAProxy serves on whatever happens to us. What HAProxy shall be is not decided here.

mod apply;
mod bind;
mod check;
mod csv;
mod description;
mod error;
mod file;
#[cfg(test)]
mod fuzz;
mod master;
mod observe;
mod preflight;
mod probe;
mod processes;
mod reload;
mod render;
mod server_state;
pub mod settings;
mod start;
mod sync;

use std::{net::SocketAddr, path::Path};

use file::{ConfigFile, OnDisk};
use master::{Master, Order};
use render::Template;

pub use self::{
    check::version,
    error::HaproxyError,
    preflight::{Finding, preflight},
    settings::HaproxySettings,
};
use crate::core::{ids::BackendName, lb::LbModel};

/// One HAProxy instance.
#[derive(Debug)]
pub struct Haproxy {
    settings: HaproxySettings,
    template: Template,
    file: ConfigFile,
    master: Master,
    /// Digest of what this process wrote last into the configuration file.
    written: Option<String>,
    /// Digest of what it was about to put there when that failed: either of the two may lie there.
    unsure: Option<String>,
}

/// The service address that the configuration file remembers, in `host` mode; it may be asked for before there are settings without doubt.
#[must_use]
pub fn remembered_address(config_dir: &Path) -> Option<SocketAddr> {
    ConfigFile::new(config_dir.to_owned()).foreign_address()
}

impl Haproxy {
    /// Loads the template and tries the settings on it; touches nothing.
    ///
    /// # Errors
    /// A template or a setting that cannot work.
    pub fn new(settings: HaproxySettings) -> Result<Self, HaproxyError> {
        settings.check()?;
        let template = Template::load(&settings)?;
        template.render(&settings, &LbModel::default(), 0)?;
        Ok(Self {
            file: ConfigFile::new(settings.config_dir.clone()),
            master: Master::new(&settings.run_dir, &settings.binary),
            template,
            settings,
            written: None,
            unsure: None,
        })
    }

    /// The file that [`Haproxy::apply`] would write for `model`, with the generation that it would have, for people: without the
    /// password of the statistics page.
    ///
    /// # Errors
    /// The template does not render, or the file of now cannot be read.
    pub fn render(&self, model: &LbModel) -> Result<String, HaproxyError> {
        let user = &self.settings.stats.user;
        Ok(self
            .next_text(model)?
            .replace(&render::login(&self.settings.stats)?, &format!("\"{user}:********\"")))
    }

    fn next_text(&self, model: &LbModel) -> Result<String, HaproxyError> {
        let generation = self.next_generation(&self.file.read()?, 0);
        Ok(file::seal(&self.template.render(&self.settings, model, generation)?.text))
    }

    /// Takes every server for up until its checks have failed anew, which takes three of them: right before a server can be reached
    /// again, so that nobody is turned away for want of a check.
    ///
    /// # Errors
    /// HAProxy does not answer or does not obey.
    pub async fn presume_up(&self) -> Result<(), HaproxyError> {
        let pid = self.master.current().await?;
        for server in self.master.servers(pid).await?.keys() {
            self.master.order(pid, server, Order::Up).await?;
        }
        Ok(())
    }

    /// Ends the sessions that any worker still has open to a server. Its clients see a broken
    /// connection, or another member's answer.
    ///
    /// # Errors
    /// HAProxy does not answer or does not obey.
    pub async fn cut_sessions(&self, server: &BackendName) -> Result<(), HaproxyError> {
        let processes = self.master.processes().await?;
        if let Some(pid) = processes.current {
            self.master.cut(pid, server).await?;
        }
        for pid in processes.old {
            match self.master.cut_in_old(pid, server).await {
                Err(HaproxyError::WorkerGone { .. }) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Whether the file is not the one that we wrote last. After a start of ours any untouched file of ours is.
    fn is_edited(&self, on_disk: &OnDisk) -> bool {
        match on_disk {
            OnDisk::Ours(text) => {
                let found = Some(file::digest(text));
                self.written.is_some() && self.written != found && self.unsure != found
            }
            OnDisk::Edited(_) | OnDisk::Missing => true,
        }
    }
}
