//! Every dependency's licence, source and version against `deny.toml`, with nothing but Cargo. `cargo deny` reads the same file; building
//! it takes longer than all of our tests, so that only its search for advisories is left to those who have it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops where it cannot go on")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use serde::Deserialize;

#[derive(Deserialize)]
struct Deny {
    graph: Graph,
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    package: String,
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Bans {
    skip: Vec<Skip>,
}

#[derive(Deserialize)]
struct Skip {
    #[serde(rename = "crate")]
    package: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
}

fn deny() -> Deny {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml");
    toml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// All that is built on one target, for whatever purpose.
fn packages(target: &str) -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", target])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let Metadata { packages, resolve } = serde_json::from_slice(&output.stdout).unwrap();
    let built: BTreeSet<String> = resolve.nodes.into_iter().map(|node| node.id).collect();
    packages.into_iter().filter(|package| built.contains(&package.id)).collect()
}

/// Whether a licence expression can be met by `allowed` alone: SPDX's grammar, and the `/` of old manifests for OR.
fn is_met(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let (met, rest) = any_of(&tokens, allowed);
    assert!(rest.is_empty(), "{expression} is not understood from {rest:?}");
    met
}

type Parsed<'a> = (bool, &'a [&'a str]);

fn any_of<'a>(tokens: &'a [&'a str], allowed: &dyn Fn(&str) -> bool) -> Parsed<'a> {
    let (mut met, mut rest) = all_of(tokens, allowed);
    while let ["OR", after @ ..] = rest {
        let (other, after) = all_of(after, allowed);
        (met, rest) = (met | other, after);
    }
    (met, rest)
}

fn all_of<'a>(tokens: &'a [&'a str], allowed: &dyn Fn(&str) -> bool) -> Parsed<'a> {
    let (mut met, mut rest) = one(tokens, allowed);
    while let ["AND", after @ ..] = rest {
        let (other, after) = one(after, allowed);
        (met, rest) = (met & other, after);
    }
    (met, rest)
}

fn one<'a>(tokens: &'a [&'a str], allowed: &dyn Fn(&str) -> bool) -> Parsed<'a> {
    match tokens {
        ["(", inner @ ..] => {
            let (met, rest) = any_of(inner, allowed);
            assert_eq!(rest.first(), Some(&")"), "a parenthesis is not closed");
            (met, &rest[1..])
        }
        // An exception only permits more; none of ours needs one.
        [license, "WITH", exception, rest @ ..] => (allowed(&format!("{license} WITH {exception}")), rest),
        [license, rest @ ..] => (allowed(license), rest),
        [] => (false, tokens),
    }
}

#[test]
fn licence_expressions_are_understood() {
    let allowed = |license: &str| matches!(license, "MIT" | "ISC");
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("MIT AND GPL-3.0", false),
        ("ISC AND (GPL-3.0 OR MIT)", true),
        ("(MIT OR GPL-3.0) AND GPL-3.0", false),
        ("MIT OR ISC AND GPL-3.0", true),
        ("MIT WITH Some-exception", false),
    ] {
        assert_eq!(is_met(expression, &allowed), met, "{expression}");
    }
}

#[test]
fn licences_sources_and_duplicates_are_those_of_deny_toml() {
    let deny = deny();
    let mut wrong = BTreeSet::new();
    let mut skipped = BTreeSet::new();
    let mut excepted = BTreeSet::new();
    for target in &deny.graph.targets {
        let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for Package { name, version, license, source, .. } in packages(target) {
            let exception = deny.licenses.exceptions.iter().find(|exception| exception.package == name);
            excepted.extend(exception.map(|exception| exception.package.clone()));
            let allowed = |license: &str| {
                deny.licenses.allow.contains(license)
                    || exception.is_some_and(|exception| exception.allow.contains(license))
            };
            match license.as_deref() {
                Some(license) if is_met(license, &allowed) => {}
                other => drop(wrong.insert(format!("{name} {version} has the licence {other:?}"))),
            }
            if let Some(source) = source
                && !source
                    .strip_prefix("registry+")
                    .is_some_and(|from| deny.sources.allow_registry.contains(from))
            {
                wrong.insert(format!("{name} {version} comes from {source}"));
            }
            let this = format!("{name}@{version}");
            if deny.bans.skip.iter().any(|skip| skip.package == this) {
                skipped.insert(this);
            } else {
                versions.entry(name).or_default().push(version);
            }
        }
        let twice = versions.iter().filter(|(_, versions)| versions.len() > 1);
        wrong.extend(twice.map(|(name, versions)| format!("{name} is there as {}", versions.join(" and "))));
    }
    assert!(wrong.is_empty(), "against deny.toml:\n{wrong:#?}");
    // What is excused and not there any more is taken out of the file.
    for skip in &deny.bans.skip {
        assert!(!skip.reason.is_empty() && skipped.contains(&skip.package), "{} is not needed", skip.package);
    }
    for exception in &deny.licenses.exceptions {
        assert!(excepted.contains(&exception.package), "{} is not needed", exception.package);
    }
}
