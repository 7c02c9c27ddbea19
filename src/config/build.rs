//! Checked values become the settings that the parts of the program are given.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use secrecy::SecretString;

use super::{
    AdminSettings, Places,
    choices::{PlugWay, Starter, Way},
    env::Env,
    keys::Values,
    problem::Problem,
    values::Sourced,
};
use crate::{
    core::settings::{CloneSettings, GuardSettings, PolicySettings, Settings, TransitionSettings},
    guests::settings::GuestsSettings,
    haproxy::settings::{HaproxySettings, HealthCheck, StatsPage, Supervisor},
    provision::settings::{ProvisionSettings, Vip},
    telemetry::LogSettings,
    vip::settings::{Plug, VipMode, VipSettings},
};

/// A value that must be there: it has a default, or the checks before saw that it is set.
macro_rules! need {
    ($values:ident, $field:ident) => {
        match &$values.$field {
            Some(set) => &set.value,
            None => {
                return Err(Problem::of(
                    None,
                    stringify!($field),
                    "it is not set, and nobody noticed before: this is a bug",
                ))
            }
        }
    };
}

fn option<T: Clone>(value: &Option<Sourced<T>>) -> Option<T> {
    value.as_ref().map(|s| s.value.clone())
}

/// Where a pool's things are.
pub(super) fn places(values: &Values, env: &Env) -> Result<Places, Problem> {
    let pool = need!(values, pool_name).clone();
    let run_dir = env.path(need!(values, daemon_run_dir)).join(pool.as_str());
    Ok(Places {
        state_dir: env.path(need!(values, daemon_state_dir)).join(pool.as_str()),
        admin: AdminSettings { socket: run_dir.join("lbsidecar.sock"), listen: option(&values.admin_listen) },
        run_dir,
        log: LogSettings { filter: need!(values, log_filter).clone(), format: *need!(values, log_format) },
        pool,
    })
}

/// The rules of the pool.
pub(super) fn core(values: &Values, env: &Env) -> Result<Settings, Problem> {
    Ok(Settings {
        pool: need!(values, pool_name).clone(),
        base: need!(values, pool_base).clone(),
        clone: need!(values, pool_clone).clone(),
        service_port: need!(values, pool_port).get(),
        max_members: need!(values, pool_max_members).get(),
        policy: policy(values)?,
        clone_spec: CloneSettings {
            source: *need!(values, clone_source),
            image: option(&values.clone_image),
            flavor: option(&values.clone_flavor),
            network: option(&values.clone_network),
            key_name: option(&values.clone_key_name),
            security_groups: option(&values.clone_security_groups),
            user_data: values.clone_user_data.as_ref().map(|path| env.path(&path.value)),
        },
        transition: transition(values)?,
        guards: GuardSettings {
            reserve_memory_mib: *need!(values, guards_reserve_memory_mib),
            max_cpu_pressure: *need!(values, guards_max_cpu_pressure),
            max_steal: *need!(values, guards_max_steal),
        },
    })
}

fn policy(values: &Values) -> Result<PolicySettings, Problem> {
    Ok(PolicySettings {
        high: *need!(values, policy_high),
        low: *need!(values, policy_low),
        min_up: need!(values, policy_min_up).get(),
        min_down: need!(values, policy_min_down).get(),
        metric: *need!(values, policy_metric),
        signal: *need!(values, policy_signal),
        sample: *need!(values, policy_sample),
        interval: *need!(values, policy_interval),
        margin: *need!(values, policy_margin),
        warm_up: *need!(values, policy_warm_up),
        cooldown_up: *need!(values, policy_cooldown_up),
        cooldown_down: *need!(values, policy_cooldown_down),
        min_lifetime: *need!(values, policy_min_lifetime),
        lost_primary: *need!(values, policy_lost_primary),
    })
}

fn transition(values: &Values) -> Result<TransitionSettings, Problem> {
    Ok(TransitionSettings {
        build_deadline: *need!(values, transition_build_deadline),
        healthy_deadline: *need!(values, transition_healthy_deadline),
        proofs: need!(values, transition_proofs).get(),
        proof_spacing: *need!(values, haproxy_check_interval),
        ramp: need!(values, transition_ramp).clone(),
        ramp_step: *need!(values, transition_ramp_step),
        drain_deadline: *need!(values, transition_drain_deadline),
        drain_policy: *need!(values, transition_drain_policy),
        stop_deadline: *need!(values, transition_stop_deadline),
        delete_deadline: *need!(values, transition_delete_deadline),
        snapshot_before_delete: *need!(values, transition_snapshot_before_delete),
        snapshot_retain: need!(values, transition_snapshot_retain).get(),
        backoff_first: *need!(values, transition_backoff_first),
        backoff_max: *need!(values, transition_backoff_max),
        breaker_after: need!(values, transition_breaker_after).get(),
    })
}

/// How guests are read.
pub(super) fn guests(values: &Values) -> Result<GuestsSettings, Problem> {
    Ok(GuestsSettings {
        uris: option(&values.guests_uris).unwrap_or_default(),
        deadline: *need!(values, guests_deadline),
        sample: *need!(values, policy_sample),
    })
}

/// What `provision` makes.
pub(super) fn provision(values: &Values, env: &Env) -> Result<ProvisionSettings, Problem> {
    let path = |value: &Option<Sourced<PathBuf>>| value.as_ref().map(|path| env.path(&path.value));
    let key_name = need!(values, provision_key_name).clone();
    Ok(ProvisionSettings {
        pool: need!(values, pool_name).clone(),
        base: need!(values, pool_base).clone(),
        port: need!(values, pool_port).get(),
        address: option(&values.vip_address),
        vip: match need!(values, vip_mode) {
            Way::Port => Vip::Port,
            Way::Host => Vip::Host,
            Way::Static => Vip::Static,
        },
        network: need!(values, provision_network).clone(),
        subnet: need!(values, provision_subnet).clone(),
        cidr: *need!(values, provision_cidr),
        dns: need!(values, provision_dns).clone(),
        router: need!(values, provision_router).clone(),
        external: need!(values, provision_external).clone(),
        security_group: need!(values, provision_security_group).clone(),
        key_file: path(&values.provision_key_file).unwrap_or_else(|| {
            env.path(env.get("HOME").unwrap_or("/root")).join(".ssh").join(key_name.replace('/', "-"))
        }),
        key_name,
        public_key: path(&values.provision_public_key),
        image: need!(values, provision_image).clone(),
        flavor: need!(values, provision_flavor).clone(),
        user_data: path(&values.provision_user_data),
        ssh_from: option(&values.provision_ssh_from),
    })
}

/// How the service address reaches HAProxy.
pub(super) fn vip(values: &Values, places: &Places) -> Result<VipSettings, Problem> {
    let pool = need!(values, pool_name).clone();
    let mode = match need!(values, vip_mode) {
        Way::Port => VipMode::Port {
            plug: match need!(values, vip_plug) {
                PlugWay::Auto => Plug::Auto,
                PlugWay::Ovs => Plug::Ovs { command: need!(values, vip_ovs_command).clone() },
                PlugWay::LinuxBridge => Plug::LinuxBridge,
            },
            netns: option(&values.vip_netns).unwrap_or_else(|| format!("lbsidecar-{pool}")),
        },
        Way::Host => {
            // Beside the pool's directory, which is the daemon's own.
            let socket = places.run_dir.with_file_name(format!("{pool}-address.sock"));
            VipMode::Host { interface: need!(values, vip_interface).clone(), socket }
        }
        Way::Static => VipMode::Static,
    };
    Ok(VipSettings { pool, mode, address: option(&values.vip_address) })
}

/// Where HAProxy lives. `password` is the statistics page's.
pub(super) fn haproxy(
    values: &Values,
    env: &Env,
    places: &Places,
    vip: &VipSettings,
    password: SecretString,
) -> Result<HaproxySettings, Problem> {
    let check_status = need!(values, haproxy_check_status);
    let port = need!(values, pool_port).get();
    Ok(HaproxySettings {
        pool: places.pool.clone(),
        binary: env.path(need!(values, haproxy_binary)),
        config_dir: places.state_dir.join("haproxy"),
        run_dir: places.run_dir.clone(),
        template: values.haproxy_template.as_ref().map(|path| env.path(&path.value)),
        bind_nonlocal: matches!(vip.mode, VipMode::Host { .. }),
        binds: option(&values.haproxy_bind).unwrap_or_else(|| binds(vip, port)),
        mode: *need!(values, haproxy_mode),
        check: HealthCheck {
            path: need!(values, haproxy_check_path).clone(),
            status_min: check_status.min,
            status_max: check_status.max,
            interval: *need!(values, haproxy_check_interval),
        },
        stats: StatsPage {
            bind: *need!(values, haproxy_stats_bind),
            user: need!(values, haproxy_stats_user).clone(),
            password,
        },
        server_timeout: *need!(values, haproxy_server_timeout),
        keep_alive_timeout: *need!(values, haproxy_keep_alive_timeout),
        hard_stop_after: *need!(values, haproxy_hard_stop_after),
        max_connections: need!(values, haproxy_max_connections).get(),
        supervisor: supervisor(values, env, places)?,
        netns: match &vip.mode {
            VipMode::Port { netns, .. } => Some(netns.clone()),
            VipMode::Host { .. } | VipMode::Static => None,
        },
    })
}

/// Where HAProxy listens when nobody says it. In `host` mode without an address it is the base's floating IP, known later.
fn binds(vip: &VipSettings, port: u16) -> Vec<SocketAddr> {
    let address = match vip.mode {
        VipMode::Port { .. } => Some(Ipv4Addr::UNSPECIFIED),
        VipMode::Host { .. } | VipMode::Static => vip.address,
    };
    address.into_iter().map(|address| SocketAddr::new(IpAddr::V4(address), port)).collect()
}

/// The unit that starts HAProxy for any pool.
const UNIT: &str = "lbsidecar-haproxy@.service";

fn supervisor(values: &Values, env: &Env, places: &Places) -> Result<Supervisor, Problem> {
    let unit =
        option(&values.haproxy_unit).unwrap_or_else(|| UNIT.replace('@', &format!("@{}", places.pool)));
    let installed = || {
        env.system("run/systemd/system").is_dir()
            && ["etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"]
                .iter()
                .any(|directory| env.system(directory).join(UNIT).is_file())
    };
    Ok(match need!(values, haproxy_starter) {
        Starter::Systemd => Supervisor::Systemd(unit),
        Starter::Auto if installed() => Supervisor::Systemd(unit),
        Starter::Auto | Starter::Detached => Supervisor::Detached,
    })
}
