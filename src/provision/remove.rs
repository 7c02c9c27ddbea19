//! Removes what an inventory names, one after the other; a failure does not keep the rest.

use tokio::time::{sleep, timeout};
use tracing::warn;

use super::{
    apply::Pace,
    inventory::{Inventory, Item},
    progress::{Event, Progress},
};
use crate::{
    core::cloud::{FailureKind, ServerStatus},
    openstack::{
        Cloud, CloudError,
        resources::{Group, Network, Router, Rule, Subnet},
    },
};

/// What came of it.
#[derive(Debug, Default)]
pub struct Removed {
    /// What is gone.
    pub gone: Vec<Item>,
    /// What is left, and why, with what to do.
    pub left: Vec<(Item, String)>,
}

/// Removes everything in `inventory.items`.
pub async fn remove(cloud: &Cloud, inventory: &Inventory, pace: Pace, progress: Progress<'_>) -> Removed {
    let mut removed = Removed::default();
    for item in &inventory.items {
        progress(Event::Began(format!("delete {item}")));
        match patiently(cloud, item, pace, progress).await {
            Ok(()) => {
                progress(Event::Done(format!("delete {item}")));
                removed.gone.push(item.clone());
            }
            Err(why) => {
                progress(Event::Failed(format!("delete {item}")));
                removed.left.push((item.clone(), why));
            }
        }
    }
    removed
}

/// Tries as often as it takes: a server's port, for example, is gone some time after the server.
async fn patiently(cloud: &Cloud, item: &Item, pace: Pace, progress: Progress<'_>) -> Result<(), String> {
    let mut made = 0;
    loop {
        made += 1;
        let error = match delete(cloud, item).await {
            Ok(()) => break,
            Err(error) => error,
        };
        let may_go_away =
            matches!(error.kind(), FailureKind::Conflict | FailureKind::Transient | FailureKind::Unknown);
        if !may_go_away || made >= pace.tries {
            let advice = advice(item, &error).map(|advice| format!("; {advice}")).unwrap_or_default();
            return Err(format!("{error}{advice}"));
        }
        warn!(%item, %error, attempt = made, "it is tried again");
        progress(Event::Again(format!("delete {item}: {error}")));
        sleep(pace.look).await;
    }
    // Nova says yes at once, and what hangs on a server is free only when it is gone.
    let Item::Server(id, _) = item else { return Ok(()) };
    let gone = async {
        loop {
            match cloud.server(*id).await {
                Ok(None) => return,
                Ok(Some(server)) if server.status() == ServerStatus::Deleted => return,
                Ok(Some(_)) => {}
                Err(error) => warn!(%item, %error, "it is looked at again"),
            }
            sleep(pace.look).await;
        }
    };
    timeout(pace.server, gone).await.map_err(|_| {
        format!(
            "it is not gone after {} s: look at it with `openstack server show {id}`, then run this again",
            pace.server.as_secs()
        )
    })
}

async fn delete(cloud: &Cloud, item: &Item) -> Result<(), CloudError> {
    match item {
        Item::FloatingIp(id, _) => cloud.release_floating_ip(*id).await,
        Item::Server(id, _) => cloud.delete(*id).await,
        Item::BalancerPort(id) => cloud.delete_port(*id).await,
        Item::Snapshot(id, _) => cloud.delete_image(*id).await,
        Item::KeyPair(name) => cloud.delete_key_pair(name).await,
        Item::Rule(id, group) => cloud.remove::<Rule>(*id, &format!("{id} of {group}")).await,
        Item::Leg(router, subnet, _) => cloud.detach_subnet(*router, *subnet).await,
        Item::Router(id, name) => cloud.remove::<Router>(*id, name).await,
        Item::Subnet(id, name) => cloud.remove::<Subnet>(*id, name).await,
        Item::Network(id, name) => cloud.remove::<Network>(*id, name).await,
        Item::Group(id, name) => cloud.remove::<Group>(*id, name).await,
    }
}

fn advice(item: &Item, error: &CloudError) -> Option<String> {
    if error.kind() != FailureKind::Conflict {
        return None;
    }
    Some(match item {
        Item::Network(id, _) => format!(
            "something that is not ours is in it: `openstack port list --network {id}` shows what, remove that and run this again"
        ),
        Item::Subnet(id, _) => format!(
            "something that is not ours has an address of it: `openstack port list --fixed-ip subnet={id}` shows what, remove that and run this again"
        ),
        Item::Router(id, _) => format!(
            "it serves something that is not ours: `openstack port list --router {id}` shows what, detach that and run this again"
        ),
        Item::Leg(..) => {
            "a floating IP that is not ours needs it: `openstack floating ip list` shows which, release or move it and run this again".to_owned()
        }
        Item::Group(id, _) => format!(
            "a port that is not ours has it: `openstack port list --security-group {id}` shows which, take it off there and run this again"
        ),
        Item::BalancerPort(_) | Item::Server(..) | Item::Snapshot(..) => {
            "it is in use or locked: wait or unlock it, and run this again".to_owned()
        }
        Item::FloatingIp(..) | Item::KeyPair(_) | Item::Rule(..) => return None,
    })
}
