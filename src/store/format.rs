//! What is in a state file: a JSON object of the format's number, the pool, a checksum, and the state.
//!
//! The checksum is the SHA-256 of the state's own text in the file, so that a torn or edited file is told from a good one.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};
use sha2::{Digest, Sha256};

use crate::core::ids::PoolName;

/// Makes a state of one format into one of the next.
pub(super) type Upgrade = fn(Value) -> Value;

/// The upgrade from format 1 is the first, and so on. A format that was ever released stays readable.
pub(super) const UPGRADES: &[Upgrade] = &[];

#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    format: u32,
    pool: String,
    sha256: String,
    #[serde(borrow)]
    state: &'a RawValue,
}

/// The part of a file that every format has, whatever else a newer one brings.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

/// Why a text is not a state that we can use.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It is broken; the text says how.
    Broken(String),
    /// A newer version wrote it.
    Newer(u32),
    /// It is another pool's.
    Stranger(String),
}

/// The newest format with these upgrades.
pub(super) fn newest(upgrades: &[Upgrade]) -> u32 {
    u32::try_from(upgrades.len()).unwrap_or(u32::MAX - 1) + 1
}

/// The text of a file that holds `state`.
pub(super) fn encode<T: Serialize>(pool: &PoolName, state: &T) -> serde_json::Result<String> {
    let state = RawValue::from_string(serde_json::to_string_pretty(state)?)?;
    let envelope = Envelope {
        format: newest(UPGRADES),
        pool: pool.to_string(),
        sha256: checksum(state.get()),
        state: &state,
    };
    Ok(serde_json::to_string_pretty(&envelope)? + "\n")
}

/// The state in a file's text.
pub(super) fn decode<T: DeserializeOwned>(
    text: &str,
    pool: &PoolName,
    upgrades: &[Upgrade],
) -> Result<T, Unusable> {
    let broken = |error: serde_json::Error| Unusable::Broken(error.to_string());
    let Head { format } = serde_json::from_str(text).map_err(broken)?;
    if format > newest(upgrades) {
        return Err(Unusable::Newer(format));
    }
    let envelope: Envelope<'_> = serde_json::from_str(text).map_err(broken)?;
    if checksum(envelope.state.get()) != envelope.sha256 {
        return Err(Unusable::Broken("its checksum is wrong".to_owned()));
    }
    if envelope.pool != pool.as_str() {
        return Err(Unusable::Stranger(envelope.pool));
    }
    let done = format.checked_sub(1).and_then(|done| usize::try_from(done).ok());
    let steps = done
        .and_then(|done| upgrades.get(done..))
        .ok_or_else(|| Unusable::Broken("there is no format 0".to_owned()))?;
    if steps.is_empty() {
        return serde_json::from_str(envelope.state.get()).map_err(broken);
    }
    let state: Value = serde_json::from_str(envelope.state.get()).map_err(broken)?;
    serde_json::from_value(steps.iter().fold(state, |state, upgrade| upgrade(state))).map_err(broken)
}

fn checksum(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
