//! The plan carried out, step by step.
//!
//! What is made is written into [`Seen`] from the answer of the call that made it, not from another look: lists may lag behind. Only
//! when an answer is missing, or is a refusal, is the project looked at again: a step that is no longer in its plan is done.

use ipnet::Ipv4Net;
use serde_json::json;
use tokio::time::{Duration, sleep, timeout};
use tracing::{debug, warn};
use uuid::Uuid;

use super::{
    error::{ProvisionError, StepError, advice},
    keys::{self, PublicKey},
    plan::{Action, Plan, Role, Step, plan},
    progress::{Event, Progress},
    rules::{Origin, Wanted},
    seen::{Seen, look},
    settings::ProvisionSettings,
};
use crate::{
    core::{
        cloud::{FailureKind, ServerStatus},
        ids::{FloatingIpId, PortId, ServerId},
    },
    openstack::{
        BootRequest, Cloud, FloatingIp, LbPortRequest, Server, pool_mark,
        resources::{Group, Network, NetworkPort, Router, Rule, Subnet},
    },
};

/// The longest user data that Nova takes, bytes.
const LONGEST_USER_DATA: usize = 49_151;

/// How patient it is.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Between two looks at something that is under way, and before a step is tried again.
    pub look: Duration,
    /// How often a step is tried that fails for a reason that may go away.
    pub tries: u32,
    /// For a server to become ACTIVE, to start, or to be gone; for a snapshot too.
    pub server: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { look: Duration::from_secs(1), tries: 4, server: Duration::from_secs(900) }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// What is there now.
    pub seen: Seen,
}

/// Carries out the steps of a plan that has no obstacles.
///
/// # Errors
/// The first step that fails for good; what was made before it stays.
pub async fn apply(
    cloud: &Cloud,
    settings: &ProvisionSettings,
    seen: Seen,
    wanted: &Plan,
    pace: Pace,
    progress: Progress<'_>,
) -> Result<Outcome, ProvisionError> {
    let mark = pool_mark(&settings.pool);
    let mut work = Work { cloud, settings, mark, pace, seen, progress };
    for step in &wanted.steps {
        work.step(step).await?;
    }
    Ok(Outcome { seen: work.seen })
}

struct Work<'a> {
    cloud: &'a Cloud,
    settings: &'a ProvisionSettings,
    mark: String,
    pace: Pace,
    seen: Seen,
    progress: Progress<'a>,
}

impl Work<'_> {
    /// Carries one step out, as often as it takes.
    async fn step(&mut self, step: &Step) -> Result<(), ProvisionError> {
        (self.progress)(Event::Began(step.text.clone()));
        let mut made = 0;
        loop {
            made += 1;
            let cause = match self.perform(&step.action).await {
                Ok(detail) => {
                    let text = if detail.is_empty() {
                        step.text.clone()
                    } else {
                        format!("{}: {detail}", step.text)
                    };
                    (self.progress)(Event::Done(text));
                    return Ok(());
                }
                Err(cause) => cause,
            };
            let kind = cause.kind();
            let may_be_done =
                matches!(kind, FailureKind::Unknown | FailureKind::Transient | FailureKind::Conflict);
            if may_be_done {
                sleep(self.pace.look).await;
            }
            if matches!(cause, StepError::Cloud(_)) && self.is_done(step).await {
                debug!(step = %step, error = %cause, "it is done all the same");
                (self.progress)(Event::Done(step.text.clone()));
                return Ok(());
            }
            if !may_be_done || made >= self.pace.tries {
                (self.progress)(Event::Failed(step.text.clone()));
                return Err(ProvisionError::Step {
                    text: step.text.clone(),
                    advice: advice(&step.action, &cause),
                    cause,
                });
            }
            warn!(step = %step, error = %cause, attempt = made, "it is tried again");
            (self.progress)(Event::Again(format!("{}: {cause}", step.text)));
        }
    }

    /// Looks again: whether the step is no longer in the plan. What was found is gone on from.
    async fn is_done(&mut self, step: &Step) -> bool {
        match look(self.cloud, self.settings).await {
            Ok(seen) => {
                let still = plan(self.settings, &seen, step.action == Action::Snapshot);
                let action = match &step.action {
                    Action::AddRule(role, rule) => Action::AddRule(*role, resolved(rule, seen.from)),
                    other => other.clone(),
                };
                self.seen = seen;
                !still.steps.iter().any(|other| other.action == action)
            }
            Err(error) => {
                warn!(%error, "the project cannot be looked at");
                false
            }
        }
    }

    async fn perform(&mut self, action: &Action) -> Result<String, StepError> {
        let (cloud, settings) = (self.cloud, self.settings);
        let mark = json!(self.mark);
        match action {
            Action::CreateFloatingIp => {
                let fields = json!({"floating_network_id": self.external()?, "description": mark});
                let ip: FloatingIp = cloud.create("of the service", fields).await?;
                let address = ip.address.to_string();
                self.seen.floating_ip = Some(ip);
                self.seen.from = settings.ssh_from.or_else(|| self.seen.this_host());
                Ok(address)
            }
            Action::CreateNetwork => {
                let fields = json!({"name": settings.network, "description": mark});
                let network: Network = cloud.create(&settings.network, fields).await?;
                let id = network.id.to_string();
                self.seen.network = Some(network);
                Ok(id)
            }
            Action::CreateSubnet => {
                let fields = json!({
                    "network_id": self.network()?,
                    "name": settings.subnet,
                    "description": mark,
                    "ip_version": 4,
                    "cidr": settings.cidr,
                    "gateway_ip": settings.cidr.hosts().next(),
                    "dns_nameservers": settings.dns,
                });
                let subnet: Subnet = cloud.create(&settings.subnet, fields).await?;
                let id = subnet.id.to_string();
                self.seen.subnet = Some(subnet);
                Ok(id)
            }
            Action::SetDns => {
                let fields = json!({"dns_nameservers": settings.dns});
                self.seen.subnet = Some(cloud.change(self.subnet()?, &settings.subnet, fields).await?);
                Ok(String::new())
            }
            Action::CreateRouter => {
                let gateway = json!({"network_id": self.external()?});
                let fields =
                    json!({"name": settings.router, "description": mark, "external_gateway_info": gateway});
                let router: Router = cloud.create(&settings.router, fields).await?;
                let id = router.id.to_string();
                self.seen.router = Some(router);
                Ok(id)
            }
            Action::SetGateway => {
                let fields = json!({"external_gateway_info": {"network_id": self.external()?}});
                self.seen.router = Some(cloud.change(self.router()?, &settings.router, fields).await?);
                Ok(String::new())
            }
            Action::AttachSubnet => {
                let router = self.router()?;
                let leg = cloud.attach_subnet(router, self.subnet()?).await?;
                // A leg in a subnet of ours is known by that; in another's it needs a mark of its own.
                let fields = json!({"description": mark});
                if let Err(error) = cloud.change::<NetworkPort>(leg, &leg.to_string(), fields).await {
                    warn!(%error, "the router's leg has no mark: cleanup leaves it if the subnet is not ours");
                }
                self.seen.attached = Some(router);
                Ok(String::new())
            }
            Action::CreateGroup(role) => self.create_group(*role).await,
            Action::AddRule(role, rule) => self.add_rule(*role, rule).await,
            Action::DropRule(role, id) => {
                cloud.remove::<Rule>(*id, &id.to_string()).await?;
                if let Some(group) = self.group_mut(*role) {
                    group.rules.retain(|rule| rule.id != *id);
                }
                Ok(String::new())
            }
            Action::CreateKeyPair => self.create_key_pair().await,
            Action::DropBase => {
                if let Some(base) = self.seen.base.take() {
                    cloud.delete(base.id).await?;
                    self.until_gone(base.id).await?;
                }
                self.seen.base_port = None;
                self.seen.sources = Some(cloud.boot_sources(&settings.image, &settings.flavor).await?);
                Ok(String::new())
            }
            Action::CreateBase => self.create_base().await,
            Action::AwaitBase => {
                let id = self.base()?;
                self.until_active(id).await
            }
            Action::StartBase => {
                let id = self.base()?;
                cloud.start(id).await?;
                self.until_active(id).await
            }
            Action::CreateBalancerPort => {
                let host = self.seen.base.as_ref().and_then(|base| base.host.clone());
                let request = LbPortRequest {
                    pool: settings.pool.clone(),
                    network: self.network()?,
                    host: host.unwrap_or_else(hostname),
                    security_groups: vec![self.group(Role::Balancer)?.to_string()],
                };
                let port = cloud.ensure_lb_port(&request).await?;
                self.seen.balancer = cloud.balancer_ports(&settings.pool).await?.into_iter().next();
                Ok(port.address.to_string())
            }
            Action::JoinGroup(role) => {
                let group = self.group(*role)?;
                let port = match role {
                    Role::Members => &mut self.seen.base_port,
                    Role::Balancer => &mut self.seen.balancer,
                };
                let own = port.as_ref().ok_or(StepError::Order("the port"))?;
                let groups: Vec<Uuid> = own.groups.iter().copied().chain([group]).collect();
                let name = own.id.to_string();
                *port = Some(cloud.change(own.id, &name, json!({"security_groups": groups})).await?);
                Ok(String::new())
            }
            Action::Associate => {
                let port = self.seen.base_port.as_ref().ok_or(StepError::Order("the base's port"))?;
                let ip = self.seen.floating_ip.as_mut().ok_or(StepError::Order("the floating IP"))?;
                let (id, target): (FloatingIpId, PortId) = (ip.id, PortId(port.id));
                cloud.associate(id, target).await?;
                ip.port = Some(target);
                Ok(ip.address.to_string())
            }
            Action::Snapshot => {
                let made = timeout(self.pace.server, cloud.snapshot(self.base()?, &settings.pool)).await;
                let image =
                    made.map_err(|_| StepError::Server("the snapshot is not active in time".into()))??;
                self.seen.snapshots += 1;
                Ok(image.to_string())
            }
        }
    }

    async fn create_group(&mut self, role: Role) -> Result<String, StepError> {
        let name = match role {
            Role::Members => self.settings.security_group.clone(),
            Role::Balancer => self.settings.balancer_group(),
        };
        let fields = json!({"name": name, "description": self.mark});
        let group: Group = self.cloud.create(&name, fields).await?;
        let id = group.id.to_string();
        match role {
            Role::Members => self.seen.members = Some(group),
            Role::Balancer => self.seen.balancer_group = Some(group),
        }
        Ok(id)
    }

    async fn add_rule(&mut self, role: Role, rule: &Wanted) -> Result<String, StepError> {
        let rule = resolved(rule, self.seen.from);
        if rule.from == Origin::ThisHost {
            let towards = self.seen.floating_ip.as_ref();
            let towards = towards.map_or_else(|| "the VMs".to_owned(), |ip| ip.address.to_string());
            return Err(StepError::NoAddress(towards));
        }
        let balancer = self.seen.balancer_group.as_ref().map(|group| group.id);
        let fields = rule.fields(self.group(role)?, balancer, &self.mark);
        let made: Rule = self.cloud.create(&rule.to_string(), fields).await?;
        if let Some(group) = self.group_mut(role) {
            group.rules.push(made);
        }
        Ok(match rule.from {
            Origin::Net(net) => net.to_string(),
            Origin::Balancer | Origin::ThisHost => String::new(),
        })
    }

    async fn create_key_pair(&mut self) -> Result<String, StepError> {
        let (settings, mark) = (self.settings, self.mark.clone());
        let mut detail = String::new();
        let key: PublicKey = match self.seen.key.clone() {
            Some(key) => key,
            None => {
                detail = settings.key_file.display().to_string();
                keys::make(&settings.key_file, &mark).await?
            }
        };
        self.seen.key = Some(key.clone());
        let pair = self.cloud.import_key_pair(&settings.key_name, &key.with_comment(&mark)).await?;
        self.seen.key_pair = Some(pair);
        Ok(detail)
    }

    async fn create_base(&mut self) -> Result<String, StepError> {
        let settings = self.settings;
        let user_data = match &settings.user_data {
            None => None,
            Some(path) => {
                let bytes = tokio::fs::read(path).await;
                let bytes = bytes.map_err(|why| StepError::File(format!("{}: {why}", path.display())))?;
                if bytes.len() > LONGEST_USER_DATA {
                    let why = format!(
                        "{}: {} bytes, and Nova takes {LONGEST_USER_DATA}",
                        path.display(),
                        bytes.len()
                    );
                    return Err(StepError::File(why));
                }
                Some(bytes)
            }
        };
        let request = BootRequest {
            name: settings.base.clone(),
            pool: settings.pool.clone(),
            sources: self.seen.sources.clone().ok_or(StepError::Order("the image"))?,
            network: self.network()?,
            security_groups: vec![self.group(Role::Members)?],
            key_name: settings.key_name.clone(),
            user_data,
        };
        let id = self.cloud.boot(&request).await?;
        self.until_active(id).await
    }

    /// Waits until a server is ACTIVE, and has a port.
    async fn until_active(&mut self, id: ServerId) -> Result<String, StepError> {
        let active = async {
            loop {
                let server = self.cloud.server(id).await?;
                let server = server.ok_or_else(|| StepError::Server("it is gone again".to_owned()))?;
                match server.status() {
                    ServerStatus::Active if server.task_state.is_none() => {
                        return Ok::<Server, StepError>(server);
                    }
                    ServerStatus::Error => {
                        let why =
                            server.fault.map_or_else(|| "no reason given".to_owned(), |fault| fault.message);
                        return Err(StepError::Server(format!(
                            "Nova put it into ERROR: {why}; mend the cause, then run this again: it is made anew"
                        )));
                    }
                    _ => sleep(self.pace.look).await,
                }
            }
        };
        let late = || {
            StepError::Server(format!(
                "server {id} is not ACTIVE after {} s: look at it with `openstack server show {id}`, then run this again",
                self.pace.server.as_secs()
            ))
        };
        let server = timeout(self.pace.server, active).await.map_err(|_| late())??;
        let ports: Vec<NetworkPort> = self.cloud.list_own(&[("device_id", id.to_string().as_str())]).await?;
        let network = self.network()?;
        self.seen.base_port = ports.into_iter().find(|port| port.network == network);
        self.seen.base = Some(server);
        Ok(id.to_string())
    }

    async fn until_gone(&self, id: ServerId) -> Result<(), StepError> {
        let gone = async {
            while let Some(server) = self.cloud.server(id).await? {
                if server.status() == ServerStatus::Deleted {
                    break;
                }
                sleep(self.pace.look).await;
            }
            Ok::<(), StepError>(())
        };
        timeout(self.pace.server, gone).await.map_err(|_| {
            StepError::Server(format!("server {id} is not gone after {} s", self.pace.server.as_secs()))
        })?
    }

    fn external(&self) -> Result<Uuid, StepError> {
        self.seen.external.as_ref().map(|network| network.id).ok_or(StepError::Order("the external network"))
    }

    fn network(&self) -> Result<Uuid, StepError> {
        self.seen.network.as_ref().map(|network| network.id).ok_or(StepError::Order("the network"))
    }

    fn subnet(&self) -> Result<Uuid, StepError> {
        self.seen.subnet.as_ref().map(|subnet| subnet.id).ok_or(StepError::Order("the subnet"))
    }

    fn router(&self) -> Result<Uuid, StepError> {
        self.seen.router.as_ref().map(|router| router.id).ok_or(StepError::Order("the router"))
    }

    fn base(&self) -> Result<ServerId, StepError> {
        self.seen.base.as_ref().map(|base| base.id).ok_or(StepError::Order("the base"))
    }

    fn group(&self, role: Role) -> Result<Uuid, StepError> {
        let group = match role {
            Role::Members => &self.seen.members,
            Role::Balancer => &self.seen.balancer_group,
        };
        group.as_ref().map(|group| group.id).ok_or(StepError::Order("the security group"))
    }

    fn group_mut(&mut self, role: Role) -> Option<&mut Group> {
        match role {
            Role::Members => self.seen.members.as_mut(),
            Role::Balancer => self.seen.balancer_group.as_mut(),
        }
    }
}

/// The rule, with this host's address when it is known.
fn resolved(rule: &Wanted, from: Option<Ipv4Net>) -> Wanted {
    match (&rule.from, from) {
        (Origin::ThisHost, Some(net)) => Wanted { what: rule.what, from: Origin::Net(net) },
        _ => rule.clone(),
    }
}

fn hostname() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
