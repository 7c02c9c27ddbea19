//! What the guest answers to which request.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    thread,
    time::Duration,
};

use crate::{
    burn::{Load, burn},
    connection::Request,
};

/// Longest time that a request may ask for.
const LONGEST: u64 = 60_000;
/// The guest's disk. Its first sector holds the marker, padded with zeros.
const DISK: &str = "/dev/vda";
/// Size of the marker's sector.
const SECTOR: usize = 512;

/// Who this guest is, as the lab wrote it into its initramfs.
#[derive(Debug)]
pub(crate) struct Guest {
    /// Host name.
    pub(crate) hostname: String,
    uuid: String,
    address: String,
    load: Load,
}

impl Guest {
    /// Reads the facts that the lab left under `/etc/lab`; what is missing stays empty.
    pub(crate) fn read() -> Self {
        let fact = |name: &str| {
            fs::read_to_string(format!("/etc/lab/{name}"))
                .map(|text| text.trim().to_owned())
                .unwrap_or_default()
        };
        Self {
            hostname: fact("hostname"),
            uuid: fact("uuid"),
            address: fact("address"),
            load: Load::default(),
        }
    }
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Status code and reason.
    pub(crate) status: &'static str,
    /// Media type.
    pub(crate) media_type: &'static str,
    /// The body.
    pub(crate) body: String,
}

/// Whether a request takes its time, so that others must not wait for it.
pub(crate) fn takes_time(request: &Request) -> bool {
    ["/burn", "/slow", "/mark"].iter().any(|path| request.target.starts_with(path))
}

/// Answers one request; `/burn` and `/slow` take the time they are told to.
pub(crate) fn answer(guest: &Guest, request: &Request) -> Answer {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    match (request.method.as_str(), path) {
        ("GET" | "HEAD", "/") => text(format!("{}\n", guest.hostname)),
        ("GET" | "HEAD", "/healthz") => text("ok\n".to_owned()),
        ("GET" | "HEAD", "/info") => {
            Answer { status: "200 OK", media_type: "application/json", body: info(guest) }
        }
        ("GET", "/burn") => {
            let ms = number(query, "ms", 100).min(LONGEST);
            burn(Duration::from_millis(ms));
            text(format!("{} burned {ms} ms\n", guest.hostname))
        }
        ("GET", "/slow") => {
            let ms = number(query, "ms", 100).min(LONGEST);
            thread::sleep(Duration::from_millis(ms));
            text(format!("{} slept {ms} ms\n", guest.hostname))
        }
        ("GET" | "POST", "/load") => {
            let seconds = number(query, "s", 10).min(86_400);
            guest.load.start(Duration::from_secs(seconds));
            text(format!("{} loaded for {seconds} s\n", guest.hostname))
        }
        ("POST", "/echo") => text(format!("{}\n", request.body_length)),
        ("POST", "/mark") => match write_marker(value(query, "v").unwrap_or_default()) {
            Ok(()) => text("marked\n".to_owned()),
            Err(error) => Answer {
                status: "500 Internal Server Error",
                media_type: "text/plain",
                body: format!("failed to write the marker: {error}\n"),
            },
        },
        (_, "/" | "/healthz" | "/info" | "/burn" | "/slow" | "/load" | "/echo" | "/mark") => {
            Answer { status: "405 Method Not Allowed", media_type: "text/plain", body: String::new() }
        }
        _ => Answer { status: "404 Not Found", media_type: "text/plain", body: "no such path\n".to_owned() },
    }
}

fn text(body: String) -> Answer {
    Answer { status: "200 OK", media_type: "text/plain", body }
}

fn info(guest: &Guest) -> String {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    format!(
        "{{\"hostname\":{:?},\"uuid\":{:?},\"ip\":{:?},\"stat\":{:?},\"marker\":{:?}}}\n",
        guest.hostname,
        guest.uuid,
        guest.address,
        stat.lines().next().unwrap_or_default(),
        read_marker().unwrap_or_default(),
    )
}

fn value<'q>(query: &'q str, key: &str) -> Option<&'q str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(name, _)| *name == key)
        .map(|(_, value)| value)
}

fn number(query: &str, key: &str, default: u64) -> u64 {
    value(query, key).and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn read_marker() -> io::Result<String> {
    let mut sector = [0; SECTOR];
    fs::File::open(DISK)?.read_exact(&mut sector)?;
    let text: Vec<u8> = sector.into_iter().take_while(|byte| *byte != 0).collect();
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn write_marker(marker: &str) -> io::Result<()> {
    let mut sector: Vec<u8> = marker.bytes().filter(u8::is_ascii_graphic).take(SECTOR - 1).collect();
    sector.resize(SECTOR, 0);
    let mut disk = OpenOptions::new().write(true).open(DISK)?;
    disk.write_all(&sector)?;
    disk.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: &str, target: &str) -> Answer {
        let guest = Guest {
            hostname: "vm-test".into(),
            uuid: "u".into(),
            address: "192.0.2.7".into(),
            load: Load::default(),
        };
        answer(&guest, &Request { method: method.into(), target: target.into(), body_length: 12 })
    }

    #[test]
    fn every_path_answers_its_own_thing() {
        assert_eq!(ask("GET", "/").body, "vm-test\n");
        assert_eq!(ask("GET", "/healthz").status, "200 OK");
        assert_eq!(ask("POST", "/echo").body, "12\n");
        assert_eq!(ask("GET", "/burn?x=1&ms=1").body, "vm-test burned 1 ms\n");
        assert_eq!(ask("GET", "/slow?ms=1").body, "vm-test slept 1 ms\n");
        assert!(ask("GET", "/info").body.contains("\"ip\":\"192.0.2.7\""));
        assert_eq!(ask("DELETE", "/").status, "405 Method Not Allowed");
        assert_eq!(ask("GET", "/nowhere").status, "404 Not Found");
    }
}
