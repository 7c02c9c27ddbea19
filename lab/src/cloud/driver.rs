//! What the lab's cloud asks of the lab's world: real guests, real bridges, real NAT.
//!
//! The API half (`cloud`) keeps records and speaks HTTP; the world half (`world`) has libvirt, namespaces and nftables. This
//! trait is all that they know of each other, so that the API can be held against recordings without a guest.

use std::{future::Future, net::Ipv4Addr, pin::Pin};

use uuid::Uuid;

/// The answer of a driver call: a future, or in the end a sentence about what went wrong.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// A guest to be booted.
#[derive(Debug, Clone)]
pub struct Boot {
    /// The server's id, which becomes the domain's UUID.
    pub id: Uuid,
    /// The server's name, which becomes the guest's host name.
    pub name: String,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory, MiB.
    pub memory_mib: u32,
    /// The image or snapshot that it boots from.
    pub image: Uuid,
    /// User data, decoded.
    pub user_data: Option<Vec<u8>>,
    /// The public key of its key pair, which may log in.
    pub public_key: Option<String>,
    /// Its network cards.
    pub nics: Vec<Nic>,
}

/// One network card.
#[derive(Debug, Clone)]
pub struct Nic {
    /// The Neutron port.
    pub port: Uuid,
    /// The Neutron network.
    pub network: Uuid,
    /// Its MAC address, `fa:16:3e:…`.
    pub mac: String,
    /// Its fixed address.
    pub address: Ipv4Addr,
    /// Prefix length of the subnet.
    pub prefix: u8,
    /// The subnet's gateway.
    pub gateway: Option<Ipv4Addr>,
}

/// A router: one leg outside, legs into tenant networks.
#[derive(Debug, Clone)]
pub struct Router {
    /// Its id.
    pub id: Uuid,
    /// Its address on the external network (10.20.20.0/24), when it has a gateway.
    pub external: Option<Ipv4Addr>,
    /// Its legs: tenant network, address there, prefix length.
    pub legs: Vec<(Uuid, Ipv4Addr, u8)>,
}

/// The world, as the cloud sees it. Every call is idempotent.
pub trait Driver: Send + Sync + 'static {
    /// Boots a guest; answers when QEMU runs.
    fn boot(&self, guest: Boot) -> Answer<'_, ()>;
    /// Powers a guest off: by ACPI with a deadline, then hard; or hard at once.
    fn power_off(&self, id: Uuid, graceful: bool) -> Answer<'_, ()>;
    /// Powers a guest on again.
    fn power_on(&self, id: Uuid) -> Answer<'_, ()>;
    /// Removes a guest and all that belongs to it.
    fn destroy(&self, id: Uuid) -> Answer<'_, ()>;
    /// Keeps what a guest is now as an image.
    fn snapshot(&self, id: Uuid, image: Uuid) -> Answer<'_, ()>;
    /// Whether libvirt says that it runs.
    fn running(&self, id: Uuid) -> Answer<'_, bool>;
    /// What the guest wrote to its console; a driver without consoles says nothing.
    fn console(&self, id: Uuid) -> Answer<'_, String> {
        let _ = id;
        Box::pin(async { Ok(String::new()) })
    }
    /// Makes a tenant network (a bridge).
    fn network_up(&self, network: Uuid) -> Answer<'_, ()>;
    /// Removes it.
    fn network_down(&self, network: Uuid) -> Answer<'_, ()>;
    /// Makes a router or brings it to this form.
    fn router_up(&self, router: Router) -> Answer<'_, ()>;
    /// Removes it.
    fn router_down(&self, router: Uuid) -> Answer<'_, ()>;
    /// From now on the port with this id, on this network, may be plugged by a veth end named `tap<first 11 characters of the id>`.
    fn port_up(&self, port: Uuid, network: Uuid) -> Answer<'_, ()>;
    /// Not any more.
    fn port_down(&self, port: Uuid) -> Answer<'_, ()>;
    /// Makes a floating IP lead to a fixed one, on the router that has a leg there. Moves it in one step when it led elsewhere.
    fn associate(&self, floating: Ipv4Addr, fixed: Ipv4Addr, router: Uuid) -> Answer<'_, ()>;
    /// Makes it lead nowhere.
    fn disassociate(&self, floating: Ipv4Addr) -> Answer<'_, ()>;
}
