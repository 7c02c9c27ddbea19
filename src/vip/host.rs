//! `host` mode: the host itself holds the service address, as a /32 on the interface of the external network.
//!
//! The order around it is the caller's: to take an address over, first [`add`], then let go of it where it was, then
//! [`announce`]; to give it back, first associate it there, then [`remove`].

use std::{io, net::Ipv4Addr, os::fd::AsRawFd};

use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket},
};

use super::{
    arp::{Operation, announcement},
    error::{Rights, VipError, system},
    link::Link,
    mac::Mac,
    netlink::Netlink,
    plug::blocking,
};

/// Whether `interface` holds `address`, by whatever prefix.
///
/// # Errors
/// [`VipError`], of kind `NotFound` when there is no such interface.
pub async fn present(interface: &str, address: Ipv4Addr) -> Result<bool, VipError> {
    let task = Task::new(interface, address);
    blocking(move || {
        let (mut netlink, link) = task.open()?;
        let held = netlink.addresses(link.index).map_err(task.failed("look for"))?;
        Ok(held.iter().any(|(ip, _)| *ip == task.address))
    })
    .await
}

/// Lets `interface` hold `address`/32; no error when it does.
///
/// # Errors
/// [`VipError`]: no such interface, or no rights.
pub async fn add(interface: &str, address: Ipv4Addr) -> Result<(), VipError> {
    let task = Task::new(interface, address);
    blocking(move || {
        let (mut netlink, link) = task.open()?;
        netlink.add_address(link.index, task.address, 32).map_err(task.failed("add"))
    })
    .await
}

/// Takes `address`/32 off `interface`; no error when it is not there. The same address with another prefix is not ours and stays.
///
/// # Errors
/// [`VipError`]: no such interface, or no rights.
pub async fn remove(interface: &str, address: Ipv4Addr) -> Result<(), VipError> {
    let task = Task::new(interface, address);
    blocking(move || {
        let (mut netlink, link) = task.open()?;
        netlink.delete_address(link.index, task.address, 32).map_err(task.failed("remove"))
    })
    .await
}

/// Tells everybody on the interface's network that `address` is here, once as a request and once as a reply. A frame may be
/// lost, so repeat it a few times some hundred milliseconds apart.
///
/// # Errors
/// [`VipError`]: no such interface, one without hardware address, or no rights.
pub async fn announce(interface: &str, address: Ipv4Addr) -> Result<(), VipError> {
    let task = Task::new(interface, address);
    blocking(move || send_announcement(&task.interface, task.address).map_err(task.failed("announce"))).await
}

fn send_announcement(interface: &str, address: Ipv4Addr) -> io::Result<()> {
    // The list of interfaces gives each one's link-layer address in the very form that a packet socket wants.
    let to: LinkAddr = getifaddrs()?
        .filter(|found| found.interface_name == interface)
        .find_map(|found| found.address?.as_link_addr().copied())
        .ok_or(nix::errno::Errno::ENODEV)?;
    let mac = Mac(to.addr().filter(|mac| *mac != [0; 6]).ok_or(nix::errno::Errno::EAFNOSUPPORT)?);
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    for operation in [Operation::Request, Operation::Reply] {
        sendto(socket.as_raw_fd(), &announcement(mac, address, operation), &to, MsgFlags::empty())?;
    }
    Ok(())
}

struct Task {
    interface: String,
    address: Ipv4Addr,
}

impl Task {
    fn new(interface: &str, address: Ipv4Addr) -> Self {
        Self { interface: interface.to_owned(), address }
    }

    fn open(&self) -> Result<(Netlink, Link), VipError> {
        let mut netlink = Netlink::open().map_err(self.failed("look for"))?;
        let link = netlink.link(&self.interface).map_err(self.failed("look for"))?;
        let link = link.ok_or_else(|| self.failed("look for")(nix::errno::Errno::ENODEV.into()))?;
        Ok((netlink, link))
    }

    fn failed(&self, operation: &'static str) -> impl FnOnce(io::Error) -> VipError + use<> {
        system(operation, format!("address {} on {}", self.address, self.interface), Rights::Address)
    }
}
