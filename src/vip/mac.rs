//! A hardware address.

use std::{fmt, str::FromStr};

/// Why a text is not a hardware address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a hardware address: use six pairs of hexadecimal digits with ':' between them")]
pub struct InvalidMac(String);

/// An Ethernet hardware address, as Neutron gives it to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl FromStr for Mac {
    type Err = InvalidMac;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidMac(text.chars().take(40).collect());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = part.and_then(|p| u8::from_str_radix(p, 16).ok()).ok_or_else(invalid)?;
        }
        if parts.next().is_some() { Err(invalid()) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        let mac: Mac = "fa:16:3E:00:0b:ff".parse().unwrap();
        assert_eq!(mac.to_string(), "fa:16:3e:00:0b:ff");
        for bad in [
            "",
            "fa:16:3e:00:0b",
            "fa:16:3e:00:0b:ff:00",
            "fa:16:3e:00:0b:+f",
            "fa:16:3e:00:0b:f",
            "fa-16-3e-00-0b-ff",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad:?} must be refused");
        }
    }
}
