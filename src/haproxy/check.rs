//! Asks the HAProxy program itself: its version, and whether it accepts a file.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use tokio::process::Command;

use super::error::HaproxyError;

/// The oldest series that has all we use. Its first releases lack `option idle-close-on-response`; they refuse the file, and say so.
const OLDEST: (u32, u32) = (2, 4);
const DEADLINE: Duration = Duration::from_secs(10);
/// Messages that an error text carries.
const MESSAGES: usize = 3;

/// ALERT messages that are summaries, or about servers and not about the file.
const NO_REASON: [&str; 3] = ["Error(s) found", "Fatal errors found", "has no server available"];

/// The program's version, as `2.6.12-1+deb12u4`.
///
/// # Errors
/// The program is missing, is not HAProxy, or is too old.
pub async fn version(binary: &Path) -> Result<String, HaproxyError> {
    let failed = |why: String| HaproxyError::Binary { binary: binary.to_owned(), why };
    let output = run(binary, &["-v"]).await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text
        .split_once("ersion ")
        .and_then(|(_, rest)| rest.split_whitespace().next())
        .filter(|_| text.starts_with("HA"))
        .ok_or_else(|| failed("it does not say that it is HAProxy; correct haproxy.binary".into()))?;
    let mut numbers = version.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < OLDEST {
        return Err(failed(format!(
            "version {version} is too old: {}.{} or later is needed; install one, or set haproxy.binary",
            OLDEST.0, OLDEST.1
        )));
    }
    Ok(version.to_owned())
}

/// Why HAProxy refuses a file.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The first messages.
    pub(super) why: String,
    /// Everything it said.
    pub(super) log: String,
}

/// Has HAProxy read the file `config` without running it. It cannot notice taken addresses or missing file descriptors that way.
pub(super) async fn accepts(binary: &Path, config: &Path) -> Result<Result<(), Refusal>, HaproxyError> {
    let output = run(binary, &["-W", "-c", "-f", &config.display().to_string()]).await?;
    if output.status.success() {
        return Ok(Ok(()));
    }
    let log = String::from_utf8_lossy(&output.stderr).replace(&config.display().to_string(), "haproxy.cfg");
    let why = first_alerts(&log).unwrap_or_else(|| format!("it ends with {}", output.status));
    Ok(Err(Refusal { why, log }))
}

/// The first ALERT messages in what HAProxy wrote to its standard error, without process ids and without its summaries.
pub(super) fn first_alerts(log: &str) -> Option<String> {
    let alerts: Vec<&str> = log
        .lines()
        .filter_map(|line| line.strip_prefix("[ALERT]")?.split_once(" : "))
        .map(|(_, message)| message.trim().trim_start_matches("config : "))
        .filter(|message| !NO_REASON.iter().any(|text| message.contains(text)))
        .take(MESSAGES)
        .collect();
    (!alerts.is_empty()).then(|| alerts.join("; "))
}

async fn run(binary: &Path, arguments: &[&str]) -> Result<Output, HaproxyError> {
    let failed = |why: String| HaproxyError::Binary { binary: PathBuf::from(binary), why };
    let output = Command::new(binary).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    match tokio::time::timeout(DEADLINE, output).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(failed("it is not there; install the package haproxy or set haproxy.binary".into()))
        }
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("no answer within {} s", DEADLINE.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_without_noise() {
        let log = "[NOTICE]   (99) : haproxy version is 2.6.12-1+deb12u4\n\
            [WARNING]  (99) : config : something\n\
            [ALERT]    (99) : config : parsing [haproxy.cfg:3] : unknown keyword 'x' in 'global' section\n\
            [ALERT]    (98) : backend 'app' has no server available!\n\
            [ALERT]    (99) : config : Error(s) found in configuration file : haproxy.cfg\n\
            [ALERT]    (99) : config : Fatal errors found in configuration.\n";
        assert_eq!(
            first_alerts(log).as_deref(),
            Some("parsing [haproxy.cfg:3] : unknown keyword 'x' in 'global' section")
        );
        assert_eq!(first_alerts("[NOTICE] (1) : all is well"), None);
    }
}
