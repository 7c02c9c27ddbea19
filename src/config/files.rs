//! Which files are read, and what they say: keys and values with their lines.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use super::{
    env::Env,
    flags::PlaceFlags,
    problem::{Origin, Problem},
    setting::Raw,
};

/// A key and its value in a file.
#[derive(Debug)]
pub(super) struct Entry {
    /// Table and name, as `policy.high`.
    pub(super) key: String,
    /// The value as written.
    pub(super) raw: Raw,
    /// Its line.
    pub(super) origin: Origin,
}

/// Reads the configuration's files, lowest layer first.
pub(super) fn read(flags: &PlaceFlags, env: &Env, problems: &mut Vec<Problem>) -> Vec<Entry> {
    let mut entries = Vec::new();
    let (file, must_exist) = main_file(flags, env);
    for path in std::iter::once(file.clone()).chain(drop_ins(&file, problems)) {
        match std::fs::read_to_string(&path) {
            Ok(text) => entries.extend(parse(&path, &text, problems)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => {}
            Err(error) => {
                problems.push(Problem::of(None, "", format!("{}: {}", path.display(), says(&error))))
            }
        }
    }
    entries
}

/// The main file, and whether it must be there.
fn main_file(flags: &PlaceFlags, env: &Env) -> (PathBuf, bool) {
    if let Some(file) = &flags.config {
        return (env.path(file), true);
    }
    if let Some(file) = env.get("LBSIDECAR_CONFIG") {
        return (env.path(file), true);
    }
    let pool = flags.pool.as_deref().or_else(|| env.get("LBSIDECAR_POOL"));
    // A pool with a name of its own takes over nothing from the default pool's file: two pools must not share a base.
    let name = pool.filter(|name| *name != "default" && !name.contains('/')).unwrap_or("config");
    (env.system("etc/lbsidecar").join(format!("{name}.toml")), false)
}

/// `config.d/*.toml` beside `config.toml`, in the order of their names.
fn drop_ins(main: &Path, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let directory = main.with_extension("d");
    let mut files = Vec::new();
    match std::fs::read_dir(&directory).and_then(|listing| listing.map(|entry| Ok(entry?.path())).collect()) {
        Ok::<Vec<PathBuf>, _>(found) => {
            files.extend(found.into_iter().filter(|path| path.extension().is_some_and(|e| e == "toml")));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            problems.push(Problem::of(None, "", format!("{}: {}", directory.display(), says(&error))))
        }
    }
    files.sort();
    files
}

/// An I/O error as a person would say it.
pub(super) fn says(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "it may not be read by this user: run as root or as the service's user, or change its owner"
                .to_owned()
        }
        io::ErrorKind::InvalidData => "it is not text in UTF-8".to_owned(),
        _ => format!("it cannot be read: {error}"),
    }
}

/// What one file says. Where its TOML is broken, the rest is read all the same.
fn parse(path: &Path, text: &str, problems: &mut Vec<Problem>) -> Vec<Entry> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let at = |span: Range<usize>| Origin::File {
        path: path.to_owned(),
        line: 1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count(),
    };
    let mut broken = Vec::new();
    for error in &errors {
        let origin = at(error.span().unwrap_or_default());
        // What follows from a mistake, on the same line, is not worth a message of its own.
        if broken.last() != Some(&origin) {
            let why = format!("this is not TOML: {}", error.message());
            problems.push(Problem::of(Some(origin.clone()), "", why));
            broken.push(origin);
        }
    }
    let mut entries = Vec::new();
    flatten("", table.get_ref(), &at, &mut entries);
    // Nor is a guess at what a broken line meant.
    entries.retain(|entry| !broken.contains(&entry.origin));
    entries.sort_by_key(|entry| match entry.origin {
        Origin::File { line, .. } => line,
        _ => 0,
    });
    entries
}

fn flatten(prefix: &str, table: &DeTable<'_>, at: &impl Fn(Range<usize>) -> Origin, into: &mut Vec<Entry>) {
    for (name, value) in table {
        let key = match prefix {
            "" => name.get_ref().to_string(),
            _ => format!("{prefix}.{}", name.get_ref()),
        };
        match value.get_ref() {
            DeValue::Table(inner) => flatten(&key, inner, at, into),
            other => into.push(Entry { key, raw: raw(other), origin: at(name.span()) }),
        }
    }
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::Boolean(value) => Raw::Bool(*value),
        DeValue::Integer(number) => Raw::Number(number.to_string()),
        DeValue::Float(number) => Raw::Number(number.as_str().to_owned()),
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Datetime(moment) => Raw::Number(moment.to_string()),
        DeValue::Array(items) => Raw::List(items.iter().map(|item| raw(item.get_ref())).collect()),
        // Only inside of an array, where no setting has one.
        DeValue::Table(_) => Raw::Text("{…}".to_owned()),
    }
}
