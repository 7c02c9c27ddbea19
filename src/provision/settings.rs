//! What `provision` makes: names, addresses, and what the base is booted from.

use std::{net::Ipv4Addr, path::PathBuf};

use ipnet::Ipv4Net;

use crate::core::ids::PoolName;

/// What a pool is to live in.
#[derive(Debug, Clone)]
pub struct ProvisionSettings {
    /// The pool: everything that is made carries its mark.
    pub pool: PoolName,
    /// The base's name, or its id when it is there already.
    pub base: String,
    /// The port that the VMs serve on.
    pub port: u16,
    /// The service address, when the operator chose one of the project's floating IPs.
    pub address: Option<Ipv4Addr>,
    /// How it reaches HAProxy.
    pub vip: Vip,
    /// The network's name.
    pub network: String,
    /// The subnet's name.
    pub subnet: String,
    /// The subnet's addresses; the first one is the gateway's.
    pub cidr: Ipv4Net,
    /// The subnet's name servers.
    pub dns: Vec<Ipv4Addr>,
    /// The router's name.
    pub router: String,
    /// Name or id of the external network.
    pub external: String,
    /// The name of the VMs' security group.
    pub security_group: String,
    /// The key pair's name.
    pub key_name: String,
    /// The private key's file; the public half is beside it, with `.pub`.
    pub key_file: PathBuf,
    /// A public key's file, to be used instead.
    pub public_key: Option<PathBuf>,
    /// Name or id of the base's image.
    pub image: String,
    /// Name or id of the base's flavor.
    pub flavor: String,
    /// The file with the base's user data.
    pub user_data: Option<PathBuf>,
    /// From where SSH and the service itself are allowed; `None`: from this host alone.
    pub ssh_from: Option<Ipv4Net>,
}

/// How the service address reaches HAProxy, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vip {
    /// By a load balancer port.
    Port,
    /// The host has the floating IP.
    Host,
    /// By an address that is there already: neither floating IP nor port are made.
    Static,
}

impl ProvisionSettings {
    /// The name of the load balancer port's security group.
    #[must_use]
    pub fn balancer_group(&self) -> String {
        format!("{}-lb", self.security_group)
    }
}
