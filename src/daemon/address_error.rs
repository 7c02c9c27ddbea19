//! What can be wrong with the service address, and what to do about it.

use std::net::Ipv4Addr;

use crate::{
    core::{
        cloud::FailureKind,
        ids::{PortId, ServerId},
    },
    openstack::CloudError,
    vip::VipError,
};

/// What is wrong with the service address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    /// A call failed.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// Nobody said which.
    #[error(
        "find the service address: {0} has no floating IP, and none is given: associate one with it, or say which with --vip"
    )]
    None(String),
    /// Neutron does not know it.
    #[error("find floating IP {0}: there is none in this project: make it, or choose another with --vip")]
    Unknown(Ipv4Addr),
    /// It is somebody else's now.
    #[error(
        "take floating IP {0}: it is on port {1}{holder}, which is neither ours nor the base's, and it is left there: choose another with --vip, or disassociate it",
        holder = .2.as_deref().map(|holder| format!(" of {holder}")).unwrap_or_default()
    )]
    Strange(Ipv4Addr, PortId, Option<String>),
    /// The VM has no port where we need one.
    #[error("give the service address to server {0}: it has no port that it could go to")]
    NoPort(ServerId),
    /// The VM has no address where we need one.
    #[error("find the address of server {0}: it has none yet that HAProxy could reach")]
    NoAddress(ServerId),
    /// Only a base shows which network, host and security groups the load balancer port needs.
    #[error(
        "make the load balancer port: there is no base that shows where it belongs: `lbsidecar provision` makes it"
    )]
    NoBase,
    /// The host's own network.
    #[error(transparent)]
    Host(#[from] VipError),
}

impl AddressError {
    /// What the core wants to know.
    pub(crate) fn kind(&self) -> FailureKind {
        match self {
            Self::Cloud(error) => error.kind(),
            Self::Host(error) => error.kind(),
            Self::Strange(..) => FailureKind::Conflict,
            Self::None(_) | Self::Unknown(_) => FailureKind::NotFound,
            Self::NoPort(_) | Self::NoBase => FailureKind::Permanent,
            Self::NoAddress(_) => FailureKind::Transient,
        }
    }
}
