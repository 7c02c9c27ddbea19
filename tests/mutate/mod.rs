//! What others might send us: seeds, made wrong in many ways, for as long as wanted.
//!
//! A plain loop on stable Rust, with nothing to install. Every case comes from a number; one that fails is told with its number, and
//! `LBSIDECAR_FUZZ_CASE=<number>` runs it again alone.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use fastrand::Rng;
use serde_json::Value;

/// How long it takes at most when no time is given; a quick check does all its [`CASES`] in less.
const TIME: Duration = Duration::from_secs(2);
/// Cases when no time is given.
const CASES: u64 = 2_000;
/// How much the process may grow in the second half of the time: what is kept of each case is a leak. An allocator's own gaps are less.
const GROWTH_KIB: u64 = 64 * 1024;

/// Texts that have broken a reader before.
const NASTY: [&str; 26] = [
    "",
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "NaN",
    "99999999999999999999",
    "-9223372036854775808",
    "4294967296",
    "\"\"",
    "[]",
    "{}",
    "[[[[[[[[",
    "{\"a\":{\"a\":{\"a\":",
    "\0",
    "\r\n",
    "\n",
    ",",
    "\"",
    "\u{202e}",
    "é",
    "\u{1b}[2J",
    "../../etc/passwd",
    "%s%n",
    "🦀",
];

/// The seeds in a directory below `tests/fixtures`, of files with this ending.
pub(crate) fn seeds(directory: &str, ending: &str) -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(directory);
    let mut paths: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|own| own == ending));
    paths.sort();
    assert!(!paths.is_empty(), "no seeds in {}", directory.display());
    paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// Calls `check` with case after case: a number of them, or for `LBSIDECAR_FUZZ_SECONDS`.
pub(crate) fn cases(name: &str, mut check: impl FnMut(&mut Rng)) {
    let number =
        |variable: &str| std::env::var(variable).ok().map(|text| text.parse::<u64>().expect("a number"));
    if let Some(case) = number("LBSIDECAR_FUZZ_CASE") {
        return check(&mut Rng::with_seed(case));
    }
    let time = number("LBSIDECAR_FUZZ_SECONDS").map(Duration::from_secs);
    // The same ones each time when there are few, new ones when there is time.
    let first = time.map_or(0, |_| fastrand::u64(..1 << 48));
    let began = Instant::now();
    let (mut done, mut before) = (0, None);
    while began.elapsed() < time.unwrap_or(TIME) && (time.is_some() || done < CASES) {
        if before.is_none()
            && (began.elapsed() > time.unwrap_or(TIME) / 2 || time.is_none() && done > CASES / 2)
        {
            before = Some(resident_kib());
        }
        let case = Told { name, case: first + done };
        check(&mut Rng::with_seed(case.case));
        done += 1;
    }
    let grown = before.map_or(0, |before| resident_kib().saturating_sub(before));
    eprintln!(
        "{name}: {done} cases in {:.1} s, {grown} KiB more since half of it",
        began.elapsed().as_secs_f64()
    );
    assert!(grown < GROWTH_KIB, "{name} keeps memory: {grown} KiB more in the second half of {done} cases");
}

/// Tells its number when the test ends in it.
struct Told<'a> {
    name: &'a str,
    case: u64,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: run it again with LBSIDECAR_FUZZ_CASE={}", self.name, self.case);
        }
    }
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// One of the seeds, made wrong: as text always, and before that as JSON when it is some.
pub(crate) fn wrong(rng: &mut Rng, seeds: &[String]) -> String {
    let mut text = seeds[rng.usize(..seeds.len())].clone();
    if rng.bool()
        && let Ok(mut value) = serde_json::from_str::<Value>(&text)
    {
        for _ in 0..rng.u32(1..4) {
            wrong_value(rng, &mut value);
        }
        text = value.to_string();
        if rng.bool() {
            return text;
        }
    }
    let mut bytes = text.into_bytes();
    for _ in 0..rng.u32(1..6) {
        wrong_bytes(rng, &mut bytes, seeds);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Somewhere in it another type, another number, one field less, or one item many times.
fn wrong_value(rng: &mut Rng, value: &mut Value) {
    match value {
        Value::Object(fields) if !fields.is_empty() && rng.u32(..8) != 0 => {
            let key = fields.keys().nth(rng.usize(..fields.len())).cloned().unwrap();
            match rng.u32(..8) {
                0 => drop(fields.remove(&key)),
                1 => drop(fields.insert(key, nasty_value(rng))),
                _ => wrong_value(rng, &mut fields[&key]),
            }
        }
        Value::Array(items) if !items.is_empty() && rng.u32(..8) != 0 => {
            let at = rng.usize(..items.len());
            match rng.u32(..8) {
                0 => drop(items.remove(at)),
                1 => items.extend(vec![items[at].clone(); 300]),
                _ => wrong_value(rng, &mut items[at]),
            }
        }
        other => *other = nasty_value(rng),
    }
}

fn nasty_value(rng: &mut Rng) -> Value {
    let text = NASTY[rng.usize(..NASTY.len())];
    match rng.u32(..4) {
        0 => Value::String("A".repeat(rng.usize(..70_000))),
        1 => Value::String(text.to_owned()),
        2 => Value::from(rng.i64(..)),
        _ => serde_json::from_str(text).unwrap_or(Value::Null),
    }
}

fn wrong_bytes(rng: &mut Rng, bytes: &mut Vec<u8>, seeds: &[String]) {
    let at = rng.usize(..=bytes.len());
    let end = (at + rng.usize(..40)).min(bytes.len());
    match rng.u32(..8) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..end)),
        2 => {
            let part = bytes[at..end].repeat(rng.usize(1..50));
            drop(bytes.splice(at..at, part));
        }
        3 => {
            let other = seeds[rng.usize(..seeds.len())].as_bytes();
            drop(bytes.splice(at.., other[rng.usize(..=other.len())..].iter().copied()));
        }
        4 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = rng.u8(..);
            }
        }
        5 => drop(bytes.splice(at..end, vec![rng.u8(..); rng.usize(..5000)])),
        _ => drop(bytes.splice(at..end, NASTY[rng.usize(..NASTY.len())].bytes())),
    }
}
