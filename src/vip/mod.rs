//! How the service address reaches HAProxy, on this host: namespaces, links, addresses, announcements.
//!
//! Nothing here knows of OpenStack: it is handed a port's number, hardware address and subnet, or an address, and makes the host
//! agree with them. Every operation may be repeated, and every one can be asked whether it holds.
//!
//! - `port` mode: [`plug()`], [`plugged`], [`unplug`] put a Neutron port into a network namespace that HAProxy lives in.
//! - `host` mode: [`host`] holds the address on an interface of the host and announces it; [`Holder`] has it done by a unit that may.
//! - `static` mode needs nothing.
//!
//! Links, addresses and routes are set by netlink: its answers are error numbers and not prose, so that "is there already" and
//! "not permitted" can be told apart for sure, and the pair of links is made in one step, straight into its namespace. A namespace is
//! made by two system calls, exactly as `ip netns add` does it. Commands (`ovs-vsctl`, `ethtool`) run only where there
//! is no other reasonable door, and under a deadline.

mod arp;
mod command;
mod error;
mod holder;
pub mod host;
mod link;
mod mac;
mod netlink;
mod netns;
mod ovs;
mod plug;
pub mod settings;

pub use error::{Rights, VipError};
pub use holder::Holder;
pub use mac::{InvalidMac, Mac};
pub use plug::{INSIDE, PlugSpec, PlugState, plug, plugged, unplug};
