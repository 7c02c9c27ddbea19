//! What a lab cloud is started with.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::clock::Clock;

/// How to start the cloud.
pub struct Options {
    /// The address that all listeners bind to.
    pub bind: IpAddr,
    /// Their ports.
    pub ports: Ports,
    /// The host name or address in every URL that the cloud hands out.
    pub public_host: String,
    /// The password of the user `admin`.
    pub admin_password: String,
    /// The region in the catalog.
    pub region: String,
    /// How long a token lives.
    pub token_ttl: Duration,
    /// What exists from the start.
    pub seed: Seed,
    /// The public key of `lab-key`.
    pub lab_key: String,
    /// How long things take that the driver does not take time for.
    pub pace: Pace,
    /// The one compute host.
    pub host: Host,
    /// The clock; share it to move it in tests.
    pub clock: Arc<Clock>,
}

/// Stands where no guest is to be entered: its private half is nowhere.
const LAB_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMr0ynVZ1WZQyyPvvFGbFCqnJ5u1WZyFQXtmlpWNGZ9k lab";

/// Ports of the services; 0 is any free one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ports {
    /// Identity, 5000 by custom.
    pub keystone: u16,
    /// Compute, 8774 by custom.
    pub nova: u16,
    /// Network, 9696 by custom.
    pub neutron: u16,
    /// Image, 9292 by custom.
    pub glance: u16,
    /// Faults, request log and clock; always on 127.0.0.1.
    pub control: u16,
}

impl Ports {
    /// The ports that a packaged OpenStack uses.
    pub const CUSTOMARY: Self =
        Self { keystone: 5000, nova: 8774, neutron: 9696, glance: 9292, control: 8799 };
}

/// What exists from the start, beside users, projects, flavors, images and the external network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seed {
    /// `lab-net`, `lab-subnet` 192.168.100.0/24, `lab-router`, `lab-sg` (icmp, 22, 80), `lab-key`.
    Lab,
    /// Nothing: what `provision` starts from.
    Empty,
}

/// How long things take that the driver does not take time for.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// BUILD with task `scheduling`.
    pub scheduling: Duration,
    /// BUILD with task `networking`.
    pub networking: Duration,
    /// From the order for a snapshot until it is taken; the image is queued.
    pub snapshot: Duration,
    /// From a floating IP's association or release to its new status.
    pub floating_ip: Duration,
    /// For how long a deleted server still answers, with status DELETED.
    pub deleted: Duration,
    /// How often Nova looks whether ACTIVE guests really run.
    pub power_sync: Duration,
}

impl Pace {
    /// As seen on a real single-node cloud.
    pub const REAL: Self = Self {
        scheduling: Duration::from_millis(300),
        networking: Duration::from_millis(400),
        snapshot: Duration::from_millis(300),
        floating_ip: Duration::from_millis(900),
        deleted: Duration::from_millis(300),
        power_sync: Duration::from_secs(20),
    };
}

/// The compute host, as the hypervisor list shows it.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its CPUs.
    pub vcpus: u32,
    /// Its memory. Servers may together have 1.5 times as much, as Nova's default is; beyond that there is "No valid host".
    pub memory_mib: u32,
    /// Its disk.
    pub disk_gib: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            ports: Ports::default(),
            public_host: "127.0.0.1".into(),
            admin_password: "lab-admin".into(),
            region: "microstack".into(),
            token_ttl: Duration::from_secs(3600),
            seed: Seed::Lab,
            lab_key: LAB_KEY.into(),
            pace: Pace::REAL,
            host: Host {
                name: "lab".into(),
                address: Ipv4Addr::new(10, 20, 20, 1),
                vcpus: 2,
                memory_mib: 8192,
                disk_gib: 250,
            },
            clock: Arc::new(Clock::wall()),
        }
    }
}
