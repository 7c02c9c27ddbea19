//! Routers: a namespace with one leg outside and legs into tenant networks; floating IPs on them.

use std::{net::Ipv4Addr, path::Path, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use uuid::Uuid;

use super::{EXTERNAL_BRIDGE, EXTERNAL_PREFIX, HOST, Network, TENANT_MTU, bridge_name, links, nat, short};
use crate::{
    cloud::driver::Router,
    world::tools::{feed, ip, run},
};

/// For how long flows of a floating IP go on after it was led elsewhere.
pub const GRACE: Duration = Duration::from_secs(1);

/// The router's namespace.
fn netns(router: Uuid) -> String {
    format!("qrouter-{router}")
}

/// The external leg inside the router.
fn external_leg(router: Uuid) -> String {
    short("qg-", router)
}

/// Its other end, on the external bridge.
fn external_plug(router: Uuid) -> String {
    short("vqg", router)
}

/// A tenant leg inside the router.
fn tenant_leg(network: Uuid) -> String {
    short("qr-", network)
}

/// Its other end, on the tenant bridge; several routers may have a leg in one network.
fn tenant_plug(router: Uuid, network: Uuid) -> String {
    let (router, network) = (router.simple().to_string(), network.simple().to_string());
    format!("vqr{}{}", router.get(..6).unwrap_or_default(), network.get(..6).unwrap_or_default())
}

impl Network {
    /// Makes a router or brings it to this form.
    ///
    /// # Errors
    ///
    /// What `ip` and `nft` say.
    pub fn router_up(&mut self, router: Router) -> Result<()> {
        let netns = netns(router.id);
        if !Path::new("/run/netns").join(&netns).exists() {
            run("ip", &["netns", "add", &netns])?;
            ip(Some(&netns), &["link set lo up".to_owned()])?;
            run("ip", &["netns", "exec", &netns, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"])?;
        }
        if let Some(old) = self.routers.get(&router.id) {
            for (network, ..) in old.legs.iter().filter(|leg| !router.legs.contains(leg)) {
                links::delete(&tenant_plug(router.id, *network))?;
            }
            if old.external.is_some() && old.external != router.external {
                links::delete(&external_plug(router.id))?;
            }
        }
        if let Some(address) = router.external {
            let (leg, plug) = (external_leg(router.id), external_plug(router.id));
            if !links::exists(&plug)? {
                join(&netns, &leg, &plug, EXTERNAL_BRIDGE, 1500)?;
                // The host is the external subnet's gateway; whether it leads anywhere is the host's business.
                let lines = [
                    format!("address add {address}/{EXTERNAL_PREFIX} dev {leg}"),
                    format!("route replace default via {HOST} dev {leg}"),
                ];
                ip(Some(&netns), &lines)?;
                announce(&netns, &leg, address);
            }
        }
        for (network, address, prefix) in &router.legs {
            let (leg, plug) = (tenant_leg(*network), tenant_plug(router.id, *network));
            if !links::exists(&plug)? {
                join(&netns, &leg, &plug, &bridge_name(*network), TENANT_MTU)?;
                ip(Some(&netns), &[format!("address add {address}/{prefix} dev {leg}")])?;
            }
        }
        let id = router.id;
        self.routers.insert(id, router);
        self.translate(id)?;
        for (floating, (_, at)) in &self.floating {
            if *at == id {
                self.hold(*floating, id)?;
            }
        }
        Ok(())
    }

    /// Removes a router with its legs.
    ///
    /// # Errors
    ///
    /// What `ip` says.
    pub fn router_down(&mut self, router: Uuid) -> Result<()> {
        let Some(old) = self.routers.remove(&router) else { return Ok(()) };
        self.floating.retain(|_, (_, at)| *at != router);
        links::delete(&external_plug(router))?;
        for (network, ..) in old.legs {
            links::delete(&tenant_plug(router, network))?;
        }
        run("ip", &["netns", "delete", &netns(router)])?;
        Ok(())
    }

    /// Makes a floating IP lead to a fixed one, wherever it led before.
    ///
    /// # Errors
    ///
    /// When the router is unknown or has no external leg; what `ip` and `nft` say.
    pub fn associate(&mut self, floating: Ipv4Addr, fixed: Ipv4Addr, router: Uuid) -> Result<()> {
        let external = self.routers.get(&router).and_then(|router| router.external);
        ensure!(external.is_some(), "router {router} has no external address for {floating} to be on");
        if self.floating.get(&floating).is_some_and(|(_, at)| *at != router) {
            self.disassociate(floating)?;
        }
        if let Some((old, at)) = self.floating.insert(floating, (fixed, router))
            && old != fixed
        {
            self.left.push((floating, old, at));
        }
        // The translation first: with the address alone the router itself would answer.
        self.translate(router)?;
        self.hold(floating, router)
    }

    /// Makes a floating IP lead nowhere.
    ///
    /// # Errors
    ///
    /// What `ip` and `nft` say.
    pub fn disassociate(&mut self, floating: Ipv4Addr) -> Result<()> {
        let Some((fixed, router)) = self.floating.remove(&floating) else { return Ok(()) };
        self.left.push((floating, fixed, router));
        ip(Some(&netns(router)), &[format!("address delete {floating}/32 dev {}", external_leg(router))])?;
        self.translate(router)
    }

    /// Cuts the flows of floating IPs that lead elsewhere by now, as the L3 agent does: their entries are deleted. Agents need a moment to get there, so that short requests in
    /// flight come to their end: call it [`GRACE`] after a change.
    ///
    /// # Errors
    ///
    /// What `conntrack` says.
    pub fn cut_old_flows(&mut self) -> Result<()> {
        for (floating, fixed, router) in std::mem::take(&mut self.left) {
            let back = self.floating.get(&floating) == Some(&(fixed, router));
            if !back && self.routers.contains_key(&router) {
                forget_flows(router, floating, fixed)?;
            }
        }
        Ok(())
    }

    /// Puts a floating IP on its router's external leg, when it is not there, and tells the neighbours.
    fn hold(&self, floating: Ipv4Addr, router: Uuid) -> Result<()> {
        let (netns, leg) = (netns(router), external_leg(router));
        ip(Some(&netns), &[format!("address replace {floating}/32 dev {leg}")])?;
        announce(&netns, &leg, floating);
        Ok(())
    }

    /// Writes a router's whole translation in one transaction.
    fn translate(&self, router: Uuid) -> Result<()> {
        let Some(facts) = self.routers.get(&router) else { return Ok(()) };
        let floating: Vec<_> = self
            .floating
            .iter()
            .filter(|(_, (_, at))| *at == router)
            .map(|(floating, (fixed, _))| (*floating, *fixed))
            .collect();
        let rules = nat::rules(&external_leg(router), facts.external, &floating);
        feed("ip", &["netns", "exec", &netns(router), "nft", "-f", "-"], &rules)
            .with_context(|| format!("failed to translate addresses on router {router}"))?;
        Ok(())
    }
}

/// Deletes the entries of flows that came by `floating` and lead to `fixed`. Their next packet begins a new one.
fn forget_flows(router: Uuid, floating: Ipv4Addr, fixed: Ipv4Addr) -> Result<()> {
    let (netns, floating, fixed) = (netns(router), floating.to_string(), fixed.to_string());
    let delete = ["netns", "exec", &netns, "conntrack", "-D", "-d", &floating, "-r", &fixed];
    match run("ip", &delete) {
        // That is an error to it.
        Err(error) if error.to_string().contains("0 flow entries have been deleted") => Ok(()),
        other => other.map(drop),
    }
}

/// Joins a namespace to a bridge by a veth pair.
fn join(netns: &str, leg: &str, plug: &str, bridge: &str, mtu: u16) -> Result<()> {
    ip(
        None,
        &[
            format!("link add {plug} mtu {mtu} type veth peer name {leg} mtu {mtu} netns {netns}"),
            format!("link set {plug} master {bridge} up"),
        ],
    )?;
    ip(Some(netns), &[format!("link set {leg} up")])
}

/// Tells the neighbours who has an address now. Nobody waits for it: it is a courtesy that shortens a switch.
fn announce(netns: &str, leg: &str, address: Ipv4Addr) {
    let arguments: Vec<String> =
        ["netns", "exec", netns, "busybox", "arping", "-q", "-A", "-c", "1", "-I", leg]
            .into_iter()
            .map(str::to_owned)
            .chain([address.to_string()])
            .collect();
    thread::spawn(move || run("ip", &arguments));
}
