//! Bad input, each with its exact message in `snapshots/`.

use super::*;

/// Each text as the lines of config.toml below one that sets the clone, and what is said of it.
fn said(texts: &[&str], of: impl Fn(&mut Machine) -> String) -> String {
    let mut listing = String::new();
    for toml in texts {
        let mut machine = Machine::new();
        machine.toml(&format!("pool.clone = 'c'\n{toml}"));
        let lines =
            |text: &str, mark: &str| text.lines().map(|line| format!("{mark}{line}\n")).collect::<String>();
        listing += &format!("{}{}\n", lines(toml, "    "), lines(&of(&mut machine), "=> "));
    }
    listing
}

#[test]
fn each_mistake_is_told_exactly() {
    let texts = [
        "policy.high = 20",
        "policy.high = 30\npolicy.low = 40",
        "policy.low = 80",
        "policy.margin = 60",
        "policy.high = 0.6",
        "policy.high = '60 percent'",
        "policy.high = true",
        "policy.interval = '500ms'",
        "policy.sample = '10s'",
        "policy.sample = '50ms'",
        "policy.sample = '1.5ms'",
        "policy.sample = '100us'",
        "policy.warm_up = '1 fortnight'",
        "policy.warm_up = '-5s'",
        "policy.warm_up = '30d'",
        "policy.warm_up = '600h'",
        "policy.min_up = 4.5",
        "policy.min_up = 99999999999",
        "policy.metric = 'median'",
        "policy.metric = 5",
        "pool.port = 65536",
        "pool.port = 0",
        "pool.max_members = 1",
        "pool.base = ''",
        "pool.base = \"a\\nb\"",
        "pool.base = 5",
        "pool.base = 'c'",
        "pool.name = 'Web'",
        "transition.ramp = []",
        "transition.ramp = [1, 50]",
        "transition.ramp = [50, 20, 100]",
        "transition.ramp = [0, 100]",
        "transition.ramp = [1, -5, 100]",
        "transition.backoff_first = '1h'",
        "transition.healthy_deadline = '3s'",
        "transition.drain_deadline = '0s'",
        "transition.drain_deadline = '10m'",
        "haproxy.hard_stop_after = '1m'",
        "haproxy.server_timeout = '10m'",
        "haproxy.stats_bind = '0.0.0.0:8404'",
        "haproxy.stats_bind = 'localhost:8404'",
        "haproxy.stats_bind = '127.0.0.1'",
        "admin.listen = '10.0.0.1:9000'",
        "admin.listen = '127.0.0.1:8404'",
        "admin.listen = '127.0.0.1:0'",
        "haproxy.bind = []",
        "haproxy.bind = ['1.2.3.4:80', '1.2.3.4:80']",
        "haproxy.bind = '1.2.3.4'",
        "haproxy.check_path = 'healthz'",
        "haproxy.check_path = '/a b'",
        "haproxy.check_status = '200-600'",
        "haproxy.check_status = '300-200'",
        "haproxy.stats_user = 'a:b'",
        "haproxy.unit = 'haproxy'",
        "haproxy.template = '/nonexistent/t'",
        "haproxy.stats_password_file = '/nonexistent/p'",
        "vip.mode = 'static'",
        "vip.mode = 'bridge'",
        "vip.address = '10.0.0.300'",
        "vip.address = '10.0.0.3/24'",
        "vip.interface = 'a-very-long-interface'",
        "vip.netns = '../x'",
        "daemon.run_dir = '/a/very/long/path/that/goes/on/and/on/and/on/until/no/socket/fits/in/there'",
        "clone.user_data = '/nonexistent/u'",
        "clone.user_data = '/'",
        "clone.security_groups = []",
        "log.filter = 'verbose'",
        "[haproxy]\nstats_password = 'x'",
        "[polciy]\nhihg = 5",
        "high = 5",
        "[[pool]]\nbase='x'",
        "policy = 5",
        "[policy]\nhigh = \nlow = 20\nlow = 30",
        "[policy\nhigh = 5",
        "policy.high = 5\n[policy]\nlow = 3",
        "completely = 1",
    ];
    insta::assert_snapshot!(said(&texts, |machine| machine.bad("")));
}

#[test]
fn each_doubt_is_told_exactly() {
    let texts = [
        "policy.low = 50",
        "policy.low = 30",
        "policy.sample = '200ms'",
        "haproxy.server_timeout = '5m 30s'",
        "vip.ovs_command = 'x'",
    ];
    insta::assert_snapshot!(said(&texts, |machine| machine.doubtful("")));
}

#[test]
fn mistakes_on_the_command_line_alone_are_its_own() {
    let mut machine = Machine::new();
    let told = |command_line: &str| {
        let problems = machine.load(command_line).expect_err("wrong");
        (problems.exit(), machine.bad(command_line))
    };
    assert_eq!(
        told("--clone c --high 101 --interval soon --bind x"),
        (
            Exit::Usage,
            "--high: policy.high = \"101\": not a percentage: use a number from 0 to 100\n\
             --interval: policy.interval = \"soon\": not a duration: write it as \"5s\", \"1m 30s\" or \"2h\"\n\
             --bind: haproxy.bind = [\"x\"]: \"x\": not an address and port: write it as \"127.0.0.1:8404\" or \"[::1]:8404\""
                .to_owned()
        )
    );
    assert_eq!(
        told("--clone c --high 20 --low 30"),
        (
            Exit::Usage,
            "--high: policy.high = 20: it must be above policy.low (30): else one value would vote for a clone and for the handover at once"
                .to_owned()
        )
    );
    machine.toml("[pool]\nclone = 'c'\n[log]\nfilter = 'x'\n");
    assert_eq!(machine.load("--high 101").expect_err("wrong").exit(), Exit::Config);
}

#[test]
fn a_variable_that_sets_nothing_is_doubted() {
    let mut machine = Machine::new();
    machine.set("LBSIDECAR_POLICY_HIHG", "5").set("LBSIDECAR_SIM_SEED", "5").set("LBSIDECAR_POLICY_LOW", "");
    assert_eq!(
        machine.doubtful("--clone c"),
        "LBSIDECAR_POLICY_HIHG: this variable sets nothing: is LBSIDECAR_POLICY_HIGH meant?\n\
         LBSIDECAR_SIM_SEED: this variable sets nothing"
    );
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let mut machine = Machine::new();
    assert_eq!(machine.bad("--clone c --config gone.toml"), "/srv/gone.toml: there is no such file");
    machine.file("srv/here.toml", 0o644, "pool.clone = 'here'\n");
    assert_eq!(machine.good("--config here.toml").core.clone, "here");
    fs::write(machine.path("srv/here.toml"), b"\xff").unwrap();
    assert_eq!(machine.bad("--clone c --config here.toml"), "/srv/here.toml: it is not text in UTF-8");
    assert_eq!(
        machine.set("LBSIDECAR_CONFIG", "gone.toml").bad("--clone c"),
        "/srv/gone.toml: there is no such file"
    );
}

#[test]
fn places_are_known_whatever_else_is_wrong() {
    let mut machine = Machine::bare();
    machine.toml("[pool]\nname = 'web'\nbase = 5\n[nonsense]\nx = 1\n");
    let of = |machine: &Machine, line: &str| places(&flags(line).places, &machine.env);
    let found = of(&machine, "--run-dir run").unwrap();
    assert_eq!((found.pool.as_str(), found.run_dir), ("web", machine.path("srv/run/web")));
    let wrong = of(&machine, "--pool Web").unwrap_err().to_string();
    assert!(wrong.contains("--pool: pool.name = \"Web\""), "{wrong}");
    let wrong = of(machine.toml("nonsense"), "").unwrap_err().to_string();
    assert!(wrong.contains("config.toml:1: this is not TOML"), "{wrong}");
}
