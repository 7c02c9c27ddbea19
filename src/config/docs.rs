//! The reference and the example file, made from the table of keys.

use std::fmt::Write;

use super::{
    keys::KEYS,
    layers::{self, SHORT_VARIABLES, flags_of},
    values::{Key, Reload, Unset},
};

/// What each table is about.
const TABLES: &[(&str, &str)] = &[
    ("pool", "The pool"),
    ("policy", "When to act"),
    ("clone", "How a clone is made"),
    ("transition", "How VMs come and go"),
    ("guards", "What forbids a clone"),
    ("guests", "libvirt"),
    ("cloud", "OpenStack"),
    ("haproxy", "HAProxy"),
    ("vip", "The service address"),
    ("provision", "What `provision` makes"),
    ("daemon", "The daemon's own places"),
    ("admin", "Asking the daemon"),
    ("log", "Logging"),
];

const INTRODUCTION: &str = "\
# Configuration

This file is made from the table of keys in `src/config/keys.rs`; a test compares them.

What a later layer says stands:

1. the defaults below;
2. `/etc/lbsidecar/config.toml`; for a pool with a name of its own (`--pool NAME` or `LBSIDECAR_POOL`) `/etc/lbsidecar/NAME.toml` instead; or the
   one file that `--config FILE` or `LBSIDECAR_CONFIG` names;
3. the files `*.toml` in the directory of the same name with `.d` (`config.d/`, `NAME.d/`), in the order of their names;
4. environment variables;
5. flags.

All mistakes are told at once, each with its place, and before anything is touched. A key that does not exist is a mistake. `lbsidecar config` shows
every value and where it comes from.

Durations have a unit: `\"500ms\"`, `\"5s\"`, `\"1m 30s\"`, `\"2h\"`; only the flags `--sample` and `--interval` take a bare number, of seconds. Percentages are numbers
from 0 to 100. Lists are arrays in TOML and separated by commas in variables. Relative paths start at the working directory.

Keys marked *live* are taken over on SIGHUP (`systemctl reload lbsidecar@POOL`); a change of any other key is named in the log and waits for the next start.
Restarting the daemon never touches traffic.

";

const CLOUD: &str = "
Credentials are read as the OpenStack CLI reads them; none are kept in this configuration. The first of these that is there is used:

1. the cloud named by `cloud.name`, `--os-cloud` or `OS_CLOUD` in clouds.yaml, its secrets also from secure.yaml beside it; `OS_*` variables add what it leaves out;
2. the variables `OS_AUTH_URL`, `OS_USERNAME`, `OS_PASSWORD`, `OS_PROJECT_NAME`, … or `OS_APPLICATION_CREDENTIAL_ID` and `OS_APPLICATION_CREDENTIAL_SECRET`;
3. the only cloud in clouds.yaml, or the one named `openstack`;
4. the file `cloud.openrc`, which is MicroStack's by default.

Passwords and application credentials are understood. A file that holds a secret must not be readable for every user (`chmod 600`). Under systemd
`LoadCredential=clouds.yaml:/etc/lbsidecar/clouds.yaml` hands it to the service alone.
";

const HAPROXY: &str = "
When no password is given for the statistics page, one is made up at the first start and kept in `stats-password` in the pool's state directory, for its owner alone.
";

/// `docs/configuration.md`.
#[must_use]
pub fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    for (table, title) in TABLES {
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "## `[{table}]`: {title}\n");
        text += "| key | what | default | variable, flag | live |\n|---|---|---|---|---|\n";
        for key in KEYS.iter().filter(|key| key.table() == *table) {
            let _ = writeln!(
                text,
                "| `{}` | {} ({}) | {} | {} | {} |",
                key.leaf(),
                key.doc.trim(),
                key.kind,
                written(key).map_or_else(|| key.unset.to_string(), |value| format!("`{value}`")),
                ways(key),
                if key.reload == Reload::Live { "live" } else { "" }
            );
        }
        match *table {
            "cloud" => text += CLOUD,
            "haproxy" => text += HAPROXY,
            _ => {}
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

/// A key's default as it would be written in a file; `None` when it has none.
fn written(key: &Key) -> Option<String> {
    layers::defaults().values.effective().into_iter().find(|row| row.key == key.name)?.value
}

fn ways(key: &Key) -> String {
    let short =
        SHORT_VARIABLES.iter().find(|(_, name)| *name == key.name).map(|(short, _)| (*short).to_owned());
    let variable = short.unwrap_or_else(|| key.variable());
    let flags = flags_of(key.name);
    std::iter::once(variable)
        .chain(flags.into_iter().map(str::to_owned))
        .map(|way| format!("`{way}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// `docs/lbsidecar.example.toml`: every key, with its default commented out.
#[must_use]
pub fn example() -> String {
    let mut text = "\
# lbsidecar: every key with its default. Copy to /etc/lbsidecar/config.toml and take the '#' from what you change.
# Only `clone` in [pool] must be set. docs/configuration.md says more.
"
    .to_owned();
    for (table, title) in TABLES {
        let _ = writeln!(text, "\n# {title}\n[{table}]");
        for key in KEYS.iter().filter(|key| key.table() == *table) {
            let _ = writeln!(text, "# {}", key.doc.trim());
            let _ = match (key.unset, written(key)) {
                (_, Some(value)) => writeln!(text, "#{} = {value}", key.leaf()),
                (Unset::Required, None) => writeln!(text, "{} = \"vm-test-clone\"", key.leaf()),
                (unset, None) => writeln!(text, "#{} =   # when not set: {unset}", key.leaf()),
            };
        }
    }
    text
}
