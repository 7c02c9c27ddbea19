//! Reading again while the daemon runs, and making its places ready.

use secrecy::ExposeSecret;

use super::*;

#[test]
fn live_changes_are_taken_and_others_are_named() {
    let mut machine = Machine::new();
    let old = machine.toml("[pool]\nclone = 'c'\n[policy]\nhigh = 60\nsample = '1s'\n").good("");
    machine.toml(
        "[pool]\nclone = 'd'\nmax_members = 3\n[policy]\nhigh = 70\nsample = '2s'\n[log]\nfilter = 'debug'\n",
    );
    let changed = old.reread(&flags(""), &machine.env).unwrap();
    assert_eq!(
        changed.refused,
        [
            "pool.clone: stays \"c\", becomes \"d\" at the next start",
            "policy.sample: stays \"1s\", becomes \"2s\" at the next start"
        ]
    );
    let core = &changed.config.core;
    assert_eq!((core.clone.as_str(), core.policy.sample.as_secs()), ("c", 1));
    assert_eq!((core.max_members, core.policy.high.get()), (3, 70.0));
    assert_eq!(changed.config.places.log.filter, "debug");

    // The next reading starts from what holds now.
    let again = changed.config.reread(&flags(""), &machine.env).unwrap();
    assert_eq!(again.refused.len(), 2);
    machine.toml("[pool]\nclone = 'c'\n");
    let back = again.config.reread(&flags(""), &machine.env).unwrap();
    assert_eq!((back.refused, back.config.core), (Vec::new(), old.core));
}

#[test]
fn a_mixture_of_old_and_new_must_be_right_too() {
    let mut machine = Machine::new();
    let old = machine.toml("pool.clone = 'c'\n").good("");
    // Right together, but the upper bound is not taken before the next start.
    machine.toml("pool.clone = 'c'\ntransition.drain_deadline = '10m'\nhaproxy.hard_stop_after = '11m'\n");
    assert!(machine.load("").is_ok());
    let problems = old.reread(&flags(""), &machine.env).unwrap_err().0;
    assert_eq!(
        machine.cut(problems.iter().map(ToString::to_string).collect()),
        "/etc/lbsidecar/config.toml:2: transition.drain_deadline = \"10m\": it must be below haproxy.hard_stop_after (\"5m 30s\"): \
         else a worker of a former configuration is ended while a drain still waits for its sessions"
    );
    machine.toml("pool.clone = 'c'\npolicy.high = 101\n");
    assert!(old.reread(&flags(""), &machine.env).is_err());
}

#[test]
fn a_password_is_made_up_once_and_kept_for_its_owner_alone() {
    let mut machine = Machine::new();
    machine.set("LBSIDECAR_DAEMON_STATE_DIR", "ROOT/var/lib").set("LBSIDECAR_DAEMON_RUN_DIR", "ROOT/run");
    // Reading alone leaves nothing behind.
    machine.good("--clone c");
    assert!(!machine.path("var/lib").exists());
    let mut config = machine.good("--clone c");
    config.prepare().unwrap();
    config.prepare().unwrap();
    let password = config.haproxy.stats.password.expose_secret().to_owned();
    let file = machine.path("var/lib/default/stats-password");
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{password}\n"));
    assert_eq!(password.len(), 32);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(&machine.path("var/lib/default")), 0o700);
    assert_eq!(mode(&machine.path("var/lib/default/haproxy")), 0o700);
    assert_eq!(mode(&machine.path("run/default")), 0o750);
    let again = machine.good("--clone c");
    assert_eq!(again.haproxy.stats.password.expose_secret(), password);

    // What was too open is closed.
    fs::set_permissions(machine.path("var/lib/default"), fs::Permissions::from_mode(0o755)).unwrap();
    config.prepare().unwrap();
    assert_eq!(mode(&machine.path("var/lib/default")), 0o700);
}

#[test]
fn a_password_of_the_operators_is_used_when_it_is_kept_well() {
    let mut machine = Machine::new();
    machine.toml("pool.clone = 'c'\nhaproxy.stats_password_file = 'pw'\n");
    for (mode, text, told) in [
        (0o600, "s3cret!\n", ""),
        (0o640, "s3cret!", ""),
        (
            0o644,
            "s3cret!",
            "/srv/pw: it holds a secret and every user of this machine may read it: chmod 600 /srv/pw",
        ),
        (0o600, "", "it must hold one line"),
        (0o600, "two\nlines\n", "it must hold one line"),
        (0o600, "quo\"te", "it must hold one line"),
    ] {
        machine.file("srv/pw", mode, text);
        match machine.load("") {
            Ok(loaded) => {
                assert_eq!(told, "", "{text:?}");
                assert_eq!(loaded.config.haproxy.stats.password.expose_secret(), "s3cret!");
            }
            Err(_) => {
                let said = machine.bad("");
                assert!(!told.is_empty() && said.contains(told), "{text:?}: {said}");
                assert!(
                    !said.contains("s3cret") && !said.contains("quo\"te"),
                    "the password is shown: {said}"
                );
            }
        }
    }
}

#[test]
fn systemd_starts_haproxy_where_our_unit_is_installed() {
    let mut machine = Machine::new();
    assert_eq!(machine.good("--clone c").haproxy.supervisor, Supervisor::Detached);
    machine.file("usr/lib/systemd/system/lbsidecar-haproxy@.service", 0o644, "");
    assert_eq!(machine.good("--clone c").haproxy.supervisor, Supervisor::Detached);
    fs::create_dir_all(machine.path("run/systemd/system")).unwrap();
    let of_pool = Supervisor::Systemd("lbsidecar-haproxy@web.service".into());
    assert_eq!(machine.good("--clone c --pool web").haproxy.supervisor, of_pool);
    machine.set("LBSIDECAR_HAPROXY_STARTER", "detached");
    assert_eq!(machine.good("--clone c").haproxy.supervisor, Supervisor::Detached);
    machine.set("LBSIDECAR_HAPROXY_STARTER", "systemd").set("LBSIDECAR_HAPROXY_UNIT", "lb.service");
    assert_eq!(machine.good("--clone c").haproxy.supervisor, Supervisor::Systemd("lb.service".into()));
}

#[test]
fn the_way_of_the_address_decides_where_haproxy_listens() {
    let machine = Machine::new();
    let binds = |line: &str| {
        let config = machine.good(&format!("--clone c {line}"));
        (config.haproxy.binds.iter().map(ToString::to_string).collect::<Vec<_>>(), config.haproxy.netns)
    };
    let netns = Some("lbsidecar-default".to_owned());
    assert_eq!(binds("--port 8080"), (vec!["0.0.0.0:8080".into()], netns.clone()));
    assert_eq!(binds("--vip 10.20.20.5"), (vec!["0.0.0.0:80".into()], netns));
    assert_eq!(binds("--vip-mode static --vip 10.20.20.5"), (vec!["10.20.20.5:80".into()], None));
    assert_eq!(binds("--vip-mode host"), (vec![], None));
    assert_eq!(
        binds("--vip-mode static --bind 1.2.3.4:81 --bind [::1]:81"),
        (vec!["1.2.3.4:81".into(), "[::1]:81".into()], None)
    );
}
