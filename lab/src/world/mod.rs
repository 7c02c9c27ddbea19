//! The lab's world: bridges, NAT, libvirt and guests. It is the cloud's [`Driver`], and must be alone in its namespaces.

mod daemon;
pub mod guest;
pub mod net;
pub mod tools;

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use serde::Serialize;
use uuid::Uuid;

use self::{
    guest::{Accelerator, Domain, Image, libvirt},
    net::Network,
};
use crate::cloud::driver::{Answer, Boot, Driver, Router};

/// Time for libvirtd to come up; it asks every QEMU binary what it can do.
const LIBVIRT_DEADLINE: Duration = Duration::from_secs(30);
/// Size of a guest's disk.
const DISK_SIZE: u64 = 1024 * 1024;

/// What the world is made with.
#[derive(Debug, Clone)]
pub struct WorldSettings {
    /// Directory of the guests' files; must exist.
    pub guests: PathBuf,
    /// Where a libvirtd of the lab's own writes its log; without it the one that runs already is used.
    pub libvirt_log: Option<PathBuf>,
    /// What guests boot from.
    pub image: Image,
    /// What runs them.
    pub accelerator: Accelerator,
}

/// The real world behind the lab's cloud.
#[derive(Debug, Clone)]
pub struct World {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: WorldSettings,
    network: Arc<Mutex<Network>>,
    guests: Mutex<Guests>,
}

#[derive(Debug, Default)]
struct Guests {
    /// How many domains were named so far.
    named: u32,
    known: BTreeMap<Uuid, Known>,
}

#[derive(Debug, Clone)]
struct Known {
    name: String,
    domain: String,
    ports: Vec<Uuid>,
    address: String,
}

/// A guest, for people to look at.
#[derive(Debug, Serialize)]
pub struct GuestStatus {
    /// The server's id.
    pub id: Uuid,
    /// The server's name.
    pub name: String,
    /// The domain's name.
    pub domain: String,
    /// Its first fixed address.
    pub address: String,
    /// Whether it runs; nothing when libvirt does not say.
    pub running: Option<bool>,
}

impl World {
    /// Makes bridges and starts libvirtd if it is to be the lab's own, in the namespaces that the process is in. Returns when libvirt
    /// answers.
    ///
    /// # Errors
    ///
    /// What `ip` or libvirt says.
    pub fn start(settings: WorldSettings) -> Result<Self> {
        // Errors are answers here; libvirt would print them as well.
        virt::error::clear_error_callback();
        if let Some(log) = &settings.libvirt_log {
            daemon::start(log)?;
        }
        let network = Arc::new(Mutex::new(Network::create()?));
        net::watch(Arc::clone(&network))?;
        libvirt::wait(LIBVIRT_DEADLINE)?;
        Ok(Self { shared: Arc::new(Shared { settings, network, guests: Mutex::default() }) })
    }

    /// The guests, in the order of their ids. Blocks on libvirt.
    #[must_use]
    pub fn guests(&self) -> Vec<GuestStatus> {
        let known = self.shared.guests().known.clone();
        known
            .into_iter()
            .map(|(id, guest)| GuestStatus {
                id,
                name: guest.name,
                domain: guest.domain,
                address: guest.address,
                running: libvirt::is_running(id).ok(),
            })
            .collect()
    }

    /// Runs a blocking call beside the runtime.
    fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T> + Send + 'static,
    ) -> Answer<'_, T> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            match tokio::task::spawn_blocking(move || work(&shared)).await {
                Ok(answer) => answer.map_err(|error| format!("{error:#}")),
                Err(error) => Err(format!("the lab's world broke down: {error}")),
            }
        })
    }
}

impl Shared {
    fn network(&self) -> MutexGuard<'_, Network> {
        self.network.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the flows of floating IPs that lead elsewhere by now, after their grace.
    fn cut_old_flows_later(&self) {
        let network = Arc::clone(&self.network);
        thread::spawn(move || {
            thread::sleep(net::GRACE);
            let mut network = network.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = network.cut_old_flows() {
                tracing::warn!(error = format!("{error:#}"), "old flows of floating IPs go on");
            }
        });
    }

    fn home(&self, id: Uuid) -> PathBuf {
        self.settings.guests.join(id.to_string())
    }

    fn image(&self, id: Uuid) -> PathBuf {
        self.settings.guests.join(format!("image-{id}"))
    }

    fn boot(&self, guest: &Boot) -> Result<()> {
        let domain = self.remember(guest);
        let home = self.home(guest.id);
        fs::create_dir_all(&home).with_context(|| format!("failed to create {}", home.display()))?;
        self.settings.image.personalise(guest, &home.join("initramfs"))?;
        make_disk(&self.image(guest.image), &home.join("disk"))?;
        for nic in &guest.nics {
            self.network().tap_up(nic.port, nic.network)?;
        }
        let Image { kernel, .. } = &self.settings.image;
        let accelerator = self.settings.accelerator;
        let xml = Domain { guest, name: &domain, accelerator, kernel, home: &home }.xml();
        libvirt::boot(guest.id, &xml)
    }

    /// Gives the guest a domain name, the same one when it is asked for again.
    fn remember(&self, guest: &Boot) -> String {
        let mut guests = self.guests();
        if let Some(known) = guests.known.get(&guest.id) {
            return known.domain.clone();
        }
        guests.named += 1;
        let domain = format!("instance-{:08x}", guests.named);
        let known = Known {
            name: guest.name.clone(),
            domain: domain.clone(),
            ports: guest.nics.iter().map(|nic| nic.port).collect(),
            address: guest.nics.first().map(|nic| nic.address.to_string()).unwrap_or_default(),
        };
        guests.known.insert(guest.id, known);
        domain
    }

    fn destroy(&self, id: Uuid) -> Result<()> {
        libvirt::remove(id)?;
        let ports = self.guests().known.get(&id).map(|known| known.ports.clone()).unwrap_or_default();
        for port in ports {
            self.network().tap_down(port)?;
        }
        let home = self.home(id);
        if home.exists() {
            fs::remove_dir_all(&home).with_context(|| format!("failed to remove {}", home.display()))?;
        }
        self.guests().known.remove(&id);
        Ok(())
    }
}

/// Makes a guest's disk: a copy of the image's, when the image was a snapshot, or an empty one.
fn make_disk(image: &Path, disk: &Path) -> Result<()> {
    if disk.exists() {
        return Ok(());
    }
    let result = if image.exists() {
        fs::copy(image, disk).map(|_| ())
    } else {
        fs::File::create(disk).and_then(|file| file.set_len(DISK_SIZE))
    };
    result.with_context(|| format!("failed to make {}", disk.display()))
}

impl Driver for World {
    fn boot(&self, guest: Boot) -> Answer<'_, ()> {
        self.call(move |shared| shared.boot(&guest))
    }

    fn power_off(&self, id: Uuid, graceful: bool) -> Answer<'_, ()> {
        self.call(move |_| libvirt::power_off(id, graceful))
    }

    fn power_on(&self, id: Uuid) -> Answer<'_, ()> {
        self.call(move |_| libvirt::power_on(id))
    }

    fn destroy(&self, id: Uuid) -> Answer<'_, ()> {
        self.call(move |shared| shared.destroy(id))
    }

    fn snapshot(&self, id: Uuid, image: Uuid) -> Answer<'_, ()> {
        self.call(move |shared| {
            let disk = shared.home(id).join("disk");
            fs::copy(&disk, shared.image(image))
                .with_context(|| format!("failed to copy {}", disk.display()))?;
            Ok(())
        })
    }

    fn running(&self, id: Uuid) -> Answer<'_, bool> {
        self.call(move |_| libvirt::is_running(id))
    }

    fn console(&self, id: Uuid) -> Answer<'_, String> {
        self.call(move |shared| {
            let path = shared.home(id).join("console.log");
            let bytes = fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        })
    }

    fn network_up(&self, network: Uuid) -> Answer<'_, ()> {
        self.call(move |shared| shared.network().network_up(network))
    }

    fn network_down(&self, network: Uuid) -> Answer<'_, ()> {
        self.call(move |shared| shared.network().network_down(network))
    }

    fn router_up(&self, router: Router) -> Answer<'_, ()> {
        self.call(move |shared| shared.network().router_up(router))
    }

    fn router_down(&self, router: Uuid) -> Answer<'_, ()> {
        self.call(move |shared| shared.network().router_down(router))
    }

    fn port_up(&self, port: Uuid, network: Uuid) -> Answer<'_, ()> {
        self.call(move |shared| shared.network().port_up(port, network))
    }

    fn port_down(&self, port: Uuid) -> Answer<'_, ()> {
        self.call(move |shared| shared.network().port_down(port))
    }

    fn associate(&self, floating: Ipv4Addr, fixed: Ipv4Addr, router: Uuid) -> Answer<'_, ()> {
        self.call(move |shared| {
            shared.network().associate(floating, fixed, router)?;
            shared.cut_old_flows_later();
            Ok(())
        })
    }

    fn disassociate(&self, floating: Ipv4Addr) -> Answer<'_, ()> {
        self.call(move |shared| {
            shared.network().disassociate(floating)?;
            shared.cut_old_flows_later();
            Ok(())
        })
    }
}
