//! What Neutron remembers: networks, subnets, routers, ports, floating IPs, security groups.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

/// Neutron's records.
#[derive(Debug, Default)]
pub(in super::super) struct Network {
    /// The host that all agents live on.
    pub(super) host: String,
    pub(in super::super) networks: BTreeMap<Uuid, Net>,
    pub(in super::super) subnets: BTreeMap<Uuid, Subnet>,
    pub(in super::super) routers: BTreeMap<Uuid, Router>,
    pub(in super::super) ports: BTreeMap<Uuid, Port>,
    pub(in super::super) floating_ips: BTreeMap<Uuid, FloatingIp>,
    pub(in super::super) groups: BTreeMap<Uuid, Group>,
    pub(in super::super) rules: BTreeMap<Uuid, Rule>,
    /// Limits that differ from the default, by project and resource.
    pub(super) quotas: BTreeMap<Uuid, BTreeMap<String, i64>>,
    /// Counts objects up, for `standard_attr_id` and segments.
    pub(super) counter: u32,
}

/// What all objects have.
#[derive(Debug, Clone)]
pub(in super::super) struct Base {
    pub(in super::super) id: Uuid,
    /// Nil for what Neutron made for itself; it is then shown as an empty text.
    pub(in super::super) project: Uuid,
    pub(in super::super) name: String,
    pub(in super::super) description: String,
    pub(super) tags: BTreeSet<String>,
    pub(super) created: Timestamp,
    updated: Timestamp,
    revision: u32,
}

impl Base {
    pub(in super::super) fn new(project: Uuid, name: &str, now: Timestamp) -> Self {
        Self {
            id: Uuid::new_v4(),
            project,
            name: name.to_owned(),
            description: String::new(),
            tags: BTreeSet::new(),
            created: now,
            updated: now,
            revision: 0,
        }
    }

    /// Something about the object changed.
    pub(super) fn touch(&mut self, now: Timestamp) {
        self.updated = now;
        self.revision += 1;
    }

    /// Puts the common members before and after those that the object has of its own.
    pub(super) fn view(&self, own: Value) -> Value {
        let project = if self.project.is_nil() { String::new() } else { self.project.simple().to_string() };
        let mut view = json!({"id": self.id, "name": self.name, "tenant_id": project});
        let rest = json!({
            "description": self.description,
            "tags": self.tags,
            "created_at": moment(self.created),
            "updated_at": moment(self.updated),
            "revision_number": self.revision,
            "project_id": project,
        });
        if let (Some(members), Value::Object(own), Value::Object(rest)) = (view.as_object_mut(), own, rest) {
            members.extend(own);
            members.extend(rest);
        }
        view
    }
}

fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A network.
#[derive(Debug, Clone)]
pub(in super::super) struct Net {
    pub(in super::super) base: Base,
    pub(in super::super) external: bool,
    pub(in super::super) shared: bool,
    pub(super) admin_up: bool,
    pub(super) segment: u32,
}

impl Net {
    /// External networks are seen by all, since floating IPs come from them.
    pub(in super::super) fn visible(&self, admin: bool, project: Uuid) -> bool {
        admin || self.external || self.shared || self.base.project == project
    }
}

/// A subnet; IPv4 only.
#[derive(Debug, Clone)]
pub(in super::super) struct Subnet {
    pub(in super::super) base: Base,
    pub(in super::super) network: Uuid,
    pub(super) cidr: Ipv4Net,
    pub(super) gateway: Option<Ipv4Addr>,
    pub(super) dhcp: bool,
    /// First and last address of each pool.
    pub(super) pools: Vec<(Ipv4Addr, Ipv4Addr)>,
    pub(super) nameservers: Vec<String>,
    pub(super) host_routes: Value,
    /// The address given last: the search for the next begins after it, so that a freed address is not given again at once.
    pub(super) last: Option<Ipv4Addr>,
}

/// A router.
#[derive(Debug, Clone)]
pub(in super::super) struct Router {
    pub(super) base: Base,
    pub(super) admin_up: bool,
    pub(super) gateway: Option<Gateway>,
    pub(super) routes: Value,
}

/// A router's way out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gateway {
    pub(super) network: Uuid,
    pub(super) port: Uuid,
    pub(super) snat: bool,
}

/// An address of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Fixed {
    pub(in super::super) subnet: Uuid,
    pub(in super::super) address: Ipv4Addr,
}

/// A port.
#[derive(Debug, Clone)]
pub(in super::super) struct Port {
    pub(in super::super) base: Base,
    pub(in super::super) network: Uuid,
    pub(in super::super) mac: String,
    pub(in super::super) addresses: Vec<Fixed>,
    /// Which network card of its server it is, from 0.
    pub(super) card: usize,
    /// The server, router, … that it belongs to.
    pub(in super::super) device: String,
    /// `compute:nova`, `network:router_interface`, …
    pub(super) owner: String,
    pub(super) groups: Vec<Uuid>,
    pub(super) address_pairs: Value,
    pub(super) admin_up: bool,
    pub(super) security: bool,
    /// The host that it is bound to, or empty.
    pub(super) host: String,
    pub(super) vnic: String,
    pub(super) profile: Value,
    /// Whether something is plugged.
    pub(super) up: bool,
}

impl Port {
    pub(in super::super) fn status(&self) -> &'static str {
        match self.owner.as_str() {
            "network:floatingip" => "N/A",
            _ if self.up && self.admin_up => "ACTIVE",
            _ => "DOWN",
        }
    }
}

/// A floating IP.
#[derive(Debug, Clone)]
pub(in super::super) struct FloatingIp {
    pub(super) base: Base,
    pub(in super::super) address: Ipv4Addr,
    pub(super) network: Uuid,
    /// The port on the external network that holds the address.
    pub(super) own_port: Uuid,
    pub(in super::super) port: Option<Uuid>,
    pub(super) fixed: Option<Ipv4Addr>,
    pub(super) router: Option<Uuid>,
    /// The status that it had before the last association or release …
    pub(super) was: &'static str,
    /// … which was at this moment. The new status shows a while later.
    pub(super) changed: Timestamp,
}

/// A security group.
#[derive(Debug, Clone)]
pub(in super::super) struct Group {
    pub(in super::super) base: Base,
}

/// A rule of a security group.
#[derive(Debug, Clone)]
pub(in super::super) struct Rule {
    pub(super) base: Base,
    pub(super) group: Uuid,
    /// `None` for the rules that a group is born with.
    pub(super) about: Option<String>,
    pub(super) direction: String,
    pub(super) ethertype: String,
    pub(super) protocol: Option<String>,
    pub(super) ports: (Option<u16>, Option<u16>),
    pub(super) remote_prefix: Option<String>,
    pub(super) remote_group: Option<Uuid>,
    pub(super) number: u32,
}

impl Network {
    /// The ports of a server, in the order of its network cards, or of a router.
    pub(in super::super) fn ports_of_device(&self, device: Uuid) -> impl Iterator<Item = &Port> {
        let device = device.to_string();
        let mut ports: Vec<&Port> = self.ports.values().filter(|port| port.device == device).collect();
        ports.sort_by_key(|port| port.card);
        ports.into_iter()
    }

    /// The security groups of a server's ports.
    pub(in super::super) fn groups_of_device(&self, device: Uuid) -> impl Iterator<Item = &Group> {
        let ids: BTreeSet<Uuid> = self.ports_of_device(device).flat_map(|port| port.groups.clone()).collect();
        ids.into_iter().filter_map(|id| self.groups.get(&id))
    }

    pub(in super::super) fn group_names_of_device(&self, device: Uuid) -> Vec<String> {
        self.groups_of_device(device).map(|group| group.base.name.clone()).collect()
    }

    pub(super) fn count(&mut self) -> u32 {
        self.counter += 1;
        self.counter
    }
}
