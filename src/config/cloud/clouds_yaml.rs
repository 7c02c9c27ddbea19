//! clouds.yaml and secure.yaml: where they are looked for, and the fields of one cloud in them.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::fields::Fields;
use crate::config::{
    checks::Findings,
    env::Env,
    files::says,
    keys::Values,
    problem::{Origin, Problem},
    secret_file,
};

/// What was found.
pub(super) struct Looked {
    /// The cloud's fields.
    pub(super) fields: Option<Fields>,
    /// Where a clouds.yaml was looked for.
    pub(super) places: Vec<PathBuf>,
}

/// Finds the cloud called `name`, or without a name the only one (or the one called `openstack`). That a named cloud cannot be
/// found is told; that there is no file at all is not, when none was asked for.
pub(super) fn find(
    values: &Values,
    env: &Env,
    name: Option<&(String, Origin)>,
    found: &mut Findings,
) -> Looked {
    let (places, must_exist) = match &values.cloud_file {
        Some(set) => (vec![env.path(&set.value)], true),
        None => match env.get("OS_CLIENT_CONFIG_FILE") {
            Some(file) => (vec![env.path(file)], true),
            None => (places(env, "clouds"), false),
        },
    };
    let told = found.problems.len();
    let fields = read_first(&places, found).and_then(|(path, mut document)| {
        let secure = match env.get("OS_CLIENT_SECURE_FILE") {
            Some(file) => vec![env.path(file)],
            None => places_beside(&path, env),
        };
        if let Some((_, secrets)) = read_first(&secure, found) {
            merge(&mut document, secrets);
        }
        cloud(&path, &document, env, name, found)
    });
    let untold = fields.is_none() && found.problems.len() == told;
    if untold && (name.is_some() || must_exist) {
        let list: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
        let why = match list.as_slice() {
            [one] => format!("{one}: there is no such file"),
            _ => format!("no clouds.yaml was found: looked for {}", list.join(", ")),
        };
        found.problems.push(match name {
            Some((name, origin)) => Problem::of(Some(origin.clone()), format!("cloud {name:?}"), why),
            None => Problem::of(None, "", why),
        });
    }
    Looked { fields, places }
}

/// Where the OpenStack CLI looks, after the directory in which systemd puts a service's credentials.
fn places(env: &Env, stem: &str) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    directories.extend(env.get("CREDENTIALS_DIRECTORY").map(|directory| env.path(directory)));
    directories.push(env.directory.clone());
    match env.get("XDG_CONFIG_HOME") {
        Some(home) => directories.push(env.path(home).join("openstack")),
        None => directories.extend(env.get("HOME").map(|home| env.path(home).join(".config/openstack"))),
    }
    directories.push(env.system("etc/openstack"));
    directories.into_iter().map(|directory| directory.join(stem).with_extension("yaml")).collect()
}

fn places_beside(clouds: &Path, env: &Env) -> Vec<PathBuf> {
    let mut all = vec![clouds.with_file_name("secure.yaml")];
    all.extend(places(env, "secure"));
    all
}

/// The first of these files that is there. One that may not be used is told, and ends the search.
fn read_first(places: &[PathBuf], found: &mut Findings) -> Option<(PathBuf, Value)> {
    let mut tell = |why: String| {
        found.problems.push(Problem::of(None, "", why));
        None
    };
    for path in places {
        let file = match secret_file::read(path) {
            Ok(Some(file)) => file,
            Ok(None) => continue,
            Err(error) => return tell(format!("{}: {}", path.display(), says(&error))),
        };
        let document: Value = match serde_saphyr::from_str(&file.text) {
            Ok(document) => document,
            Err(error) => {
                // The error's own text quotes the line, which may hold a password.
                let line = error.location().map_or(0, |location| location.line());
                return tell(format!("{}:{line}: this is not YAML that can be read", path.display()));
            }
        };
        if file.world_readable && holds_secret(&document) {
            return tell(secret_file::too_open(path));
        }
        return Some((path.clone(), document));
    }
    None
}

fn holds_secret(document: &Value) -> bool {
    match document {
        Value::Object(map) => map.iter().any(|(key, value)| {
            (matches!(key.as_str(), "password" | "application_credential_secret" | "token")
                && !value.is_null())
                || holds_secret(value)
        }),
        Value::Array(items) => items.iter().any(holds_secret),
        _ => false,
    }
}

/// Lays `above` over `below`, map by map.
fn merge(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                merge(below.entry(key).or_insert(Value::Null), value);
            }
        }
        (below, above) => *below = above,
    }
}

fn cloud(
    path: &Path,
    document: &Value,
    env: &Env,
    name: Option<&(String, Origin)>,
    found: &mut Findings,
) -> Option<Fields> {
    let empty = Map::new();
    let clouds = document.get("clouds").and_then(Value::as_object).unwrap_or(&empty);
    let names = || clouds.keys().cloned().collect::<Vec<_>>().join(", ");
    let name = match name {
        Some((name, origin)) if !clouds.contains_key(name) => {
            let why = format!(
                "{} has no such cloud: it has {}",
                path.display(),
                if clouds.is_empty() { "none".to_owned() } else { names() }
            );
            found.problems.push(Problem::of(Some(origin.clone()), format!("cloud {name:?}"), why));
            return None;
        }
        Some((name, _)) => name.clone(),
        None => match clouds.keys().next() {
            Some(only) if clouds.len() == 1 => only.clone(),
            _ if clouds.contains_key("openstack") => "openstack".to_owned(),
            Some(_) => {
                let why = format!(
                    "{} has several clouds ({}): choose one by --os-cloud, OS_CLOUD or cloud.name",
                    path.display(),
                    names()
                );
                found.problems.push(Problem::of(None, "", why));
                return None;
            }
            None => return None,
        },
    };
    let cloud = clouds.get(&name)?;
    let origin = format!("cloud {name:?} in {}", path.display());
    let mut unquoted = Vec::new();
    for map in [Some(cloud), cloud.get("auth")].into_iter().flatten().filter_map(Value::as_object) {
        for (key, value) in map.iter().filter(|(_, value)| value.is_number()) {
            // YAML has lost what was written: 0123 and 1e5 are other texts than the numbers they become.
            let text_expected =
                !matches!(key.as_str(), "verify" | "insecure") && !key.ends_with("api_version");
            if text_expected && !value.is_null() {
                unquoted.push(format!("{origin}: {key} looks like a number to YAML: put it in quotes"));
            }
        }
    }
    found.problems.extend(unquoted.into_iter().map(|why| Problem::of(None, "", why)));
    let mut fields = Fields::of_cloud(origin, |field, in_auth| {
        let auth = cloud.get("auth").and_then(|auth| auth.get(field)).filter(|_| in_auth);
        text(auth.or_else(|| cloud.get(field))?)
    });
    fields.complete_from(env);
    Some(fields)
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
