//! Making it so, and taking it away again. Each says what it did; doing it twice does nothing the second time.

use std::fs;

use super::{
    error::NatError,
    files::{self, RULES, SYSCTL, UNIT, UNIT_NAME, WANTED},
    look::{Rules, SWITCH, check_interface, is_forwarding, look},
    nft,
    rules::{self, TABLE},
    spec::NatSpec,
};

/// Brings forwarding, rules and files to what `spec` says; what had to be changed, in plain words.
///
/// # Errors
/// [`NatError`]; what was done before it stays, and doing it again goes on from there.
pub fn enable(spec: &NatSpec) -> Result<Vec<String>, NatError> {
    root("set up address translation")?;
    check_interface("uplink", &spec.uplink)?;
    check_interface("bridge", &spec.bridge)?;
    let seen = look(Some(spec))?;
    let mut done = Vec::new();
    // The rules first: from the moment on in which packets are forwarded they are translated.
    if seen.rules != Rules::Good {
        nft::load("load our table", &rules::rules(spec))?;
        done.push(format!("loaded the table ip {TABLE}"));
    }
    // Before the switch is touched, what it was is on disk.
    let before = seen.forwarding.before.unwrap_or(seen.forwarding.on);
    for (path, text) in files::contents(spec, before) {
        if seen.stale_files.contains(&path) {
            files::write(path, &text)?;
            done.push(format!("wrote {path}"));
        }
    }
    if !seen.forwarding.on {
        switch(true)?;
        done.push("turned IPv4 forwarding on".to_owned());
    }
    if seen.stale_files.contains(&WANTED) {
        files::want()?;
        done.push(format!("linked {WANTED}"));
    }
    if nft::systemd_runs() && !done.is_empty() {
        nft::systemctl(&["daemon-reload"])?;
        // Started, so that systemd takes it along when nftables.service is restarted.
        nft::systemctl(&["restart", UNIT_NAME])?;
    }
    Ok(done)
}

/// Takes away what [`enable`] made, and nothing else; what had to be changed, in plain words.
///
/// # Errors
/// [`NatError`]; what was done before it stays, and doing it again goes on from there.
pub fn disable() -> Result<Vec<String>, NatError> {
    root("take address translation away")?;
    let seen = look(None)?;
    let mut done = Vec::new();
    if nft::systemd_runs() && files::read(UNIT)?.is_some() {
        nft::systemctl(&["stop", UNIT_NAME])?;
    }
    if seen.rules != Rules::Absent {
        nft::load("delete our table", &format!("delete table ip {TABLE}\n"))?;
        done.push(format!("deleted the table ip {TABLE}"));
    }
    for path in [WANTED, UNIT, RULES] {
        if files::remove(path)? {
            done.push(format!("removed {path}"));
        }
    }
    if seen.forwarding.before == Some(false) && is_forwarding()? {
        match files::others_that_forward() {
            Some(other) => done.push(format!("left IPv4 forwarding on: {other} wants it too")),
            None => {
                switch(false)?;
                done.push("turned IPv4 forwarding off, as it was before".to_owned());
            }
        }
    }
    // Last: it is the note of what forwarding was.
    if files::remove(SYSCTL)? {
        done.push(format!("removed {SYSCTL}"));
    }
    if nft::systemd_runs() && !done.is_empty() {
        nft::systemctl(&["daemon-reload"])?;
    }
    Ok(done)
}

fn switch(on: bool) -> Result<(), NatError> {
    fs::write(SWITCH, if on { "1\n" } else { "0\n" }).map_err(NatError::file("write", SWITCH))
}

fn root(doing: &'static str) -> Result<(), NatError> {
    if nix::unistd::geteuid().is_root() { Ok(()) } else { Err(NatError::NotRoot(doing)) }
}
