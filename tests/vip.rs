//! The service address on real links, in namespaces of the test's own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it cannot go on"
)]

#[path = "common/isolated.rs"]
mod isolated;

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::Path,
    process::Command,
    time::Duration,
};

use isolated::{sh, was_run_inside};
use lbsidecar::{
    core::cloud::FailureKind,
    vip::{INSIDE, PlugSpec, host, plug, plugged, settings::Plug, unplug},
};
use nix::{
    sched::{CloneFlags, setns},
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
    },
    sys::time::{TimeVal, TimeValLike},
};

/// Set in the part of a test that runs without any capability.
const RIGHTLESS: &str = "LBSIDECAR_TEST_RIGHTLESS";

/// Runs `test` inside; `name` is the test's own.
fn isolated<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F) {
    if was_run_inside(name) {
        return;
    }
    if std::env::var_os(RIGHTLESS).is_none() {
        sh("mount -t tmpfs none /run && ip link set lo up");
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test());
}

fn in_ns(line: &str) -> String {
    sh(&format!("nsenter --net=/run/netns/lbsidecar-web sh -c '{line}'"))
}

fn spec(plug: Plug) -> PlugSpec {
    PlugSpec {
        netns: "lbsidecar-web".to_owned(),
        port: "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9".parse().unwrap(),
        mac: "fa:16:3e:00:00:10".parse().unwrap(),
        address: Ipv4Addr::new(192, 168, 77, 10),
        prefix: 24,
        gateway: Ipv4Addr::new(192, 168, 77, 1),
        mtu: 1442,
        plug,
    }
}

/// The network's bridge with the gateway's address, as Neutron's agent would have it.
fn bridge() {
    sh(
        "ip link add brq-test type bridge && ip address add 192.168.77.1/24 dev brq-test && ip link set brq-test up",
    );
}

/// What the linuxbridge agent does when it sees the device.
fn enslave(spec: &PlugSpec) {
    sh(&format!("ip link set {} master brq-test", spec.device()));
}

/// Sends a line from outside to a listener in the namespace and gets it back with the address that it came from.
fn exchange() -> String {
    let namespace = fs::File::open("/run/netns/lbsidecar-web").unwrap();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        let listener = TcpListener::bind("0.0.0.0:80").unwrap();
        ready.send(()).unwrap();
        let (mut stream, client) = listener.accept().unwrap();
        write!(stream, "hello {}", client.ip()).unwrap();
    });
    is_ready.recv().unwrap();
    let mut text = String::new();
    let address = "192.168.77.10:80".parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.read_to_string(&mut text).unwrap();
    server.join().unwrap();
    text
}

async fn differences(spec: &PlugSpec) -> Vec<String> {
    let state = plugged(spec).await.unwrap();
    assert_eq!(state.unseen, Vec::<String>::new());
    state.differs
}

#[test]
fn a_port_on_a_linuxbridge() {
    isolated("a_port_on_a_linuxbridge", || async {
        bridge();
        let spec = spec(Plug::LinuxBridge);
        assert_eq!(
            differences(&spec).await,
            ["tap0a1b2c3d-4e is missing", "namespace lbsidecar-web is missing"]
        );
        plug(&spec).await.unwrap();
        assert_eq!(differences(&spec).await, Vec::<String>::new());
        enslave(&spec);
        assert_eq!(exchange(), "hello 192.168.77.1", "the client's own address arrives");
        let inside =
            in_ns(&format!("ip -o address show dev {INSIDE}; ip route; ip -o link show dev {INSIDE}"));
        for wanted in [
            "192.168.77.10/24",
            "default via 192.168.77.1 dev lb0 proto static",
            "fa:16:3e:00:00:10",
            "mtu 1442",
        ] {
            assert!(inside.contains(wanted), "{wanted} in {inside}");
        }

        // Again: nothing changes, not even the device's number, and its bridge keeps it.
        let before = sh("ip -o link show dev tap0a1b2c3d-4e");
        plug(&spec).await.unwrap();
        assert_eq!(sh("ip -o link show dev tap0a1b2c3d-4e"), before);
        assert!(before.contains("master brq-test"));
        assert_eq!(exchange(), "hello 192.168.77.1");

        unplug(&spec.netns, spec.port, &spec.plug).await.unwrap();
        assert!(!Path::new("/run/netns/lbsidecar-web").exists());
        assert!(!sh("ip -o link").contains("tap"), "{}", sh("ip -o link"));
        assert!(!sh("cat /proc/self/mountinfo").contains("lbsidecar-web"));
        unplug(&spec.netns, spec.port, &spec.plug).await.unwrap();
    });
}

#[test]
fn what_differs_is_named_and_mended() {
    isolated("what_differs_is_named_and_mended", || async {
        bridge();
        let spec = spec(Plug::LinuxBridge);
        plug(&spec).await.unwrap();
        enslave(&spec);
        for (damage, inside, name) in [
            ("ip link set lo down", true, "lo is down"),
            ("ip link set lb0 down", true, "lb0 is down"),
            ("ip link set lb0 mtu 1500", true, "MTU 1500 instead of 1442"),
            ("ip link set tap0a1b2c3d-4e mtu 1500", false, "tap0a1b2c3d-4e has MTU 1500"),
            ("ip link set tap0a1b2c3d-4e down", false, "tap0a1b2c3d-4e is down"),
            ("ip link set lb0 address fa:16:3e:00:00:99", true, "hardware address fa:16:3e:00:00:99"),
            ("ip address add 192.168.77.66/24 dev lb0", true, "192.168.77.66/24"),
            ("ip address flush dev lb0", true, "has addresses []"),
            ("ip route delete default", true, "default gateway is None"),
            ("ip route replace default via 192.168.77.2", true, "192.168.77.2"),
            ("ip link delete lb0", true, "lb0 is missing"),
            ("umount /run/netns/lbsidecar-web", false, "namespace lbsidecar-web is missing"),
        ] {
            if inside {
                in_ns(damage);
            } else {
                sh(damage);
            }
            let differs = differences(&spec).await;
            assert!(differs.iter().any(|d| d.contains(name)), "{damage}: {name:?} in {differs:?}");
            plug(&spec).await.unwrap();
            assert_eq!(differences(&spec).await, Vec::<String>::new(), "mended after {damage}");
        }
        enslave(&spec);
        assert_eq!(exchange(), "hello 192.168.77.1");
    });
}

#[test]
fn another_port_takes_the_place_of_the_first() {
    isolated("another_port_takes_the_place_of_the_first", || async {
        let first = spec(Plug::LinuxBridge);
        plug(&first).await.unwrap();
        let second = PlugSpec {
            port: "ffffffff-4e5f-6071-8293-a4b5c6d7e8f9".parse().unwrap(),
            address: Ipv4Addr::new(192, 168, 77, 11),
            ..first.clone()
        };
        assert!(differences(&second).await.iter().any(|d| d.contains("tapffffffff-4e is missing")));
        plug(&second).await.unwrap();
        let links = sh("ip -o link");
        assert!(links.contains("tapffffffff-4e") && !links.contains("tap0a1b2c3d-4e"), "{links}");
        assert_eq!(differences(&second).await, Vec::<String>::new());
    });
}

/// A stand-in for `ovs-vsctl` that keeps the bridge's ports in a file and writes down how it was called.
fn fake_ovs(dir: &Path, name: &str, bridge_code: u8) {
    let script = format!(
        r#"#!/bin/sh
cd {dir} || exit 1
echo "$*" >>calls
case "$*" in
  *br-exists*) exit {bridge_code} ;;
  *add-port*) echo "$5" >ports ;;
  *del-port*) rm -f ports ;;
  *list-ports*) cat ports 2>/dev/null; exit 0 ;;
  *iface-id) echo '"0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"' ;;
  *attached-mac) echo '"fa:16:3e:00:00:10"' ;;
  *datapath_type) echo '""' ;;
esac
"#,
        dir = dir.display()
    );
    let path = dir.join(name);
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_port_on_open_vswitch() {
    isolated("a_port_on_open_vswitch", || async {
        let dir = tempfile::tempdir_in("/run").unwrap();
        fake_ovs(dir.path(), "my-vsctl", 0);
        let command = dir.path().join("my-vsctl").display().to_string();
        let spec = spec(Plug::Ovs { command });
        plug(&spec).await.unwrap();
        assert_eq!(differences(&spec).await, Vec::<String>::new());
        let calls = fs::read_to_string(dir.path().join("calls")).unwrap();
        let add = calls.lines().find(|l| l.contains("add-port")).unwrap();
        assert_eq!(
            add,
            "--timeout=10 --may-exist add-port br-int tap0a1b2c3d-4e -- set Interface tap0a1b2c3d-4e \
             external_ids:iface-id=0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9 external_ids:attached-mac=\"fa:16:3e:00:00:10\""
        );
        assert_eq!(sh("cat /proc/sys/net/ipv4/conf/tap0a1b2c3d-4e/arp_ignore").trim(), "8");
        fs::remove_file(dir.path().join("ports")).unwrap();
        assert_eq!(differences(&spec).await, ["tap0a1b2c3d-4e is not on br-int"]);
        plug(&spec).await.unwrap();
        unplug(&spec.netns, spec.port, &spec.plug).await.unwrap();
        assert!(!dir.path().join("ports").exists());

        let none = PlugSpec { plug: Plug::Ovs { command: "/nowhere/ovs-vsctl".to_owned() }, ..spec };
        let error = plug(&none).await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::NotFound, "{error}");
    });
}

/// Traffic through Open vSwitch with its userspace datapath, where empty checksums would show.
#[test]
fn a_port_on_the_real_open_vswitch() {
    let installed =
        Command::new("sh").args(["-c", "command -v ovs-vsctl ovsdb-server ethtool"]).output().unwrap();
    if !installed.status.success() {
        eprintln!("skipped: openvswitch-switch and ethtool are not installed");
        return;
    }
    isolated("a_port_on_the_real_open_vswitch", || async {
        sh("mkdir /run/openvswitch && cd /run/openvswitch \
            && ovsdb-tool create conf.db /usr/share/openvswitch/vswitch.ovsschema \
            && ovsdb-server conf.db --remote=punix:db.sock --pidfile --log-file=/run/openvswitch/db.log --detach \
            && ovs-vsctl --no-wait init \
            && ovs-vswitchd --pidfile --log-file=/run/openvswitch/switch.log --detach \
            && ovs-vsctl --timeout=10 add-br br-int -- set bridge br-int datapath_type=netdev \
            && ip address add 192.168.77.1/24 dev br-int && ip link set br-int up");
        let spec = spec(Plug::Auto);
        for _ in 0..2 {
            plug(&spec).await.unwrap();
            assert_eq!(differences(&spec).await, Vec::<String>::new());
            assert_eq!(exchange(), "hello 192.168.77.1");
        }
        in_ns("ethtool -K lb0 tx on");
        assert_eq!(differences(&spec).await, ["lb0 leaves checksums to a network card"]);
        sh("ovs-vsctl set Interface tap0a1b2c3d-4e external_ids:iface-id=other");
        assert!(
            differences(&spec).await.iter().any(|d| d.contains("iface-id \"other\" instead of 0a1b2c3d"))
        );
        plug(&spec).await.unwrap();
        unplug(&spec.netns, spec.port, &spec.plug).await.unwrap();
        assert_eq!(sh("ovs-vsctl list-ports br-int"), "");
    });
}

#[test]
fn the_switch_is_found() {
    isolated("the_switch_is_found", || async {
        let dir = tempfile::tempdir_in("/run").unwrap();
        let spec = spec(Plug::Auto);
        let install = || {
            sh(&format!(
                "mount -t tmpfs none /usr/local/bin && cp {}/*vsctl /usr/local/bin/",
                dir.path().display()
            ))
        };
        // Neither command is there: it is a linuxbridge host.
        if Command::new("ovs-vsctl").arg("--version").output().is_err() {
            plug(&spec).await.unwrap();
            assert_eq!(sh("cat /proc/sys/net/ipv4/conf/tap0a1b2c3d-4e/arp_ignore").trim(), "0");
            unplug(&spec.netns, spec.port, &spec.plug).await.unwrap();
        }
        // The distribution's says that there is no such bridge, the snap's that there is.
        fake_ovs(dir.path(), "ovs-vsctl", 2);
        fake_ovs(dir.path(), "microstack.ovs-vsctl", 0);
        install();
        plug(&spec).await.unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("ports")).unwrap().trim(), "tap0a1b2c3d-4e");
        // It does not answer: better no plug than one on the wrong switch.
        fake_ovs(dir.path(), "ovs-vsctl", 1);
        install();
        let error = plug(&spec).await.unwrap_err().to_string();
        assert!(error.contains("br-exists br-int") && error.contains("start Open vSwitch"), "{error}");
        let state = plugged(&spec).await.unwrap();
        assert!(state.is_good() && state.unseen.len() == 1, "the links are well: {state:?}");
    });
}

#[test]
fn the_host_holds_and_announces_an_address() {
    isolated("the_host_holds_and_announces_an_address", || async {
        sh("ip link add br-ex type veth peer name wire && ip address add 10.20.20.1/24 dev br-ex \
            && ip link set br-ex address fa:16:3e:0a:0b:0c up && ip link set wire up");
        let address = Ipv4Addr::new(10, 20, 20, 5);
        assert!(!host::present("br-ex", address).await.unwrap());
        for _ in 0..2 {
            host::add("br-ex", address).await.unwrap();
            assert!(host::present("br-ex", address).await.unwrap());
        }
        assert_eq!(sh("ip -o -4 address show dev br-ex").matches("10.20.20.5/32").count(), 1);

        let wire =
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), SockProtocol::EthAll).unwrap();
        setsockopt(&wire, sockopt::ReceiveTimeout, &TimeVal::seconds(5)).unwrap();
        host::announce("br-ex", address).await.unwrap();
        let mut frames = Vec::new();
        while frames.len() < 2 {
            let mut frame = [0; 1500];
            let length =
                recv(wire.as_raw_fd(), &mut frame, MsgFlags::empty()).expect("both announcements arrive");
            // Each frame is seen when it leaves one end and when it arrives at the other.
            if frame[12..14] == [8, 6] && !frames.contains(&frame[..length].to_vec()) {
                frames.push(frame[..length].to_vec());
            }
        }
        for (frame, operation) in frames.iter().zip([1, 2]) {
            assert_eq!(frame[..12], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfa, 0x16, 0x3e, 0x0a, 0x0b, 0x0c]);
            assert_eq!(
                (frame[21], &frame[28..32], &frame[38..42]),
                (operation, &[10, 20, 20, 5][..], &[10, 20, 20, 5][..])
            );
        }

        for _ in 0..2 {
            host::remove("br-ex", address).await.unwrap();
        }
        assert!(!host::present("br-ex", address).await.unwrap());
        assert!(
            host::present("br-ex", Ipv4Addr::new(10, 20, 20, 1)).await.unwrap(),
            "the host's own address stays"
        );
        host::remove("br-ex", Ipv4Addr::new(10, 20, 20, 1)).await.unwrap();
        assert!(
            host::present("br-ex", Ipv4Addr::new(10, 20, 20, 1)).await.unwrap(),
            "with another prefix it is not ours"
        );

        let error = host::add("br-none", address).await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::NotFound, "{error}");
        assert!(error.to_string().contains("10.20.20.5 on br-none"), "{error}");
    });
}

#[test]
fn without_rights_it_says_what_to_do() {
    const NAME: &str = "without_rights_it_says_what_to_do";
    isolated(NAME, || async {
        let spec = spec(Plug::LinuxBridge);
        if std::env::var_os(RIGHTLESS).is_none() {
            plug(&spec).await.unwrap();
            // Without a bounding set even root has no capability after exec.
            let status = Command::new("setpriv")
                .args(["--bounding-set=-all", "--inh-caps=-all", "--"])
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", NAME, "--nocapture"])
                .env(RIGHTLESS, "1")
                .status()
                .expect("setpriv(1) of util-linux runs");
            assert!(status.success());
            assert_eq!(differences(&spec).await, Vec::<String>::new(), "nothing was changed");
            return;
        }
        let address = Ipv4Addr::new(10, 20, 20, 5);
        for error in [
            host::add("lo", address).await.unwrap_err(),
            host::announce(&spec.device(), address).await.unwrap_err(),
        ] {
            assert!(
                error.is_permission() && error.to_string().contains("lbsidecar-address@POOL.socket"),
                "{error}"
            );
        }
        for error in [
            plug(&PlugSpec { netns: "lbsidecar-other".to_owned(), ..spec.clone() }).await.unwrap_err(),
            unplug(&spec.netns, spec.port, &spec.plug).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), FailureKind::Permanent);
            assert!(error.to_string().contains("sudo lbsidecar provision"), "{error}");
        }
        // A daemon without rights still sees the host's end, and says what it does not see.
        let state = plugged(&spec).await.unwrap();
        assert!(state.is_good() && state.unseen.len() == 1, "{state:?}");
    });
}
