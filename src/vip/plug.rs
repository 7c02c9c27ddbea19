//! A Neutron port on this host: a pair of links, one end in the load balancer's own namespace with the port's hardware
//! address, address and routes, the other end on the switch.
//!
//! ```text
//!  namespace lbsidecar-<pool>                 host
//!  ┌────────────────────────────┐     ┌─────────────────────────────────────────────────────────┐
//!  │ HAProxy ── lb0 ────────────┼─────┼── tap<port id, 11> ── br-int        (OVN, Open vSwitch)  │
//!  │            port's MAC, IP  │     │                    └─ brq…  (linuxbridge: agent does it) │
//!  └────────────────────────────┘     └─────────────────────────────────────────────────────────┘
//! ```
//! A pair of links and not an internal port of Open vSwitch: that one is lost when the switch restarts.

use std::{fs, io, net::Ipv4Addr, os::fd::AsFd};

use tokio::task::spawn_blocking;

use super::{
    error::{Rights, VipError, system},
    link::{LinkChange, Pair},
    mac::Mac,
    netlink::Netlink,
    netns,
    ovs::{self, Switch},
    settings::Plug,
};
use crate::core::ids::PortId;

/// The device's name inside the namespace.
pub const INSIDE: &str = "lb0";

/// What is to be plugged where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlugSpec {
    /// The namespace's name, under `/run/netns`.
    pub netns: String,
    /// The port.
    pub port: PortId,
    /// Its hardware address.
    pub mac: Mac,
    /// Its fixed address.
    pub address: Ipv4Addr,
    /// The subnet's prefix length.
    pub prefix: u8,
    /// The subnet's gateway; floating IPs arrive through it, so answers leave through it.
    pub gateway: Ipv4Addr,
    /// The network's MTU.
    pub mtu: u32,
    /// How to plug.
    pub plug: Plug,
}

impl PlugSpec {
    /// The host's end: the name by which Neutron's linuxbridge agent finds a port's device.
    #[must_use]
    pub fn device(&self) -> String {
        device(self.port)
    }
}

fn device(port: PortId) -> String {
    format!("tap{}", port.to_string().get(..11).unwrap_or_default())
}

/// How a plug compares with its specification.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlugState {
    /// What differs, each in words; empty when nothing does.
    pub differs: Vec<String>,
    /// What could not be looked at for want of rights, each in words.
    pub unseen: Vec<String>,
}

impl PlugState {
    /// Whether everything that could be seen is as specified.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.differs.is_empty()
    }
}

/// Makes the host agree with `spec`: what is right is left alone, so that traffic goes on; what differs is mended.
///
/// # Errors
/// [`VipError`]; what was done until then stays and a repetition goes on from there. [`VipError::Differs`] when it does not hold.
pub async fn plug(spec: &PlugSpec) -> Result<(), VipError> {
    let switch = Switch::of(&spec.plug).await?;
    let wanted = spec.clone();
    let on_ovs = matches!(switch, Switch::Ovs(_));
    blocking(move || set_links(&wanted, on_ovs)).await?;
    if let Switch::Ovs(command) = &switch {
        ovs::add_port(command, &spec.device(), spec).await?;
    }
    let state = plugged(spec).await?;
    if state.is_good() {
        Ok(())
    } else {
        Err(VipError::Differs { port: spec.port.to_string(), differs: state.differs.join(", ") })
    }
}

/// Compares the host with `spec`. Without root only the host's end is seen.
///
/// # Errors
/// [`VipError`] when the host cannot be looked at at all.
pub async fn plugged(spec: &PlugSpec) -> Result<PlugState, VipError> {
    let wanted = spec.clone();
    let mut state = blocking(move || compare(&wanted)).await?;
    match Switch::of(&spec.plug).await {
        Ok(Switch::Ovs(command)) => {
            let mut asked = vec![ovs::differences(&command, &spec.device(), spec).await];
            if state.unseen.is_empty() && state.is_good() {
                asked.push(ovs::offload_differences(&command, spec).await);
            }
            for answer in asked {
                match answer {
                    Ok(differs) => state.differs.extend(differs),
                    Err(error) => state.unseen.push(error.to_string()),
                }
            }
        }
        Ok(Switch::LinuxBridge) => {}
        Err(error) => state.unseen.push(error.to_string()),
    }
    Ok(state)
}

/// Removes the port's devices and the namespace's name; what is not there is no error, and one failure does not keep the rest.
///
/// # Errors
/// All failures together.
pub async fn unplug(netns: &str, port: PortId, plug: &Plug) -> Result<(), VipError> {
    let device = device(port);
    let mut errors = Vec::new();
    // The switch first: a port whose device is gone stays in its database.
    match Switch::of(plug).await {
        Ok(Switch::Ovs(command)) => errors.extend(ovs::delete_port(&command, &device).await.err()),
        Ok(Switch::LinuxBridge) => {}
        Err(error) => errors.push(error),
    }
    let path = netns::path(netns);
    let removed = blocking(move || {
        let link = Netlink::open()
            .and_then(|mut host| host.link(&device)?.map_or(Ok(()), |link| host.delete_link(link.index)))
            .map_err(system("delete device", &device, Rights::Plug));
        let name =
            netns::remove(&path).map_err(system("remove network namespace", path.display(), Rights::Plug));
        Ok(link.err().into_iter().chain(name.err()).collect::<Vec<_>>())
    })
    .await?;
    errors.extend(removed);
    VipError::collect(errors)
}

fn set_links(spec: &PlugSpec, on_ovs: bool) -> Result<(), VipError> {
    let device = spec.device();
    let path = netns::path(&spec.netns);
    let in_ns = |what: &str| format!("{what} in namespace {}", spec.netns);
    netns::create(&path).map_err(system("make network namespace", path.display(), Rights::Plug))?;
    let mut host = Netlink::open().map_err(system("open", "a netlink socket", Rights::Plug))?;
    let mut inner =
        Netlink::open_in(&path).map_err(system("enter network namespace", path.display(), Rights::Plug))?;

    let pair = (|| {
        if let Some(pair) = find_pair(&mut host, &mut inner, &device)? {
            return Ok(pair);
        }
        // Half a pair, or one whose other end is elsewhere, is left over from another port or a namespace that is gone.
        if let Some(link) = host.link(&device)? {
            host.delete_link(link.index)?;
        }
        if let Some(link) = inner.link(INSIDE)? {
            inner.delete_link(link.index)?;
        }
        let namespace = fs::File::open(&path)?;
        let pair = Pair { outside: &device, inside: INSIDE, mac: spec.mac, mtu: spec.mtu };
        host.create_pair(&pair, namespace.as_fd())?;
        find_pair(&mut host, &mut inner, &device)?.ok_or_else(|| io::Error::other("it is gone again"))
    })();
    let (outside, inside) = pair.map_err(system("make device", &device, Rights::Plug))?;

    if on_ovs {
        quiet(&device).map_err(system("set", format!("arp_ignore of {device}"), Rights::Plug))?;
    }
    host.set_up(outside, &LinkChange { mac: None, mtu: Some(spec.mtu) }).map_err(system(
        "set up device",
        &device,
        Rights::Plug,
    ))?;
    (|| {
        if let Some(lo) = inner.link("lo")? {
            inner.set_up(lo.index, &LinkChange::default())?;
        }
        inner.set_up(inside, &LinkChange { mac: Some(spec.mac), mtu: Some(spec.mtu) })
    })()
    .map_err(system("set up device", in_ns(INSIDE), Rights::Plug))?;

    let wanted = (spec.address, spec.prefix);
    (|| {
        let present = inner.addresses(inside)?;
        if !present.contains(&wanted) {
            inner.add_address(inside, wanted.0, wanted.1)?;
        }
        present
            .into_iter()
            .filter(|a| *a != wanted)
            .try_for_each(|(ip, prefix)| inner.delete_address(inside, ip, prefix))
    })()
    .map_err(system(
        "set address",
        format!("{}/{} of {}", wanted.0, wanted.1, in_ns(INSIDE)),
        Rights::Plug,
    ))?;
    inner.set_default_gateway(inside, spec.gateway).map_err(system(
        "set default route",
        in_ns(&format!("by {}", spec.gateway)),
        Rights::Plug,
    ))
}

/// Both ends' indexes, when they are the ends of one pair.
fn find_pair(host: &mut Netlink, inner: &mut Netlink, device: &str) -> io::Result<Option<(u32, u32)>> {
    let (outside, inside) = (host.link(device)?, inner.link(INSIDE)?);
    Ok(outside
        .zip(inside)
        .filter(|(o, i)| i.peer == Some(o.index) && o.peer == Some(i.index))
        .map(|(o, i)| (o.index, i.index)))
}

/// With Open vSwitch's userspace datapath the kernel sees the frames on the host's end too, and must not answer for the host.
fn quiet(device: &str) -> io::Result<()> {
    fs::write(arp_ignore(device), "8")
}

fn arp_ignore(device: &str) -> String {
    format!("/proc/sys/net/ipv4/conf/{device}/arp_ignore")
}

fn compare(spec: &PlugSpec) -> Result<PlugState, VipError> {
    let device = spec.device();
    let path = netns::path(&spec.netns);
    let mut state = PlugState::default();
    let mut differs = |wrong: bool, text: String| {
        if wrong {
            state.differs.push(text);
        }
    };
    let look = |what: &str| system::<io::Error>("look at", what.to_owned(), Rights::Plug);
    let mut host = Netlink::open().map_err(look("the host's links"))?;
    let outside = host.link(&device).map_err(look(&device))?;
    differs(outside.is_none(), format!("{device} is missing"));
    if let Some(link) = &outside {
        differs(!link.up, format!("{device} is down"));
        differs(link.mtu != spec.mtu, format!("{device} has MTU {} instead of {}", link.mtu, spec.mtu));
    }
    if !netns::exists(&path).map_err(look(&spec.netns))? {
        differs(true, format!("namespace {} is missing", spec.netns));
        return Ok(state);
    }
    let mut inner = match Netlink::open_in(&path) {
        Ok(inner) => inner,
        Err(error) => {
            state.unseen.push(format!("the inside of namespace {}: {error}", spec.netns));
            return Ok(state);
        }
    };
    let here = |what: String| format!("in namespace {}: {what}", spec.netns);
    let lo = inner.link("lo").map_err(look("lo"))?;
    differs(!lo.is_some_and(|lo| lo.up), here("lo is down".to_owned()));
    let Some(link) = inner.link(INSIDE).map_err(look(INSIDE))? else {
        differs(true, here(format!("{INSIDE} is missing")));
        return Ok(state);
    };
    differs(
        link.peer != outside.map(|o| o.index),
        here(format!("{INSIDE} is not the other end of {device}")),
    );
    differs(!link.up, here(format!("{INSIDE} is down")));
    differs(link.mtu != spec.mtu, here(format!("{INSIDE} has MTU {} instead of {}", link.mtu, spec.mtu)));
    let mac = link.mac.map_or_else(|| "none".to_owned(), |mac| mac.to_string());
    differs(
        link.mac != Some(spec.mac),
        here(format!("{INSIDE} has hardware address {mac} instead of {}", spec.mac)),
    );
    let addresses = inner.addresses(link.index).map_err(look(INSIDE))?;
    let listed = addresses.iter().map(|(ip, prefix)| format!("{ip}/{prefix}")).collect::<Vec<_>>().join(" ");
    differs(
        addresses != [(spec.address, spec.prefix)],
        here(format!("{INSIDE} has addresses [{listed}] instead of {}/{}", spec.address, spec.prefix)),
    );
    let gateway = inner.default_gateway(link.index).map_err(look(INSIDE))?;
    differs(
        gateway != Some(spec.gateway),
        here(format!("the default gateway is {gateway:?} instead of {}", spec.gateway)),
    );
    Ok(state)
}

/// Runs `job` where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> Result<T, VipError> + Send + 'static,
) -> Result<T, VipError> {
    let joined = spawn_blocking(job).await.map_err(io::Error::other);
    joined.map_err(system("finish", "an operation on links and addresses", Rights::Plug))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_is_named_as_the_agent_expects() {
        let port: PortId = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9".parse().unwrap();
        // 14 characters: one less than the kernel's limit.
        assert_eq!(device(port), "tap0a1b2c3d-4e");
    }
}
