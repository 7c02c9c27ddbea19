//! `snapshot`: an image of a member, for clones to boot from.

use std::time::Duration;

use clap::Args;
use tokio::time::timeout;

use super::{
    out::{self, Failure},
    progress::Progress,
    provision::{self as with, ProjectFlags},
    small_runtime, text,
};
use crate::{
    config::{Config, PlaceFlags, ProvisionFlags},
    core::state::State,
    exit::Exit,
    openstack::{Cloud, CloudError, Server},
    provision::Event,
    store,
};

/// From the order until the image is active.
const DEADLINE: Duration = Duration::from_secs(1800);

#[derive(Debug, Args)]
pub(super) struct SnapshotArgs {
    /// Name or id of the member [default: the pool's primary, or the base]
    #[arg(long, value_name = "VM")]
    member: Option<String>,
    /// Keep this many of the pool's snapshots, the newest, and delete the others
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    retain: Option<u16>,
    #[command(flatten)]
    pool: ProjectFlags,
}

pub(super) fn run(places: &PlaceFlags, args: &SnapshotArgs) -> Result<Exit, Failure> {
    let config = with::load(places, &args.pool, &ProvisionFlags::default())?;
    small_runtime()?.block_on(snapshot(&config, args))
}

async fn snapshot(config: &Config, args: &SnapshotArgs) -> Result<Exit, Failure> {
    let pool = &config.places.pool;
    let cloud = Cloud::new(config.cloud.clone()).map_err(with::cloud_failed)?;
    let server = member(&cloud, config, args).await.map_err(with::cloud_failed)?;
    let progress = Progress::new();
    progress.event(Event::Began(format!("make a snapshot of server {}", server.name)));
    let made = match progress.show(timeout(DEADLINE, cloud.snapshot(server.id, pool))).await? {
        Some(Ok(Ok(image))) => image,
        Some(Ok(Err(error))) => return Err(Failure::new(Exit::Failure, format!("failed to {error}"))),
        Some(Err(_)) => {
            let why = format!(
                "failed to make a snapshot of server {}: it is not active after {} s; the same command waits for it again",
                server.name,
                DEADLINE.as_secs()
            );
            return Err(Failure::new(Exit::Failure, why));
        }
        None => {
            let why = format!(
                "interrupted: Nova goes on making the snapshot; the same command waits for it, `{} cleanup --snapshots` removes it",
                with::program(config)
            );
            return Err(Failure::new(Exit::Failure, why));
        }
    };
    progress.event(Event::Done(format!("make a snapshot of server {}: {made}", server.name)));
    out::data(&format!("{made}\n"))?;
    match args.retain {
        Some(keep) => retain(&cloud, config, usize::from(keep)).await,
        None => Ok(Exit::Ok),
    }
}

/// The member that was named; else the primary that the daemon wrote down, or the base.
async fn member(cloud: &Cloud, config: &Config, args: &SnapshotArgs) -> Result<Server, CloudError> {
    if let Some(name) = &args.member {
        return cloud.find_server(name).await;
    }
    let stored = store::peek::<State>(&config.places.state_dir, &config.places.pool).ok().flatten();
    let primary = stored.and_then(|stored| stored.state.members.first().map(|member| member.id));
    if let Some(id) = primary
        && let Some(server) = cloud.server(id).await?
    {
        return Ok(server);
    }
    cloud.find_server(&config.core.base).await
}

/// Keeps the newest `keep` of ours that are active; what is being made or broken counts as none, and what is broken goes.
async fn retain(cloud: &Cloud, config: &Config, keep: usize) -> Result<Exit, Failure> {
    let surplus = cloud.surplus_snapshots(&config.places.pool, keep).await.map_err(|error| {
        Failure::new(Exit::Failure, format!("failed to {error}; no older snapshot was deleted"))
    })?;
    let mut failed = false;
    for image in surplus {
        let name = text::clean(image.name.as_deref().unwrap_or_default());
        match cloud.delete_image(image.id).await {
            Ok(()) => out::talk(&format!("deleted snapshot {name} ({})", image.id)),
            Err(error) => {
                failed = true;
                out::talk(&format!("failed to {error}"));
            }
        }
    }
    Ok(if failed { Exit::Failure } else { Exit::Ok })
}
