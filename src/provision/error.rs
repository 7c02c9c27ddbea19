//! Why a step failed, and what to do about it.

use super::{keys::KeyError, plan::Action};
use crate::{core::cloud::FailureKind, openstack::CloudError};

/// Why nothing more is made. What was made before stays; the next run goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// The project could not be looked at.
    #[error(transparent)]
    Look(#[from] CloudError),
    /// A step failed.
    #[error("{text}: {cause}{}", .advice.map(|advice| format!("; {advice}")).unwrap_or_default())]
    Step {
        /// The step, in words.
        text: String,
        /// The cause.
        cause: StepError,
        /// What to do.
        advice: Option<&'static str>,
    },
}

impl ProvisionError {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Look(error) => error.kind(),
            Self::Step { cause, .. } => cause.kind(),
        }
    }
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A call failed.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// The key could not be read or made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A file that the operator named cannot be used.
    #[error("read {0}")]
    File(String),
    /// The server did not become what it should.
    #[error("{0}")]
    Server(String),
    /// Nobody can tell where SSH comes from.
    #[error("this host's address towards {0} cannot be told: give it with --ssh-from")]
    NoAddress(String),
    /// A step came before the one that it needs.
    #[error("{0} is not there yet: this is a bug")]
    Order(&'static str),
}

impl StepError {
    pub(super) fn kind(&self) -> FailureKind {
        match self {
            Self::Cloud(error) => error.kind(),
            Self::Key(_) | Self::File(_) | Self::NoAddress(_) | Self::Order(_) | Self::Server(_) => {
                FailureKind::Permanent
            }
        }
    }
}

/// What to do about a failed step.
pub(super) fn advice(action: &Action, error: &StepError) -> Option<&'static str> {
    let StepError::Cloud(error) = error else { return None };
    let says = |words: &str| error.message().contains(words);
    let quota = error.kind() == FailureKind::Capacity;
    Some(match action {
        // Neutron's 409 for "no address left" counts as a lack of room, as a quota does.
        Action::CreateFloatingIp if says("No more IP addresses") => {
            "the external network has no address left: release a floating IP that nobody needs (`openstack floating ip list`), or widen its allocation pool"
        }
        Action::CreateRouter | Action::SetGateway if says("No more IP addresses") => {
            "the external network has no address left for the router's gateway: release a floating IP that nobody needs, or widen its allocation pool"
        }
        Action::CreateFloatingIp if quota => {
            "release a floating IP that nobody needs (`openstack floating ip list`), or raise the quota: `openstack quota set --floating-ips N PROJECT`"
        }
        Action::CreateNetwork if quota => {
            "delete a network that nobody needs, or raise the quota: `openstack quota set --networks N PROJECT`"
        }
        Action::CreateSubnet if quota => {
            "delete a subnet that nobody needs, or raise the quota: `openstack quota set --subnets N PROJECT`"
        }
        Action::CreateRouter if quota => {
            "delete a router that nobody needs, or raise the quota: `openstack quota set --routers N PROJECT`"
        }
        Action::CreateGroup(_) if quota => {
            "delete a security group that nobody needs, or raise the quota: `openstack quota set --secgroups N PROJECT`"
        }
        Action::AddRule(..) if quota => {
            "delete security group rules that nobody needs, or raise the quota: `openstack quota set --secgroup-rules N PROJECT`"
        }
        Action::CreateKeyPair if quota => {
            "delete a key pair that nobody needs (`openstack keypair list`), or raise the quota: `openstack quota set --key-pairs N PROJECT`"
        }
        Action::CreateBase if quota => {
            "delete a server that nobody needs, choose a smaller --flavor, or raise the quota: `openstack quota set --instances N --cores N --ram MIB PROJECT`"
        }
        Action::AttachSubnet | Action::CreateBalancerPort if quota => {
            "delete ports that nobody needs, or raise the quota: `openstack quota set --ports N PROJECT`"
        }
        Action::CreateSubnet if says("overlaps") => {
            "choose other addresses with --cidr, or another network with --net"
        }
        Action::AttachSubnet if says("overlaps") => {
            "the router has another subnet with such addresses: choose others with --cidr, or another router with --router"
        }
        Action::AttachSubnet if error.kind() == FailureKind::Conflict => {
            "something else has the subnet's gateway address or is changing the router: `openstack port list --fixed-ip subnet=SUBNET` shows which port; \
             remove it, or try again"
        }
        Action::CreateKeyPair if error.kind() == FailureKind::Conflict => {
            "somebody made it meanwhile: choose another name with --key-name"
        }
        Action::Associate if error.kind() == FailureKind::Conflict => {
            "the server has another floating IP: say which is the service's with --vip, or release the other"
        }
        _ => match error.kind() {
            FailureKind::Transient | FailureKind::Unknown => "the service does not answer well: try again",
            FailureKind::Unauthorized => "check the credentials and the user's roles",
            _ => return None,
        },
    })
}
