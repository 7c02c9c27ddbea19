//! Running the system's own programs (`ip`, `nft`, …), with what they say in the error.

use std::{
    ffi::OsStr,
    io::Write,
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, bail};

/// Runs a program to its end and gives what it printed.
///
/// # Errors
///
/// When it cannot be started or answers with anything but zero; the text has the command and what it said.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Result<String> {
    feed(program, arguments, "")
}

/// The same, with `input` on its standard input.
///
/// # Errors
///
/// As for [`run`].
pub fn feed<S: AsRef<OsStr>>(program: &str, arguments: &[S], input: &str) -> Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start {program}: is its package installed?"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends before it has read everything says why on its standard error.
        let _ = stdin.write_all(input.as_bytes());
    }
    let Output { status, stdout, stderr } =
        child.wait_with_output().with_context(|| format!("failed to wait for {program}"))?;
    if !status.success() {
        let arguments: Vec<_> = arguments.iter().map(|word| word.as_ref().to_string_lossy()).collect();
        bail!(
            "`{program} {}` failed ({status}): {}",
            arguments.join(" "),
            String::from_utf8_lossy(&stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// Runs `ip` commands, one a line, in the given network namespace or in the present one.
///
/// # Errors
///
/// As for [`run`]; lines after the failing one are not run.
pub fn ip(netns: Option<&str>, commands: &[String]) -> Result<()> {
    let mut arguments = Vec::new();
    if let Some(netns) = netns {
        arguments.extend(["-n", netns]);
    }
    arguments.extend(["-batch", "-"]);
    let text = commands.join("\n") + "\n";
    feed("ip", &arguments, &text).with_context(|| format!("failed to run {commands:?}"))?;
    Ok(())
}
