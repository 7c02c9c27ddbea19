//! All that the cloud remembers. It lives in memory and dies with the process.

use super::{glance::Images, keystone::Identity, neutron::Network, nova::Compute};

/// The records of the four services, behind one lock: every change is seen whole.
#[derive(Debug)]
pub(super) struct State {
    pub(super) identity: Identity,
    pub(super) compute: Compute,
    pub(super) network: Network,
    pub(super) images: Images,
}
