//! Names and identifiers, each its own type, each checked when it is made.
//!
//! A value of these types may be put into a template, a log line or a URL as it is: construction refuses everything that
//! would need quoting there.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} is not valid: {why}")]
pub struct InvalidName {
    /// What kind of name was expected.
    pub what: &'static str,
    /// The offending text.
    pub text: String,
    /// The rule that it breaks.
    pub why: &'static str,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self).map_err(|_| InvalidName {
                    what: stringify!($name),
                    text: text.chars().take(80).collect(),
                    why: "it must be a UUID",
                })
            }
        }
    };
}

uuid_id!(
    /// A Nova server. The libvirt domain of the same VM has the same UUID.
    ServerId
);
uuid_id!(
    /// One intention to create something, written to disk before the call and into the resource's metadata by it, so that a
    /// repeated or interrupted call can be recognised.
    IntentId
);
uuid_id!(
    /// A Neutron port.
    PortId
);
uuid_id!(
    /// A Neutron floating IP.
    FloatingIpId
);

impl ServerId {
    /// The first eight hexadecimal digits: enough to tell a pool's members apart in names.
    #[must_use]
    pub fn short(&self) -> String {
        self.0.simple().to_string().chars().take(8).collect()
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $max:literal, $allowed:expr, $why:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text` and wraps it.
            ///
            /// # Errors
            /// [`InvalidName`] with the rule that `text` breaks.
            pub fn try_new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                let allowed: fn(usize, char) -> bool = $allowed;
                if text.is_empty() || text.len() > $max || !text.chars().enumerate().all(|(i, c)| allowed(i, c)) {
                    return Err(InvalidName {
                        what: stringify!($name),
                        text: text.chars().take(80).collect(),
                        why: $why,
                    });
                }
                Ok(Self(text))
            }

            /// The checked text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::try_new(text)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::try_new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

name_type!(
    /// The name of a pool: part of file, namespace and unit names.
    PoolName,
    32,
    |i, c| c.is_ascii_lowercase() || c.is_ascii_digit() || (i > 0 && c == '-'),
    "use 1 to 32 of a-z, 0-9 and '-', not starting with '-'"
);
name_type!(
    /// The name of a server line in HAProxy: `<VM name>-<first 8 digits of its id>`, so that no VM inherits another's state.
    BackendName,
    96,
    |_, c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'),
    "use 1 to 96 of A-Z, a-z, 0-9, '-', '_' and '.'"
);

impl BackendName {
    /// Builds the name for a VM; characters that HAProxy does not take become `-`.
    #[must_use]
    pub fn of(vm_name: &str, id: ServerId) -> Self {
        let clean: String = vm_name
            .chars()
            .take(64)
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' })
            .collect();
        Self(format!("{}-{}", if clean.is_empty() { "vm" } else { &clean }, id.short()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_name_cannot_carry_a_directive() {
        let id = ServerId(Uuid::from_u128(0x1234_5678_0000_0000_0000_0000_0000_0000));
        let name = BackendName::of("evil\n  server x 1.2.3.4:80", id);
        assert_eq!(name.as_str(), "evil---server-x-1.2.3.4-80-12345678");
        assert!(BackendName::try_new(name.as_str()).is_ok());
        assert_eq!(BackendName::of("", id).as_str(), "vm-12345678");
    }

    #[test]
    fn pool_names_are_file_safe() {
        assert!(PoolName::try_new("web-1").is_ok());
        for bad in ["", "-a", "A", "a/b", "a.b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"] {
            assert!(PoolName::try_new(bad).is_err(), "{bad:?} must be refused");
        }
    }
}
