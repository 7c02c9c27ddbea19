//! Where libvirt is.

use std::time::Duration;

/// How guests are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestsSettings {
    /// libvirt URIs, one per compute host; empty: probe the distribution's, MicroStack's and openstack-hypervisor's sockets.
    pub uris: Vec<String>,
    /// How long one reading may take before it counts as missing.
    pub deadline: Duration,
    /// Time between readings; below a second vCPU times come from the host's scheduler, since libvirt's are too coarse.
    pub sample: Duration,
}
