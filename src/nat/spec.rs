//! What is to be translated. Checked here, because it ends up in nftables' language and in a file that root loads.

use std::{fmt, str::FromStr};

use ipnet::Ipv4Net;

/// Longest interface name: `IFNAMSIZ` less the closing zero.
const LONGEST: usize = 15;

/// The name of a network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface(String);

impl Interface {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Interface {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The kernel allows nearly everything; these are what people use, and none of them means anything to nftables in quotes.
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
        if text.is_empty() || text.len() > LONGEST || !text.chars().all(fits) || text.starts_with(['-', '.'])
        {
            return Err(format!(
                "an interface's name has 1 to {LONGEST} letters, digits, '-', '_', '.' or '@', as in `ip link`"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which network leaves by which interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatSpec {
    /// The host's interface to the Internet.
    pub uplink: Interface,
    /// The interface that the external network is on, usually `br-ex`.
    pub bridge: Interface,
    /// The external network.
    pub cidr: Ipv4Net,
}

impl NatSpec {
    /// Checks that the parts go together.
    ///
    /// # Errors
    /// A sentence for the person who gave them.
    pub fn try_new(uplink: Interface, bridge: Interface, cidr: Ipv4Net) -> Result<Self, String> {
        if uplink == bridge {
            return Err(format!("uplink and bridge are both {uplink}: nothing would be forwarded"));
        }
        if cidr.network() != cidr.addr() {
            return Err(format!("{cidr} is an address within a network: the network is {}", cidr.trunc()));
        }
        // Less would also hide the Internet's own addresses behind ours.
        if !(8..=30).contains(&cidr.prefix_len()) {
            return Err(format!(
                "{cidr} is no external network of a cloud: its prefix must be from /8 to /30"
            ));
        }
        Ok(Self { uplink, bridge, cidr })
    }
}

impl fmt::Display for NatSpec {
    /// As it is written on the command line, and in the file's first line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--uplink {} --bridge {} --cidr {}", self.uplink, self.bridge, self.cidr)
    }
}

impl FromStr for NatSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let ["--uplink", uplink, "--bridge", bridge, "--cidr", cidr] = words.as_slice() else {
            return Err(format!("{text:?} is not --uplink IF --bridge IF --cidr CIDR"));
        };
        let cidr = cidr.parse().map_err(|error| format!("{cidr}: {error}"))?;
        Self::try_new(uplink.parse()?, bridge.parse()?, cidr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_mean_nothing_else_are_interfaces() {
        for good in ["eth0", "br-ex", "enp0s31f6", "bond0.100", "veth@x"] {
            assert!(good.parse::<Interface>().is_ok(), "{good}");
        }
        for bad in ["", "an-interface-too-long", "a b", "x\"; flush ruleset", "-o", "..", "eth0\n", "a/b"] {
            assert!(bad.parse::<Interface>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn specs_are_read_as_they_are_written_and_nonsense_is_refused() {
        let text = "--uplink eth0 --bridge br-ex --cidr 10.20.20.0/24";
        assert_eq!(text.parse::<NatSpec>().unwrap().to_string(), text);
        for (bad, why) in [
            ("--uplink br-ex --bridge br-ex --cidr 10.20.20.0/24", "both br-ex"),
            ("--uplink eth0 --bridge br-ex --cidr 10.20.20.1/24", "the network is 10.20.20.0/24"),
            ("--uplink eth0 --bridge br-ex --cidr 0.0.0.0/0", "from /8 to /30"),
            ("--uplink eth0 --bridge br-ex --cidr x", "x: "),
            ("--uplink eth0", "is not --uplink"),
        ] {
            let said = bad.parse::<NatSpec>().unwrap_err();
            assert!(said.contains(why), "{bad}: {said}");
        }
    }
}
