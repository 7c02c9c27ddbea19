//! What a set of layers says: one optional value per key, each with its origin, and the table of keys.
//!
//! `keys.rs` lists the keys once; the macro here makes of each a typed field, a row of the table that documentation and
//! suggestions are made from, and an arm of `Values::put`.

use std::fmt;

use super::problem::{Origin, Problem};

/// A value and where it comes from.
#[derive(Debug, Clone)]
pub(super) struct Sourced<T> {
    /// The value.
    pub(super) value: T,
    /// Who said so.
    pub(super) origin: Origin,
    /// The key.
    pub(super) key: &'static str,
    /// The value as it is shown.
    pub(super) shown: String,
}

impl<T> Sourced<T> {
    /// A mistake in this value.
    pub(super) fn problem(&self, why: impl Into<String>) -> Problem {
        Problem::of_value(self.origin.clone(), self.key, &self.shown, why)
    }
}

/// One key of the configuration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    /// Table and name, as `policy.high`.
    pub(super) name: &'static str,
    /// What it says.
    pub(super) doc: &'static str,
    /// What its values are.
    pub(super) kind: &'static str,
    /// What holds when nobody sets it.
    pub(super) unset: Unset,
    /// Whether a change takes effect while the daemon runs.
    pub(super) reload: Reload,
}

/// What holds when nobody sets a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unset {
    /// This value, as it would be written.
    Is(&'static str),
    /// Something that the sentence says.
    Means(&'static str),
    /// Nothing: it must be set.
    Required,
}

impl fmt::Display for Unset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Is(text) | Self::Means(text) => text,
            Self::Required => "it must be set",
        })
    }
}

/// When a change takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reload {
    /// On SIGHUP.
    Live,
    /// At the next start of the daemon.
    Restart,
}

impl Key {
    /// Its table.
    pub(super) fn table(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(table, _)| table)
    }

    /// Its name within the table.
    pub(super) fn leaf(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, leaf)| leaf)
    }

    /// The environment variable that sets it.
    pub(super) fn variable(&self) -> String {
        format!("LBSIDECAR_{}", self.name.replace('.', "_").to_uppercase())
    }
}

/// Why a value was not taken.
pub(super) enum Refused {
    /// There is no such key.
    Unknown,
    /// The value is wrong; the text says why, and what would be right.
    Wrong(String),
}

/// One row of the effective configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// Table and name, as `policy.high`.
    pub key: &'static str,
    /// Its value as it would be written in a file; `None` when it is not set.
    pub value: Option<String>,
    /// Where it comes from; what holds instead, when it is not set.
    pub origin: String,
}

macro_rules! keys {
    ($($(#[doc = $doc:literal])+ $field:ident: $type:ty = $name:literal, $unset:expr, $reload:ident;)+) => {
        /// Every key, in the order of the documentation.
        pub(super) const KEYS: &[Key] = &[$(Key {
            name: $name,
            doc: concat!($($doc),+),
            kind: <$type as Setting>::KIND,
            unset: $unset,
            reload: Reload::$reload,
        }),+];

        /// What a set of layers says.
        #[derive(Debug, Clone, Default)]
        pub(super) struct Values {
            $($(#[doc = $doc])+ pub(super) $field: Option<Sourced<$type>>,)+
        }

        impl Values {
            /// Sets a key. A value that is wrong takes away what lower layers said, so that no check is made on it.
            pub(super) fn put(&mut self, name: &str, raw: &Raw, origin: Origin) -> Result<(), Refused> {
                match name {
                    $($name => {
                        self.$field = None;
                        let value = <$type>::read(raw).map_err(Refused::Wrong)?;
                        let shown = value.show();
                        self.$field = Some(Sourced { value, origin, key: $name, shown });
                    })+
                    _ => return Err(Refused::Unknown),
                }
                Ok(())
            }

            /// Every key with its value and origin.
            pub(super) fn effective(&self) -> Vec<Effective> {
                vec![$(match &self.$field {
                    Some(set) => Effective {
                        key: $name,
                        value: Some(set.shown.clone()),
                        origin: set.origin.to_string(),
                    },
                    None => Effective { key: $name, value: None, origin: $unset.to_string() },
                }),+]
            }

            /// `self`, but with the values of `new` for every key that may change live; and the keys for which `new` says
            /// something else that may not.
            pub(super) fn changed_live(&self, new: &Values) -> (Values, Vec<&'static str>) {
                let mut merged = self.clone();
                let mut refused = Vec::new();
                $(
                    let same = self.$field.as_ref().map(|s| &s.shown) == new.$field.as_ref().map(|s| &s.shown);
                    match Reload::$reload {
                        Reload::Live => merged.$field = new.$field.clone(),
                        Reload::Restart if !same => refused.push($name),
                        Reload::Restart => {}
                    }
                )+
                (merged, refused)
            }
        }
    };
}
pub(super) use keys;
