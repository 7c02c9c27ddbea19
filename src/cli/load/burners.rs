//! Burners in guests: a process for each vCPU, started and ended over SSH. They end by themselves when nobody ends them.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use crate::cli::ssh::{self, SshArgs};

/// How long starting or ending may take.
const DEADLINE: Duration = Duration::from_secs(20);
/// Where the guest notes their numbers.
const PIDS: &str = "/tmp/lbsidecar-load.pids";

/// How hard they burn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// All the time.
    Full,
    /// Half of the time.
    Half,
}

/// All burners of a load.
#[derive(Debug)]
pub(super) struct Burners {
    ssh: SshArgs,
    netns: Option<String>,
    guests: BTreeSet<IpAddr>,
}

impl Burners {
    pub(super) fn new(ssh: &SshArgs, netns: Option<String>) -> Self {
        Self { ssh: ssh.clone(), netns, guests: BTreeSet::new() }
    }

    /// From now on something may burn in these guests.
    pub(super) fn add(&mut self, guests: &[IpAddr]) {
        self.guests.extend(guests);
    }

    /// Starts them in these guests, instead of what burns there now; for at most `seconds`. The first error, when some did not start.
    pub(super) async fn start(&self, guests: &[IpAddr], share: Share, seconds: u64) -> Result<(), String> {
        for guest in guests {
            let line = self.ssh.line(&guest.to_string(), self.netns.as_deref());
            ssh::run(&line, &start_script(share, seconds), DEADLINE)
                .await
                .map_err(|why| format!("failed to start burners in {guest}: {why}"))?;
        }
        Ok(())
    }

    /// Ends all of them; what could not be ended, which its own clock ends.
    pub(super) async fn stop(&mut self) -> Vec<String> {
        let mut left = Vec::new();
        for line in self.lines() {
            if let Err(why) = stop(&line).await {
                left.push(why);
            }
        }
        self.guests.clear();
        left
    }

    /// The command lines that reach the guests in which something burns.
    pub(super) fn lines(&self) -> Vec<Vec<String>> {
        self.guests.iter().map(|guest| self.ssh.line(&guest.to_string(), self.netns.as_deref())).collect()
    }
}

/// Ends the burners in one guest.
pub(super) async fn stop(line: &[String]) -> Result<(), String> {
    let guest = line.iter().rev().nth(1).cloned().unwrap_or_default();
    match ssh::run(line, &stop_script(), DEADLINE).await {
        Ok(_) => Ok(()),
        Err(why) => Err(format!("failed to end the burners in {guest}: {why}")),
    }
}

/// For any shell, busybox's included. A process that is stopped takes only `kill -9`.
fn stop_script() -> String {
    format!("f={PIDS}\nif [ -f $f ]; then kill -9 $(cat $f) 2>/dev/null; rm -f $f; fi\ntrue\n")
}

fn start_script(share: Share, seconds: u64) -> String {
    let quiet = "</dev/null >/dev/null 2>&1";
    let half = match share {
        Share::Full => String::new(),
        // Not every sleep knows fractions.
        Share::Half => format!(
            "(while :; do kill -STOP $pids || exit; sleep 0.2 || sleep 1; kill -CONT $pids; sleep 0.2 || sleep 1; done) {quiet} &\n\
             echo $! >>$f\n"
        ),
    };
    format!(
        "{}n=$(grep -c '^processor' /proc/cpuinfo)\n\
         i=0; pids=\n\
         while [ $i -lt $n ]; do\n\
         \x20 sh -c 'while :; do :; done' {quiet} &\n\
         \x20 pids=\"$pids $!\"; echo $! >>$f; i=$((i + 1))\n\
         done\n\
         {half}\
         all=$(cat $f)\n\
         (sleep {seconds}; kill -9 $all; rm -f $f) {quiet} &\n\
         echo $! >>$f\n",
        stop_script()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The scripts in a shell of this machine, with a file of their own.
    #[tokio::test]
    async fn burners_burn_and_are_ended() {
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        let sh = ["sh".to_owned(), "-s".to_owned()];
        let here =
            |script: String| script.replace(PIDS, pids.to_str().unwrap()).replace("grep -c", "echo 2; true");
        let alive = || -> Vec<u32> {
            let text = std::fs::read_to_string(&pids).unwrap_or_default();
            let numbers = text.lines().map(|line| line.parse().unwrap());
            numbers.filter(|pid| std::path::Path::new(&format!("/proc/{pid}")).exists()).collect()
        };
        ssh::run(&sh, &here(start_script(Share::Half, 600)), DEADLINE).await.unwrap();
        let started = alive();
        assert_eq!(started.len(), 4, "two burners, who halves them, who ends them: {started:?}");
        // Again: the old ones go.
        ssh::run(&sh, &here(start_script(Share::Full, 600)), DEADLINE).await.unwrap();
        let again = alive();
        assert!(again.len() == 3 && again.iter().all(|pid| !started.contains(pid)), "{started:?} {again:?}");
        ssh::run(&sh, &here(stop_script()), DEADLINE).await.unwrap();
        let gone = |pid: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        for _ in 0..100 {
            if again.iter().chain(&started).all(gone) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(again.iter().chain(&started).all(gone) && !pids.exists());
        ssh::run(&sh, &here(stop_script()), DEADLINE).await.unwrap();
    }
}
