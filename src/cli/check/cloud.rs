//! What `run` needs of the cloud: a token, the services, the base, room for a clone, the service address.

use super::{Config, Exit, Failure, Report, State, guest};
use crate::{
    cli::ssh::SshArgs,
    core::event::VipSeen,
    daemon::{self, ServiceAddress},
    guests::DomainSeen,
    host,
    openstack::{Cloud, Room, Server},
    vip,
};

/// Looks at all of it, as far as one thing lets the next be looked at.
pub(super) async fn look(
    report: &mut Report,
    config: &Config,
    state: Option<&State>,
    domains: Option<&[DomainSeen]>,
    ssh: Option<&SshArgs>,
) -> Result<(), Failure> {
    let cloud = match Cloud::new(config.cloud.clone()) {
        Ok(cloud) => cloud,
        Err(error) => return report.fail("keystone", error.kind().into(), format!("failed to {error}")),
    };
    if !services(report, &cloud).await? {
        return Ok(());
    }
    installation(report, &cloud).await?;
    let Some(base) = base(report, config, &cloud, state).await? else { return Ok(()) };
    domain(report, &base, domains)?;
    let kept = state.and_then(|state| state.service_address);
    let address = ServiceAddress::new(cloud.clone(), config.vip.clone(), &config.haproxy).stored(kept);
    service_address(report, config, &address, &base).await?;
    room(report, config, &cloud, &address, &base).await?;
    match ssh {
        Some(ssh) => guest::look(report, config, &cloud, &base, ssh).await,
        None => Ok(()),
    }
}

/// A token, and one harmless question to each service.
async fn services(report: &mut Report, cloud: &Cloud) -> Result<bool, Failure> {
    let found = match cloud.services().await {
        Ok(found) => found,
        Err(error) => {
            report.fail("keystone", error.kind().into(), format!("failed to {error}"))?;
            return Ok(false);
        }
    };
    let who = &found.identity;
    report
        .ok("keystone", format!("user {} in project {} ({})", who.user, who.project, who.roles.join(", ")))?;
    let mut all = true;
    for service in found.services {
        match service.answer {
            Ok(answer) => {
                report.ok(service.service.kind(), format!("{}, version {}", answer.url, answer.version))?;
            }
            Err(error) => {
                all = false;
                report.fail(service.service.kind(), error.kind().into(), format!("failed to {error}"))?;
            }
        }
    }
    Ok(all)
}

/// What servers are made of. A pool that runs needs none of it until it makes a clone.
async fn installation(report: &mut Report, cloud: &Cloud) -> Result<(), Failure> {
    const MANY: usize = 8;
    let list = |mut names: Vec<String>| {
        let more = names.len().saturating_sub(MANY);
        names.truncate(MANY);
        let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
        format!("{}{rest}", names.join(", "))
    };
    let images = cloud.active_images().await.map(|images| {
        images.into_iter().map(|image| image.name.unwrap_or_else(|| image.id.to_string())).collect()
    });
    let networks =
        cloud.networks_outside().await.map(|all| all.into_iter().map(|network| network.name).collect());
    for (about, found, none) in [
        ("images", images, "there is none that a server could boot from: `openstack image create`"),
        ("flavors", cloud.flavor_names().await, "there is none: `openstack flavor create`"),
        (
            "external",
            networks,
            "there is no external network, so no floating IP: `openstack network create --external`",
        ),
    ] {
        match found {
            Ok(names) if names.is_empty() => report.warn(about, none)?,
            Ok(names) => report.ok(about, list(names))?,
            Err(error) => report.warn(about, format!("failed to {error}"))?,
        }
    }
    Ok(())
}

/// The VM that the pool has as its base now: the first stored member, or the one that the operator named.
async fn base(
    report: &mut Report,
    config: &Config,
    cloud: &Cloud,
    state: Option<&State>,
) -> Result<Option<Server>, Failure> {
    let stored = state.and_then(|state| state.members.first()).map(|member| member.id.to_string());
    let found = match cloud.find_server(stored.as_ref().unwrap_or(&config.core.base)).await {
        Ok(found) => found,
        Err(error) => {
            report.fail("base", error.kind().into(), format!("failed to {}", daemon::no_base(error)))?;
            return Ok(None);
        }
    };
    match daemon::fit(&found) {
        Ok(()) => report.ok("base", format!("{} ({}) is ACTIVE", found.name, found.id))?,
        // A pool that has served before goes on with what it has.
        Err(error) if stored.is_some() => report.warn("base", format!("failed to {error}"))?,
        Err(error) => report.fail("base", error.exit(), format!("failed to {error}"))?,
    }
    Ok(Some(found))
}

/// Whether the base's CPU can be read here.
fn domain(report: &mut Report, base: &Server, domains: Option<&[DomainSeen]>) -> Result<(), Failure> {
    // Why there are none was told.
    let Some(domains) = domains else { return Ok(()) };
    match domains.iter().find(|domain| domain.server == base.id) {
        Some(domain) => report.ok("base", format!("its CPU can be read: domain {}", domain.name)),
        None => {
            let host = base.host.as_ref().map_or_else(String::new, |host| format!(", Nova has it on {host}"));
            report.fail(
                "base",
                Exit::Unavailable,
                format!(
                    "libvirt does not know {} here{host}: run on that host, or name its libvirt with --libvirt-uri",
                    base.name
                ),
            )
        }
    }
}

/// Which address it is, where it leads, and whether its port is plugged.
async fn service_address(
    report: &mut Report,
    config: &Config,
    address: &ServiceAddress,
    base: &Server,
) -> Result<(), Failure> {
    const VIP: &str = "vip";
    let floating_ip = match address.look(Some(base)).await {
        Ok(Some(floating_ip)) => floating_ip,
        Ok(None) => return report.ok(VIP, "static: nothing is moved"),
        Err(error) => {
            return report.fail(VIP, error.kind().into(), format!("failed to {error}"));
        }
    };
    if address.found().is_none() {
        let from = if floating_ip.port.is_some() { "the base" } else { "nobody" };
        return report.ok(
            VIP,
            format!(
                "{} is with {from}; `run` makes the load balancer port and moves it there",
                floating_ip.address
            ),
        );
    }
    let place = match address.seen().await {
        VipSeen::Ours => "with us".to_owned(),
        VipSeen::Free => "with nobody; `run` takes it".to_owned(),
        VipSeen::Elsewhere(_) => format!("with {}; `run` moves it to the load balancer port", base.name),
        VipSeen::Unknown(why) => {
            return report.warn(VIP, format!("where {} is, is not known: {why}", floating_ip.address));
        }
    };
    report.ok(VIP, format!("{} is {place}", floating_ip.address))?;
    let plugged = match daemon::plug_spec(address, &config.vip) {
        Ok(Some(spec)) => vip::plugged(&spec).await,
        Ok(None) => return Ok(()),
        Err(error) => {
            return report.fail(VIP, error.exit(), format!("failed to {error}"));
        }
    };
    match plugged {
        Ok(state) if state.is_good() && state.unseen.is_empty() => report.ok(VIP, "its port is plugged"),
        Ok(state) if state.is_good() => report.warn(
            VIP,
            format!("its port is plugged as far as this user can see: {}", state.unseen.join("; ")),
        ),
        Ok(state) if nix::unistd::geteuid().is_root() => {
            report.ok(VIP, format!("`run` plugs its port: {}", state.differs.join("; ")))
        }
        Ok(state) => report.fail(
            VIP,
            Exit::NoPermission,
            format!(
                "its port must be plugged by root once ({}): run `check` and `run` as root",
                state.differs.join("; ")
            ),
        ),
        Err(error) => report.fail(
            VIP,
            error.kind().into(),
            format!("failed to look at the load balancer port: {error}"),
        ),
    }
}

/// Whether a clone would have room; the pool can be run without, and is then not scaled out.
async fn room(
    report: &mut Report,
    config: &Config,
    cloud: &Cloud,
    address: &ServiceAddress,
    base: &Server,
) -> Result<(), Failure> {
    const ROOM: &str = "room";
    let core = &config.core;
    let needed = match cloud.room_for(base.id, &core.clone_spec, &address.reach()).await {
        Ok(Room::Enough { memory_mib }) => memory_mib.saturating_add(core.guards.reserve_memory_mib),
        Ok(Room::None(why)) => return report.warn(ROOM, format!("no scale-out is possible now: {why}")),
        Err(error) => return report.fail(ROOM, error.kind().into(), format!("failed to {error}")),
    };
    match host::memory_available_mib() {
        Ok(available) if available < needed => report.warn(
            ROOM,
            format!("no scale-out is possible now: the host has {available} MiB of memory left, a clone and the reserve need {needed} MiB"),
        )?,
        Ok(_) | Err(_) => report.ok(ROOM, "the quotas and the host's memory have room for a clone")?,
    }
    match cloud.servers_named(&core.clone).await {
        Ok(servers) => {
            let ours = |server: &Server| server.mark().is_some_and(|mark| mark.pool == core.pool);
            if let Some(stranger) = servers.iter().find(|server| !ours(server)) {
                report.warn(
                    ROOM,
                    format!(
                        "a server named {} exists already ({}), and it is not ours: rename or delete it, or choose another --clone",
                        core.clone, stranger.id
                    ),
                )?;
            }
            Ok(())
        }
        Err(error) => report.fail(ROOM, error.kind().into(), format!("failed to {error}")),
    }
}
