//! What a reading of guests costs beside the C call that it cannot do without, and whether memory stays where it was.
//!
//! The ratio is measured on a libvirtd and QEMU guests of the bench's own, bare calls and readings taking turns in one run. The
//! many readings for the memory go to libvirt's test driver, which answers without a daemon.
#![expect(unsafe_code, reason = "the C call that is compared with")]
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and has nothing better to do on an error"
)]

#[path = "../tests/guests_rig/mod.rs"]
mod guests_rig;

use std::{
    fmt::Write as _,
    fs, ptr,
    time::{Duration, Instant},
};

use guests_rig::{Libvirtd, Load};
use lbsidecar::{
    core::ids::ServerId,
    guests::{Guests, settings::GuestsSettings},
};
use tokio::runtime::{Builder, Runtime};
use virt::{connect::Connect, domain::Domain, sys};

const GUESTS: u32 = 8;
/// Turns, and polls of each kind in one turn. The median turn counts: the machine has other things to do.
const TURNS: usize = 41;
const POLLS: usize = 25;
const MANY: usize = 200_000;

fn main() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    ratio(&runtime);
    memory(&runtime);
}

fn ratio(runtime: &Runtime) {
    let libvirtd = Libvirtd::start();
    let hand = libvirtd.hand();
    let servers: Vec<ServerId> =
        (1..=GUESTS).map(|number| libvirtd.boot(&hand, number, Load::Idle).0).collect();
    let guests = start(runtime, libvirtd.uri());
    let connect = Connect::open_read_only(Some(&libvirtd.uri())).unwrap();
    let domains: Vec<Domain> =
        servers.iter().map(|server| connect.lookup_domain_by_uuid(server.0).unwrap()).collect();
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        bare.push(timed(|| bare_call(&domains)));
        ours.push(timed(|| read(runtime, &guests, &servers)));
    }
    let (bare, ours) = (median(bare), median(ours));
    println!("poll of {GUESTS} domains: {:.2} x the bare call", ours / bare);
    println!("poll of {GUESTS} domains: {ours:.0} us, the bare call {bare:.0} us");
}

fn memory(runtime: &Runtime) {
    let directory = tempfile::tempdir().unwrap();
    let mut xml = String::from("<node>");
    let mut servers: Vec<ServerId> = Vec::new();
    for number in 1..=GUESTS {
        let id = format!("00000000-0000-4000-8000-{number:012}");
        let os = "<os><type>hvm</type></os>";
        write!(
            xml,
            "<domain type='test'><name>vm-{number}</name><uuid>{id}</uuid><memory>1</memory>{os}</domain>"
        )
        .unwrap();
        servers.push(id.parse().unwrap());
    }
    let node = directory.path().join("node.xml");
    fs::write(&node, xml + "</node>").unwrap();
    let guests = start(runtime, format!("test://{}", node.display()));
    for _ in 0..1_000 {
        read(runtime, &guests, &servers);
    }
    let (before, _) = resident_kib();
    for _ in 0..MANY {
        read(runtime, &guests, &servers);
    }
    let (after, own) = resident_kib();
    println!("memory after {MANY} polls: {:.2} x that at first", after as f64 / before as f64);
    println!(
        "memory after {MANY} polls: {after} KiB, of which {own} KiB are not files of libvirt and its libraries"
    );
}

fn start(runtime: &Runtime, uri: String) -> Guests {
    let _context = runtime.enter();
    Guests::start(GuestsSettings {
        uris: vec![uri],
        deadline: Duration::from_secs(10),
        sample: Duration::from_secs(1),
    })
}

fn read(runtime: &Runtime, guests: &Guests, servers: &[ServerId]) {
    assert_eq!(runtime.block_on(guests.sample(servers)).unwrap().len(), servers.len());
}

fn bare_call(domains: &[Domain]) {
    let groups = sys::VIR_DOMAIN_STATS_STATE | sys::VIR_DOMAIN_STATS_VCPU | sys::VIR_DOMAIN_STATS_BALLOON;
    // SAFETY: a null-terminated array of live domains; the answer is freed once.
    unsafe {
        let mut pointers: Vec<_> = domains.iter().map(|domain| domain.as_ptr()).collect();
        pointers.push(ptr::null_mut());
        let mut records = ptr::null_mut();
        let flags = sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT;
        let count = sys::virDomainListGetStats(pointers.as_mut_ptr(), groups, &raw mut records, flags);
        assert_eq!(usize::try_from(count).unwrap(), domains.len());
        sys::virDomainStatsRecordListFree(records);
    }
}

/// Microseconds of one call.
fn timed(mut call: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..POLLS {
        call();
    }
    start.elapsed().as_secs_f64() * 1e6 / POLLS as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Resident memory, and the part of it that no file backs.
fn resident_kib() -> (u64, u64) {
    let status = procfs::process::Process::myself().unwrap().status().unwrap();
    (status.vmrss.unwrap(), status.rssanon.unwrap())
}
