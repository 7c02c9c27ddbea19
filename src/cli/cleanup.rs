//! `cleanup`: removes what carries the pool's mark, and nothing else.

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
};

use clap::Args;

use super::{
    out::{self, Failure},
    progress::Progress,
    provision::{self as with, ProjectFlags},
    small_runtime, text,
};
use crate::{
    config::{Config, PlaceFlags, ProvisionFlags},
    core::{ids::PortId, state::State},
    exit::Exit,
    openstack::Cloud,
    provision::{self, Inventory, Item, Pace, Scope},
    store::Store,
    vip::{self, settings::VipMode},
};

#[derive(Debug, Args)]
pub(super) struct CleanupArgs {
    /// Remove the pool's snapshots too
    #[arg(long)]
    snapshots: bool,
    /// Remove security groups, router, subnet and network too
    #[arg(long)]
    network: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    pool: ProjectFlags,
}

pub(super) fn run(places: &PlaceFlags, args: &CleanupArgs) -> Result<Exit, Failure> {
    let config = with::load(places, &args.pool, &ProvisionFlags::default())?;
    // Held to the end, so that no daemon starts meanwhile. Where no daemon ever ran there is nothing to lock.
    let pool = &config.places.pool;
    let store = if config.places.state_dir.exists() {
        let refused = |error: crate::store::StoreError| {
            let why = format!(
                "failed to {error}; nothing was removed: stop the pool's daemon first (`systemctl stop lbsidecar@{pool}`, or Ctrl-C where it runs)"
            );
            Failure::new(error.exit(), why)
        };
        Some(Store::<State>::open(&config.places.state_dir, pool).map_err(refused)?)
    } else {
        None
    };
    small_runtime()?.block_on(cleanup(&config, args, store))
}

async fn cleanup(config: &Config, args: &CleanupArgs, store: Option<Store<State>>) -> Result<Exit, Failure> {
    let pool = &config.places.pool;
    let scope = Scope { snapshots: args.snapshots, network: args.network };
    let cloud = Cloud::new(config.cloud.clone()).map_err(with::cloud_failed)?;
    let found = provision::inventory(&cloud, pool, scope).await.map_err(with::cloud_failed)?;
    out::data(&shown(&found, config))?;
    if found.items.is_empty() {
        return Ok(Exit::Ok);
    }
    if !args.yes && !agreed(found.items.len())? {
        return Err(Failure::new(Exit::Failure, "nothing was removed"));
    }

    // Only while the port exists does Neutron say what it is plugged into.
    let on_linuxbridge =
        cloud.lb_port(pool).await.map_err(with::cloud_failed)?.is_some_and(|port| port.on_linuxbridge);
    let progress = Progress::new();
    let tell = |event| progress.event(event);
    let work = provision::remove(&cloud, &found, Pace::default(), &tell);
    let Some(removed) = progress.show(work).await? else {
        let mut why = format!("interrupted: {} removed", progress.done().len());
        if let Some(current) = progress.current() {
            why += &format!("; under way, and perhaps done: {}", text::clean(&current));
        }
        why += &format!(
            "\nThe same command goes on from here; `{} cleanup` shows what is left.",
            with::program(config)
        );
        return Err(Failure::new(Exit::Failure, why));
    };
    let mut failures: Vec<String> =
        removed.left.iter().map(|(item, why)| format!("{item}: failed to {why}")).collect();
    for item in &removed.gone {
        if let Item::BalancerPort(port) = item
            && let Err(error) = unplug(config, *port, on_linuxbridge).await
        {
            failures.push(format!("the load balancer port's devices on this host: failed to {error}"));
        }
    }
    // Somebody may have made something meanwhile.
    match provision::inventory(&cloud, pool, scope).await {
        Ok(again) => failures.extend(again.items.into_iter().filter_map(|item| {
            let told = removed.left.iter().any(|(left, _)| *left == item);
            (!told).then(|| format!("{item}: it is there all the same; run this again"))
        })),
        Err(error) => failures.push(format!("what is left: failed to {error}")),
    }
    if !failures.is_empty() {
        let list: Vec<String> = failures.iter().map(|why| format!("  {}", text::clean(why))).collect();
        let why = format!("{} removed; left:\n{}", removed.gone.len(), list.join("\n"));
        return Err(Failure::new(Exit::Failure, why));
    }
    if let Some(store) = store {
        // It names VMs that are gone; the next pool of this name begins anew.
        store.forget().map_err(|error| Failure::new(error.exit(), format!("failed to {error}")))?;
    }
    out::data(&format!("Removed: {}.\n", removed.gone.len()))?;
    if let Some(pid) = haproxy(config) {
        out::talk(&format!(
            "the pool's HAProxy (process {pid}) still runs, with nothing behind it: `systemctl stop lbsidecar-haproxy@{pool}`, or `kill {pid}` where no unit runs it, ends it"
        ));
    }
    Ok(Exit::Ok)
}

/// The pool's HAProxy, when it runs: it does not end with the daemon.
fn haproxy(config: &Config) -> Option<u32> {
    let pid =
        std::fs::read_to_string(config.haproxy.run_dir.join("haproxy.pid")).ok()?.trim().parse().ok()?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (name.trim() == "haproxy").then_some(pid)
}

/// What is to go and what stays, for people.
fn shown(found: &Inventory, config: &Config) -> String {
    let pool = &config.places.pool;
    let mut text = if found.items.is_empty() {
        format!("Pool {pool}: nothing to remove.\n")
    } else {
        format!("Pool {pool}: {} to remove.\n", found.items.len())
    };
    for item in &found.items {
        text += &format!("  - {}\n", text::clean(&item.to_string()));
    }
    for item in &found.kept {
        let flag = if matches!(item, Item::Snapshot(..)) { "--snapshots" } else { "--network" };
        text += &format!("  = {} stays ({flag} removes it)\n", text::clean(&item.to_string()));
    }
    if found.items.iter().any(|item| matches!(item, Item::KeyPair(_))) && config.provision.key_file.exists() {
        text += &format!("  = the private key {} stays\n", config.provision.key_file.display());
    }
    text
}

/// Asks at the terminal.
fn agreed(count: usize) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        let why = "there is no terminal to ask at: say --yes to remove all of this; nothing was removed";
        return Err(Failure::new(Exit::Usage, why));
    }
    write!(io::stderr().lock(), "Remove {count}? [y/N] ")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Takes the port's devices off this host, where it was plugged.
async fn unplug(config: &Config, port: PortId, on_linuxbridge: bool) -> Result<(), vip::VipError> {
    match &config.vip.mode {
        VipMode::Port { plug, netns } if Path::new("/run/netns").join(netns).exists() => {
            vip::unplug(netns, port, &plug.of_port(on_linuxbridge)).await
        }
        _ => Ok(()),
    }
}
