//! Commands in guests, over the host's own `ssh`: it knows the user's keys, agents and configuration.

use std::{path::PathBuf, process::Stdio, time::Duration};

use clap::Args;
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

/// Where keys of this name are kept by convention.
const USUAL_KEY: &str = ".ssh/lab-key";
/// How long a connection may take to come about.
const CONNECT: u64 = 5;

/// How guests are reached.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "SSH to guests")]
pub(super) struct SshArgs {
    /// User in the guests
    #[arg(long, value_name = "USER", default_value = "ubuntu")]
    pub(super) ssh_user: String,
    /// Private key [default: ~/.ssh/lab-key when it is there, and what ssh finds by itself]
    #[arg(long, value_name = "FILE")]
    pub(super) ssh_key: Option<PathBuf>,
    /// Network namespace to connect from, `none` for the host's own [default: HAProxy's, when it has one]
    #[arg(long, value_name = "NAME")]
    pub(super) ssh_netns: Option<String>,
    /// An option as in `ssh -o`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) ssh_option: Vec<String>,
}

impl SshArgs {
    /// The command line that runs the script on its standard input in the guest at `address`. `netns` is where the guest can be
    /// reached from, when the operator has not said another one.
    pub(super) fn line(&self, address: &str, netns: Option<&str>) -> Vec<String> {
        let mut line: Vec<String> = Vec::new();
        match self.ssh_netns.as_deref().or(netns) {
            Some("none") | None => {}
            Some(netns) => line.extend(["ip", "netns", "exec", netns].map(str::to_owned)),
        }
        line.push("ssh".to_owned());
        // ssh takes the first value of an option that it meets: the operator's go before ours.
        for option in &self.ssh_option {
            line.extend(["-o".to_owned(), option.clone()]);
        }
        for option in [
            "BatchMode=yes",
            // Clones come and go on the same addresses, each with a key that nobody has seen before.
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            &format!("ConnectTimeout={CONNECT}"),
        ] {
            line.extend(["-o".to_owned(), option.to_owned()]);
        }
        let usual = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(USUAL_KEY));
        if let Some(key) = self.ssh_key.clone().or_else(|| usual.filter(|key| key.exists())) {
            line.extend(["-i".to_owned(), key.display().to_string()]);
        }
        line.extend(["-l", &self.ssh_user, "--", address, "sh -s"].map(str::to_owned));
        line
    }
}

/// The network namespace that HAProxy is in, when there is one.
pub(super) fn netns_of(pool: &str) -> Option<String> {
    let netns = format!("lbsidecar-{pool}");
    std::path::Path::new("/run/netns").join(&netns).exists().then_some(netns)
}

/// Runs `script` by a line of [`SshArgs::line`]; what it printed.
///
/// # Errors
/// A sentence: what ssh or the script said.
pub(super) async fn run(line: &[String], script: &str, within: Duration) -> Result<String, String> {
    let Some((program, args)) = line.split_first() else { return Err("an empty command".to_owned()) };
    let work = async {
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{program}: {error}; `apt-get install openssh-client` brings ssh"))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A guest that does not take it says why below.
            let _ = stdin.write_all(script.as_bytes()).await;
        }
        child.wait_with_output().await.map_err(|error| format!("{program}: {error}"))
    };
    let output =
        timeout(within, work).await.map_err(|_| format!("no end within {} s", within.as_secs()))??;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: String = said.trim().replace('\n', "; ").chars().take(400).collect();
    Err(if said.is_empty() { format!("it ended with {}", output.status) } else { said })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_options_go_first_and_the_namespace_can_be_said() {
        let mut args = SshArgs {
            ssh_user: "cirros".to_owned(),
            ssh_key: Some("/k".into()),
            ssh_netns: None,
            ssh_option: vec!["ConnectTimeout=1".to_owned()],
        };
        let line = args.line("10.0.0.5", Some("lbsidecar-default")).join(" ");
        assert!(
            line.starts_with("ip netns exec lbsidecar-default ssh -o ConnectTimeout=1 -o BatchMode=yes"),
            "{line}"
        );
        assert!(line.ends_with("-i /k -l cirros -- 10.0.0.5 sh -s"), "{line}");
        args.ssh_netns = Some("none".to_owned());
        assert!(args.line("10.0.0.5", Some("lbsidecar-default")).join(" ").starts_with("ssh "));
    }

    #[tokio::test]
    async fn scripts_run_and_their_failures_are_told() {
        let sh = ["sh".to_owned(), "-s".to_owned()];
        let within = Duration::from_secs(10);
        assert_eq!(run(&sh, "echo done", within).await.unwrap(), "done\n");
        assert_eq!(run(&sh, "echo no >&2; exit 255", within).await.unwrap_err(), "no");
        assert!(run(&["/nonexistent".to_owned()], "", within).await.unwrap_err().contains("openssh-client"));
        assert!(run(&sh, "sleep 60", Duration::from_millis(50)).await.unwrap_err().contains("no end within"));
    }
}
