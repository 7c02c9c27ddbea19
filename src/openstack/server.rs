//! A server as Nova shows it at microversions 2.1 to 2.46, and what of it matters to the core.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;

use crate::core::{
    cloud::{Mark, ServerFacts, ServerStatus},
    ids::{PoolName, ServerId},
    time::Timestamp,
};

/// The pool's name in a server's metadata.
pub(super) const POOL: &str = "lbsidecar:pool";
/// The intent's id.
const INTENT: &str = "lbsidecar:intent";
/// The generation's number.
const GENERATION: &str = "lbsidecar:generation";

/// A server. Fields that are absent (in an older API, or for users who are not administrators) are empty or `None`.
#[derive(Debug, Clone, Deserialize)]
pub struct Server {
    /// Its id, which is also the libvirt domain's UUID.
    pub id: ServerId,
    /// Its name; other servers may have the same.
    pub name: String,
    pub(super) status: String,
    /// What Nova is doing with it now.
    #[serde(rename = "OS-EXT-STS:task_state")]
    pub task_state: Option<String>,
    /// Why it is in ERROR.
    pub fault: Option<Fault>,
    /// Its metadata; our mark is in it.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// `{"id": …}`, or an empty text when it boots from a volume.
    #[serde(default)]
    pub(super) image: Value,
    pub(super) flavor: FlavorRef,
    created: jiff::Timestamp,
    /// When its guest was first started; null until then. The outer `None`: the API does not show it to us.
    #[serde(rename = "OS-SRV-USG:launched_at", default, deserialize_with = "shown")]
    launched: Option<Option<String>>,
    /// Its addresses by network name, in the order of its network cards.
    #[serde(default)]
    pub addresses: Addresses,
    /// Its key pair's name.
    pub key_name: Option<String>,
    #[serde(default)]
    pub(super) config_drive: String,
    #[serde(rename = "OS-EXT-AZ:availability_zone", default)]
    pub(super) availability_zone: Option<String>,
    /// Whether it is locked (since 2.9).
    #[serde(default)]
    pub locked: bool,
    /// Base64 (since 2.3). The outer `None`: the API does not show it to us.
    #[serde(rename = "OS-EXT-SRV-ATTR:user_data", default, deserialize_with = "shown")]
    pub(super) user_data: Option<Option<String>>,
    /// The compute host that it runs on, for administrators.
    #[serde(rename = "OS-EXT-SRV-ATTR:host", default)]
    pub host: Option<String>,
}

/// Nova's sentence about what went wrong.
#[derive(Debug, Clone, Deserialize)]
pub struct Fault {
    /// The sentence.
    pub message: String,
}

/// The flavor: by id, and from 2.47 on by name only.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct FlavorRef {
    pub(super) id: Option<String>,
    pub(super) original_name: Option<String>,
}

/// Addresses by network name, in the API's order.
#[derive(Debug, Clone, Default)]
pub struct Addresses(pub Vec<(String, Vec<Address>)>);

/// One address.
#[derive(Debug, Clone, Deserialize)]
pub struct Address {
    /// The address.
    pub addr: IpAddr,
    /// `fixed` or `floating`.
    #[serde(rename = "OS-EXT-IPS:type", default)]
    kind: String,
    /// Of the port that has it.
    #[serde(rename = "OS-EXT-IPS-MAC:mac_addr", default)]
    pub(super) mac: String,
}

/// The address at which HAProxy reaches members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Their fixed address, in the network of this name, or in their first one.
    Fixed {
        /// The network's name.
        network: Option<String>,
    },
    /// Their floating IP.
    Floating,
}

impl Server {
    /// Its status, as far as it makes a difference.
    #[must_use]
    pub fn status(&self) -> ServerStatus {
        match self.status.as_str() {
            "BUILD" => ServerStatus::Build,
            "ACTIVE" | "PASSWORD" => ServerStatus::Active,
            "SHUTOFF" => ServerStatus::Shutoff,
            "ERROR" => ServerStatus::Error,
            // A soft-deleted server is off, and only an operator would bring it back.
            "DELETED" | "SOFT_DELETED" => ServerStatus::Deleted,
            _ => ServerStatus::Other,
        }
    }

    /// Its status in Nova's word, for people.
    #[must_use]
    pub fn nova_status(&self) -> &str {
        &self.status
    }

    /// Our mark, if it carries a whole one.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        Some(Mark {
            pool: PoolName::try_new(self.metadata.get(POOL)?).ok()?,
            intent: self.metadata.get(INTENT)?.parse().ok()?,
            generation: self.metadata.get(GENERATION)?.parse().ok()?,
        })
    }

    /// Whether it was made for this pool: a clone, which carries a whole mark, or a base from `provision`, which carries the name alone.
    #[must_use]
    pub fn is_of(&self, pool: &PoolName) -> bool {
        self.metadata.get(POOL).is_some_and(|own| own == pool.as_str())
    }

    /// When Nova made it.
    #[must_use]
    pub fn created(&self) -> Timestamp {
        Timestamp(u64::try_from(self.created.as_millisecond()).unwrap_or_default())
    }

    /// Whether it certainly never ran, so that nothing is lost with it: Nova says ERROR of VMs that run, too.
    #[must_use]
    pub fn never_ran(&self) -> bool {
        self.launched == Some(None)
    }

    /// The address at which HAProxy reaches it; IPv4 before IPv6.
    #[must_use]
    pub fn address(&self, reach: &Reach) -> Option<IpAddr> {
        let (kind, network) = match reach {
            Reach::Fixed { network } => ("fixed", network.as_deref()),
            Reach::Floating => ("floating", None),
        };
        let fits = |a: &&Address| a.kind == kind;
        let in_network = self.addresses.0.iter().filter(|(name, _)| network.is_none_or(|n| n == name));
        let mut all: Vec<IpAddr> =
            in_network.flat_map(|(_, addresses)| addresses.iter().filter(fits).map(|a| a.addr)).collect();
        // Stable: the first network card stays first.
        all.sort_by_key(IpAddr::is_ipv6);
        all.first().copied()
    }

    /// What the core wants to know, except for the floating IP that we gave it: only Neutron knows that.
    #[must_use]
    pub fn facts(&self, reach: &Reach) -> ServerFacts {
        ServerFacts {
            id: self.id,
            name: self.name.clone(),
            status: self.status(),
            task_state: self.task_state.clone(),
            fault: self.fault.as_ref().map(|fault| super::message::one_line(&fault.message)),
            address: self.address(reach),
            floating_ip: None,
            mark: self.mark(),
            locked: self.locked,
            created: self.created(),
        }
    }
}

/// The mark as metadata of a server.
pub(super) fn mark_metadata(mark: &Mark) -> Value {
    serde_json::json!({
        POOL: mark.pool.as_str(),
        INTENT: mark.intent.to_string(),
        GENERATION: mark.generation.to_string(),
    })
}

/// Tells a field that is absent from one that is null.
fn shown<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Addresses;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from network names to lists of addresses")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Addresses, A::Error> {
                let mut all = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    all.push(entry);
                }
                Ok(Addresses(all))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}
