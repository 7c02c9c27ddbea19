//! The lab's cloud: Keystone, Nova, Neutron and Glance in one process, over real guests.
//!
//! ```text
//!  client ── HTTP ──► server (journal, faults) ──► keystone | nova | neutron | glance ──► store (records)
//!                                                              └──────► driver (guests, bridges, NAT)
//! ```
//! What goes over the wire is that of a real single-node OpenStack (Zed, linuxbridge), whose recorded exchanges the tests
//! replay against it. It keeps no secrets: it is for labs and tests.

mod call;
pub mod clock;
mod control;
pub mod driver;
mod errors;
pub mod faults;
mod glance;
pub mod journal;
mod keystone;
mod neutron;
mod nova;
pub mod null;
pub mod options;
mod seed;
mod server;
mod store;

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use tokio::{net::TcpListener, task::JoinSet};

pub use self::errors::Service;
use self::{
    call::Desk, clock::Clock, driver::Driver, faults::Faults, journal::Journal, options::Options,
    server::Site, store::State,
};

/// Why a cloud did not start.
#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    /// A listener could not be opened.
    #[error("listen on {address} for {what}: {source}")]
    Listen {
        /// The service.
        what: &'static str,
        /// The address asked for.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The driver refused a network or router of the seed.
    #[error("set up the first networks: {0}")]
    Seed(String),
}

/// Where the services are.
#[derive(Debug, Clone)]
pub struct Urls {
    /// `http://host:port/v3`, the `OS_AUTH_URL`.
    pub keystone: String,
    /// `http://host:port/v2.1`.
    pub nova: String,
    /// `http://host:port`.
    pub neutron: String,
    /// `http://host:port`.
    pub glance: String,
    /// `http://127.0.0.1:port`: `/faults`, `/log`, `/clock`.
    pub control: String,
}

impl Urls {
    /// Keystone's address in a 401: Keystone itself gives its version along.
    fn keystone_root(&self, service: Service) -> String {
        match service {
            Service::Keystone => self.keystone.clone(),
            _ => self.keystone.trim_end_matches("/v3").to_owned(),
        }
    }
}

/// What all handlers share.
struct Cloud {
    options: Options,
    urls: Urls,
    driver: Arc<dyn Driver>,
    state: Mutex<State>,
    faults: Faults,
    journal: Journal,
    /// Held from a change of Neutron's records until the driver has carried it out, so that the two cannot drift apart.
    wiring: tokio::sync::Mutex<()>,
    /// Work that goes on after its request was answered.
    tasks: Mutex<JoinSet<()>>,
}

impl Cloud {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clock(&self) -> &Clock {
        &self.options.clock
    }

    fn now(&self) -> Timestamp {
        self.clock().now()
    }

    /// Starts work that goes on after its request was answered; it ends with the cloud.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(work);
    }
}

/// A running cloud. It stops when this is dropped.
pub struct CloudHandle {
    cloud: Arc<Cloud>,
    listeners: JoinSet<()>,
}

impl CloudHandle {
    /// Where the services are.
    #[must_use]
    pub fn urls(&self) -> &Urls {
        &self.cloud.urls
    }

    /// The fault switchboard.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.cloud.faults
    }

    /// The log of requests.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.cloud.journal
    }

    /// The cloud's clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        self.cloud.clock()
    }

    /// Closes all listeners and connections and stops all work. Guests are left to the driver's owner.
    pub async fn shutdown(mut self) {
        self.listeners.shutdown().await;
        let mut tasks = std::mem::take(&mut *self.cloud.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.shutdown().await;
    }
}

impl Drop for CloudHandle {
    fn drop(&mut self) {
        // The tasks hold the cloud that holds them.
        self.cloud.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

/// Starts a cloud over `driver`.
///
/// # Errors
/// When a port is taken, or the driver cannot set up the seed's networks.
pub async fn serve(driver: Arc<dyn Driver>, options: Options) -> Result<CloudHandle, CloudError> {
    let ports = options.ports;
    let keystone = listen("keystone", SocketAddr::new(options.bind, ports.keystone)).await?;
    let nova = listen("nova", SocketAddr::new(options.bind, ports.nova)).await?;
    let neutron = listen("neutron", SocketAddr::new(options.bind, ports.neutron)).await?;
    let glance = listen("glance", SocketAddr::new(options.bind, ports.glance)).await?;
    let control = listen("control", SocketAddr::from(([127, 0, 0, 1], ports.control))).await?;
    let host = &options.public_host;
    let urls = Urls {
        keystone: format!("http://{host}:{}/v3", keystone.1),
        nova: format!("http://{host}:{}/v2.1", nova.1),
        neutron: format!("http://{host}:{}", neutron.1),
        glance: format!("http://{host}:{}", glance.1),
        control: format!("http://127.0.0.1:{}", control.1),
    };
    let state = Mutex::new(seed::state(&options, &urls));
    let cloud = Arc::new(Cloud {
        options,
        urls,
        driver,
        state,
        faults: Faults::default(),
        journal: Journal::default(),
        wiring: tokio::sync::Mutex::default(),
        tasks: Mutex::default(),
    });
    seed::wire(&cloud).await.map_err(CloudError::Seed)?;
    nova::keep_in_step(&cloud);

    let mut listeners = JoinSet::new();
    let sites = [
        (Service::Keystone, keystone.0, keystone::routes()),
        (Service::Nova, nova.0, nova::routes()),
        (Service::Neutron, neutron.0, neutron::routes()),
        (Service::Glance, glance.0, glance::routes()),
    ];
    for (service, listener, routes) in sites {
        let router = routes.with_state(Desk { cloud: cloud.clone(), service });
        listeners.spawn(server::accept(listener, Site { cloud: cloud.clone(), service, router }));
    }
    listeners.spawn(control::serve(control.0, cloud.clone()));
    Ok(CloudHandle { cloud, listeners })
}

/// Opens a listener; answers it with its port.
async fn listen(what: &'static str, address: SocketAddr) -> Result<(TcpListener, u16), CloudError> {
    let open = async {
        let listener = TcpListener::bind(address).await?;
        let port = listener.local_addr()?.port();
        Ok((listener, port))
    };
    open.await.map_err(|source| CloudError::Listen { what, address, source })
}
