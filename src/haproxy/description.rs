//! The text in `global description` by which a running worker proves which file it has read.

use std::{fmt, str::FromStr};

use crate::core::ids::PoolName;

/// `lbsidecar-<pool>-gen-<n>-<8 hex digits>`.
///
/// The digits are a digest of everything in the file but the weights and the generation: two files with the same digits differ
/// at most in what can be set at run time, so that no reload is needed between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Description {
    pub(super) pool: PoolName,
    /// Counts reloads; never goes back.
    pub(super) generation: u64,
    pub(super) structure: String,
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lbsidecar-{}-gen-{}-{}", self.pool, self.generation, self.structure)
    }
}

impl FromStr for Description {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        // From the end: a pool's name may hold dashes, and even "gen".
        let (rest, structure) =
            text.trim().strip_prefix("lbsidecar-").ok_or(())?.rsplit_once('-').ok_or(())?;
        let (rest, generation) = rest.rsplit_once('-').ok_or(())?;
        let pool = rest.strip_suffix("-gen").ok_or(())?;
        if structure.len() != 8 || !structure.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(());
        }
        Ok(Self {
            pool: PoolName::try_new(pool).map_err(|_| ())?,
            generation: generation.parse().map_err(|_| ())?,
            structure: structure.to_owned(),
        })
    }
}

impl Description {
    /// The description in a configuration file.
    pub(super) fn in_file(text: &str) -> Option<Self> {
        text.lines().find_map(|line| line.trim().strip_prefix("description ")?.parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back_what_it_writes() {
        for pool in ["web", "a-gen-7", "gen", "x-y-z"] {
            let description = Description {
                pool: PoolName::try_new(pool).unwrap(),
                generation: 42,
                structure: "00c0ffee".into(),
            };
            assert_eq!(description.to_string().parse(), Ok(description.clone()));
            let file = format!("global\n    description {description}\n    maxconn 5\n");
            assert_eq!(Description::in_file(&file), Some(description));
        }
    }

    #[test]
    fn it_takes_nothing_else() {
        for bad in
            ["", "web", "lbsidecar-web-gen-1", "lbsidecar-web-gen-x-00c0ffee", "lbsidecar--gen-1-00c0ffee"]
        {
            assert_eq!(bad.parse::<Description>(), Err(()), "{bad:?} must be refused");
        }
    }
}
