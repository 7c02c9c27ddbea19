//! Every key of the configuration, once: what it says, its type, its default, and whether a change of it is taken while the
//! daemon runs. The documentation, the example file, the environment's names and the suggestions all follow from this list.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::{NonZeroU16, NonZeroU32},
    path::PathBuf,
    time::Duration,
};

use ipnet::Ipv4Net;

use super::{
    choices::{Interface, PlugWay, Starter, StatusRange, Way},
    problem::Origin,
    setting::{Raw, Setting},
    values::{
        Effective, Key, Refused, Reload, Sourced,
        Unset::{self, Is, Means, Required},
        keys,
    },
};
use crate::{
    core::{
        ids::PoolName,
        settings::{CloneSource, DrainPolicy, LostPrimary, Metric, Signal},
        units::Percent,
    },
    haproxy::settings::ServiceMode,
    telemetry::LogFormat,
};

/// What "not set" means for what a clone takes over.
const AS_THE_BASE: Unset = Means("as the base has it");

keys! {
    /// The pool's name, part of file, namespace and unit names.
    pool_name: PoolName = "pool.name", Is("default"), Restart;
    /// Name or UUID of the VM that serves at first.
    pool_base: String = "pool.base", Is("vm-test"), Restart;
    /// Name of the first clone; later ones get `-2`, `-3`, … appended.
    pool_clone: String = "pool.clone", Required, Restart;
    /// Port that the VMs serve on, and HAProxy for them.
    pool_port: NonZeroU16 = "pool.port", Is("80"), Restart;
    /// How many VMs we may ever have asked for and not seen gone, in any state.
    pool_max_members: NonZeroU32 = "pool.max_members", Is("2"), Live;

    /// A value at or above it is a vote for a clone.
    policy_high: Percent = "policy.high", Is("60"), Live;
    /// A value at or below it is a vote for the handover.
    policy_low: Percent = "policy.low", Is("20"), Live;
    /// Votes in a row for a clone.
    policy_min_up: NonZeroU32 = "policy.min_up", Is("4"), Live;
    /// Votes in a row for the handover.
    policy_min_down: NonZeroU32 = "policy.min_down", Is("4"), Live;
    /// How the samples of an interval become one value: the highest, the mean, the newest, or the 95th percentile.
    policy_metric: Metric = "policy.metric", Is("max"), Live;
    /// What is measured: CPU demand (used plus stolen), memory in use as the balloon driver tells it, or the higher of both.
    policy_signal: Signal = "policy.signal", Is("cpu"), Live;
    /// Time between samples.
    policy_sample: Duration = "policy.sample", Is("1s"), Restart;
    /// Time between votes.
    policy_interval: Duration = "policy.interval", Is("5s"), Live;
    /// A handover is begun only when the load that the remaining VMs would have is this many points below `policy.high`.
    policy_margin: Percent = "policy.margin", Is("15"), Live;
    /// Samples of a VM do not vote for this long after it began to serve, or answers again after a start.
    policy_warm_up: Duration = "policy.warm_up", Is("10s"), Live;
    /// No clone is made for this long after a transition.
    policy_cooldown_up: Duration = "policy.cooldown_up", Is("60s"), Live;
    /// No handover is begun for this long after a transition.
    policy_cooldown_down: Duration = "policy.cooldown_down", Is("120s"), Live;
    /// A clone serves at least this long before the base may go.
    policy_min_lifetime: Duration = "policy.min_lifetime", Is("60s"), Live;

    /// When the primary is lost and nobody else serves: bring it back (start it, or make another one from its image or our newest snapshot, as `clone.source` says), or only say so.
    policy_lost_primary: LostPrimary = "policy.lost_primary", Is("alert"), Live;

    /// What a clone boots from: the base's image, or the newest snapshot of ours of the base.
    clone_source: CloneSource = "clone.source", Is("image"), Restart;
    /// Image name or id.
    clone_image: String = "clone.image", AS_THE_BASE, Restart;
    /// Flavor name or id.
    clone_flavor: String = "clone.flavor", AS_THE_BASE, Restart;
    /// Network name or id.
    clone_network: String = "clone.network", AS_THE_BASE, Restart;
    /// Key pair name.
    clone_key_name: String = "clone.key_name", AS_THE_BASE, Restart;
    /// Security group names or ids.
    clone_security_groups: Vec<String> = "clone.security_groups", AS_THE_BASE, Restart;
    /// File with user data, for clouds whose API does not show the base's; at most 49151 bytes.
    clone_user_data: PathBuf = "clone.user_data", AS_THE_BASE, Restart;

    /// From the request for a clone until Nova says ACTIVE; past it the clone is deleted and the pool backs off.
    transition_build_deadline: Duration = "transition.build_deadline", Is("10m"), Live;
    /// From ACTIVE until the clone is proven healthy.
    transition_healthy_deadline: Duration = "transition.healthy_deadline", Is("3m"), Live;
    /// Good checks and good probes in a row before a VM gets traffic.
    transition_proofs: NonZeroU32 = "transition.proofs", Is("3"), Live;
    /// A new VM's weights in percent of a full share: rising, ending with 100.
    transition_ramp: Vec<u16> = "transition.ramp", Is("1, 5, 15, 35, 70, 100"), Live;
    /// Time on each of these weights.
    transition_ramp_step: Duration = "transition.ramp_step", Is("2s"), Live;
    /// How long the base may take to lose its last session before `transition.drain_policy` applies.
    transition_drain_deadline: Duration = "transition.drain_deadline", Is("5m"), Live;
    /// What happens then: wait on and say who holds it up, abort the handover, or force by cutting the sessions that are left.
    transition_drain_policy: DrainPolicy = "transition.drain_policy", Is("wait"), Live;
    /// How long a VM may take to shut down before it is deleted all the same.
    transition_stop_deadline: Duration = "transition.stop_deadline", Is("60s"), Live;
    /// From DELETE until Nova says that the VM is gone; past it an alarm is raised, nothing else.
    transition_delete_deadline: Duration = "transition.delete_deadline", Is("15m"), Live;
    /// Whether the base is snapshotted before it is deleted.
    transition_snapshot_before_delete: bool = "transition.snapshot_before_delete", Is("false"), Live;
    /// Snapshots of ours that stay after one more was made; older ones are deleted.
    transition_snapshot_retain: NonZeroU32 = "transition.snapshot_retain", Is("2"), Live;
    /// Pause after a failed creation; it doubles with each one.
    transition_backoff_first: Duration = "transition.backoff_first", Is("5m"), Live;
    /// The longest such pause.
    transition_backoff_max: Duration = "transition.backoff_max", Is("30m"), Live;
    /// Failed creations in a row after which no more are tried until an operator says so.
    transition_breaker_after: NonZeroU32 = "transition.breaker_after", Is("3"), Live;

    /// Memory of the host, in MiB, that stays free beside a clone.
    guards_reserve_memory_mib: u64 = "guards.reserve_memory_mib", Is("1024"), Restart;
    /// No clone is made while the host's CPU pressure (`some avg10` of /proc/pressure/cpu) is above it: it could not help.
    guards_max_cpu_pressure: Percent = "guards.max_cpu_pressure", Is("40"), Restart;
    /// No clone is made while more than this is stolen from the pool's VMs: the host itself is the bottleneck.
    guards_max_steal: Percent = "guards.max_steal", Is("25"), Restart;

    /// libvirt URIs, one per compute host.
    guests_uris: Vec<String> = "guests.uris", Means("the distribution's, MicroStack's or openstack-hypervisor's socket, whichever answers"), Restart;
    /// How long one reading of all guests may take before it counts as missing.
    guests_deadline: Duration = "guests.deadline", Is("2s"), Restart;

    /// Name of the cloud in clouds.yaml (OS_CLOUD).
    cloud_name: String = "cloud.name", Means("the OS_* variables, the only cloud in clouds.yaml, or `cloud.openrc`, in this order"), Restart;
    /// The clouds.yaml to read.
    cloud_file: PathBuf = "cloud.file", Means("OS_CLIENT_CONFIG_FILE, or clouds.yaml in $CREDENTIALS_DIRECTORY, ., ~/.config/openstack, /etc/openstack"), Restart;
    /// A file with OS_* variables, read when nothing else names a cloud.
    cloud_openrc: PathBuf = "cloud.openrc", Is("/var/snap/microstack/common/etc/microstack.rc"), Restart;
    /// Region, when the catalog has several (OS_REGION_NAME).
    cloud_region: String = "cloud.region", Means("as clouds.yaml says, else the catalog's only one"), Restart;
    /// Which endpoints are used (OS_INTERFACE).
    cloud_interface: Interface = "cloud.interface", Means("as clouds.yaml says, else `public`"), Restart;
    /// PEM file of the authority that signed Keystone's certificate (OS_CACERT).
    cloud_ca_file: PathBuf = "cloud.ca_file", Means("as clouds.yaml says, else the system's authorities"), Restart;
    /// Whether certificates are not checked at all (OS_INSECURE).
    cloud_insecure: bool = "cloud.insecure", Means("as clouds.yaml says, else false"), Restart;
    /// How long one call to the cloud may take.
    cloud_timeout: Duration = "cloud.timeout", Is("30s"), Restart;

    /// The HAProxy program, 2.4 or newer.
    haproxy_binary: PathBuf = "haproxy.binary", Is("/usr/sbin/haproxy"), Restart;
    /// A template that replaces the embedded one.
    haproxy_template: PathBuf = "haproxy.template", Means("the embedded one"), Restart;
    /// Addresses and ports that HAProxy listens on for clients.
    haproxy_bind: Vec<SocketAddr> = "haproxy.bind", Means("`pool.port` on every address of the pool's namespace (`vip.mode` port), else on `vip.address`"), Restart;
    /// Protocol between clients and VMs.
    haproxy_mode: ServiceMode = "haproxy.mode", Is("http"), Restart;
    /// Path that health checks and probes ask for.
    haproxy_check_path: String = "haproxy.check_path", Is("/"), Restart;
    /// Statuses that a healthy VM answers with.
    haproxy_check_status: StatusRange = "haproxy.check_status", Is("200-399"), Restart;
    /// Time between health checks.
    haproxy_check_interval: Duration = "haproxy.check_interval", Is("1s"), Restart;
    /// Loopback address of the statistics page (`/stats`) and of HAProxy's own Prometheus exporter (`/metrics`).
    haproxy_stats_bind: SocketAddr = "haproxy.stats_bind", Is("127.0.0.1:8404"), Restart;
    /// User of the statistics page.
    haproxy_stats_user: String = "haproxy.stats_user", Is("lbsidecar"), Restart;
    /// File with its password; only its owner may read it.
    haproxy_stats_password_file: PathBuf = "haproxy.stats_password_file", Means("`stats-password` in the pool's state directory, made at the first start with a random password"), Restart;
    /// Longest legal request; also how long a client hangs on a VM that vanished.
    haproxy_server_timeout: Duration = "haproxy.server_timeout", Is("5m"), Restart;
    /// How long an idle client may keep its connection, and with it the worker of a former configuration.
    haproxy_keep_alive_timeout: Duration = "haproxy.keep_alive_timeout", Is("5s"), Restart;
    /// When workers of former configurations end whatever they still serve; above `transition.drain_deadline`.
    haproxy_hard_stop_after: Duration = "haproxy.hard_stop_after", Is("5m 30s"), Restart;
    /// Client connections at once.
    haproxy_max_connections: NonZeroU32 = "haproxy.max_connections", Is("4000"), Restart;
    /// Who starts HAProxy: systemd where the unit is installed (auto), systemd, or the daemon itself (detached; it outlives the daemon).
    haproxy_starter: Starter = "haproxy.starter", Is("auto"), Restart;
    /// The systemd unit.
    haproxy_unit: String = "haproxy.unit", Means("`lbsidecar-haproxy@<pool>.service`"), Restart;

    /// How the service address reaches HAProxy: by a port of ours in the tenant network, on an interface of the host, or static: it is there already.
    vip_mode: Way = "vip.mode", Is("port"), Restart;
    /// The service address: a floating IP (`port`, `host`), or an address that the host has (`static`).
    vip_address: Ipv4Addr = "vip.address", Means("the base's own floating IP at the first start, and that one from then on"), Restart;
    /// The interface that holds the address (`host`).
    vip_interface: String = "vip.interface", Is("br-ex"), Restart;
    /// How our port is plugged (`port`); auto: into Open vSwitch when its br-int is there, else by the linuxbridge agent.
    vip_plug: PlugWay = "vip.plug", Is("auto"), Restart;
    /// Open vSwitch's command, with `vip.plug = "ovs"`; MicroStack's is `microstack.ovs-vsctl`.
    vip_ovs_command: String = "vip.ovs_command", Is("ovs-vsctl"), Restart;
    /// The network namespace that HAProxy lives in (`port`).
    vip_netns: String = "vip.netns", Means("`lbsidecar-<pool>`"), Restart;

    /// Name of the network that `provision` makes, or finds.
    provision_network: String = "provision.network", Is("lab-net"), Restart;
    /// Name of its subnet.
    provision_subnet: String = "provision.subnet", Is("lab-subnet"), Restart;
    /// The subnet's addresses; the first is the gateway's.
    provision_cidr: Ipv4Net = "provision.cidr", Is("192.168.100.0/24"), Restart;
    /// The subnet's name servers.
    provision_dns: Vec<Ipv4Addr> = "provision.dns", Is("8.8.8.8, 1.1.1.1"), Restart;
    /// Name of the router.
    provision_router: String = "provision.router", Is("lab-router"), Restart;
    /// Name or id of the external network, which must be there.
    provision_external: String = "provision.external", Is("external"), Restart;
    /// Name of the VMs' security group; the load balancer port's has `-lb` appended.
    provision_security_group: String = "provision.security_group", Is("lab-sg"), Restart;
    /// Name of the key pair.
    provision_key_name: String = "provision.key_name", Is("lab-key"), Restart;
    /// File of the private key; made by `ssh-keygen` when it is not there and no public key is given.
    provision_key_file: PathBuf = "provision.key_file", Means("~/.ssh/ and the key pair's name"), Restart;
    /// File of a public key to use instead.
    provision_public_key: PathBuf = "provision.public_key", Means("that of `key_file`"), Restart;
    /// Name or id of the base's image.
    provision_image: String = "provision.image", Is("cirros"), Restart;
    /// Name or id of the base's flavor.
    provision_flavor: String = "provision.flavor", Is("m1.tiny"), Restart;
    /// File with the base's user data; at most 49151 bytes.
    provision_user_data: PathBuf = "provision.user_data", Means("none"), Restart;
    /// From where SSH to the VMs, and their service itself, are allowed.
    provision_ssh_from: Ipv4Net = "provision.ssh_from", Means("this host's address towards the floating IP"), Restart;

    /// Directory of the durable state; each pool has a directory of its own in it.
    daemon_state_dir: PathBuf = "daemon.state_dir", Is("/var/lib/lbsidecar"), Restart;
    /// Directory of the sockets; each pool has a directory of its own in it.
    daemon_run_dir: PathBuf = "daemon.run_dir", Is("/run/lbsidecar"), Restart;
    /// Loopback address for metrics, health and the live page, beside the Unix socket.
    admin_listen: SocketAddr = "admin.listen", Means("the Unix socket alone"), Restart;
    /// What is logged: a level, and levels of parts, as `info,lbsidecar::haproxy=debug`.
    log_filter: String = "log.filter", Is("info"), Live;
    /// How: to the journal where there is one, else text (auto), or text, or JSON, one object a line.
    log_format: LogFormat = "log.format", Is("auto"), Restart;
}
