//! The rules of the two security groups: who may reach the VMs, and who may reach HAProxy.

use std::fmt;

use ipnet::Ipv4Net;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::openstack::resources::Rule;

/// A rule that is wanted: it lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What.
    pub what: Traffic,
    /// From where.
    pub from: Origin,
}

/// What is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// All of ICMP.
    Icmp,
    /// One TCP port.
    Tcp(u16),
}

/// Whom it is let in from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// These addresses.
    Net(Ipv4Net),
    /// Every port in the load balancer port's security group.
    Balancer,
    /// This host, whose address is found out when the floating IP is known.
    ThisHost,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            Traffic::Icmp => f.write_str("ICMP")?,
            Traffic::Tcp(22) => f.write_str("SSH")?,
            Traffic::Tcp(port) => write!(f, "TCP port {port}")?,
        }
        match &self.from {
            Origin::Net(net) if net.prefix_len() == 0 => f.write_str(" from everywhere"),
            Origin::Net(net) if net.prefix_len() == 32 => write!(f, " from {}", net.addr()),
            Origin::Net(net) => write!(f, " from {net}"),
            Origin::Balancer => f.write_str(" from the load balancer port"),
            Origin::ThisHost => f.write_str(" from this host's address"),
        }
    }
}

impl Wanted {
    /// Whether `rule` lets in all that is wanted. `balancer` is the load balancer port's security group, once it is there.
    #[must_use]
    pub fn is_met_by(&self, rule: &Rule, balancer: Option<Uuid>) -> bool {
        let protocol = rule.protocol.as_deref();
        let what = match self.what {
            Traffic::Icmp => matches!(protocol, None | Some("icmp" | "1" | "any")) && rule.first.is_none(),
            Traffic::Tcp(port) => {
                matches!(protocol, None | Some("tcp" | "6" | "any"))
                    && rule.first.is_none_or(|first| first <= port)
                    && rule.last.is_none_or(|last| port <= last)
            }
        };
        let from = match (&self.from, rule.group, rule.prefix.as_deref()) {
            (_, None, None) => true,
            (Origin::Net(net), None, Some(prefix)) => net_of(prefix).is_some_and(|wide| wide.contains(net)),
            (Origin::Balancer, Some(group), _) => balancer == Some(group),
            _ => false,
        };
        rule.direction == "ingress" && rule.ethertype == "IPv4" && what && from
    }

    /// Whether `rule` is this very rule and no wider one.
    #[must_use]
    pub fn is(&self, rule: &Rule, balancer: Option<Uuid>) -> bool {
        let protocol = match self.what {
            Traffic::Icmp => "icmp",
            Traffic::Tcp(_) => "tcp",
        };
        let ports = match self.what {
            Traffic::Icmp => None,
            Traffic::Tcp(port) => Some(port),
        };
        let from = match &self.from {
            Origin::Net(net) if net.prefix_len() == 0 => {
                rule.group.is_none() && rule.prefix.as_deref().is_none_or(|p| net_of(p) == Some(*net))
            }
            Origin::Net(net) => rule.prefix.as_deref().and_then(net_of) == Some(*net),
            Origin::Balancer => balancer.is_some() && rule.group == balancer,
            Origin::ThisHost => false,
        };
        self.is_met_by(rule, balancer)
            && rule.protocol.as_deref() == Some(protocol)
            && rule.first == ports
            && rule.last == ports
            && from
    }

    /// The rule as Neutron takes it.
    #[must_use]
    pub fn fields(&self, group: Uuid, balancer: Option<Uuid>, mark: &str) -> Value {
        let mut fields = json!({
            "security_group_id": group,
            "direction": "ingress",
            "ethertype": "IPv4",
            "description": mark,
        });
        match self.what {
            Traffic::Icmp => fields["protocol"] = json!("icmp"),
            Traffic::Tcp(port) => {
                fields["protocol"] = json!("tcp");
                fields["port_range_min"] = json!(port);
                fields["port_range_max"] = json!(port);
            }
        }
        match &self.from {
            Origin::Net(net) => fields["remote_ip_prefix"] = json!(net),
            Origin::Balancer => fields["remote_group_id"] = json!(balancer),
            Origin::ThisHost => {}
        }
        fields
    }
}

/// Neutron shows `10.0.0.5/32` also as `10.0.0.5`.
fn net_of(prefix: &str) -> Option<Ipv4Net> {
    prefix.parse().ok().or_else(|| prefix.parse::<std::net::Ipv4Addr>().ok().map(Ipv4Net::from))
}
