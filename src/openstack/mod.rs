//! The cloud: Keystone, Nova, Neutron and Glance by REST, as far as we need them.
//!
//! [`Cloud`] is the way in. Every call goes through `client`, which knows tokens, deadlines, repetition and limits; the rest knows
//! one service each: `nova` and `server`, `neutron`, `glance`. `copy` says what a clone is.
//!
//! A call that may have been carried out although no good answer came is an error of kind
//! [`Unknown`](crate::core::cloud::FailureKind::Unknown): nothing in here repeats it. Whoever made it looks for its mark first.

use std::{fmt, sync::Arc};

mod auth;
mod boot;
mod call;
mod catalog;
mod client;
mod copy;
mod error;
mod find;
mod glance;
mod lb_port;
mod message;
mod neutron;
mod nova;
mod offer;
mod page;
mod report;
pub mod resources;
mod retry;
mod room;
mod server;
pub mod settings;
mod tls;
mod tokens;
mod versions;

pub use self::{
    auth::Identity,
    boot::{BootRequest, BootSources},
    call::Service,
    client::Exchange,
    copy::CopyRequest,
    error::CloudError,
    glance::Image,
    lb_port::{LbPort, LbPortRequest},
    neutron::{FixedIp, FloatingIp, Port, pool_mark},
    report::{CloudReport, ServiceFound, ServiceReport},
    room::Room,
    server::{Address, Addresses, Fault, Reach, Server},
};
use self::{client::Client, settings::CloudSettings};

/// One project of one cloud. Cheap to clone; all clones share one token.
#[derive(Clone)]
pub struct Cloud {
    client: Arc<Client>,
}

impl Cloud {
    /// Checks the settings; nothing is sent yet.
    ///
    /// # Errors
    /// When the authentication URL is not one, or the CA file cannot be read.
    pub fn new(settings: CloudSettings) -> Result<Self, CloudError> {
        Ok(Self { client: Arc::new(Client::new(settings)?) })
    }

    /// The same, telling `observer` of every HTTP exchange, for metrics.
    ///
    /// # Errors
    /// As [`Cloud::new`].
    pub fn observed(
        settings: CloudSettings,
        observer: impl Fn(&Exchange) + Send + Sync + 'static,
    ) -> Result<Self, CloudError> {
        let mut client = Client::new(settings)?;
        client.observer = Some(Arc::new(observer));
        Ok(Self { client: Arc::new(client) })
    }
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cloud").field("auth_url", &self.client.settings.auth_url).finish_non_exhaustive()
    }
}
