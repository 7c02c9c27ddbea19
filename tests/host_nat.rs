//! `host-nat` on a real kernel: a host, its external network and an Internet, all in namespaces of the test's own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it cannot go on"
)]

#[path = "common/isolated.rs"]
mod isolated;

use std::{
    fs::{self, File},
    io,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use isolated::{sh, was_run_inside};
use lbsidecar::nat::{RULES, SYSCTL, TABLE, UNIT, WANTED};
use nix::sched::{CloneFlags, setns};

/// The Internet's only server, and the host's own address there.
const INTERNET: &str = "198.51.100.2:7000";
const OUTSIDE: &str = "198.51.100.1";
const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
/// Beyond what a handshake on one machine takes, even a busy one.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs `test` inside, with an `/etc` and a `/run` that are empty.
fn isolated(name: &str, test: impl FnOnce()) {
    if was_run_inside(name) {
        return;
    }
    sh("mount -t tmpfs none /run && mount -t tmpfs none /etc && mkdir /etc/sysctl.d && ip link set lo up");
    test();
}

/// `br-ex` with a guest behind it, `eth0` with the Internet behind it, which knows no way back to the guest.
fn world() {
    sh("echo 0 >/proc/sys/net/ipv4/ip_forward
        for name in guest internet; do ip netns add $name; ip -n $name link set lo up; done
        ip link add br-ex type veth peer name eth0 netns guest
        ip address add 10.20.20.1/24 dev br-ex; ip link set br-ex up
        ip -n guest address add 10.20.20.5/24 dev eth0; ip -n guest link set eth0 up
        ip -n guest route add default via 10.20.20.1
        ip link add eth0 type veth peer name eth0 netns internet
        ip address add 198.51.100.1/24 dev eth0; ip link set eth0 up
        ip route add default via 198.51.100.2
        ip -n internet address add 198.51.100.2/24 dev eth0; ip -n internet link set eth0 up");
}

/// Does something in another network namespace.
fn inside<T: Send + 'static>(netns: &str, what: impl FnOnce() -> T + Send + 'static) -> T {
    let netns = File::open(Path::new("/run/netns").join(netns)).unwrap();
    thread::spawn(move || {
        setns(netns.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
        what()
    })
    .join()
    .unwrap()
}

/// As whom the guest is seen on the Internet.
fn guest_is_seen_as(server: &TcpListener) -> io::Result<IpAddr> {
    inside("guest", || TcpStream::connect_timeout(&INTERNET.parse::<SocketAddr>().unwrap(), PATIENCE))?;
    Ok(server.accept()?.1.ip())
}

/// Exit code, standard output, standard error.
fn host_nat(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_lbsidecar")).arg("host-nat").args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// As a reboot would: the kernel forgets, the files are read.
fn reboot() {
    sh("nft delete table ip lbsidecar_nat; echo 0 >/proc/sys/net/ipv4/ip_forward");
    for line in fs::read_to_string(SYSCTL).unwrap().lines().filter(|line| !line.starts_with('#')) {
        assert_eq!(line, "net.ipv4.ip_forward = 1");
        fs::write(FORWARD, "1").unwrap();
    }
    assert!(fs::read_link(WANTED).unwrap() == Path::new(UNIT));
    let unit = fs::read_to_string(UNIT).unwrap();
    sh(unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap());
}

fn everything() -> String {
    sh(
        "nft list ruleset; cat /proc/sys/net/ipv4/ip_forward; find /etc -type f -o -type l | sort | xargs -r ls -l --time-style=full-iso",
    )
}

#[test]
fn guests_get_out_while_it_is_enabled_and_nothing_is_left_when_it_is_not() {
    isolated("guests_get_out_while_it_is_enabled_and_nothing_is_left_when_it_is_not", || {
        world();
        // What others have: rules, and settings of the kernel.
        sh("nft add table inet foreign; echo 'vm.swappiness = 10' >/etc/sysctl.d/10-foreign.conf");
        let server = inside("internet", || TcpListener::bind(INTERNET).unwrap());
        let before = everything();
        assert!(guest_is_seen_as(&server).is_err());
        assert_eq!(host_nat(&["status"]).0, 3);

        // The uplink is found by the default route.
        let (code, rules, _) = host_nat(&["enable", "--dry-run"]);
        assert_eq!(code, 0);
        assert!(rules.contains("oifname \"eth0\" ip saddr 10.20.20.0/24 masquerade"), "{rules}");
        assert!(rules.contains("# Before: net.ipv4.ip_forward = 0"), "{rules}");
        assert_eq!(everything(), before);

        let enable = ["enable", "--uplink", "eth0", "--bridge", "br-ex", "--cidr", "10.20.20.0/24"];
        let (code, said, _) = host_nat(&enable);
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("turned IPv4 forwarding on"), "{said}");
        assert_eq!(guest_is_seen_as(&server).unwrap().to_string(), OUTSIDE);
        let (code, said, _) = host_nat(&["status"]);
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("enabled: 10.20.20.0/24 on br-ex leaves by eth0"), "{said}");

        let enabled = everything();
        assert_eq!(host_nat(&enable).1, "nothing to change: it is enabled already\n");
        assert_eq!(everything(), enabled);

        reboot();
        assert_eq!(host_nat(&["status"]).0, 0);
        assert_eq!(guest_is_seen_as(&server).unwrap().to_string(), OUTSIDE);

        let (code, said, _) = host_nat(&["disable", "--dry-run"]);
        assert_eq!((code, said.matches("would ").count()), (0, 6), "{said}");
        let (code, said, _) = host_nat(&["disable"]);
        assert_eq!(code, 0);
        assert!(said.contains("turned IPv4 forwarding off, as it was before"), "{said}");
        assert_eq!(everything(), before);
        assert!(guest_is_seen_as(&server).is_err());
        assert_eq!(host_nat(&["disable"]).1, "nothing to take away: it is not enabled\n");
    });
}

#[test]
fn forwarding_that_others_want_stays_on() {
    isolated("forwarding_that_others_want_stays_on", || {
        world();
        let on = || fs::read_to_string(FORWARD).unwrap() == "1\n";
        // It was on before.
        fs::write(FORWARD, "1").unwrap();
        assert_eq!(host_nat(&["enable"]).0, 0);
        assert_eq!(host_nat(&["disable"]).0, 0);
        assert!(on());
        // It was off, and somebody has come to want it meanwhile.
        fs::write(FORWARD, "0").unwrap();
        assert_eq!(host_nat(&["enable"]).0, 0);
        sh("echo 'net.ipv4.ip_forward=1' >/etc/sysctl.d/99-docker.conf");
        let said = host_nat(&["disable"]).1;
        assert!(
            said.contains("left IPv4 forwarding on: /etc/sysctl.d/99-docker.conf wants it too"),
            "{said}"
        );
        assert!(on() && !Path::new(SYSCTL).exists());
    });
}

#[test]
fn what_was_changed_by_hand_is_named_and_mended() {
    isolated("what_was_changed_by_hand_is_named_and_mended", || {
        world();
        assert_eq!(host_nat(&["enable"]).0, 0);
        sh(&format!("nft insert rule ip {TABLE} forward drop; rm {RULES}; echo 0 >{FORWARD}"));
        let (code, said, _) = host_nat(&["status"]);
        assert_eq!(code, 2, "{said}");
        let enable = ["enable", "--uplink", "eth0"];
        assert_eq!(host_nat(&enable).0, 0);
        let (code, said, _) = host_nat(&["status", "--output", "json"]);
        assert!(code == 0 && said.contains("\"problems\": []"), "{said}");

        // Another network instead: the old rules are gone in the same transaction.
        assert_eq!(host_nat(&["enable", "--cidr", "10.20.30.0/24"]).0, 0);
        let table = sh(&format!("nft list table ip {TABLE}"));
        assert!(table.contains("10.20.30.0/24") && !table.contains("10.20.20.0/24"), "{table}");

        // A firewall that drops what it does not know has the last word.
        sh(
            "nft add table ip filter; nft 'add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }'",
        );
        let (code, said, _) = host_nat(&["status"]);
        assert_eq!(code, 0);
        assert!(said.contains("the chain ip filter FORWARD drops forwarded packets"), "{said}");
    });
}

#[test]
fn mistakes_are_named_and_change_nothing() {
    isolated("mistakes_are_named_and_change_nothing", || {
        world();
        let before = everything();
        for (args, code, why) in [
            (vec!["enable", "--bridge", "br-nowhere"], 69, "no such interface; `ip -brief link` shows"),
            (vec!["enable", "--uplink", "eth0; flush ruleset"], 64, "an interface's name has"),
            (vec!["enable", "--cidr", "10.20.20.7/24"], 64, "the network is 10.20.20.0/24"),
            (vec!["enable", "--cidr", "nonsense"], 64, "invalid"),
            (vec!["enable", "--uplink", "br-ex"], 64, "both br-ex"),
        ] {
            let said = host_nat(&args);
            assert_eq!(said.0, code, "{args:?}: {}", said.2);
            assert!(said.2.contains(why), "{args:?}: {}", said.2);
        }
        assert_eq!(everything(), before);

        sh("ip route del default");
        let said = host_nat(&["enable"]);
        assert!(said.0 == 69 && said.2.contains("name it with --uplink"), "{said:?}");
        for directory in ["/usr/sbin", "/sbin"] {
            sh(&format!("[ -L {directory} ] || PATH=$PATH:/bin mount -t tmpfs none {directory}"));
        }
        let said = host_nat(&["enable", "--uplink", "eth0"]);
        assert!(said.0 == 69 && said.2.contains("apt-get install nftables"), "{said:?}");
        // Somebody who is not root.
        let refused = Command::new("unshare")
            .args(["--user", env!("CARGO_BIN_EXE_lbsidecar"), "host-nat", "enable", "--uplink", "eth0"])
            .output()
            .unwrap();
        assert_eq!(refused.status.code(), Some(77), "{refused:?}");
    });
}
