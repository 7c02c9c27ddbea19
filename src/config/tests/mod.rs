//! Layers, and every kind of bad input with its exact message.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use clap::Parser;

mod bad;
mod cloud;
mod live;

use super::*;
use crate::{
    core::settings::{Metric, Signal},
    exit::Exit,
    haproxy::settings::Supervisor,
    vip::settings::{Plug, VipMode},
};

/// A machine of its own: `/etc` and the like in a temporary directory, no variables but those given.
pub(super) struct Machine {
    root: tempfile::TempDir,
    env: Env,
}

impl Machine {
    /// With working credentials.
    pub(super) fn new() -> Self {
        let mut machine = Self::bare();
        for (name, value) in [
            ("OS_AUTH_URL", "https://10.20.20.1:5000/v3"),
            ("OS_USERNAME", "admin"),
            ("OS_PASSWORD", "hush"),
            ("OS_PROJECT_NAME", "admin"),
        ] {
            machine.set(name, value);
        }
        machine
    }

    /// Without any cloud.
    pub(super) fn bare() -> Self {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("srv");
        fs::create_dir_all(&directory).unwrap();
        fs::create_dir_all(root.path().join("etc/lbsidecar")).unwrap();
        let env = Env { variables: Default::default(), root: root.path().to_owned(), directory };
        Self { root, env }
    }

    pub(super) fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.env.variables.insert(name.to_owned(), value.replace("ROOT", self.root.path().to_str().unwrap()));
        self
    }

    /// Writes a file with the given rights.
    pub(super) fn file(&mut self, path: &str, mode: u32, text: &str) -> &mut Self {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    pub(super) fn toml(&mut self, text: &str) -> &mut Self {
        self.file("etc/lbsidecar/config.toml", 0o644, text)
    }

    pub(super) fn load(&self, command_line: &str) -> Result<Loaded, Problems> {
        load(&flags(command_line), &self.env)
    }

    #[track_caller]
    pub(super) fn good(&self, command_line: &str) -> Config {
        match self.load(command_line) {
            Ok(loaded) => loaded.config,
            Err(problems) => panic!("{problems}"),
        }
    }

    /// The mistakes, one a line, with the machine's root cut away.
    #[track_caller]
    pub(super) fn bad(&self, command_line: &str) -> String {
        let problems = self.load(command_line).expect_err("this configuration is wrong").0;
        self.cut(problems.iter().map(ToString::to_string).collect())
    }

    /// The doubts, one a line.
    #[track_caller]
    pub(super) fn doubtful(&self, command_line: &str) -> String {
        self.cut(self.load(command_line).unwrap().warnings)
    }

    fn cut(&self, lines: Vec<String>) -> String {
        lines.join("\n").replace(self.root.path().to_str().unwrap(), "")
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }
}

pub(super) fn flags(command_line: &str) -> Flags {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }
    Line::try_parse_from(std::iter::once("run").chain(command_line.split_whitespace())).unwrap().flags
}

/// The first users' command line, as they know it.
const SEED: &str = "--clone vm-test-clone --high 60 --low 20 --min-up 4 --min-down 4 --metric max";

#[test]
fn the_seeds_command_line_is_enough() {
    let machine = Machine::new();
    let config = machine.good(SEED);
    let Settings { pool, base, clone, service_port, max_members, policy, transition, .. } = config.core;
    assert_eq!((pool.as_str(), base.as_str(), clone.as_str()), ("default", "vm-test", "vm-test-clone"));
    assert_eq!((service_port, max_members), (80, 2));
    assert_eq!((policy.high.get(), policy.low.get(), policy.min_up, policy.min_down), (60.0, 20.0, 4, 4));
    assert_eq!((policy.metric, policy.signal), (Metric::Max, Signal::Cpu));
    assert_eq!((policy.sample, policy.interval), (Duration::from_secs(1), Duration::from_secs(5)));
    assert_eq!(transition.ramp, [1, 5, 15, 35, 70, 100]);
    assert_eq!(transition.proof_spacing, config.haproxy.check.interval);
    assert_eq!(config.haproxy.binds, ["0.0.0.0:80".parse::<SocketAddr>().unwrap()]);
    assert_eq!(config.haproxy.netns.as_deref(), Some("lbsidecar-default"));
    assert_eq!(config.haproxy.supervisor, Supervisor::Detached);
    assert_eq!(config.vip.mode, VipMode::Port { plug: Plug::Auto, netns: "lbsidecar-default".into() });
    assert_eq!(config.places.state_dir, Path::new("/var/lib/lbsidecar/default"));
    assert_eq!(config.places.admin.socket, Path::new("/run/lbsidecar/default/lbsidecar.sock"));
    assert_eq!(machine.load(SEED).unwrap().warnings, Vec::<String>::new());
}

#[test]
fn a_later_layer_stands_and_says_where_it_is_from() {
    let mut machine = Machine::new();
    machine
        .toml("[pool]\nclone = 'a'\n[policy]\nhigh = 61\nlow = 11\nmin_up = 5\ninterval = '6s'\n")
        .file("etc/lbsidecar/config.d/20-b.toml", 0o644, "policy.min_up = 7\n")
        .file("etc/lbsidecar/config.d/10-a.toml", 0o644, "policy.min_up = 6\npolicy.low = 12\n")
        .file("etc/lbsidecar/config.d/notes.txt", 0o644, "not TOML")
        .set("LBSIDECAR_POLICY_LOW", "13")
        .set("LBSIDECAR_LOG", "debug");
    let config = machine.good("--interval 8 --log info");
    let policy = &config.core.policy;
    assert_eq!(
        (policy.high.get(), policy.low.get(), policy.min_up, policy.interval.as_secs()),
        (61.0, 13.0, 7, 8)
    );
    let rows = config.effective();
    let of = |key| {
        let row = rows.iter().find(|row| row.key == key).unwrap();
        (row.value.clone().unwrap_or_default(), machine.cut(vec![row.origin.clone()]))
    };
    let pair = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(of("policy.high"), pair("61", "/etc/lbsidecar/config.toml:4"));
    assert_eq!(of("policy.min_up"), pair("7", "/etc/lbsidecar/config.d/20-b.toml:1"));
    assert_eq!(of("policy.low"), pair("13", "LBSIDECAR_POLICY_LOW"));
    assert_eq!(of("policy.interval"), pair("\"8s\"", "--interval"));
    assert_eq!(of("log.filter"), pair("\"info\"", "--log"));
    assert_eq!(of("haproxy.hard_stop_after"), pair("\"5m 30s\"", "default"));
    assert_eq!(of("clone.image"), pair("", "as the base has it"));
    assert!(!format!("{config:?} {rows:?}").contains("hush"), "a secret is shown");
}

#[test]
fn a_pool_of_its_own_has_a_file_of_its_own() {
    let mut machine = Machine::new();
    machine
        .toml("[pool]\nbase = 'other'\nclone = 'other-clone'\n")
        .file("etc/lbsidecar/web.toml", 0o644, "[pool]\nclone = 'web-clone'\n")
        .file("etc/lbsidecar/web.d/1.toml", 0o644, "[policy]\nhigh = 70\n");
    let config = machine.good("--pool web");
    assert_eq!((config.core.base.as_str(), config.core.clone.as_str()), ("vm-test", "web-clone"));
    assert_eq!((config.core.pool.as_str(), config.core.policy.high.get()), ("web", 70.0));
    assert_eq!(config.haproxy.netns.as_deref(), Some("lbsidecar-web"));
    assert_eq!(machine.set("LBSIDECAR_POOL", "web").good("").core.clone, "web-clone");
    let only = machine.path("etc/lbsidecar/web.toml");
    assert_eq!(machine.good(&format!("--config {}", only.display())).core.clone, "web-clone");
}

#[test]
fn old_words_for_metrics_keep_their_meaning() {
    let machine = Machine::new();
    for (word, metric, signal) in [
        ("avg", Metric::Mean, Signal::Cpu),
        ("mean", Metric::Mean, Signal::Cpu),
        ("cpu", Metric::Mean, Signal::Cpu),
        ("mem", Metric::Mean, Signal::Mem),
        ("last", Metric::Last, Signal::Cpu),
        ("p95", Metric::P95, Signal::Cpu),
    ] {
        let policy = machine.good(&format!("--clone c --metric {word}")).core.policy;
        assert_eq!((policy.metric, policy.signal), (metric, signal), "{word}");
    }
    let policy = machine.good("--clone c --sample 0.5 --interval 2s --server other").core;
    assert_eq!((policy.policy.sample.as_millis(), policy.policy.interval.as_millis()), (500, 2000));
    assert_eq!(policy.base, "other");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let mut machine = Machine::bare();
    machine
        .toml("[pool]\nbse = 'x'\n[policy]\nhigh = 101\nlow = nan\nmin_up = 0\ninterval = 5\ndrain_deadline = '1m'\n")
        .set("LBSIDECAR_POLICY_WARM_UP", "soon");
    let problems = machine.load("--min-down -1").expect_err("wrong");
    assert_eq!(problems.exit(), Exit::Config);
    assert_eq!(
        machine.cut(problems.to_string().lines().map(str::to_owned).collect()),
        r#"read the configuration: 10 problems
  /etc/lbsidecar/config.toml:2: pool.bse: there is no such key: is pool.base meant?
  /etc/lbsidecar/config.toml:4: policy.high = 101: not a percentage: use a number from 0 to 100
  /etc/lbsidecar/config.toml:5: policy.low = nan: not a percentage: use a number from 0 to 100
  /etc/lbsidecar/config.toml:6: policy.min_up = 0: not a whole number from 1 to 4294967295
  /etc/lbsidecar/config.toml:7: policy.interval = 5: a duration needs its unit: write "5s" for seconds
  /etc/lbsidecar/config.toml:8: policy.drain_deadline: there is no such key: is transition.drain_deadline meant?
  LBSIDECAR_POLICY_WARM_UP: policy.warm_up = "soon": not a duration: write it as "5s", "1m 30s" or "2h"
  --min-down: policy.min_down = "-1": not a whole number from 1 to 4294967295
  pool.clone: it is not set: give it by --clone, LBSIDECAR_POOL_CLONE, or clone in [pool] of the configuration file
  no cloud is configured: OS_CLOUD and OS_AUTH_URL are not set, cloud.name is not set, and there is none of /srv/clouds.yaml, /etc/openstack/clouds.yaml, /var/snap/microstack/common/etc/microstack.rc: source an openrc file, or make a clouds.yaml and name a cloud of it by --os-cloud"#
    );
}

proptest::proptest! {
    #[test]
    fn what_is_shown_can_be_read(millis in 0_u64..24 * 24 * 3_600_000, tenths in 10_u16..=1000, text in "\\PC{0,20}") {
        use super::setting::{Raw, Setting};
        use crate::core::units::Percent;
        let unquoted = |shown: String| Raw::Text(shown.trim_matches('"').to_owned());
        let duration = Duration::from_millis(millis);
        proptest::prop_assert_eq!(Duration::read(&unquoted(duration.show())), Ok(duration));
        let percent = Percent::clamped(f64::from(tenths) / 10.0);
        proptest::prop_assert_eq!(Percent::read(&Raw::Number(percent.show())), Ok(percent));
        // Nothing that somebody types breaks a reader.
        let raw = Raw::Text(text);
        let _ = (Duration::read(&raw), Percent::read(&raw), Vec::<u16>::read(&raw), SocketAddr::read(&raw));
    }
}

#[test]
fn the_example_sets_the_defaults() {
    let defaults = Machine::new().good("--clone vm-test-clone").effective();
    let uncommented: String = example()
        .lines()
        .filter(|line| !line.contains("when not set"))
        .map(|line| match line.strip_prefix('#') {
            Some(set) if !set.starts_with(' ') => format!("{set}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let mut machine = Machine::new();
    let config = machine.toml(&uncommented).good("");
    for (row, default) in config.effective().into_iter().zip(defaults) {
        assert_eq!(row.value, default.value, "{}", row.key);
        assert!(row.value.is_none() || row.origin != "default", "{} is not in the example", row.key);
    }
}
