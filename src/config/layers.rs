//! Layers become one set of values: defaults, files, environment, flags; what a later one says stands.

use super::{
    env::Env,
    files,
    flags::{Flags, Given},
    keys::{KEYS, Values},
    problem::{Origin, Problem},
    setting::Raw,
    values::{Key, Refused, Unset},
};

/// Variables with shorter names than their keys'.
pub(super) const SHORT_VARIABLES: &[(&str, &str)] =
    &[("LBSIDECAR_POOL", "pool.name"), ("LBSIDECAR_LOG", "log.filter")];

/// Variables with our prefix that set no key; the last two are the lab's.
const OTHER_VARIABLES: &[&str] =
    &["LBSIDECAR_CONFIG", "LBSIDECAR_LAB_DIR", "LBSIDECAR_LAB_KEY", "LBSIDECAR_LAB_LOG"];

/// The values, and what is wrong or doubtful in how they were written.
#[derive(Debug, Default)]
pub(super) struct Layered {
    /// What all layers together say.
    pub(super) values: Values,
    /// Mistakes.
    pub(super) problems: Vec<Problem>,
    /// Doubts.
    pub(super) warnings: Vec<Problem>,
}

/// The lowest layer.
pub(super) fn defaults() -> Layered {
    let mut layered = Layered::default();
    for key in KEYS {
        if let Unset::Is(value) = key.unset {
            layered.put(key.name, &Raw::Text(value.to_owned()), Origin::Default);
        }
    }
    layered
}

/// Reads all layers.
pub(super) fn read(flags: &Flags, env: &Env) -> Layered {
    let mut layered = defaults();
    for entry in files::read(&flags.places, env, &mut layered.problems) {
        layered.put(&entry.key, &entry.raw, entry.origin);
    }
    layered.environment(env);
    for (flag, key, value) in flags.all() {
        if let Some(raw) = value {
            layered.put(key, &raw, Origin::Flag(flag));
        }
    }
    layered
}

impl Layered {
    fn put(&mut self, key: &str, raw: &Raw, origin: Origin) {
        match self.values.put(key, raw, origin.clone()) {
            Ok(()) => {}
            Err(Refused::Wrong(why)) => {
                self.problems.push(Problem::of_value(origin, key, &raw.to_string(), why));
            }
            Err(Refused::Unknown) => self.problems.push(Problem::of(Some(origin), key, unknown(key))),
        }
    }

    fn environment(&mut self, env: &Env) {
        for (name, _) in env.variables.range("LBSIDECAR_".to_owned()..="LBSIDECAR_~".to_owned()) {
            let Some(value) = env.get(name) else { continue };
            if OTHER_VARIABLES.contains(&name.as_str()) {
                continue;
            }
            let key = SHORT_VARIABLES
                .iter()
                .find(|(short, _)| short == name)
                .map(|(_, key)| *key)
                .or_else(|| KEYS.iter().find(|key| key.variable() == *name).map(|key| key.name));
            match key {
                Some(key) => self.put(key, &Raw::Text(value.to_owned()), Origin::Variable(name.clone())),
                // It may be meant for another program of ours, or a newer version; so this is no mistake.
                None => self.warnings.push(Problem::of(
                    Some(Origin::Variable(name.clone())),
                    "",
                    match nearest(name, KEYS.iter().map(Key::variable)) {
                        Some(near) => format!("this variable sets nothing: is {near} meant?"),
                        None => "this variable sets nothing".to_owned(),
                    },
                )),
            }
        }
    }
}

/// Why a key is refused, and which one may be meant.
fn unknown(key: &str) -> String {
    if KEYS.iter().any(|k| k.table() == key) {
        return format!("this is a table: write [{key}], and its keys below");
    }
    let leaf = key.rsplit('.').next().unwrap_or(key);
    // The right name in a wrong table, or the beginning of a name, is likelier than two names that look alike.
    let named = |k: &&Key| k.leaf() == leaf || k.name.starts_with(key);
    let near = KEYS.iter().find(named).map(|k| k.name.to_owned());
    match near.or_else(|| nearest(key, KEYS.iter().map(|k| k.name.to_owned()))) {
        Some(near) => format!("there is no such key: is {near} meant?"),
        None => "there is no such key: docs/configuration.md lists all".to_owned(),
    }
}

/// The candidate that looks most like `word`, if one does.
fn nearest(word: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    candidates
        .map(|candidate| (strsim::osa_distance(word, &candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 8)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The flags that set a key.
pub(super) fn flags_of(key: &str) -> Vec<&'static str> {
    let of_key = |(flag, of, _): Given| (of == key).then_some(flag);
    Flags::default().all().into_iter().filter_map(of_key).collect()
}
