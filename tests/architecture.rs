//! The rules that keep this program in one piece: who may know whom, who may look at a clock, where `unsafe` is, how long a
//! file may be. A rule that stands in the way is changed here, with its reason, and not gone round.
//!
//! The scanner knows Rust just well enough: it drops comments and string literals and then looks for paths.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it cannot go on"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Which of our modules a module may use. `::settings` at the end: only that module's settings.
const MAY_USE: &[(&str, &[&str])] = &[
    // The core decides and knows nobody.
    ("core", &[]),
    // Each outside party has one module, which knows the core's types and none of the others.
    ("guests", &["core"]),
    ("host", &["core"]),
    ("openstack", &["core"]),
    ("haproxy", &["core"]),
    ("vip", &["core"]),
    ("store", &["core", "exit"]),
    // The counting client is a program of its own: it shares nothing with what it measures.
    ("load", &[]),
    // The host's own rules: no pool, no cloud, no settings.
    ("nat", &["exit"]),
    ("exit", &["core"]),
    ("telemetry", &["core"]),
    // Shows what the core thinks, and hands commands on.
    ("admin", &["core", "exit", "telemetry"]),
    // Fills in everybody's settings, and uses nobody.
    (
        "config",
        &[
            "admin::settings",
            "core",
            "exit",
            "guests::settings",
            "haproxy::settings",
            "openstack::settings",
            "provision::settings",
            "telemetry",
            "vip::settings",
        ],
    ),
    // Joins all of them.
    (
        "daemon",
        &[
            "admin",
            "config",
            "core",
            "exit",
            "guests",
            "haproxy",
            "host",
            "openstack",
            "store",
            "telemetry",
            "vip",
        ],
    ),
    // Makes and removes what a pool lives in; needs no daemon.
    ("provision", &["core", "openstack", "vip"]),
    // The commands, outermost: they may use all.
    (
        "cli",
        &[
            "admin",
            "config",
            "core",
            "daemon",
            "exit",
            "guests",
            "haproxy",
            "host",
            "load",
            "nat",
            "openstack",
            "provision",
            "store",
            "telemetry",
            "vip",
        ],
    ),
    ("main", &["cli", "exit"]),
    ("lib", &[]),
];

/// Crates that only one of our modules may use, so that a change of theirs is felt in one place.
const OWNED: &[(&str, &str)] = &[
    ("virt", "guests"),
    ("reqwest", "openstack"),
    ("tera", "haproxy"),
    ("netlink_sys", "vip"),
    ("netlink_packet_core", "vip"),
    ("netlink_packet_route", "vip"),
    ("prometheus_client", "telemetry"),
    ("sd_notify", "daemon"),
    ("hdrhistogram", "load"),
];

/// All that the core may use from outside: it has no clock, no files, no sockets, no tasks and no order that differs from run to run.
const CORE_MAY_USE: &[&str] = &["serde", "thiserror", "uuid"];
const CORE_MUST_NOT: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io",
    "std::os",
    "std::process",
    "std::sync",
    "std::thread",
    "Instant",
    "SystemTime",
    "HashMap",
    "HashSet",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "async",
    "println",
    "eprintln",
];

/// Who may read a clock, and what for.
const CLOCKS: &[(&str, &[&str], &str)] = &[
    ("src/daemon/", &["Instant::now", "SystemTime::now"], "the daemon owns the clock that the core is told"),
    ("src/load/", &["Instant::now"], "measures latency and keeps a pace"),
    ("src/haproxy/", &["Instant::now"], "deadlines of exchanges with HAProxy"),
    ("src/cli/progress.rs", &["Instant::now"], "the age of the step that is shown"),
    ("src/openstack/", &["Instant::now"], "deadlines of requests and the age of a token"),
    (
        "src/openstack/glance.rs",
        &["Timestamp::now"],
        "the date in a snapshot's name, which nothing reads back",
    ),
];

/// Where the C API of libvirt is called.
const UNSAFE: &[&str] = &["src/guests/libvirt/stats.rs", "src/guests/libvirt/events.rs"];

const LINES: usize = 500;
/// Files that are to be taken apart; until then they may not grow.
const TOO_LONG: &[(&str, usize)] = &[];

struct Source {
    /// Relative to the repository.
    path: String,
    text: String,
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), code: code_of(text) }
    }

    /// The module at the top of the tree that the file belongs to.
    fn module(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap();
        inside.split('/').next().unwrap().trim_end_matches(".rs")
    }
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            found.push(Source::new(name, &fs::read_to_string(&path).unwrap()));
        }
    }
    assert!(found.len() > 10, "the walk found {} files", found.len());
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The text without comments, and with empty string and character literals.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw_string(rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let begin = hashes + 2;
            code.push_str("\"\"");
            rest[begin..].find(&end).map_or(rest.len(), |at| begin + at + end.len())
        } else if first == '"' {
            code.push_str("\"\"");
            string_end(rest)
        } else if first == '\'' && (rest[1..].starts_with('\\') || rest[1..].chars().nth(1) == Some('\'')) {
            let quoted = if rest[1..].starts_with('\\') {
                3
            } else {
                1 + rest[1..].chars().next().unwrap().len_utf8()
            };
            rest[quoted..].find('\'').map_or(rest.len(), |at| quoted + at + 1)
        } else {
            code.push(first);
            first.len_utf8()
        };
        rest = &rest[skip..];
    }
    code
}

/// How many `#` a raw string at the beginning of `text` has; `None` when there is none.
fn raw_string(text: &str) -> Option<usize> {
    let rest = text.strip_prefix('r')?;
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    rest[hashes..].starts_with('"').then_some(hashes)
}

fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Every `crate::a::b` in the code as `a::b`, groups taken apart.
fn own_paths(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if !code[..at].ends_with(is_word) && !code[..at].ends_with('$') {
            collect(&code[at + "crate::".len()..], "", &mut found);
        }
    }
    found
}

/// Reads a path or a group of paths at the beginning of `code`; answers how long it was.
fn collect(code: &str, prefix: &str, found: &mut BTreeSet<String>) -> usize {
    let blank = code.len() - code.trim_start().len();
    let here = &code[blank..];
    if here.starts_with('{') {
        let mut at = 1;
        while at < here.len() && !here[at..].starts_with('}') {
            at += collect(&here[at..], prefix, found).max(1);
        }
        return blank + at + 1;
    }
    let word = here.find(|c| !is_word(c)).unwrap_or(here.len());
    let path =
        if prefix.is_empty() { here[..word].to_owned() } else { format!("{prefix}::{}", &here[..word]) };
    if here[word..].starts_with("::") {
        return blank + word + 2 + collect(&here[word + 2..], &path, found);
    }
    if word > 0 {
        found.insert(path);
    }
    blank + word
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `code` has `name` as a whole word or path.
fn has(code: &str, name: &str) -> bool {
    code.match_indices(name)
        .any(|(at, _)| !code[..at].ends_with(is_word) && !code[at + name.len()..].starts_with(is_word))
}

/// Whether `code` uses something of the crate `name`.
fn uses_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].trim_end();
        code[at + name.len()..].starts_with("::") && !before.ends_with("::") && !code[..at].ends_with(is_word)
    })
}

fn imports(source: &Source) -> Vec<String> {
    let module = source.module();
    let (_, allowed) = MAY_USE
        .iter()
        .find(|(name, _)| *name == module)
        .unwrap_or_else(|| panic!("say in tests/architecture.rs whom {module} may use"));
    let may = |path: &str| {
        let first = path.split("::").next().unwrap();
        first == module
            || allowed.iter().any(|a| path == *a || path.starts_with(&format!("{a}::")))
            // A macro or an item at the root of the crate is nobody's.
            || !MAY_USE.iter().any(|(name, _)| *name == first)
    };
    let mut wrong: Vec<String> = own_paths(&source.code)
        .iter()
        .filter(|path| !may(path))
        .map(|path| format!("{} uses {path}", source.path))
        .collect();
    // The ways round `crate::`.
    if has(&source.code, "super::super") {
        wrong.push(format!("{} says super::super where crate:: would say whom it uses", source.path));
    }
    let root = source.path.ends_with("/mod.rs") && source.path.matches('/').count() == 2;
    for (name, _) in MAY_USE.iter().filter(|_| root) {
        if has(&source.code, &format!("super::{name}")) {
            wrong.push(format!("{} reaches {name} by super::", source.path));
        }
    }
    for (name, owner) in OWNED {
        if *owner != module && uses_crate(&source.code, name) {
            wrong.push(format!("{} uses {name}, which is the business of {owner}", source.path));
        }
    }
    wrong
}

fn purity(source: &Source, dependencies: &[String]) -> Vec<String> {
    if source.module() != "core" {
        return Vec::new();
    }
    let foreign = dependencies.iter().map(String::as_str).filter(|name| !CORE_MAY_USE.contains(name));
    let foreign = foreign.filter(|name| uses_crate(&source.code, name));
    // Groups: `use std::{fs, …}`.
    let grouped = CORE_MUST_NOT.iter().filter_map(|name| name.strip_prefix("std::"));
    let mut std_paths = BTreeSet::new();
    for (at, _) in source.code.match_indices("std::") {
        collect(&source.code[at + "std::".len()..], "", &mut std_paths);
    }
    let grouped = grouped.filter(|name| std_paths.iter().any(|path| path.split("::").next() == Some(name)));
    let named = CORE_MUST_NOT.iter().copied().filter(|name| has(&source.code, name));
    foreign.chain(grouped).chain(named).map(|name| format!("{} uses {name}", source.path)).collect()
}

fn clocks(source: &Source) -> Vec<String> {
    ["Instant::now", "SystemTime::now", "Timestamp::now", "Zoned::now", "UNIX_EPOCH.elapsed", "Utc::now"]
        .into_iter()
        .filter(|call| source.code.contains(call))
        .filter(|call| {
            !CLOCKS.iter().any(|(place, calls, _)| source.path.starts_with(place) && calls.contains(call))
        })
        .map(|call| format!("{} calls {call}", source.path))
        .collect()
}

fn unsafety(source: &Source) -> Vec<String> {
    if UNSAFE.contains(&source.path.as_str()) || !has(&source.code, "unsafe") {
        return Vec::new();
    }
    vec![format!("{} has unsafe code", source.path)]
}

fn shape(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    let ceiling = TOO_LONG.iter().find(|(path, _)| *path == source.path).map_or(LINES, |(_, lines)| *lines);
    let mut wrong = Vec::new();
    if lines > ceiling {
        wrong.push(format!("{} has {lines} lines, the ceiling is {ceiling}: one idea a file", source.path));
    }
    if !source.text.starts_with("//! ") {
        wrong.push(format!("{} does not begin by saying what it is for (//!)", source.path));
    }
    wrong
}

fn none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

fn dependencies() -> Vec<String> {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let table: toml::Table = manifest.parse().unwrap();
    let names = table["dependencies"].as_table().unwrap().keys();
    names.map(|name| name.replace('-', "_")).collect()
}

#[test]
fn each_module_uses_only_whom_it_may() {
    none(sources(&["src"]).iter().flat_map(imports).collect());
}

#[test]
fn the_core_is_pure() {
    let dependencies = dependencies();
    none(sources(&["src"]).iter().flat_map(|source| purity(source, &dependencies)).collect());
}

#[test]
fn clocks_are_read_where_they_may_be() {
    none(sources(&["src"]).iter().flat_map(clocks).collect());
}

#[test]
fn unsafe_code_is_in_two_files() {
    let sources = sources(&["src", "lab/src"]);
    none(sources.iter().flat_map(unsafety).collect());
    for path in UNSAFE {
        let source = sources.iter().find(|source| source.path == *path).expect("both files");
        let (blocks, reasons) =
            (source.code.matches("unsafe {").count(), source.text.matches("// SAFETY:").count());
        assert!(blocks <= reasons, "{path} has {blocks} unsafe blocks and {reasons} reasons");
    }
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    none(sources(&["src", "lab/src", "lab/tests", "tests", "benches"]).iter().flat_map(shape).collect());
}

#[test]
fn every_module_has_its_rule() {
    let lib = Source::new("src/lib.rs", &fs::read_to_string("src/lib.rs").unwrap());
    for line in lib.code.lines().filter_map(|line| line.trim().strip_prefix("pub mod ")) {
        let module = line.trim_end_matches(';');
        assert!(MAY_USE.iter().any(|(name, _)| *name == module), "{module} has no rule");
    }
}

/// The rules themselves: each has to find what it forbids, and to leave alone what only looks like it.
#[test]
fn the_rules_find_what_they_forbid() {
    let dependencies = dependencies();
    let finds = |path: &str, text: &str| {
        let source = Source::new(path, text);
        let rules = [imports(&source), purity(&source, &dependencies), clocks(&source), unsafety(&source)];
        rules.concat().len()
    };
    for (path, text) in [
        ("src/guests/x.rs", "use crate::openstack::Cloud;"),
        ("src/guests/x.rs", "use crate::{\n    core::ids::ServerId,\n    haproxy::{file::A, Haproxy},\n};"),
        ("src/guests/x.rs", "fn f() { crate::daemon::run(); }"),
        ("src/guests/mod.rs", "use super::vip::Vip;"),
        ("src/guests/a/b.rs", "use super::super::x;"),
        ("src/config/x.rs", "use crate::vip::plug;"),
        ("src/vip/x.rs", "use virt::connect::Connect;"),
        ("src/core/x.rs", "use std::fs;"),
        ("src/core/x.rs", "use std::{\n    collections::BTreeMap,\n    env,\n};"),
        ("src/core/x.rs", "use std::collections::HashMap;"),
        ("src/core/x.rs", "use std::net::{IpAddr, TcpStream};"),
        ("src/core/x.rs", "async fn f() {}"),
        ("src/core/x.rs", "use tokio::sync::mpsc;"),
        ("src/core/x.rs", "tracing::info!(\"x\");"),
        ("src/guests/x.rs", "let now = std::time::SystemTime::now();"),
        ("src/haproxy/x.rs", "let now = jiff::Timestamp::now();"),
        ("src/vip/x.rs", "unsafe { f() }"),
    ] {
        assert!(finds(path, text) > 0, "{path}: {text}");
    }
    for (path, text) in [
        ("src/guests/x.rs", "use crate::{core::ids::ServerId, guests::error::GuestsError};"),
        ("src/guests/x.rs", "// use crate::openstack::Cloud;\nlet a = \"crate::haproxy::x \\\" unsafe\";"),
        ("src/guests/x.rs", "let a = r#\"unsafe \" crate::haproxy\"#; let c = '\"'; let d = '\\''; f(\"\")"),
        ("src/config/x.rs", "use crate::{vip::settings::{VipMode, VipSettings}, core::units::Percent};"),
        ("src/core/x.rs", "use std::{collections::BTreeMap, net::{IpAddr, SocketAddr}, time::Duration};"),
        (
            "src/core/x.rs",
            "use serde::Serialize; use super::time::Timestamp; struct Unsafe; fn asynchronous() {}",
        ),
        ("src/daemon/clock.rs", "SystemTime::now(); Instant::now()"),
    ] {
        assert_eq!(finds(path, text), 0, "{path}: {text}");
    }
    assert_eq!(shape(&Source::new("src/x.rs", &"fn f() {}\n".repeat(LINES + 1))).len(), 2);
    assert_eq!(shape(&Source::new("src/x.rs", "//! For tests.\n")).len(), 0);
}

#[test]
fn a_release_cannot_be_told_to_die() {
    let read = |path: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let crash = read("src/daemon/crash.rs");
    let (before, armed) = crash.split_once("#[cfg(debug_assertions)]\nmod armed {").expect("it is gated");
    assert!(!before.contains("kill(") && !before.contains("env::") && armed.contains("kill("));
    let release = read("Cargo.toml").split_once("[profile.release]").unwrap().1.to_owned();
    assert!(!release.contains("debug-assertions"), "a release would have what only tests may have");
}
