//! What the pool's VMs are at Nova, as the core's facts.

use crate::{
    core::{
        cloud::ServerFacts,
        ids::{PoolName, ServerId},
    },
    openstack::{Cloud, CloudError, Reach, Server},
};

/// Everything that carries the pool's mark, and every server in `known`, with status `Deleted` for those that are gone.
///
/// # Errors
/// When Nova does not answer; then nothing is said about any server.
pub(super) async fn observe(
    cloud: &Cloud,
    reach: &Reach,
    pool: &PoolName,
    known: &[ServerId],
) -> Result<Vec<ServerFacts>, CloudError> {
    let ours = |s: &Server| known.contains(&s.id) || s.mark().is_some_and(|mark| mark.pool == *pool);
    let servers = cloud.servers_where(ours).await?;
    let mut facts: Vec<ServerFacts> = servers.iter().map(|server| server.facts(reach)).collect();
    for id in known {
        if facts.iter().any(|f| f.id == *id) {
            continue;
        }
        // A list may lag behind; only the server's own page says that it is gone.
        facts.push(match cloud.server(*id).await? {
            Some(server) => server.facts(reach),
            None => ServerFacts::gone(*id),
        });
    }
    Ok(facts)
}
