//! How the service address reaches HAProxy.

use std::{net::Ipv4Addr, path::PathBuf};

use crate::core::ids::PoolName;

/// The way of the service address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VipSettings {
    /// The pool.
    pub pool: PoolName,
    /// Which of the three ways.
    pub mode: VipMode,
    /// The service address: a floating IP (`port`, `host`) or an address of the host (`static`). `None`: the base's own floating IP.
    pub address: Option<Ipv4Addr>,
}

/// The three ways; `docs/adr` says why there are three.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VipMode {
    /// A Neutron port of ours in the tenant network, plugged into a namespace that HAProxy lives in.
    Port {
        /// How the port is plugged.
        plug: Plug,
        /// The network namespace: `lbsidecar-<pool>` by default.
        netns: String,
    },
    /// The host holds the floating IP as a /32 on this interface (`br-ex`, usually); members have floating IPs of their own.
    Host {
        /// The interface.
        interface: String,
        /// The socket of the unit that changes its addresses for us, where there is one.
        socket: PathBuf,
    },
    /// The address is there already and members can be reached.
    Static,
}

/// How a port reaches the integration bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plug {
    /// Find out: Open vSwitch when its `br-int` is there, else linuxbridge.
    Auto,
    /// `ovs-vsctl add-port br-int`; the command's name (`ovs-vsctl`, `microstack.ovs-vsctl`).
    Ovs {
        /// The command.
        command: String,
    },
    /// A veth end named `tap<first 11 characters of the port id>`, which the linuxbridge agent plugs by itself.
    LinuxBridge,
}

impl Plug {
    /// The same, for a port whose switch Neutron knows: an Open vSwitch may be installed, and need not even run, beside a Linux bridge
    /// that is the one in use.
    #[must_use]
    pub fn of_port(&self, on_linuxbridge: bool) -> Self {
        if *self == Self::Auto && on_linuxbridge { Self::LinuxBridge } else { self.clone() }
    }
}
