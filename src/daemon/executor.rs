//! Effects become calls, and their answers become outcomes. One effect at a time; nothing is decided or remembered here.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Mutex;
use tracing::{debug, info, warn};

use super::address::{AddressError, ServiceAddress, Taken};
use crate::{
    core::{
        cloud::{BlueprintText, FailureKind, Mark},
        event::{Effect, Outcome},
        ids::{IntentId, ServerId},
        settings::Settings,
    },
    haproxy::{Haproxy, HaproxyError},
    host,
    openstack::{Cloud, CloudError, CopyRequest, Room},
    telemetry::Metrics,
};

/// The parts that effects act on.
pub(super) struct Executor {
    pub(super) settings: Settings,
    pub(super) haproxy: Arc<Mutex<Haproxy>>,
    pub(super) address: Arc<ServiceAddress>,
    pub(super) metrics: Arc<Metrics>,
}

/// A failed call, as the core wants to know it.
struct Failure {
    kind: FailureKind,
    why: String,
}

impl From<CloudError> for Failure {
    fn from(error: CloudError) -> Self {
        Self { kind: error.kind(), why: error.to_string() }
    }
}

impl From<AddressError> for Failure {
    fn from(error: AddressError) -> Self {
        Self { kind: error.kind(), why: error.to_string() }
    }
}

impl From<HaproxyError> for Failure {
    fn from(error: HaproxyError) -> Self {
        Self { kind: error.kind(), why: error.to_string() }
    }
}

impl Executor {
    /// Does it. Never fails: what went wrong is an outcome too.
    pub(super) async fn execute(&self, effect: Effect) -> Outcome {
        let name = effect.name();
        let began = Instant::now();
        debug!(effect = name, detail = ?effect, "effect begins");
        let outcome = self.act(effect).await.unwrap_or_else(|failure| {
            warn!(effect = name, kind = ?failure.kind, reason = %failure.why, "effect failed");
            Outcome::Failed { kind: failure.kind, why: failure.why }
        });
        let elapsed = began.elapsed();
        self.metrics.effect(name, !matches!(outcome, Outcome::Failed { .. }), elapsed);
        if name != "probe" {
            info!(effect = name, elapsed_ms = elapsed.as_millis(), "effect ended");
        }
        outcome
    }

    async fn act(&self, effect: Effect) -> Result<Outcome, Failure> {
        let cloud = self.address.cloud();
        Ok(match effect {
            Effect::Apply { model, force } => {
                let generation = self.haproxy.lock().await.apply(&model, force).await?;
                Outcome::Applied { generation }
            }
            Effect::Probe(server) => {
                let (ok, why) = self.haproxy.lock().await.probe(&server).await;
                Outcome::Probed { ok, why }
            }
            Effect::CutSessions(server) => {
                self.haproxy.lock().await.cut_sessions(&server).await?;
                Outcome::Done
            }
            Effect::Admit { base, name, blueprint } => {
                self.admit(cloud, base, &name, blueprint.as_ref()).await?
            }
            Effect::Study(base) => {
                let mark = Mark { pool: self.settings.pool.clone(), intent: IntentId(base.0), generation: 0 };
                let settings = self.settings.clone_spec.clone();
                let request = CopyRequest { base, name: String::new(), mark, settings };
                Outcome::Studied(cloud.study(&request).await?)
            }
            Effect::Create { intent, name, generation, base, blueprint } => {
                let mark = Mark { pool: self.settings.pool.clone(), intent, generation };
                let request = CopyRequest { base, name, mark, settings: self.settings.clone_spec.clone() };
                Outcome::Created(match blueprint {
                    Some(blueprint) => cloud.create_again(&request, &blueprint).await?,
                    None => cloud.create_copy(&request).await?,
                })
            }
            Effect::FindIntent(intent) => {
                Outcome::Found(cloud.find_intent(&self.settings.pool, intent).await?)
            }
            Effect::Address(id) => {
                let (ip, floating_ip) = self.address.address_of(id).await?;
                let address = SocketAddr::new(ip, self.settings.service_port);
                Outcome::Addressed { server: id, address, floating_ip }
            }
            Effect::Stop(id) => {
                cloud.stop(id).await?;
                Outcome::Done
            }
            Effect::Start(id) => {
                cloud.start(id).await?;
                Outcome::Done
            }
            Effect::Snapshot { server, keep } => {
                self.snapshot(cloud, server, keep).await?;
                Outcome::Done
            }
            Effect::Delete(id) => {
                cloud.delete(id).await?;
                Outcome::Done
            }
            Effect::ReleaseAddress(floating_ip) => {
                cloud.release_floating_ip(floating_ip).await?;
                Outcome::Done
            }
            Effect::TakeVip { members } => {
                if self.address.is_on_host() {
                    // Its checks could not reach a member at an address that leads there from now on only.
                    self.haproxy.lock().await.presume_up().await?;
                }
                match self.address.take(&members).await? {
                    Taken::Done => Outcome::Done,
                    Taken::Moved { server, address, floating_ip } => {
                        let address = SocketAddr::new(address.into(), self.settings.service_port);
                        Outcome::Addressed { server, address, floating_ip: Some(floating_ip) }
                    }
                }
            }
            Effect::GiveVip(id) => {
                self.address.give(id).await?;
                Outcome::Done
            }
        })
    }

    /// Whether a copy of `base` has room and would help.
    async fn admit(
        &self,
        cloud: &Cloud,
        base: ServerId,
        name: &str,
        blueprint: Option<&BlueprintText>,
    ) -> Result<Outcome, Failure> {
        let strangers = cloud.servers_named(name).await?;
        if let Some(stranger) = strangers.first() {
            return Ok(Outcome::Refused(format!(
                "a server named {name} exists already ({}), and it is not ours: rename or delete it, or choose another --clone",
                stranger.id
            )));
        }
        let reach = self.address.reach();
        let room = match blueprint {
            Some(blueprint) => cloud.room_again(base, blueprint, &reach).await?,
            None => cloud.room_for(base, &self.settings.clone_spec, &reach).await?,
        };
        let room = match room {
            Room::Enough { memory_mib } => memory_mib,
            Room::None(why) => return Ok(Outcome::Refused(why)),
        };
        let guards = &self.settings.guards;
        let needed = room.saturating_add(guards.reserve_memory_mib);
        // Without the host's word there is no reason to refuse: Nova's scheduler still has its own.
        if let Ok(available) = host::memory_available_mib()
            && available < needed
        {
            return Ok(Outcome::Refused(format!(
                "the host has {available} MiB of memory left, and a clone needs {needed} MiB ({room} MiB and {} MiB in reserve)",
                guards.reserve_memory_mib
            )));
        }
        // In place of one that is gone another is made on a busy host as well: it is not to help, but to serve.
        if blueprint.is_none()
            && let Some(pressure) = host::cpu_pressure()
            && pressure > guards.max_cpu_pressure
        {
            return Ok(Outcome::Refused(format!(
                "the host's CPUs are the bottleneck (pressure {pressure}, at most {}): a clone on it would not help",
                guards.max_cpu_pressure
            )));
        }
        Ok(Outcome::Admitted)
    }

    async fn snapshot(&self, cloud: &Cloud, id: ServerId, keep: u32) -> Result<(), Failure> {
        const DEADLINE: Duration = Duration::from_secs(900);
        tokio::time::timeout(DEADLINE, cloud.snapshot(id, &self.settings.pool)).await.map_err(|_| {
            Failure {
                kind: FailureKind::Unknown,
                why: format!("snapshot of server {id}: not active after {} s", DEADLINE.as_secs()),
            }
        })??;
        // The new one is what was asked for; an old one that stays costs space only, and goes with the next.
        let keep = usize::try_from(keep).unwrap_or(usize::MAX);
        match cloud.surplus_snapshots(&self.settings.pool, keep).await {
            Ok(surplus) => {
                for image in surplus {
                    match cloud.delete_image(image.id).await {
                        Ok(()) => info!(image = %image.id, "deleted an old snapshot"),
                        Err(error) => warn!("an old snapshot stays: failed to {error}"),
                    }
                }
            }
            Err(error) => warn!("old snapshots stay: failed to {error}"),
        }
        Ok(())
    }
}
