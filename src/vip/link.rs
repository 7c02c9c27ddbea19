//! Links, IPv4 addresses and the default route of one namespace, by netlink.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsRawFd, BorrowedFd},
};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage as Message,
    address::{AddressAttribute, AddressMessage},
    link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};
use nix::errno::Errno;

use super::{mac::Mac, netlink::Netlink};

/// What is known of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) up: bool,
    pub(super) mac: Option<Mac>,
    pub(super) mtu: u32,
    /// The other end of a pair: its index in the namespace that it is in.
    pub(super) peer: Option<u32>,
}

/// The changes to a link; `None` leaves a thing as it is.
#[derive(Debug, Default)]
pub(super) struct LinkChange {
    pub(super) mac: Option<Mac>,
    pub(super) mtu: Option<u32>,
}

/// The two ends of a pair that is to be made.
pub(super) struct Pair<'a> {
    pub(super) outside: &'a str,
    pub(super) inside: &'a str,
    pub(super) mac: Mac,
    pub(super) mtu: u32,
}

impl Netlink {
    /// The link of this name, if there is one.
    pub(super) fn link(&mut self, name: &str) -> io::Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let answers = match self.call(Message::GetLink(message), 0) {
            Err(error) if error.raw_os_error() == Some(Errno::ENODEV as i32) => return Ok(None),
            other => other?,
        };
        Ok(answers.into_iter().find_map(|answer| match answer {
            Message::NewLink(link) => Some(describe(&link)),
            _ => None,
        }))
    }

    /// Makes a pair of links: one end here, the other in the namespace `there`.
    pub(super) fn create_pair(&mut self, pair: &Pair<'_>, there: BorrowedFd<'_>) -> io::Result<()> {
        let mut peer = LinkMessage::default();
        peer.attributes = vec![
            LinkAttribute::IfName(pair.inside.to_owned()),
            LinkAttribute::Address(pair.mac.0.to_vec()),
            LinkAttribute::Mtu(pair.mtu),
            LinkAttribute::NetNsFd(there.as_raw_fd()),
        ];
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(pair.outside.to_owned()),
            LinkAttribute::Mtu(pair.mtu),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ];
        self.call(Message::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)?;
        Ok(())
    }

    /// Sets a link up, with these changes.
    pub(super) fn set_up(&mut self, index: u32, change: &LinkChange) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes.extend(change.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
        message.attributes.extend(change.mtu.map(LinkAttribute::Mtu));
        self.call(Message::SetLink(message), 0)?;
        Ok(())
    }

    /// Deletes a link; the other end of a pair goes with it.
    pub(super) fn delete_link(&mut self, index: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.call(Message::DelLink(message), 0)?;
        Ok(())
    }

    /// The IPv4 addresses of a link with their prefix lengths.
    pub(super) fn addresses(&mut self, index: u32) -> io::Result<Vec<(Ipv4Addr, u8)>> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        let answers = self.dump(&Message::GetAddress(message))?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                Message::NewAddress(a) if a.header.index == index => {
                    let local = a.attributes.iter().find_map(|attribute| match attribute {
                        AddressAttribute::Local(IpAddr::V4(ip)) => Some(*ip),
                        _ => None,
                    })?;
                    Some((local, a.header.prefix_len))
                }
                _ => None,
            })
            .collect())
    }

    /// Adds an address; no error when it is there.
    pub(super) fn add_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let message = Message::NewAddress(address_message(index, address, prefix));
        self.call(message, NLM_F_CREATE | NLM_F_REPLACE)?;
        Ok(())
    }

    /// Removes an address; no error when it is not there.
    pub(super) fn delete_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        match self.call(Message::DelAddress(address_message(index, address, prefix)), 0) {
            Err(error) if error.raw_os_error() != Some(Errno::EADDRNOTAVAIL as i32) => Err(error),
            _ => Ok(()),
        }
    }

    /// The gateway of the IPv4 default route over a link.
    pub(super) fn default_gateway(&mut self, index: u32) -> io::Result<Option<Ipv4Addr>> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        let answers = self.dump(&Message::GetRoute(message))?;
        Ok(answers.into_iter().find_map(|answer| match answer {
            Message::NewRoute(r)
                if r.header.destination_prefix_length == 0
                    && r.header.table == RouteHeader::RT_TABLE_MAIN
                    && r.attributes.contains(&RouteAttribute::Oif(index)) =>
            {
                r.attributes.iter().find_map(|attribute| match attribute {
                    RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => Some(*gateway),
                    _ => None,
                })
            }
            _ => None,
        }))
    }

    /// Sets the IPv4 default route, in place of another one.
    pub(super) fn set_default_gateway(&mut self, index: u32, gateway: Ipv4Addr) -> io::Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = RouteScope::Universe;
        message.header.kind = RouteType::Unicast;
        message.attributes =
            vec![RouteAttribute::Gateway(RouteAddress::Inet(gateway)), RouteAttribute::Oif(index)];
        self.call(Message::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)?;
        Ok(())
    }
}

fn address_message(index: u32, address: Ipv4Addr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.index = index;
    message.header.prefix_len = prefix;
    message.attributes =
        vec![AddressAttribute::Local(IpAddr::V4(address)), AddressAttribute::Address(IpAddr::V4(address))];
    message
}

fn describe(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        mac: None,
        mtu: 0,
        peer: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok().map(Mac),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Link(peer) => link.peer = Some(*peer),
            _ => {}
        }
    }
    link
}
