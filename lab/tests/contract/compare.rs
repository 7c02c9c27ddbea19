//! How an answer is held against a recording: ids are matched first, then shapes and values are compared.

use std::collections::HashMap;

use regex::Regex;
use serde_json::{Map, Value};

/// Members whose values differ from world to world and from moment to moment; only their type is compared.
const VARIES: &[&str] = &[
    "X-Subject-Token",
    "adminPass",
    "audit_ids",
    "checksum",
    "configurations",
    "cpu_info",
    "created",
    "created_at",
    "details",
    "disk_available_least",
    "expires_at",
    "fingerprint",
    "free_disk_gb",
    "heartbeat_timestamp",
    "hostId",
    "hypervisor_version",
    "issued_at",
    "launched_at",
    "local_gb_used",
    "number",
    "OS-EXT-SRV-ATTR:instance_name",
    "OS-EXT-SRV-ATTR:reservation_id",
    "OS-SRV-USG:launched_at",
    "OS-SRV-USG:terminated_at",
    "os_hash_value",
    "output",
    "provider:segmentation_id",
    "public_key",
    "request_id",
    "revision_number",
    "size",
    "standard_attr_id",
    "start_time",
    "started_at",
    "updated",
    "updated_at",
    "virtual_size",
];

/// Members that the recordings have and the lab has not, and why.
const ABSENT: &[(&str, &str)] = &[
    ("os_command_line", "a property that the recorded rig gave its own image"),
    ("rig_sha256", "a property that the recorded rig gave its own image"),
    ("owner_specified.openstack.md5", "written by the client that uploaded the image"),
    ("owner_specified.openstack.sha256", "written by the client that uploaded the image"),
    ("owner_specified.openstack.object", "written by the client that uploaded the image"),
];

/// Lists that are longer in the recordings, and why.
const SHORTER: &[(&str, &str)] = &[("catalog", "the lab has no placement service")];

/// Ids, addresses, hardware addresses.
fn pattern() -> Regex {
    let pattern = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}|[0-9]+(\\.[0-9]+){3}|([0-9a-f]{2}:){5}[0-9a-f]{2}";
    Regex::new(pattern).unwrap()
}

/// Method and URL without ids and addresses: what requests of one kind have in common.
pub(crate) fn kind(request: &Value) -> String {
    let url = request["url"].as_str().unwrap_or_default();
    let url = pattern().replace_all(url, "ID").into_owned();
    format!("{} {}", request["method"].as_str().unwrap_or_default(), url.trim_start_matches("http://ID:"))
}

/// What is known of ids: those of the recording, and ours.
pub(crate) struct Ids {
    known: HashMap<String, String>,
    pattern: Regex,
    /// Recorded addresses of services, and ours.
    urls: Vec<(String, String)>,
}

impl Ids {
    pub(crate) fn new(urls: Vec<(String, String)>) -> Self {
        Self { known: HashMap::new(), pattern: pattern(), urls }
    }

    /// A recorded text with our ids and addresses in place of the recorded ones.
    pub(crate) fn text(&self, recorded: &str) -> String {
        let mut text = recorded.to_owned();
        for (theirs, ours) in &self.urls {
            text = text.replace(theirs.as_str(), ours);
        }
        let ours = |found: &regex::Captures<'_>| {
            self.known.get(&found[0]).cloned().unwrap_or_else(|| found[0].to_owned())
        };
        self.pattern.replace_all(&text, ours).into_owned()
    }

    /// The same for all texts in a value.
    pub(crate) fn value(&self, recorded: &Value) -> Value {
        match recorded {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(list) => list.iter().map(|item| self.value(item)).collect(),
            Value::Object(members) => {
                members.iter().map(|(name, value)| (name.clone(), self.value(value))).collect()
            }
            other => other.clone(),
        }
    }

    /// Learns which id stands for which, from two answers to the same request.
    pub(crate) fn learn(&mut self, recorded: &Value, ours: &Value) {
        match (recorded, ours) {
            (Value::String(theirs), Value::String(own)) => {
                let whole = |text: &str| self.pattern.find(text).is_some_and(|found| found.as_str() == text);
                if whole(theirs) && whole(own) {
                    self.known.entry(theirs.clone()).or_insert_with(|| own.clone());
                }
            }
            (Value::Array(theirs), Value::Array(own)) => {
                for (theirs, own) in self.pairs(theirs, own) {
                    self.learn(theirs, own);
                }
            }
            (Value::Object(theirs), Value::Object(own)) => {
                // Ids first: what else is in the object may depend on them.
                for (name, theirs) in theirs {
                    if let Some(own) = own.get(name) {
                        self.learn(theirs, own);
                    }
                }
            }
            _ => {}
        }
    }

    /// The items of two lists that belong together: those that have most in common.
    fn pairs<'a>(&self, theirs: &'a [Value], own: &'a [Value]) -> Vec<(&'a Value, &'a Value)> {
        let mut left: Vec<&Value> = own.iter().collect();
        let mut pairs = Vec::new();
        for item in theirs {
            let wanted = self.value(item);
            let best = (0..left.len()).rev().max_by_key(|index| alike(&wanted, left[*index]));
            if let Some(index) = best {
                pairs.push((item, left.remove(index)));
            }
        }
        pairs
    }

    /// All differences between a recorded body and ours, in words: of values, too, or of members and types only.
    pub(crate) fn differences(&self, recorded: &Value, ours: &Value, exact: bool) -> Vec<String> {
        let mut found = Vec::new();
        self.compare("", recorded, ours, exact, &mut found);
        found
    }

    fn compare(&self, path: &str, recorded: &Value, ours: &Value, exact: bool, found: &mut Vec<String>) {
        match (recorded, ours) {
            (Value::Object(theirs), Value::Object(own)) => {
                self.compare_members(path, theirs, own, exact, found)
            }
            (Value::Array(theirs), Value::Array(own)) => {
                let name = path.rsplit('/').next().unwrap_or_default();
                let may_differ = !exact || SHORTER.iter().any(|(known, _)| *known == name);
                if theirs.len() != own.len() && !may_differ {
                    found.push(format!("{path}: {} items recorded, {} here", theirs.len(), own.len()));
                }
                for (theirs, own) in self.pairs(theirs, own) {
                    self.compare(&format!("{path}/*"), theirs, own, exact && !may_differ, found);
                }
            }
            (theirs, own) => {
                if type_of(theirs) != type_of(own) {
                    found.push(format!("{path}: recorded {theirs}, here {own}"));
                } else if exact && self.value(theirs) != *own {
                    found.push(format!("{path}: recorded {}, here {own}", self.value(theirs)));
                }
            }
        }
    }

    fn compare_members(
        &self,
        path: &str,
        theirs: &Map<String, Value>,
        own: &Map<String, Value>,
        exact: bool,
        found: &mut Vec<String>,
    ) {
        for (name, value) in theirs {
            let below = format!("{path}/{name}");
            match own.get(&self.text(name)) {
                Some(ours) => {
                    self.compare(&below, value, ours, exact && !VARIES.contains(&name.as_str()), found);
                }
                None if ABSENT.iter().any(|(known, _)| known == name) => {}
                None => found.push(format!("{below}: not here")),
            }
        }
        let known: Vec<String> = theirs.keys().map(|name| self.text(name)).collect();
        found.extend(
            own.keys()
                .filter(|name| !known.contains(name))
                .map(|name| format!("{path}/{name}: not recorded")),
        );
    }
}

/// How many members two values have in common.
fn alike(one: &Value, other: &Value) -> usize {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => one
            .iter()
            .filter(|(name, _)| !VARIES.contains(&name.as_str()))
            .map(|(name, value)| other.get(name).map_or(0, |other| alike(value, other)))
            .sum(),
        _ => usize::from(one == other),
    }
}

fn type_of(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    }
}
