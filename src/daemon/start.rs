//! From a configuration to a running loop: look first, then refuse or go on, and change nothing before everything was looked at.
//!
//! A pool that is new to us must be all right: whatever is wrong is said, and nothing is touched. A pool that we have served
//! before is resumed whatever is missing at the moment: its traffic flows without us, and the sources go on asking. When its state is
//! lost, it is known by its marks.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, watch};
use tracing::{info, warn};

use super::{
    address::{AddressError, Found, ServiceAddress, Way},
    clock::SteadyClock,
    cloud,
    executor::Executor,
    notify::Notifier,
    publish::Publisher,
    run::{Loop, LoopError, Reread},
    sources::{Focus, Sources},
};
use crate::{
    admin::{
        Surroundings,
        server::{AdminError, Ports, Server as AdminServer},
    },
    config::{Config, PrepareError},
    core::{
        cloud::{FailureKind, ServerStatus},
        ids::ServerId,
        machine::Machine,
        recover::{Facts, recover},
        state::State,
        time::Timestamp,
    },
    exit::Exit,
    guests::{self, Guests, GuestsError},
    haproxy::{self, Finding, Haproxy, HaproxyError, HaproxySettings},
    openstack::{Cloud, CloudError, LbPort, Reach, Server},
    store::{Store, StoreError},
    telemetry::Metrics,
    vip::{
        self, InvalidMac, PlugSpec, VipError,
        settings::{VipMode, VipSettings},
    },
};

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The state or its lock.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The pool's directories.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// The admin socket.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The cloud.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// libvirt.
    #[error(transparent)]
    Guests(#[from] GuestsError),
    /// HAProxy.
    #[error(transparent)]
    Haproxy(#[from] HaproxyError),
    /// Something that HAProxy needs; nothing was begun.
    #[error("{0}")]
    Unfit(String, Exit),
    /// The service address.
    #[error("{0}")]
    Address(String, FailureKind),
    /// The namespace and its links.
    #[error(transparent)]
    Plug(#[from] VipError),
    /// Neutron's word for a hardware address.
    #[error(transparent)]
    Mac(#[from] InvalidMac),
    /// The base is not fit to be taken over.
    #[error("take over server {name} ({id}): it is {status}, and must be ACTIVE: {advice}")]
    Base {
        /// Its name.
        name: String,
        /// Its id.
        id: ServerId,
        /// How it is, in Nova's word.
        status: String,
        /// What to do.
        advice: String,
    },
    /// The loop ended by itself.
    #[error(transparent)]
    Loop(#[from] LoopError),
}

impl From<AddressError> for DaemonError {
    fn from(error: AddressError) -> Self {
        Self::Address(error.to_string(), error.kind())
    }
}

impl DaemonError {
    /// The program's exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Store(error) => error.exit(),
            Self::Admin(AdminError::InUse(_)) => Exit::NotRunning,
            Self::Cloud(error) => error.kind().into(),
            Self::Address(_, kind) => (*kind).into(),
            Self::Unfit(_, exit) => *exit,
            Self::Guests(error) if error.kind() == FailureKind::Unauthorized => Exit::NoPermission,
            Self::Guests(_) | Self::Base { .. } => Exit::Unavailable,
            Self::Haproxy(error) => exit_of_haproxy(error),
            Self::Plug(error) => error.kind().into(),
            Self::Prepare(error) if error.source.kind() == std::io::ErrorKind::PermissionDenied => {
                Exit::NoPermission
            }
            Self::Loop(LoopError::Source(_)) => Exit::Internal,
            Self::Prepare(_) | Self::Admin(_) | Self::Mac(_) | Self::Loop(LoopError::Signals(_)) => {
                Exit::Failure
            }
        }
    }
}

/// A program that is missing or too old is something else than a setting or a template that is wrong.
pub(crate) fn exit_of_haproxy(error: &HaproxyError) -> Exit {
    match error {
        HaproxyError::Binary { .. } => Exit::Unavailable,
        HaproxyError::Setting { .. } | HaproxyError::Template { .. } => Exit::Config,
        other => other.kind().into(),
    }
}

/// Runs the daemon until it is told to end.
///
/// # Errors
/// [`DaemonError`] when it cannot begin; then nothing was changed that a later start would not go on from.
pub async fn run(mut config: Config, reread: Reread) -> Result<(), DaemonError> {
    let clock = SteadyClock::start();
    config.prepare()?;
    let pool = config.core.pool.clone();
    let store: Store<State> = Store::open(&config.places.state_dir, &pool)?;
    let (publish, published) = watch::channel(None);
    let (commands, admin) = mpsc::channel(8);
    let metrics = Arc::new(Metrics::new());
    let encode = {
        let metrics = Arc::clone(&metrics);
        Arc::new(move || metrics.encode())
    };
    let server = AdminServer::bind(&config.places.admin).await?;
    let serving = tokio::spawn(server.serve(Ports { published, commands, metrics: encode }));

    let stored = store.load()?;
    if let Some(warning) = &stored.warning {
        warn!(reason = %warning, "the stored state");
    }
    let known: Vec<ServerId> =
        stored.state.iter().flat_map(|s| s.members.iter().map(|m| m.id).chain(s.moving())).collect();
    let fresh = known.is_empty();

    let observer = Arc::clone(&metrics);
    let cloud = Cloud::observed(config.cloud.clone(), move |exchange| {
        observer.request(exchange.service, exchange.operation, exchange.status, exchange.elapsed);
    })?;
    let kept = stored.state.as_ref().and_then(|state| state.service_address);
    let address = ServiceAddress::new(cloud.clone(), config.vip.clone(), &config.haproxy).stored(kept);
    let address = Arc::new(address);

    // Look.
    bind_to(&mut config, &address);
    let moved_on = fresh && lives_by_marks(&cloud, &config, clock.now()).await?;
    let new = fresh && !moved_on;
    let base = find_base(&cloud, &config.core.base, fresh, moved_on).await?;
    if new {
        if let Some(base) = &base {
            fit(base)?;
        }
        guests::inspect(&config.guests).await?;
        address.look(base.as_ref()).await?;
    } else if let Err(error) =
        address.look_again(base.as_ref().filter(|b| fresh || known.contains(&b.id))).await
    {
        if fresh {
            return Err(error.into());
        }
        warn!(reason = %error, "the service address is not known yet");
    }

    bind_to(&mut config, &address);
    if new {
        fit_for_haproxy(&config.haproxy).await?;
    }
    let mut balancer = Haproxy::new(config.haproxy.clone())?;

    // Then act.
    if fresh {
        address.ensure(base.as_ref(), &hostname()).await?;
    }
    if let Err(error) = plug(&address, &config.vip).await {
        if new {
            return Err(error);
        }
        warn!(reason = %error, "the load balancer port is not plugged as it should be");
    }
    let lb = balancer.observe().await.ok();
    let servers = match cloud::observe(&cloud, &address.reach(), &pool, &known).await {
        Ok(servers) => servers,
        Err(error) if fresh => return Err(error.into()),
        Err(error) => {
            warn!(reason = %error, "Nova does not answer yet; the stored state is resumed without it");
            Vec::new()
        }
    };
    let facts = Facts {
        servers,
        base: base.as_ref().map(|base| base.facts(&address.reach())),
        lb,
        vip: Some(address.seen().await),
        older: stored.warning.is_some(),
    };
    let now = clock.now();
    let state = recover(stored.state, &facts, &config.core, now);
    balancer.ensure_running(&state.lb_model()).await?;
    let machine = Machine::new(state, config.core.clone(), now);

    let guests = Arc::new(Guests::start(config.guests.clone()));
    let haproxy = Arc::new(Mutex::new(balancer));
    let (sender, events) = mpsc::channel(64);
    let (focus, focused) = watch::channel(Focus::default());
    let sources = Sources {
        pool,
        guests,
        sample: config.core.policy.sample,
        metrics: Arc::clone(&metrics),
        haproxy: Arc::clone(&haproxy),
        address: Arc::clone(&address),
        focus: focused,
        events: sender.clone(),
    };
    let around = Surroundings {
        vip_mode: address.way().to_owned(),
        haproxy_version: crate::haproxy::version(&config.haproxy.binary).await.ok(),
        started: now,
        ..Surroundings::default()
    };
    let executor = Executor {
        settings: config.core,
        haproxy,
        address: Arc::clone(&address),
        metrics: Arc::clone(&metrics),
    };
    let ended = Loop {
        clock,
        machine,
        store,
        executor: Arc::new(executor),
        events,
        sender,
        admin,
        focus,
        publisher: Publisher::new(address, metrics, around, publish),
        notifier: Notifier::new(),
        reread,
        sources: sources.start(),
    }
    .run()
    .await;
    serving.abort();
    Ok(ended?)
}

/// HAProxy listens on the service address where nothing else is said.
fn bind_to(config: &mut Config, address: &ServiceAddress) {
    if config.haproxy.binds.is_empty()
        && let Some(found) = address.address()
    {
        config.haproxy.binds.push((found, config.core.service_port).into());
    }
}

/// Whether a pool without a state has members all the same: those that it would be rebuilt of without its base.
async fn lives_by_marks(cloud: &Cloud, config: &Config, now: Timestamp) -> Result<bool, CloudError> {
    let servers = cloud::observe(cloud, &Reach::Fixed { network: None }, &config.core.pool, &[]).await?;
    if servers.is_empty() {
        return Ok(false);
    }
    let lb = match Haproxy::new(config.haproxy.clone()) {
        Ok(balancer) => balancer.observe().await.ok(),
        Err(_) => None,
    };
    let facts = Facts { servers, lb, ..Facts::default() };
    let members = recover(None, &facts, &config.core, now).members;
    for member in &members {
        info!(server = %member.id, name = %member.name, "no state is stored, but this server carries the pool's mark");
    }
    Ok(!members.is_empty())
}

/// The VM that the operator named. A pool that has moved on may do without it: one that is resumed whatever keeps it from being found,
/// one that is known by its marks only when there surely is none.
async fn find_base(
    cloud: &Cloud,
    name: &str,
    fresh: bool,
    moved_on: bool,
) -> Result<Option<Server>, DaemonError> {
    match cloud.find_server(name).await {
        Ok(server) => Ok(Some(server)),
        Err(error) if fresh && !(moved_on && error.kind() == FailureKind::NotFound) => {
            Err(no_base(error).into())
        }
        Err(error) => {
            info!(reason = %error, "the base named in the configuration is not there; the pool is resumed without it");
            Ok(None)
        }
    }
}

/// Everything that HAProxy needs, tried before anything is changed; all that is wrong is said at once.
async fn fit_for_haproxy(settings: &HaproxySettings) -> Result<(), DaemonError> {
    let mut wrong = Vec::new();
    let mut exit = Exit::Ok;
    for Finding { outcome, .. } in haproxy::preflight(settings).await {
        if let Err(why) = outcome {
            let worse = exit_of_haproxy(&why);
            exit = if worse as u8 > exit as u8 { worse } else { exit };
            wrong.push(why.to_string());
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(DaemonError::Unfit(wrong.join("; failed to "), exit)) }
}

/// What to do when the VM that is named as base is not the one of its name.
pub(crate) fn no_base(error: CloudError) -> CloudError {
    match error.kind() {
        FailureKind::NotFound | FailureKind::Conflict => {
            error.advise("say which VM is the base with --base (pool.base)")
        }
        _ => error,
    }
}

/// Whether a base can be taken over.
pub(crate) fn fit(base: &Server) -> Result<(), DaemonError> {
    let advice = match base.status() {
        ServerStatus::Active => return Ok(()),
        ServerStatus::Shutoff => format!("start it with `openstack server start {}`", base.id),
        ServerStatus::Error => match &base.fault {
            Some(fault) => format!("Nova says {:?}; mend or replace it", fault.message.trim()),
            None => {
                format!("look at its fault with `openstack server show {}`, and mend or replace it", base.id)
            }
        },
        ServerStatus::Build => "wait until Nova has built it".to_owned(),
        ServerStatus::Other | ServerStatus::Deleted => "bring it to ACTIVE first".to_owned(),
    };
    Err(DaemonError::Base {
        name: base.name.clone(),
        id: base.id,
        status: base.nova_status().to_owned(),
        advice,
    })
}

/// Puts the pool's load balancer port into its namespace: what the daemon does itself where it may. The answer says what is there now.
///
/// # Errors
/// When the cloud does not know the port, or the host refuses.
pub async fn plug_port(config: &Config) -> Result<String, DaemonError> {
    if !matches!(config.vip.mode, VipMode::Port { .. }) {
        return Ok("nothing to plug: the service address does not use a load balancer port".to_owned());
    }
    let cloud = Cloud::new(config.cloud.clone())?;
    let Some(port) = cloud.lb_port(&config.core.pool).await? else {
        let why = format!(
            "plug the load balancer port of pool {}: there is none yet; `lbsidecar provision` or the first `lbsidecar run` makes it",
            config.core.pool
        );
        return Err(DaemonError::Address(why, FailureKind::NotFound));
    };
    let Some(spec) = spec_of(&port, &config.vip)? else {
        return Ok("nothing to plug: the service address does not use a load balancer port".to_owned());
    };
    vip::plug(&spec).await?;
    Ok(format!("port {} ({}) is in namespace {}", spec.port, spec.address, spec.netns))
}

/// Puts the load balancer port into its namespace, where that is not done yet.
async fn plug(address: &ServiceAddress, settings: &VipSettings) -> Result<(), DaemonError> {
    let Some(spec) = plug_spec(address, settings)? else { return Ok(()) };
    if vip::plugged(&spec).await?.is_good() {
        return Ok(());
    }
    info!(port = %spec.port, netns = %spec.netns, "plugging the load balancer port");
    Ok(vip::plug(&spec).await?)
}

/// How the load balancer port is to be plugged; `None` when there is none.
pub(crate) fn plug_spec(
    address: &ServiceAddress,
    settings: &VipSettings,
) -> Result<Option<PlugSpec>, DaemonError> {
    match address.found().as_deref() {
        Some(Found { way: Way::Port(port), .. }) => spec_of(port, settings),
        _ => Ok(None),
    }
}

fn spec_of(port: &LbPort, settings: &VipSettings) -> Result<Option<PlugSpec>, DaemonError> {
    let VipMode::Port { plug, netns } = &settings.mode else { return Ok(None) };
    Ok(Some(PlugSpec {
        netns: netns.clone(),
        port: port.id,
        mac: port.mac.parse()?,
        address: port.address,
        prefix: port.prefix,
        gateway: port.gateway.ok_or_else(|| {
            let why =
                format!(
                    "plug the load balancer port: the subnet of network {} has no gateway, and floating IPs need one",
                    port.network_name
                );
            DaemonError::Address(why, FailureKind::Permanent)
        })?,
        mtu: port.mtu,
        plug: plug.of_port(port.on_linuxbridge),
    }))
}

fn hostname() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
