//! A libvirtd of a test's own, with real QEMU guests, in namespaces that end with the test: see `libvirtd.sh`.
//!
//! Guests have no kernel: a boot sector of a few bytes keeps one vCPU busy or idle, which is all that counters need.

#![allow(dead_code, reason = "not everybody who includes it needs all of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it cannot go on"
)]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use lbsidecar::core::ids::ServerId;
use uuid::Uuid;
use virt::{connect::Connect, domain::Domain};

/// What a guest's first vCPU does; the others wait in the BIOS.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Load {
    /// `jmp $`
    Busy,
    /// `hlt; jmp $-1`
    Idle,
}

/// A running libvirtd; dropping it ends it and its guests.
pub(crate) struct Libvirtd {
    directory: tempfile::TempDir,
    /// Half of its guests' ids: whoever looks at the host's processes sees the guests of all tests.
    ids: u64,
    words: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    namespaces: Child,
}

impl Libvirtd {
    /// Starts it and waits until it answers. Without root, user namespaces and sub-uids are needed.
    pub(crate) fn start() -> Self {
        virt::error::clear_error_callback();
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("unshare");
        if !nix::unistd::geteuid().is_root() {
            command.args(["--map-root-user", "--map-auto"]);
        }
        let mut namespaces = command
            .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-c", include_str!("libvirtd.sh"), "libvirtd.sh"])
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare of util-linux");
        let words = namespaces.stdin.take();
        let answers = BufReader::new(namespaces.stdout.take().unwrap());
        let libvirtd = Self { directory, ids: Uuid::new_v4().as_u64_pair().0, words, answers, namespaces };
        libvirtd.hand();
        libvirtd
    }

    /// Tells the script a word (`stop`, `start`, `freeze`, `thaw`) and waits until it is done.
    pub(crate) fn tell(&mut self, word: &str) {
        writeln!(self.words.as_mut().unwrap(), "{word}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim_end(), word, "{}", self.log());
    }

    /// The URI of its read-only socket.
    pub(crate) fn uri(&self) -> String {
        self.uri_of("libvirt-sock-ro")
    }

    /// A connection that may change things, as soon as the daemon gives one.
    pub(crate) fn hand(&self) -> Connect {
        let limit = Instant::now() + Duration::from_secs(20);
        loop {
            match Connect::open(Some(&self.uri_of("libvirt-sock"))) {
                Ok(connect) => return connect,
                Err(error) if Instant::now() > limit => panic!("libvirtd: {error}\n{}", self.log()),
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Boots a transient guest with two vCPUs.
    pub(crate) fn boot(&self, hand: &Connect, number: u32, load: Load) -> (ServerId, Domain) {
        let server = ServerId(Uuid::from_u64_pair(self.ids, number.into()));
        (server, self.boot_as(hand, server, load))
    }

    /// As [`Libvirtd::boot`], with an id that somebody else chose.
    pub(crate) fn boot_as(&self, hand: &Connect, server: ServerId, load: Load) -> Domain {
        let mut sector = [0; 512];
        let code: &[u8] = match load {
            Load::Busy => &[0xeb, 0xfe],
            Load::Idle => &[0xf4, 0xeb, 0xfd],
        };
        sector[..code.len()].copy_from_slice(code);
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        let disk = self.directory.path().join(format!("{server}.img"));
        fs::write(&disk, sector).unwrap();
        let xml = format!(
            "<domain type='qemu'><name>guest-{server}</name><uuid>{server}</uuid><memory unit='MiB'>16</memory><vcpu>2</vcpu>\
             <os><type machine='pc'>hvm</type><boot dev='fd'/></os><devices><disk type='file' device='floppy'>\
             <source file='{}'/><target dev='fda'/><readonly/></disk></devices></domain>",
            disk.display()
        );
        hand.create_domain_xml(&xml, 0).unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }

    fn uri_of(&self, socket: &str) -> String {
        format!("qemu+unix:///system?socket={}", self.directory.path().join(socket).display())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("libvirtd.log")).unwrap_or_default()
    }
}

impl Drop for Libvirtd {
    fn drop(&mut self) {
        // The end of its stdin ends the script, and with it its namespaces and all in them.
        self.words = None;
        let _ = self.namespaces.wait();
    }
}
