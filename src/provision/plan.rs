//! From what is there to what is missing. Pure: the same look gives the same plan, and nothing left to do gives an empty one.

use std::fmt;

use ipnet::IpNet;
use uuid::Uuid;

use super::{
    keys::{self, PublicKey},
    rules::{Origin, Traffic, Wanted},
    seen::Seen,
    settings::{ProvisionSettings, Vip},
};
use crate::{
    core::cloud::ServerStatus,
    openstack::{pool_mark, resources::Group},
};

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub steps: Vec<Step>,
    /// What is there and used as it is, and what else one should know.
    pub notes: Vec<String>,
    /// Why nothing can be done; each says what to do about it.
    pub obstacles: Vec<String>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What.
    pub action: Action,
    /// The same in words, as after "failed to".
    pub text: String,
    /// Whether it mends something that is there, instead of making something new.
    pub mends: bool,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Which of the two security groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The VMs'.
    Members,
    /// The load balancer port's.
    Balancer,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A floating IP for the service.
    CreateFloatingIp,
    /// The network.
    CreateNetwork,
    /// The subnet.
    CreateSubnet,
    /// The subnet's name servers.
    SetDns,
    /// The router, with its gateway.
    CreateRouter,
    /// A gateway for a router that has none.
    SetGateway,
    /// The router's leg in the subnet.
    AttachSubnet,
    /// A security group.
    CreateGroup(Role),
    /// A rule that is missing.
    AddRule(Role, Wanted),
    /// A rule of ours that is not wanted any more.
    DropRule(Role, Uuid),
    /// The key pair; first the key file, when there is none.
    CreateKeyPair,
    /// A base of ours that Nova could not build, and that never ran.
    DropBase,
    /// The base.
    CreateBase,
    /// Nothing but to wait until the base is ACTIVE.
    AwaitBase,
    /// The base is off.
    StartBase,
    /// The load balancer port.
    CreateBalancerPort,
    /// A security group that a port lacks.
    JoinGroup(Role),
    /// The floating IP leads nowhere.
    Associate,
    /// The first snapshot.
    Snapshot,
}

/// Makes the plan; with `snapshot`, the pool's first snapshot belongs to it.
#[must_use]
pub fn plan(settings: &ProvisionSettings, seen: &Seen, snapshot: bool) -> Plan {
    let mark = pool_mark(&settings.pool);
    let mut planner = Planner { settings, seen, mark, plan: Plan::default() };
    planner.plan.obstacles.clone_from(&seen.problems);
    planner.address();
    planner.network();
    planner.router();
    // The VMs' group has a rule that names the load balancer port's.
    if settings.vip == Vip::Port {
        planner.group(Role::Balancer);
    }
    planner.group(Role::Members);
    planner.key_pair();
    planner.base();
    planner.balancer();
    planner.association();
    if snapshot && seen.snapshots == 0 {
        planner.make(Action::Snapshot, format!("make the first snapshot of server {}", settings.base));
    }
    planner.plan
}

struct Planner<'a> {
    settings: &'a ProvisionSettings,
    seen: &'a Seen,
    mark: String,
    plan: Plan,
}

impl Planner<'_> {
    fn make(&mut self, action: Action, text: String) {
        self.plan.steps.push(Step { action, text, mends: false });
    }

    fn mend(&mut self, action: Action, text: String) {
        self.plan.steps.push(Step { action, text, mends: true });
    }

    /// Says of something that is there and not ours that it is used.
    fn used(&mut self, what: &str, name: &str, description: Option<&str>) {
        if description != Some(self.mark.as_str()) {
            let note = format!("{what} {name} is there and not ours: it is used, and cleanup leaves it");
            self.plan.notes.push(note);
        }
    }

    fn address(&mut self) {
        let (settings, seen) = (self.settings, self.seen);
        let Some(external) = &seen.external else {
            self.plan.obstacles.push(format!(
                "there is no external network {}: `openstack network list --external` shows those that are, choose one with --external",
                settings.external
            ));
            return;
        };
        match &seen.floating_ip {
            None if settings.vip == Vip::Static || settings.address.is_some() => {}
            None => self.make(
                Action::CreateFloatingIp,
                format!("create floating IP for the service from {}", external.name),
            ),
            Some(ip) => self.used("floating IP", &ip.address.to_string(), ip.description.as_deref()),
        }
    }

    fn network(&mut self) {
        let (settings, seen) = (self.settings, self.seen);
        match &seen.network {
            None => self.make(Action::CreateNetwork, format!("create network {}", settings.network)),
            Some(network) => self.used("network", &network.name, network.description.as_deref()),
        }
        let Some(subnet) = &seen.subnet else {
            let text = format!("create subnet {} ({})", settings.subnet, settings.cidr);
            return self.make(Action::CreateSubnet, text);
        };
        self.used("subnet", &subnet.name, subnet.description.as_deref());
        if subnet.cidr != IpNet::V4(settings.cidr) {
            self.plan.obstacles.push(format!(
                "subnet {} has {} and not {}: say --cidr {}, or choose another name with --subnet",
                subnet.name, subnet.cidr, settings.cidr, subnet.cidr
            ));
        }
        if subnet.gateway.is_none() {
            self.plan.obstacles.push(format!(
                "subnet {} has no gateway, and floating IPs need one: `openstack subnet set --gateway auto` cannot add it to every \
                 cloud; choose another name with --subnet",
                subnet.name
            ));
        }
        let ours = subnet.description.as_deref() == Some(self.mark.as_str());
        let mut servers: Vec<_> = settings.dns.iter().map(|dns| std::net::IpAddr::V4(*dns)).collect();
        let mut set = subnet.dns.clone();
        // Neutron does not keep their order.
        servers.sort();
        set.sort();
        if ours && servers != set {
            let text = format!("set the name servers of subnet {}", subnet.name);
            self.mend(Action::SetDns, text);
        }
    }

    fn router(&mut self) {
        let (settings, seen) = (self.settings, self.seen);
        let name = &settings.router;
        match (&seen.router, &seen.external) {
            (None, _) => {
                self.make(
                    Action::CreateRouter,
                    format!("create router {name} with its gateway to {}", settings.external),
                );
            }
            (Some(router), Some(external)) => {
                self.used("router", name, router.description.as_deref());
                match &router.gateway {
                    None => {
                        let text = format!("set the gateway of router {name} to {}, which it lacks", external.name);
                        self.mend(Action::SetGateway, text);
                    }
                    Some(gateway) if gateway.network != external.id => self.plan.obstacles.push(format!(
                        "router {name} has its gateway in network {} and not in {}: choose that one with --external, or another \
                         router with --router",
                        gateway.network, external.name
                    )),
                    Some(_) => {}
                }
            }
            (Some(_), None) => {}
        }
        let router = seen.router.as_ref().map(|router| router.id);
        match seen.attached {
            Some(other) if Some(other) != router => self.plan.obstacles.push(format!(
                "subnet {} is attached to another router, {other}: name that one with --router",
                settings.subnet
            )),
            Some(_) => {}
            None => {
                let text = format!("attach subnet {} to router {name}", settings.subnet);
                // A router and a subnet that are both there and not joined are something broken.
                if router.is_some() && seen.subnet.is_some() {
                    self.mend(Action::AttachSubnet, text);
                } else {
                    self.make(Action::AttachSubnet, text);
                }
            }
        }
    }

    fn group(&mut self, role: Role) {
        let (settings, seen) = (self.settings, self.seen);
        let (name, group) = match role {
            Role::Members => (settings.security_group.clone(), &seen.members),
            Role::Balancer => (settings.balancer_group(), &seen.balancer_group),
        };
        let balancer = seen.balancer_group.as_ref().map(|group| group.id);
        let wanted = wanted(settings, seen, role);
        let Some(group) = group else {
            self.make(Action::CreateGroup(role), format!("create security group {name}"));
            for rule in wanted {
                let text = format!("let in {rule} (security group {name})");
                self.make(Action::AddRule(role, rule), text);
            }
            return;
        };
        self.used("security group", &name, group.description.as_deref());
        for rule in &wanted {
            if !group.rules.iter().any(|own| rule.is_met_by(own, balancer)) {
                let text = format!("let in {rule} again (security group {name} lacks the rule)");
                self.mend(Action::AddRule(role, rule.clone()), text);
            }
        }
        self.superfluous(role, group, &wanted, balancer);
    }

    /// Rules that let in more than is wanted: ours go, others' are named.
    fn superfluous(&mut self, role: Role, group: &Group, wanted: &[Wanted], balancer: Option<Uuid>) {
        // Until it is known who may come in, nobody is shut out.
        if wanted.iter().any(|rule| rule.from == Origin::ThisHost) {
            return;
        }
        let extra = group.rules.iter().filter(|rule| {
            rule.direction == "ingress" && !wanted.iter().any(|wanted| wanted.is(rule, balancer))
        });
        for rule in extra {
            let what = format!(
                "{} {} from {}",
                rule.protocol.as_deref().unwrap_or("everything"),
                rule.first.map_or_else(String::new, |port| port.to_string()),
                rule.prefix
                    .clone()
                    .or_else(|| rule.group.map(|id| id.to_string()))
                    .unwrap_or_else(|| "everywhere".into())
            );
            if rule.description.as_deref() == Some(self.mark.as_str()) {
                let text = format!("take back the rule for {what} (security group {})", group.name);
                self.mend(Action::DropRule(role, rule.id), text);
            } else if group.description.as_deref() == Some(self.mark.as_str()) {
                self.plan.notes.push(format!(
                    "security group {} has a rule that is not ours and lets in more: {what} ({})",
                    group.name, rule.id
                ));
            }
        }
    }

    fn key_pair(&mut self) {
        let (settings, seen) = (self.settings, self.seen);
        let name = &settings.key_name;
        match (&seen.key_pair, &seen.key) {
            (None, Some(_)) => self.make(Action::CreateKeyPair, format!("import key pair {name}")),
            (None, None) => {
                let file = settings.key_file.display();
                self.make(Action::CreateKeyPair, format!("make key {file} and import it as key pair {name}"));
            }
            (Some(pair), key) => {
                if keys::comment(&pair.public_key) != Some(self.mark.as_str()) {
                    self.plan.notes.push(format!(
                        "key pair {name} is there and not ours: it is used, and cleanup leaves it"
                    ));
                }
                let here = settings.public_key.as_ref().unwrap_or(&settings.key_file).display();
                match key {
                    Some(key) if PublicKey::read(&pair.public_key).as_ref() != Some(key) => {
                        self.plan.obstacles.push(format!(
                            "key pair {name} exists with another key than {here}: choose another name with --key-name, give the key \
                             that it has with --public-key, or remove it with `openstack keypair delete {name}`"
                        ));
                    }
                    Some(_) => {}
                    None => self.plan.notes.push(format!(
                        "key pair {name} exists and its private key is not in {here}: only who has it can log in"
                    )),
                }
            }
        }
    }

    fn base(&mut self) {
        let (settings, seen) = (self.settings, self.seen);
        let name = &settings.base;
        let Some(base) = &seen.base else {
            if seen.clones.is_empty() {
                self.make(
                    Action::CreateBase,
                    format!(
                        "create server {name} ({}, {}) and wait until it is ACTIVE",
                        settings.image, settings.flavor
                    ),
                );
            } else {
                self.plan.notes.push(format!(
                    "there is no server {name}, but the pool has moved on and lives in {}: none is made",
                    seen.clones.join(", ")
                ));
            }
            return;
        };
        let ours = base.is_of(&settings.pool);
        if !ours {
            self.plan
                .notes
                .push(format!("server {name} is there and not ours: it is used, and cleanup leaves it"));
        }
        match base.status() {
            ServerStatus::Active => {}
            ServerStatus::Build => self.make(Action::AwaitBase, format!("wait until server {name} is ACTIVE")),
            ServerStatus::Shutoff => self.mend(Action::StartBase, format!("start server {name}, which is off")),
            ServerStatus::Error if ours => {
                let fault = base.fault.as_ref().map_or("no reason given", |fault| fault.message.trim());
                if !base.never_ran() {
                    let id = base.id;
                    return self.plan.obstacles.push(format!(
                        "server {name} ({id}) is in ERROR and has run before, so it is not replaced ({fault}): bring it back with \
                         `openstack server reboot --hard {id}`, or with `openstack server set --state active {id}` if its service \
                         answers; if nothing on it is needed, `openstack server delete {id}` and provision again"
                    ));
                }
                self.mend(Action::DropBase, format!("delete server {name}, which Nova could not build: {fault}"));
                self.make(Action::CreateBase, format!("create server {name} anew and wait until it is ACTIVE"));
            }
            status => self.plan.obstacles.push(format!(
                "server {name} ({}) is {status:?}: bring it to ACTIVE first, or choose another base with --base",
                base.id
            )),
        }
        if let (true, Some(group), Some(port)) = (ours, &seen.members, &seen.base_port)
            && !port.groups.contains(&group.id)
        {
            let text = format!("put server {name} into security group {}", group.name);
            self.mend(Action::JoinGroup(Role::Members), text);
        }
    }

    fn balancer(&mut self) {
        let (settings, seen) = (self.settings, self.seen);
        if settings.vip != Vip::Port {
            return;
        }
        let Some(port) = &seen.balancer else {
            let text = format!("create the load balancer port in network {}", settings.network);
            return self.make(Action::CreateBalancerPort, text);
        };
        if seen.network.as_ref().is_some_and(|network| network.id != port.network) {
            self.plan.obstacles.push(format!(
                "the pool's load balancer port {} is in another network, {}: name that one with --net, or delete the port",
                port.id, port.network
            ));
        }
        if seen.balancer_group.as_ref().is_none_or(|group| !port.groups.contains(&group.id)) {
            let text =
                format!("put the load balancer port into security group {}", settings.balancer_group());
            self.mend(Action::JoinGroup(Role::Balancer), text);
        }
    }

    fn association(&mut self) {
        let (settings, seen) = (self.settings, self.seen);
        if settings.vip == Vip::Static {
            return;
        }
        let Some(target) = seen.floating_ip.as_ref().map_or(Some(None), |ip| Some(ip.port)) else { return };
        let name = &settings.base;
        match target {
            None if seen.base.is_none() && !seen.clones.is_empty() => self
                .plan
                .notes
                .push("the service's floating IP leads nowhere: the daemon takes it when it runs".to_owned()),
            None => self.make(Action::Associate, format!("lead the service's floating IP to server {name}")),
            Some(holder) => {
                let known = [&seen.base_port, &seen.balancer];
                let known = known.iter().any(|port| port.as_ref().is_some_and(|port| port.id == holder.0));
                if !known && seen.clones.is_empty() {
                    self.plan.notes.push(format!(
                        "the service's floating IP leads to port {holder}, which is neither the base's nor ours: it is left there"
                    ));
                }
            }
        }
    }
}

/// The rules that a group is to have.
fn wanted(settings: &ProvisionSettings, seen: &Seen, role: Role) -> Vec<Wanted> {
    let host = || seen.from.map_or(Origin::ThisHost, Origin::Net);
    let service = Traffic::Tcp(settings.port);
    match role {
        Role::Members => {
            // The service from the host itself is for a try before the daemon has taken over; clients come through HAProxy.
            let mut all = vec![
                Wanted { what: Traffic::Tcp(22), from: host() },
                Wanted { what: Traffic::Icmp, from: Origin::Net(settings.cidr) },
                Wanted { what: service, from: host() },
            ];
            if settings.vip == Vip::Port {
                // That port is this host's leg in the members' network, and the only way to a member whose floating IP has moved to it.
                all.push(Wanted { what: Traffic::Tcp(22), from: Origin::Balancer });
                all.push(Wanted { what: service, from: Origin::Balancer });
            }
            // A service on port 22 has each rule once: Neutron refuses the second.
            let mut rules = Vec::new();
            for rule in all {
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
            rules
        }
        Role::Balancer => {
            vec![Wanted { what: service, from: Origin::Net(ipnet::Ipv4Net::default()) }]
        }
    }
}
