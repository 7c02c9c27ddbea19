//! Talking to `nft`, and to systemd where it runs.

use std::{
    io::{self, Write},
    path::Path,
    process::{Command, Output, Stdio},
};

use super::{error::NatError, rules::TABLE};

/// Loads a text in one transaction.
pub(super) fn load(doing: &'static str, text: &str) -> Result<(), NatError> {
    run(doing, &["-f", "-"], text).map(drop)
}

/// Our table as it is now; `None` when there is none.
pub(super) fn table() -> Result<Option<String>, NatError> {
    match run("list our table", &["list", "table", "ip", TABLE], "") {
        Ok(text) => Ok(Some(text)),
        Err(NatError::Nft { why, .. }) if why.contains("No such file or directory") => Ok(None),
        Err(error) => Err(error),
    }
}

/// All chains, as JSON.
pub(super) fn chains() -> Result<String, NatError> {
    run("list all chains", &["--json", "list", "chains"], "")
}

fn run(doing: &'static str, args: &[&str], input: &str) -> Result<String, NatError> {
    let output = feed("nft", args, input).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => NatError::NoNft,
        _ => NatError::Nft { doing, why: error.to_string() },
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    let first: Vec<&str> = why.lines().take(3).map(str::trim).collect();
    let mut why = first.join(" ");
    if why.contains("Operation not permitted") {
        why.push_str(" (are you root?)");
    }
    Err(NatError::Nft { doing, why })
}

fn feed(program: &str, args: &[&str], input: &str) -> io::Result<Output> {
    // Administrators' tools are not in everybody's path.
    let path = std::env::var("PATH").unwrap_or_default();
    let mut child = Command::new(program)
        .args(args)
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input.as_bytes()) {
            // It has read enough to say no; its answer is below.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    child.wait_with_output()
}

/// Whether systemd is the first process here, as `sd_booted(3)` finds out.
pub(super) fn systemd_runs() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Tells systemd something.
pub(super) fn systemctl(args: &[&str]) -> Result<(), NatError> {
    let command = format!("systemctl {}", args.join(" "));
    match feed("systemctl", args, "") {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(NatError::Command {
            command,
            why: String::from_utf8_lossy(&output.stderr).trim().chars().take(400).collect(),
        }),
        Err(error) => Err(NatError::Command { command, why: error.to_string() }),
    }
}
