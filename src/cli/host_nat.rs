//! `host-nat`: the cloud's external network reaches the Internet through this host, or no longer does.

use clap::{Args, Subcommand};
use ipnet::Ipv4Net;
use serde_json::json;

use super::{
    args::{Output, OutputArgs},
    out::{self, Failure, Look},
    text::{Tone, clean},
};
use crate::{
    admin::SCHEMA,
    exit::Exit,
    nat::{self, Interface, NatError, NatSpec, Rules, Seen},
};

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(super) enum HostNat {
    /// Forward, masquerade, and do so again after a reboot; changes nothing when all is there
    Enable {
        #[command(flatten)]
        spec: SpecArgs,
        /// Print the rules and files, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Take away exactly what `enable` made, and turn forwarding off if it was off before
    Disable {
        /// Say what would be taken away, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Say whether all of it is there; ends with 2 when parts are missing, 3 when it is not enabled
    Status(OutputArgs),
}

/// Which network goes out by which interface.
#[derive(Debug, Args)]
pub(super) struct SpecArgs {
    /// The host's interface to the Internet [default: that of the default route]
    #[arg(long, value_name = "IF")]
    uplink: Option<Interface>,
    /// The interface that the external network is on
    #[arg(long, value_name = "IF", default_value = "br-ex")]
    bridge: Interface,
    /// The external network
    #[arg(long, value_name = "NETWORK", default_value = "10.20.20.0/24")]
    cidr: Ipv4Net,
}

pub(super) fn run(command: &HostNat) -> Result<Exit, Failure> {
    match command {
        HostNat::Enable { spec, dry_run: true } => show(&spec_of(spec)?),
        HostNat::Enable { spec, dry_run: false } => enable(&spec_of(spec)?),
        HostNat::Disable { dry_run } => disable(*dry_run),
        HostNat::Status(out) => status(out),
    }
}

fn spec_of(args: &SpecArgs) -> Result<NatSpec, Failure> {
    let uplink = args.uplink.clone().or_else(nat::uplink).ok_or_else(|| {
        let why = "this host has no default route that would tell its uplink: name it with --uplink";
        Failure::new(Exit::Unavailable, why)
    })?;
    NatSpec::try_new(uplink, args.bridge.clone(), args.cidr).map_err(|why| Failure::new(Exit::Usage, why))
}

fn show(spec: &NatSpec) -> Result<Exit, Failure> {
    // What forwarding is now would be noted; where it cannot be read, nothing else could be done either.
    let forwarded = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|on| on.trim() != "0");
    for (path, text) in nat::contents(spec, forwarded) {
        out::data(&format!("## {path}\n{text}\n"))?;
    }
    out::data(&format!("## {} -> {}\n", nat::WANTED, nat::UNIT))?;
    Ok(Exit::Ok)
}

fn enable(spec: &NatSpec) -> Result<Exit, Failure> {
    let done = nat::enable(spec)?;
    tell(&done, "nothing to change: it is enabled already")?;
    for chain in nat::look(Some(spec))?.dropped_by {
        out::talk(&dropped(&chain, Some(spec)));
    }
    Ok(Exit::Ok)
}

fn disable(dry_run: bool) -> Result<Exit, Failure> {
    if !dry_run {
        tell(&nat::disable()?, "nothing to take away: it is not enabled")?;
        return Ok(Exit::Ok);
    }
    let seen = nat::look(None)?;
    let mut would = Vec::new();
    if seen.rules != Rules::Absent {
        would.push(format!("would delete the table ip {}", nat::TABLE));
    }
    for path in [nat::WANTED, nat::UNIT, nat::RULES, nat::SYSCTL] {
        if std::path::Path::new(path).symlink_metadata().is_ok() {
            would.push(format!("would remove {path}"));
        }
    }
    if seen.forwarding.before == Some(false) && seen.forwarding.on {
        would.push(
            "would turn IPv4 forwarding off, as it was before, unless another sysctl file wants it"
                .to_owned(),
        );
    }
    tell(&would, "nothing to take away: it is not enabled")?;
    Ok(Exit::Ok)
}

fn tell(lines: &[String], nothing: &str) -> Result<(), Failure> {
    if lines.is_empty() {
        return out::data(&format!("{nothing}\n"));
    }
    lines.iter().try_for_each(|line| out::data(&format!("{line}\n")))
}

fn status(args: &OutputArgs) -> Result<Exit, Failure> {
    let seen = nat::look(None)?;
    let (word, exit) = if seen.is_whole() {
        ("enabled", Exit::Ok)
    } else if seen.is_absent() {
        ("not enabled", Exit::NotRunning)
    } else {
        ("enabled in part", Exit::Degraded)
    };
    match args.output {
        Output::Json => out::data(&out::json(&json!({
            "schema": SCHEMA,
            "state": word,
            "uplink": seen.spec.as_ref().map(|spec| spec.uplink.as_str()),
            "bridge": seen.spec.as_ref().map(|spec| spec.bridge.as_str()),
            "cidr": seen.spec.as_ref().map(|spec| spec.cidr),
            "forwarding": seen.forwarding.on,
            "problems": problems(&seen),
            "dropped_by": seen.dropped_by,
        }))?)?,
        Output::Text => {
            let look = Look::of(args);
            let tone = match exit {
                Exit::Ok => Tone::Good,
                Exit::Degraded => Tone::Bad,
                _ => Tone::Dim,
            };
            let what = seen.spec.as_ref().map_or_else(String::new, |spec| {
                format!(": {} on {} leaves by {}", spec.cidr, spec.bridge, spec.uplink)
            });
            let mut text = format!("host NAT is {}{what}\n", look.paint.of(tone, word));
            for problem in problems(&seen) {
                text.push_str(&format!("  {}\n", clean(&problem)));
            }
            if exit == Exit::Degraded {
                text.push_str("`lbsidecar host-nat enable` mends it, `lbsidecar host-nat disable` takes the rest away\n");
            }
            // Where nothing is enabled it stops nothing of ours.
            if exit != Exit::NotRunning {
                for chain in &seen.dropped_by {
                    text.push_str(&format!("{}\n", clean(&dropped(chain, seen.spec.as_ref()))));
                }
            }
            out::data(&text)?;
        }
    }
    Ok(exit)
}

/// What is not as it is to be.
fn problems(seen: &Seen) -> Vec<String> {
    if seen.is_absent() {
        return Vec::new();
    }
    let mut problems = match &seen.rules {
        Rules::Good => Vec::new(),
        Rules::Absent => vec![format!("the table ip {} is not loaded", nat::TABLE)],
        Rules::Differ(how) => how.clone(),
    };
    if !seen.forwarding.on {
        problems.push("IPv4 forwarding is off".to_owned());
    }
    problems.extend(seen.stale_files.iter().map(|path| match seen.spec {
        Some(_) => format!("{path} is missing or was changed"),
        None => format!("{path} is left over"),
    }));
    problems
}

/// Another chain has the last word on forwarded packets.
fn dropped(chain: &str, spec: Option<&NatSpec>) -> String {
    let (bridge, uplink) =
        spec.map_or(("BRIDGE", "UPLINK"), |spec| (spec.bridge.as_str(), spec.uplink.as_str()));
    format!(
        "the chain {chain} drops forwarded packets that none of its own rules accepts, whatever ours say; if guests do not get out: \
         `nft insert rule {chain} iifname {bridge} oifname {uplink} accept` and \
         `nft insert rule {chain} iifname {uplink} oifname {bridge} ct state established,related accept`"
    )
}

impl From<NatError> for Failure {
    fn from(error: NatError) -> Self {
        Failure::new(error.exit(), format!("failed to {error}"))
    }
}
