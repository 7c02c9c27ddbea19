//! How one setting is read from a file, a variable or a flag, and shown again.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    num::{NonZeroU16, NonZeroU32},
    path::PathBuf,
    time::Duration,
};

use ipnet::Ipv4Net;
use jiff::fmt::friendly::{SpanParser, SpanPrinter};

use super::choices::StatusRange;
use crate::core::{ids::PoolName, units::Percent};

/// A value as it was written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Raw {
    /// Text: all that variables, flags and defaults hold.
    Text(String),
    /// A TOML number, as written.
    Number(String),
    /// A TOML truth value.
    Bool(bool),
    /// A TOML array, or a flag given several times.
    List(Vec<Raw>),
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Number(text) => f.write_str(text),
            Self::Bool(value) => write!(f, "{value}"),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", items.join(", "))
            }
        }
    }
}

impl Raw {
    /// The text of a single value.
    fn word(&self) -> Option<String> {
        match self {
            Self::Text(text) | Self::Number(text) => Some(text.trim().to_owned()),
            Self::Bool(value) => Some(value.to_string()),
            Self::List(_) => None,
        }
    }

    /// The text of a single value that was written as text.
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// A type that settings have. Reading fails with a sentence that says what would be right; it need not repeat the value.
pub(super) trait Setting: Sized {
    /// What it is, for the documentation.
    const KIND: &'static str;
    /// Reads what was written.
    fn read(raw: &Raw) -> Result<Self, String>;
    /// The value as it would be written in a TOML file.
    fn show(&self) -> String;
}

impl Setting for Percent {
    const KIND: &'static str = "percentage";
    fn read(raw: &Raw) -> Result<Self, String> {
        let word = raw.word().unwrap_or_default();
        let percent: Percent =
            word.parse().map_err(|_| "not a percentage: use a number from 0 to 100".to_owned())?;
        if (0.0..1.0).contains(&percent.get()) && percent.get() > 0.0 && !word.ends_with('%') {
            return Err(format!(
                "less than one percent: write {} if that share was meant, or \"{word}%\"",
                (percent.get() * 1e4).round() / 100.0
            ));
        }
        Ok(percent)
    }
    fn show(&self) -> String {
        self.get().to_string()
    }
}

/// HAProxy counts milliseconds in 31 bits; nothing of ours needs more either.
const LONGEST: Duration = Duration::from_secs(24 * 24 * 3600);

impl Setting for Duration {
    const KIND: &'static str = "duration";
    fn read(raw: &Raw) -> Result<Self, String> {
        let word = raw.word().unwrap_or_default();
        if word.parse::<f64>().is_ok() {
            return Err(format!("a duration needs its unit: write \"{word}s\" for seconds"));
        }
        let duration = SpanParser::new()
            .parse_unsigned_duration(&word)
            .map_err(|_| "not a duration: write it as \"5s\", \"1m 30s\" or \"2h\"".to_owned())?;
        if duration > LONGEST {
            return Err("longer than 24 days, which HAProxy cannot count".to_owned());
        }
        if !duration.subsec_nanos().is_multiple_of(1_000_000) {
            return Err("finer than a millisecond".to_owned());
        }
        Ok(duration)
    }
    fn show(&self) -> String {
        format!("{:?}", SpanPrinter::new().unsigned_duration_to_string(self))
    }
}

macro_rules! whole_number {
    ($($type:ty, $range:literal;)+) => {$(
        impl Setting for $type {
            const KIND: &'static str = "whole number";
            fn read(raw: &Raw) -> Result<Self, String> {
                raw.word()
                    .and_then(|word| word.replace('_', "").parse().ok())
                    .ok_or_else(|| concat!("not a whole number ", $range).to_owned())
            }
            fn show(&self) -> String {
                self.to_string()
            }
        }
    )+};
}
whole_number! {
    u16, "from 0 to 65535";
    u64, "from 0 up";
    NonZeroU16, "from 1 to 65535";
    NonZeroU32, "from 1 to 4294967295";
}

impl Setting for bool {
    const KIND: &'static str = "true or false";
    fn read(raw: &Raw) -> Result<Self, String> {
        raw.word().and_then(|word| word.parse().ok()).ok_or_else(|| "use true or false".to_owned())
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

/// Why a text cannot be taken as it is.
fn readable(raw: &Raw) -> Result<&str, String> {
    match raw.text() {
        None => Err("text is expected, in quotes".to_owned()),
        Some(text) if text.trim().is_empty() => {
            Err("it is empty: leave it out, or say what is meant".to_owned())
        }
        Some(text) if text.chars().any(char::is_control) => {
            Err("it has a line break or another control character in it".to_owned())
        }
        Some(text) => Ok(text),
    }
}

impl Setting for String {
    const KIND: &'static str = "text";
    fn read(raw: &Raw) -> Result<Self, String> {
        readable(raw).map(str::to_owned)
    }
    fn show(&self) -> String {
        format!("{self:?}")
    }
}

impl Setting for PathBuf {
    const KIND: &'static str = "path";
    fn read(raw: &Raw) -> Result<Self, String> {
        readable(raw).map(PathBuf::from)
    }
    fn show(&self) -> String {
        format!("{:?}", self.display().to_string())
    }
}

impl Setting for PoolName {
    const KIND: &'static str = "name";
    fn read(raw: &Raw) -> Result<Self, String> {
        PoolName::try_new(readable(raw)?).map_err(|invalid| format!("not a pool's name: {}", invalid.why))
    }
    fn show(&self) -> String {
        format!("{:?}", self.as_str())
    }
}

impl Setting for SocketAddr {
    const KIND: &'static str = "address and port";
    fn read(raw: &Raw) -> Result<Self, String> {
        match raw.text().and_then(|text| text.trim().parse::<SocketAddr>().ok()) {
            Some(address) if address.port() != 0 => Ok(address),
            Some(_) => Err("port 0 is none: use 1 to 65535".to_owned()),
            None => {
                Err("not an address and port: write it as \"127.0.0.1:8404\" or \"[::1]:8404\"".to_owned())
            }
        }
    }
    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Setting for Ipv4Addr {
    const KIND: &'static str = "IPv4 address";
    fn read(raw: &Raw) -> Result<Self, String> {
        raw.text()
            .and_then(|text| text.trim().parse().ok())
            .ok_or_else(|| "not an IPv4 address: write it as \"10.20.20.5\", without a port".to_owned())
    }
    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Setting for Ipv4Net {
    const KIND: &'static str = "IPv4 network";
    fn read(raw: &Raw) -> Result<Self, String> {
        let word = raw.text().unwrap_or_default().trim().to_owned();
        let net = word.parse::<Ipv4Net>().ok().or_else(|| word.parse::<Ipv4Addr>().ok().map(Ipv4Net::from));
        match net {
            Some(net) if net.trunc() != net => {
                Err(format!("bits beyond the prefix are set: is {} meant?", net.trunc()))
            }
            Some(net) => Ok(net),
            None => Err("not an IPv4 network: write it as \"192.168.100.0/24\"".to_owned()),
        }
    }
    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Setting for StatusRange {
    const KIND: &'static str = "HTTP status or range of them";
    fn read(raw: &Raw) -> Result<Self, String> {
        let word = raw.word().unwrap_or_default();
        let (min, max) = word.split_once('-').unwrap_or((&word, &word));
        match (min.trim().parse(), max.trim().parse()) {
            (Ok(min), Ok(max)) if (100..=599).contains(&min) && min <= max && max <= 599 => {
                Ok(Self { min, max })
            }
            _ => Err("not a range of HTTP statuses: write it as \"200\" or \"200-399\"".to_owned()),
        }
    }
    fn show(&self) -> String {
        format!("\"{}-{}\"", self.min, self.max)
    }
}

/// A list: an array in TOML; in variables and defaults its items are separated by commas.
impl<T: Setting> Setting for Vec<T> {
    const KIND: &'static str = "list";
    fn read(raw: &Raw) -> Result<Self, String> {
        let items = match raw {
            Raw::List(items) => items.clone(),
            Raw::Text(text) if text.trim().is_empty() => Vec::new(),
            Raw::Text(text) => text.split(',').map(|item| Raw::Text(item.trim().to_owned())).collect(),
            other => vec![other.clone()],
        };
        items.iter().map(|item| T::read(item).map_err(|why| format!("{item}: {why}"))).collect()
    }
    fn show(&self) -> String {
        let items: Vec<String> = self.iter().map(Setting::show).collect();
        format!("[{}]", items.join(", "))
    }
}
