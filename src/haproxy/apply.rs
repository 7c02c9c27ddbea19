//! Brings HAProxy to a model: file first, then the run time, then a look at whether it is so.
//!
//! ```text
//! render ─► staged file ─► haproxy -c ─► rename ─► run-time orders ─► same structure: read back ─► .lkg
//!              │ refused: .rejected                                └► other structure: reload, confirmed ─► orders ─► read back ─► .lkg
//!              ▼                                                               │ failed
//!        nothing changed                                                       └► .lkg put back, reloaded, servers as before
//! ```
//!
//! Nothing here decides what HAProxy shall be.

use std::collections::BTreeMap;

use tracing::{info, warn};

use super::{
    Haproxy, check,
    description::Description,
    error::HaproxyError,
    file::{OnDisk, digest, seal},
    master::{Patience, changing},
    server_state::ServerState,
    sync::{ReadBack, same_members},
};
use crate::core::{
    ids::BackendName,
    lb::{LbAdmin, LbMode, LbModel, LbServer},
    units::Weight,
};

/// Our HAProxy as it runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) pid: u32,
    pub(super) description: Description,
    servers: BTreeMap<BackendName, ServerState>,
}

impl Haproxy {
    /// Brings the file and the run time to `model`; the generation that runs then. Repeating it does nothing.
    ///
    /// Only a change of structure (members, addresses, settings, template) reloads; weights and drains are set at run time, and
    /// a server that leaves gets no new session from the worker that it leaves behind. HAProxy is started if it does not run.
    ///
    /// # Errors
    /// Every [`HaproxyError`]. After all of them but [`HaproxyError::Unconfirmed`] HAProxy serves as it did before.
    pub async fn apply(&mut self, model: &LbModel, force: bool) -> Result<u64, HaproxyError> {
        let running = match self.running().await? {
            Some(running) => running,
            None => {
                self.start(model).await?;
                self.running().await?.ok_or_else(changing)?
            }
        };
        let on_disk = self.file.read()?;
        if let OnDisk::Ours(text) | OnDisk::Edited(text) = &on_disk
            && self.is_edited(&on_disk)
        {
            if !force {
                return Err(HaproxyError::Edited { path: self.file.path() });
            }
            self.file.write(&self.file.beside("edited"), text)?;
        }
        let ran = running.description.generation;
        let same = self.template.render(&self.settings, model, ran)?;
        if same.description == running.description && same_members(&running.servers, model) {
            self.install(&same.text).await?;
            self.settle(model, ReadBack::Yes).await?;
            self.keep_good()?;
            return Ok(ran);
        }
        let generation = self.next_generation(&on_disk, ran);
        let next = self.template.render(&self.settings, model, generation)?;
        let good = [on_disk.text().map(str::to_owned), self.file.last_known_good()]
            .into_iter()
            .flatten()
            .find(|text| Description::in_file(text).as_ref() == Some(&running.description));
        self.install(&next.text).await?;
        let reloaded = match self.settle(model, ReadBack::No).await {
            Ok(()) => self.reload(&next.description).await,
            Err(error) => Err(error.to_string()),
        };
        match reloaded {
            Ok(pid) => {
                info!(generation, pid, "HAProxy runs a new configuration");
                self.settle(model, ReadBack::Yes).await?;
                self.keep_good()?;
                Ok(generation)
            }
            Err(why) => {
                warn!(generation, why, "HAProxy did not take the new configuration");
                let after = self.roll_back(&running, good).await;
                Err(HaproxyError::Reload { generation, why, after })
            }
        }
    }

    /// What runs, if anything does.
    ///
    /// # Errors
    /// It is not of this pool.
    pub(super) async fn running(&self) -> Result<Option<Running>, HaproxyError> {
        let patience = Patience::new();
        let (pid, found, servers) = loop {
            match self.look_at_current().await {
                Ok(looked) => break looked,
                // One that lives and does not answer must not get a second one beside it: both could bind the same address.
                Err(HaproxyError::Unreachable { .. }) if !self.master.is_alive() => return Ok(None),
                Err(error) => patience.with(error).await?,
            }
        };
        match self.ours(&found) {
            Some(description) => Ok(Some(Running { pid, description, servers })),
            None => Err(HaproxyError::Foreign {
                socket: self.master.socket().to_owned(),
                found: if found.is_empty() { "a configuration without a description".into() } else { found },
                pool: self.settings.pool.to_string(),
            }),
        }
    }

    async fn look_at_current(
        &self,
    ) -> Result<(u32, String, BTreeMap<BackendName, ServerState>), HaproxyError> {
        let pid = self.master.current().await?;
        Ok((pid, self.master.description(pid).await?, self.master.servers(pid).await?))
    }

    /// One more than any that was ever used.
    pub(super) fn next_generation(&self, on_disk: &OnDisk, ran: u64) -> u64 {
        let written = on_disk.text().and_then(Description::in_file).map_or(0, |d| d.generation);
        let good = self.file.last_known_good().and_then(|text| Description::in_file(&text));
        ran.max(written).max(good.map_or(0, |d| d.generation)) + 1
    }

    /// Has HAProxy check `text`, and makes it the configuration file.
    pub(super) async fn install(&mut self, text: &str) -> Result<(), HaproxyError> {
        let text = seal(text);
        // What may not last, since its last step failed, is written again.
        if self.unsure.is_none() && self.file.read()? == OnDisk::Ours(text.clone()) {
            self.written = Some(digest(&text));
            return Ok(());
        }
        let staged = self.file.stage(&text)?;
        if let Err(refusal) = check::accepts(&self.settings.binary, &staged).await? {
            let kept = self.file.beside("rejected");
            self.file.commit(&kept)?;
            self.file.write(&self.file.beside("rejected.log"), &refusal.log)?;
            return Err(HaproxyError::Rejected { kept, why: refusal.why });
        }
        self.put(&text)
    }

    /// Gives the staged file its name. An error does not say whether it has it: it may have come after the renaming.
    fn put(&mut self, staged: &str) -> Result<(), HaproxyError> {
        if let OnDisk::Ours(text) = self.file.read()?
            && self.unsure == Some(digest(&text))
        {
            self.written = self.unsure.take();
        }
        self.unsure = Some(digest(staged));
        self.file.commit(&self.file.path())?;
        self.written = self.unsure.take();
        Ok(())
    }

    /// Remembers what lies there as what HAProxy was seen running.
    pub(super) fn keep_good(&self) -> Result<(), HaproxyError> {
        match self.file.read()? {
            OnDisk::Ours(text) if self.file.last_known_good().as_ref() != Some(&text) => {
                self.file.write(&self.file.beside("lkg"), &text)
            }
            _ => Ok(()),
        }
    }

    /// After a change that did not work: the file that ran before, a worker that runs it, its servers as they were. What is in
    /// force then, in words.
    async fn roll_back(&mut self, before: &Running, good: Option<String>) -> String {
        let Some(good) = good else {
            return "the worker before serves on, but there is no known good file to put back".into();
        };
        let restored = async {
            self.file.stage(&good)?;
            self.put(&good)?;
            // A worker with the new file may have come up after all, or may still do so.
            self.reload(&before.description).await.map_err(HaproxyError::Unconfirmed)?;
            self.settle(&as_model(&before.servers), ReadBack::Yes).await
        };
        let generation = before.description.generation;
        match restored.await {
            Ok(()) => format!("generation {generation} is back in force"),
            Err(error) => format!("going back to generation {generation} failed, too: {error}"),
        }
    }
}

/// The model that describes servers as they were; those in maintenance are kept from traffic.
fn as_model(states: &BTreeMap<BackendName, ServerState>) -> LbModel {
    let servers = states.iter().filter_map(|(name, state)| {
        Some(LbServer {
            name: name.clone(),
            address: state.address?,
            weight: Weight::clamped(state.weight),
            mode: match state.admin {
                LbAdmin::Ready => LbMode::Ready,
                LbAdmin::Drain | LbAdmin::Maint => LbMode::Drain,
            },
        })
    });
    LbModel { servers: servers.collect(), closing: false }
}
