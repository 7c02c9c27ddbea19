//! The command line's settings: what `run`, `check` and `render` take, and the few that every command takes.
//!
//! Values stay text here. They are one more layer of the configuration, above files and environment, and are checked where
//! those are checked, so that all mistakes are told at once and in one form.

use std::path::PathBuf;

use clap::Args;

use super::setting::Raw;

/// Where a pool's things are: all that a command needs to find a running daemon.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Where things are")]
pub struct PlaceFlags {
    /// Read this file instead of /etc/lbsidecar/config.toml (or LBSIDECAR_CONFIG)
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// The pool; one that is not `default` is configured in /etc/lbsidecar/POOL.toml
    #[arg(long, value_name = "POOL", global = true)]
    pub pool: Option<String>,
    /// Directory of the durable state [default: /var/lib/lbsidecar]
    #[arg(long, value_name = "DIR", global = true)]
    pub state_dir: Option<String>,
    /// Directory of the sockets [default: /run/lbsidecar]
    #[arg(long, value_name = "DIR", global = true)]
    pub run_dir: Option<String>,
    /// What is logged, as `info` or `info,lbsidecar::haproxy=debug` (or LBSIDECAR_LOG)
    #[arg(long, value_name = "FILTER", global = true)]
    pub log: Option<String>,
}

/// The settings that can be given on the command line; every other one has a key in the configuration file.
#[derive(Debug, Clone, Default, Args)]
pub struct Flags {
    /// Where things are.
    #[command(flatten)]
    pub places: PlaceFlags,

    /// Name or UUID of the VM that serves at first [default: vm-test]
    #[arg(long, visible_alias = "server", value_name = "VM", help_heading = "Pool")]
    pub base: Option<String>,
    /// Name of the first clone
    #[arg(long, value_name = "NAME", help_heading = "Pool")]
    pub clone: Option<String>,
    /// Port that the VMs serve on [default: 80]
    #[arg(long, value_name = "PORT", help_heading = "Pool")]
    pub port: Option<String>,

    /// CPU percentage at or above which a vote is for a clone [default: 60]
    #[arg(long, value_name = "PERCENT", help_heading = "Policy", allow_negative_numbers = true)]
    pub high: Option<String>,
    /// CPU percentage at or below which a vote is for the handover [default: 20]
    #[arg(long, value_name = "PERCENT", help_heading = "Policy", allow_negative_numbers = true)]
    pub low: Option<String>,
    /// Votes in a row for a clone [default: 4]
    #[arg(long, value_name = "VOTES", help_heading = "Policy", allow_negative_numbers = true)]
    pub min_up: Option<String>,
    /// Votes in a row for the handover [default: 4]
    #[arg(long, value_name = "VOTES", help_heading = "Policy", allow_negative_numbers = true)]
    pub min_down: Option<String>,
    /// What an interval's samples become: max, mean (avg), last, p95; cpu and mem are the means of these signals [default: max]
    #[arg(long, value_name = "METRIC", help_heading = "Policy", allow_negative_numbers = true)]
    pub metric: Option<String>,
    /// What is measured: cpu, mem, max-cpu-mem [default: cpu]
    #[arg(long, value_name = "SIGNAL", help_heading = "Policy", allow_negative_numbers = true)]
    pub signal: Option<String>,
    /// Time between samples; a bare number means seconds [default: 1s]
    #[arg(long, value_name = "TIME", help_heading = "Policy", allow_negative_numbers = true)]
    pub sample: Option<String>,
    /// Time between votes; a bare number means seconds [default: 5s]
    #[arg(long, value_name = "TIME", help_heading = "Policy", allow_negative_numbers = true)]
    pub interval: Option<String>,

    /// What a clone boots from: image, or snapshot (the newest of ours of the base) [default: image]
    #[arg(long, value_name = "SOURCE", help_heading = "Clone (all as the base has it, unless given)")]
    pub clone_source: Option<String>,
    /// Snapshot the base before it is deleted; the newest two of ours stay (see transition.snapshot_retain)
    #[arg(long, help_heading = "Policy")]
    pub snapshot_before_delete: bool,
    /// Image name or id
    #[arg(long, value_name = "IMAGE", help_heading = "Clone (all as the base has it, unless given)")]
    pub image: Option<String>,
    /// Flavor name or id
    #[arg(long, value_name = "FLAVOR", help_heading = "Clone (all as the base has it, unless given)")]
    pub flavor: Option<String>,
    /// Network name or id
    #[arg(
        long,
        visible_alias = "network",
        value_name = "NETWORK",
        help_heading = "Clone (all as the base has it, unless given)"
    )]
    pub net: Option<String>,
    /// Key pair name
    #[arg(long, value_name = "KEY", help_heading = "Clone (all as the base has it, unless given)")]
    pub key_name: Option<String>,
    /// Security group name or id; may be repeated
    #[arg(long, value_name = "GROUP", help_heading = "Clone (all as the base has it, unless given)")]
    pub secgroup: Vec<String>,
    /// File with user data, for clouds whose API does not show the base's
    #[arg(long, value_name = "FILE", help_heading = "Clone (all as the base has it, unless given)")]
    pub user_data: Option<String>,

    /// Name of the cloud in clouds.yaml (or OS_CLOUD)
    #[arg(long, value_name = "CLOUD", help_heading = "Outside parties")]
    pub os_cloud: Option<String>,
    /// libvirt URI; may be repeated, one per compute host [default: found by probing the usual sockets]
    #[arg(long, value_name = "URI", help_heading = "Outside parties")]
    pub libvirt_uri: Vec<String>,

    /// The service address [default: the base's own floating IP]
    #[arg(long, value_name = "IP", help_heading = "Service address")]
    pub vip: Option<String>,
    /// How it reaches HAProxy: port, host, static [default: port]
    #[arg(long, value_name = "MODE", help_heading = "Service address")]
    pub vip_mode: Option<String>,
    /// Address and port that HAProxy listens on; may be repeated [default: by mode]
    #[arg(long, value_name = "IP:PORT", help_heading = "Service address")]
    pub bind: Vec<String>,

    /// What `provision` and `cleanup` take.
    #[arg(skip)]
    pub provision: ProvisionFlags,
}

/// What is made, by `provision` alone.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "What is made")]
pub struct ProvisionFlags {
    /// Name of the network [default: lab-net]
    #[arg(long = "net", visible_alias = "network", value_name = "NAME")]
    pub network: Option<String>,
    /// Name of its subnet [default: lab-subnet]
    #[arg(long, value_name = "NAME")]
    pub subnet: Option<String>,
    /// Addresses of the subnet [default: 192.168.100.0/24]
    #[arg(long, value_name = "NET/LENGTH")]
    pub cidr: Option<String>,
    /// A name server of the subnet; may be repeated [default: 8.8.8.8 and 1.1.1.1]
    #[arg(long, value_name = "IP")]
    pub dns: Vec<String>,
    /// Name of the router [default: lab-router]
    #[arg(long, value_name = "NAME")]
    pub router: Option<String>,
    /// Name or id of the external network [default: external]
    #[arg(long, value_name = "NETWORK")]
    pub external: Option<String>,
    /// Name of the VMs' security group [default: lab-sg]
    #[arg(long, value_name = "NAME")]
    pub secgroup: Option<String>,
    /// Name of the key pair [default: lab-key]
    #[arg(long, value_name = "NAME")]
    pub key_name: Option<String>,
    /// File of the private key, made when it is not there [default: ~/.ssh/ and the key pair's name]
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<String>,
    /// File of a public key to use instead
    #[arg(long, value_name = "FILE")]
    pub public_key: Option<String>,
    /// Name or id of the base's image [default: cirros]
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Name or id of the base's flavor [default: m1.tiny]
    #[arg(long, value_name = "FLAVOR")]
    pub flavor: Option<String>,
    /// File with the base's user data
    #[arg(long, value_name = "FILE")]
    pub user_data: Option<String>,
    /// From where SSH to the VMs is allowed [default: this host's address towards the floating IP]
    #[arg(long, value_name = "IP or NET/LENGTH")]
    pub ssh_from: Option<String>,
}

impl ProvisionFlags {
    fn all(&self) -> Vec<Given> {
        vec![
            ("--net", "provision.network", text(&self.network)),
            ("--subnet", "provision.subnet", text(&self.subnet)),
            ("--cidr", "provision.cidr", text(&self.cidr)),
            ("--dns", "provision.dns", list(&self.dns)),
            ("--router", "provision.router", text(&self.router)),
            ("--external", "provision.external", text(&self.external)),
            ("--secgroup", "provision.security_group", text(&self.secgroup)),
            ("--key-name", "provision.key_name", text(&self.key_name)),
            ("--key-file", "provision.key_file", text(&self.key_file)),
            ("--public-key", "provision.public_key", text(&self.public_key)),
            ("--image", "provision.image", text(&self.image)),
            ("--flavor", "provision.flavor", text(&self.flavor)),
            ("--user-data", "provision.user_data", text(&self.user_data)),
            ("--ssh-from", "provision.ssh_from", text(&self.ssh_from)),
        ]
    }
}

impl PlaceFlags {
    /// Each flag with its key and, when it was given, its value.
    fn all(&self) -> Vec<Given> {
        vec![
            ("--pool", "pool.name", text(&self.pool)),
            ("--state-dir", "daemon.state_dir", text(&self.state_dir)),
            ("--run-dir", "daemon.run_dir", text(&self.run_dir)),
            ("--log", "log.filter", text(&self.log)),
        ]
    }
}

/// A flag, its key, and its value when it was given.
pub(super) type Given = (&'static str, &'static str, Option<Raw>);

impl Flags {
    /// Each flag with its key and, when it was given, its value. A later one overrides an earlier one.
    pub(super) fn all(&self) -> Vec<Given> {
        // `cpu` and `mem` are what the first users of these flags know as metrics; both were means of one signal.
        let (metric, signal) = match self.metric.as_deref() {
            Some(signal @ ("cpu" | "mem")) => (Some("mean".to_owned()), Some(signal.to_owned())),
            _ => (self.metric.clone(), None),
        };
        let mut all = self.places.all();
        all.extend([
            ("--base", "pool.base", text(&self.base)),
            ("--clone", "pool.clone", text(&self.clone)),
            ("--port", "pool.port", text(&self.port)),
            ("--high", "policy.high", text(&self.high)),
            ("--low", "policy.low", text(&self.low)),
            ("--min-up", "policy.min_up", text(&self.min_up)),
            ("--min-down", "policy.min_down", text(&self.min_down)),
            ("--metric", "policy.metric", text(&metric)),
            ("--metric", "policy.signal", text(&signal)),
            ("--signal", "policy.signal", text(&self.signal)),
            ("--sample", "policy.sample", seconds(&self.sample)),
            ("--interval", "policy.interval", seconds(&self.interval)),
            ("--clone-source", "clone.source", text(&self.clone_source)),
            (
                "--snapshot-before-delete",
                "transition.snapshot_before_delete",
                self.snapshot_before_delete.then_some(Raw::Bool(true)),
            ),
            ("--image", "clone.image", text(&self.image)),
            ("--flavor", "clone.flavor", text(&self.flavor)),
            ("--net", "clone.network", text(&self.net)),
            ("--key-name", "clone.key_name", text(&self.key_name)),
            ("--secgroup", "clone.security_groups", list(&self.secgroup)),
            ("--user-data", "clone.user_data", text(&self.user_data)),
            ("--os-cloud", "cloud.name", text(&self.os_cloud)),
            ("--libvirt-uri", "guests.uris", list(&self.libvirt_uri)),
            ("--vip", "vip.address", text(&self.vip)),
            ("--vip-mode", "vip.mode", text(&self.vip_mode)),
            ("--bind", "haproxy.bind", list(&self.bind)),
        ]);
        all.extend(self.provision.all());
        all
    }
}

fn text(value: &Option<String>) -> Option<Raw> {
    value.clone().map(Raw::Text)
}

/// A duration whose bare number means seconds.
fn seconds(value: &Option<String>) -> Option<Raw> {
    value.as_deref().map(|text| match text.trim().parse::<f64>() {
        Ok(_) => Raw::Text(format!("{}s", text.trim())),
        Err(_) => Raw::Text(text.to_owned()),
    })
}

fn list(values: &[String]) -> Option<Raw> {
    (!values.is_empty()).then(|| Raw::List(values.iter().cloned().map(Raw::Text).collect()))
}
