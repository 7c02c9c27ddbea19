//! A test of its own: the first process of new user, network, mount and process namespaces, so that it needs no root, cannot touch
//! the host, and leaves nothing behind however it ends.

use std::process::Command;

/// Set in the process that is inside.
const MARK: &str = "LBSIDECAR_TEST_ISOLATED";

/// Runs the test of this name again inside and waits for its end; false in that process, which then goes on with the test.
pub(crate) fn was_run_inside(name: &str) -> bool {
    if std::env::var_os(MARK).is_some() {
        return false;
    }
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--mount", "--pid", "--fork"])
        .args(["--kill-child", "--mount-proc", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(MARK, "1")
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .status()
        .expect("unshare(1) of util-linux runs");
    assert!(status.success(), "{name} failed inside its namespaces");
    true
}

/// Runs a shell line that must succeed and returns what it prints.
pub(crate) fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{line}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}
