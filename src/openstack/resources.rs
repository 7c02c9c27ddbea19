//! What a project has for a pool to live in: networks, subnets, routers, security groups and key pairs, listed, made, changed and
//! removed. What they are wanted for is not known here.
//!
//! A list is of our own project, also for an administrator, who would be shown everybody's.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    Cloud, FixedIp, FloatingIp,
    call::{
        Call,
        Service::{Compute, Network as Neutron},
    },
    error::{CloudError, or_none},
    lb_port::{OWNER, device},
};
use crate::core::ids::PoolName;

/// A kind of thing that Neutron keeps: its words in URLs and bodies, and ours in errors.
pub trait Resource: DeserializeOwned {
    /// The words.
    const WORDS: Words;
}

/// The words of a [`Resource`].
#[derive(Debug)]
pub struct Words {
    /// In URLs.
    path: &'static str,
    /// Around a list of them.
    list: &'static str,
    /// Around one of them.
    one: &'static str,
    all: &'static str,
    create: &'static str,
    change: &'static str,
    delete: &'static str,
}

macro_rules! resource {
    ($type:ty, $path:literal, $list:literal, $one:literal, $word:literal) => {
        impl Resource for $type {
            const WORDS: Words = Words {
                path: $path,
                list: $list,
                one: $one,
                all: concat!("list ", $word, "s"),
                create: concat!("create ", $word),
                change: concat!("change ", $word),
                delete: concat!("delete ", $word),
            };
        }
    };
}
resource!(Network, "networks", "networks", "network", "network");
resource!(Subnet, "subnets", "subnets", "subnet", "subnet");
resource!(Router, "routers", "routers", "router", "router");
resource!(Group, "security-groups", "security_groups", "security_group", "security group");
resource!(Rule, "security-group-rules", "security_group_rules", "security_group_rule", "security group rule");
resource!(NetworkPort, "ports", "ports", "port", "port");
resource!(FloatingIp, "floatingips", "floatingips", "floatingip", "floating IP");

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Network {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// A mark may be in here.
    pub description: Option<String>,
    /// Whether floating IPs come from it.
    #[serde(rename = "router:external", default)]
    pub external: bool,
}

/// A subnet.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Subnet {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// A mark may be in here.
    pub description: Option<String>,
    /// The network that it is in.
    #[serde(rename = "network_id")]
    pub network: Uuid,
    /// Its addresses.
    pub cidr: IpNet,
    /// Its gateway.
    #[serde(rename = "gateway_ip")]
    pub gateway: Option<IpAddr>,
    /// Its name servers.
    #[serde(rename = "dns_nameservers", default)]
    pub dns: Vec<IpAddr>,
}

/// A router.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Router {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// A mark may be in here.
    pub description: Option<String>,
    /// Its way out.
    #[serde(rename = "external_gateway_info")]
    pub gateway: Option<RouterGateway>,
}

/// A router's way out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RouterGateway {
    /// The external network.
    #[serde(rename = "network_id")]
    pub network: Uuid,
}

/// A security group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Group {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// A mark may be in here.
    pub description: Option<String>,
    /// Its rules.
    #[serde(rename = "security_group_rules", default)]
    pub rules: Vec<Rule>,
}

/// A rule of a security group: whom it lets through. What is `None` is not asked for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Rule {
    /// Its id.
    pub id: Uuid,
    /// A mark may be in here.
    pub description: Option<String>,
    /// `ingress` or `egress`.
    pub direction: String,
    /// `IPv4` or `IPv6`.
    pub ethertype: String,
    /// `tcp`, `icmp`, …, or a number.
    pub protocol: Option<String>,
    /// The first port.
    #[serde(rename = "port_range_min")]
    pub first: Option<u16>,
    /// The last port.
    #[serde(rename = "port_range_max")]
    pub last: Option<u16>,
    /// The other side's addresses.
    #[serde(rename = "remote_ip_prefix")]
    pub prefix: Option<String>,
    /// The other side's security group.
    #[serde(rename = "remote_group_id")]
    pub group: Option<Uuid>,
}

/// A port, and what uses it.
#[derive(Debug, Clone, Deserialize)]
pub struct NetworkPort {
    /// Its id.
    pub id: Uuid,
    /// A mark may be in here.
    #[serde(default)]
    pub description: Option<String>,
    /// The network that it is in.
    #[serde(rename = "network_id")]
    pub network: Uuid,
    /// The router, server or whatever uses it.
    #[serde(rename = "device_id", default)]
    pub device: String,
    /// What kind of thing that is.
    #[serde(rename = "device_owner", default)]
    pub owner: String,
    /// Its addresses.
    #[serde(default)]
    pub fixed_ips: Vec<FixedIp>,
    /// Ids of its security groups.
    #[serde(rename = "security_groups", default)]
    pub groups: Vec<Uuid>,
}

impl NetworkPort {
    /// Whether it is a router's leg, of whichever kind of router.
    #[must_use]
    pub fn is_router_leg(&self) -> bool {
        self.owner.starts_with("network:router_interface")
            || self.owner == "network:ha_router_replicated_interface"
    }
}

/// A key pair, which belongs to a user and not to a project.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct KeyPair {
    /// Its name.
    pub name: String,
    /// Its public half: type, key, and a comment, in which a mark may be.
    pub public_key: String,
}

#[derive(Deserialize)]
struct KeyPairBody {
    keypair: KeyPair,
}

impl Cloud {
    /// Those of the project that match all filters.
    ///
    /// # Errors
    /// When Neutron does not answer well.
    pub async fn list_own<T: Resource>(
        &self,
        filters: &[(&'static str, &str)],
    ) -> Result<Vec<T>, CloudError> {
        let project = self.client.session().await?.identity.project_id.clone();
        let mut call =
            Call::get(Neutron, T::WORDS.all, "of the project", &[T::WORDS.path]).with("project_id", project);
        for (key, value) in filters {
            call = call.with(key, value);
        }
        self.client.list(call, T::WORDS.list).await
    }

    /// The pool's load balancer ports; more than one is too many.
    ///
    /// # Errors
    /// When Neutron does not answer well.
    pub async fn balancer_ports(&self, pool: &PoolName) -> Result<Vec<NetworkPort>, CloudError> {
        self.list_own(&[("device_owner", OWNER), ("device_id", &device(pool))]).await
    }

    /// The external networks of this name or id, whoever's they are.
    ///
    /// # Errors
    /// When Neutron does not answer well.
    pub async fn external_networks(&self, text: &str) -> Result<Vec<Network>, CloudError> {
        let call =
            Call::get(Neutron, "find external network", text, &["networks"]).with("router:external", true);
        let mut all: Vec<Network> = self.client.list(call, "networks").await?;
        all.retain(|network| network.external && (network.name == text || network.id.to_string() == text));
        Ok(all)
    }

    /// Makes one; `name` is for errors, `fields` are what it shall be.
    ///
    /// # Errors
    /// When Neutron refuses. Of kind `Unknown` when it may have been made all the same.
    pub async fn create<T: Resource>(&self, name: &str, fields: Value) -> Result<T, CloudError> {
        let body = json!({ T::WORDS.one: fields });
        let call = Call::post(Neutron, T::WORDS.create, name, &[T::WORDS.path], body);
        self.one(&call).await
    }

    /// Changes one.
    ///
    /// # Errors
    /// When Neutron refuses, or does not answer well.
    pub async fn change<T: Resource>(&self, id: Uuid, name: &str, fields: Value) -> Result<T, CloudError> {
        let body = json!({ T::WORDS.one: fields });
        let path = [T::WORDS.path, &id.to_string()];
        self.one(&Call::put(Neutron, T::WORDS.change, name, &path, body)).await
    }

    /// Removes one. One that is gone already is fine.
    ///
    /// # Errors
    /// When Neutron refuses, or does not answer well.
    pub async fn remove<T: Resource>(&self, id: Uuid, name: &str) -> Result<(), CloudError> {
        let path = [T::WORDS.path, &id.to_string()];
        let call = Call::delete(Neutron, T::WORDS.delete, name, &path);
        or_none(self.client.send(&call).await).map(drop)
    }

    async fn one<T: Resource>(&self, call: &Call) -> Result<T, CloudError> {
        let mut body: Map<String, Value> = self.client.json(call).await?;
        let one = body.remove(T::WORDS.one).unwrap_or_default();
        serde_path_to_error::deserialize(one)
            .map_err(|why| CloudError::unreadable(call, None, &why.to_string()))
    }

    /// Gives a router a leg in a subnet, with the subnet's gateway address; its port.
    ///
    /// # Errors
    /// When Neutron refuses, also because it has one already.
    pub async fn attach_subnet(&self, router: Uuid, subnet: Uuid) -> Result<Uuid, CloudError> {
        self.leg(router, subnet, "attach subnet to router", "add_router_interface").await
    }

    /// Takes a router's leg in a subnet away. One that is gone already is fine.
    ///
    /// # Errors
    /// When Neutron refuses, or does not answer well.
    pub async fn detach_subnet(&self, router: Uuid, subnet: Uuid) -> Result<(), CloudError> {
        let done = self.leg(router, subnet, "detach subnet from router", "remove_router_interface").await;
        or_none(done).map(drop)
    }

    async fn leg(
        &self,
        router: Uuid,
        subnet: Uuid,
        operation: &'static str,
        verb: &str,
    ) -> Result<Uuid, CloudError> {
        #[derive(Deserialize)]
        struct Body {
            port_id: Uuid,
        }
        let path = ["routers", &router.to_string(), verb];
        let object = format!("{subnet} / {router}");
        let call = Call::put(Neutron, operation, object, &path, json!({"subnet_id": subnet}));
        Ok(self.client.json::<Body>(&call).await?.port_id)
    }

    /// The user's key pairs.
    ///
    /// # Errors
    /// When Nova does not answer well.
    pub async fn key_pairs(&self) -> Result<Vec<KeyPair>, CloudError> {
        let call = Call::get(Compute, "list key pairs", "of the user", &["os-keypairs"]);
        let all: Vec<KeyPairBody> = self.client.list(call, "keypairs").await?;
        Ok(all.into_iter().map(|body| body.keypair).collect())
    }

    /// Makes a key pair of a public key.
    ///
    /// # Errors
    /// When Nova refuses. Of kind `Unknown` when it may have been made all the same.
    pub async fn import_key_pair(&self, name: &str, public_key: &str) -> Result<KeyPair, CloudError> {
        let body = json!({"keypair": {"name": name, "public_key": public_key}});
        let call = Call::post(Compute, "import key pair", name, &["os-keypairs"], body);
        Ok(self.client.json::<KeyPairBody>(&call).await?.keypair)
    }

    /// Deletes a key pair. One that is gone already is fine.
    ///
    /// # Errors
    /// When Nova refuses, or does not answer well.
    pub async fn delete_key_pair(&self, name: &str) -> Result<(), CloudError> {
        let call = Call::delete(Compute, "delete key pair", name, &["os-keypairs", name]);
        or_none(self.client.send(&call).await).map(drop)
    }
}
