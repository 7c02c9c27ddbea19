//! What there is now; changes nothing.

use std::{fs, path::Path};

use super::{
    error::NatError,
    files::{self, RULES},
    nft, rules,
    spec::{Interface, NatSpec},
};

/// The kernel's switch, of the network namespace that we are in.
pub(super) const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";

/// All that was found.
#[derive(Debug)]
pub struct Seen {
    /// What it was enabled for last; `None` when it is not enabled.
    pub spec: Option<NatSpec>,
    /// Our table.
    pub rules: Rules,
    /// Forwarding.
    pub forwarding: Forwarding,
    /// Files that are missing or not as they are to be.
    pub stale_files: Vec<&'static str>,
    /// Chains of others that drop forwarded packets unless one of their own rules accepts them.
    pub dropped_by: Vec<String>,
}

/// Our table.
#[derive(Debug, PartialEq, Eq)]
pub enum Rules {
    /// There is none.
    Absent,
    /// It is as it is to be.
    Good,
    /// How it differs.
    Differ(Vec<String>),
}

/// Forwarding of IPv4.
#[derive(Debug)]
pub struct Forwarding {
    /// Whether it is on.
    pub on: bool,
    /// What it was before us, when we set it.
    pub before: Option<bool>,
}

impl Seen {
    /// Whether nothing is missing.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.spec.is_some() && self.rules == Rules::Good && self.forwarding.on && self.stale_files.is_empty()
    }

    /// Whether nothing of ours is there.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.spec.is_none()
            && self.rules == Rules::Absent
            && self.forwarding.before.is_none()
            && self.stale_files.is_empty()
    }
}

/// Looks at everything, as it is to be for `wanted`, or else for what it was enabled for.
///
/// # Errors
/// When nft is missing or refuses, or a file cannot be read.
pub fn look(wanted: Option<&NatSpec>) -> Result<Seen, NatError> {
    let spec = files::read(RULES)?.as_deref().and_then(rules::spec_of);
    let before = files::forwarded_before()?;
    let compared = wanted.or(spec.as_ref());
    let rules = match (nft::table()?, compared) {
        (None, _) => Rules::Absent,
        (Some(_), None) => Rules::Differ(vec![format!("the table is there, and {RULES} is not")]),
        (Some(listed), Some(spec)) => match rules::differences(spec, &listed) {
            none if none.is_empty() => Rules::Good,
            some => Rules::Differ(some),
        },
    };
    let on = is_forwarding()?;
    let mut stale_files = Vec::new();
    match compared {
        Some(spec) => {
            for (path, text) in files::contents(spec, before.unwrap_or(on)) {
                if files::read(path)?.as_deref() != Some(text.as_str()) {
                    stale_files.push(path);
                }
            }
            if !files::is_wanted() {
                stale_files.push(files::WANTED);
            }
        }
        // Leftovers of a `disable` that did not come to its end.
        None => {
            for path in [RULES, files::SYSCTL, files::UNIT] {
                if files::read(path)?.is_some() {
                    stale_files.push(path);
                }
            }
            if files::is_wanted() {
                stale_files.push(files::WANTED);
            }
        }
    }
    let dropped_by = rules::others_that_drop(&nft::chains()?);
    Ok(Seen { spec, rules, forwarding: Forwarding { on, before }, stale_files, dropped_by })
}

/// Whether the kernel forwards now.
pub(super) fn is_forwarding() -> Result<bool, NatError> {
    let text = fs::read_to_string(SWITCH).map_err(NatError::file("read", SWITCH))?;
    Ok(text.trim() != "0")
}

/// The interface of the default route, which is the uplink of a host that has one.
#[must_use]
pub fn uplink() -> Option<Interface> {
    default_of(&fs::read_to_string("/proc/net/route").ok()?)
}

/// Destination and mask are zero; of several routes the one with the least metric counts. Columns as in `route(8)`.
fn default_of(table: &str) -> Option<Interface> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let is_default = words.get(1) == Some(&"00000000") && words.get(7) == Some(&"00000000");
            let metric: u32 = words.get(6)?.parse().ok()?;
            is_default.then_some((metric, *words.first()?))
        })
        .min()
        .and_then(|(_, name)| name.parse().ok())
}

/// Whether an interface is there.
pub(super) fn check_interface(role: &'static str, interface: &Interface) -> Result<(), NatError> {
    let all = Path::new("/sys/class/net");
    // An alternative mount of /sys may show another namespace's interfaces; /proc/net/dev is always our own's.
    let there = fs::read_to_string("/proc/net/dev").map_err(NatError::file("read", all))?;
    let mut names: Vec<&str> =
        there.lines().skip(2).filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim()).collect();
    if names.contains(&interface.as_str()) {
        return Ok(());
    }
    names.retain(|name| *name != "lo");
    Err(NatError::NoInterface { role, name: interface.to_string(), there: names.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_of_least_metric_names_the_uplink() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                     wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
                     eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
                     br-ex\t0014140A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(default_of(table).unwrap().as_str(), "eth0");
        assert_eq!(default_of("Iface\n"), None);
    }
}
