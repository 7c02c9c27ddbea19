//! Guests through libvirt's own test driver, which needs no daemon: states, lifecycle events, memory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it cannot go on"
)]

use std::{fmt::Write as _, fs, time::Duration};

use lbsidecar::{
    core::{cloud::FailureKind, guest::DomainState, ids::ServerId},
    guests::{self, Guests, GuestsError, LifecycleKind, settings::GuestsSettings},
};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use virt::connect::Connect;

/// The domain that `test:///default` starts with.
const TEST_DOMAIN: &str = "6695eb01-f6a4-8304-79aa-97f2502e193f";

fn settings(uris: &[&str]) -> GuestsSettings {
    GuestsSettings {
        uris: uris.iter().map(ToString::to_string).collect(),
        deadline: Duration::from_secs(5),
        sample: Duration::from_secs(1),
    }
}

async fn next(events: &mut Receiver<guests::Lifecycle>) -> LifecycleKind {
    tokio::time::timeout(Duration::from_secs(5), events.recv()).await.expect("an event in time").unwrap().what
}

#[tokio::test]
async fn states_and_lifecycle_events_of_the_test_driver() {
    let guests = Guests::start(settings(&["test:///default"]));
    let mut events = guests.events();
    let server: ServerId = TEST_DOMAIN.parse().unwrap();
    let stranger: ServerId = "00000000-0000-4000-8000-000000000001".parse().unwrap();

    let seen = guests.sample(&[server, stranger]).await.unwrap();
    assert_eq!(seen.len(), 1, "a domain that nobody knows is absent, not an error");
    let first = &seen[0];
    assert_eq!((first.server, first.state, first.instance), (server, DomainState::Running, Some(1)));
    assert!(first.vcpus.is_empty() && first.memory.is_none(), "what is not told is absent");

    // Connections to the test driver in one process share their domains.
    let hand = Connect::open(Some("test:///default")).unwrap();
    let domain = hand.lookup_domain_by_uuid_string(TEST_DOMAIN).unwrap();
    domain.suspend().unwrap();
    assert_eq!(next(&mut events).await, LifecycleKind::Suspended);
    assert_eq!(guests.sample(&[server]).await.unwrap()[0].state, DomainState::Paused);
    domain.resume().unwrap();
    assert_eq!(next(&mut events).await, LifecycleKind::Resumed);
    domain.destroy().unwrap();
    assert_eq!(next(&mut events).await, LifecycleKind::Stopped);
    let off = guests.sample(&[server]).await.unwrap();
    assert_eq!((off[0].state, off[0].instance), (DomainState::Off, None));
    domain.create().unwrap();
    assert_eq!(next(&mut events).await, LifecycleKind::Started);
    let again = guests.sample(&[server]).await.unwrap();
    assert_ne!(again[0].instance, first.instance, "a new start is a new instance");

    // The channel closes when libvirt has given back what the callback was registered with.
    drop(guests);
    let ended = async { while events.recv().await != Err(RecvError::Closed) {} };
    tokio::time::timeout(Duration::from_secs(5), ended).await.expect("the subscription ends with its owner");
}

/// Writes a file for the test driver with so many running domains, and gives its URI and their ids.
fn many_domains(directory: &tempfile::TempDir, count: u32) -> (String, Vec<ServerId>) {
    let mut xml = String::from("<node>");
    let mut servers = Vec::new();
    for number in 1..=count {
        let id = format!("00000000-0000-4000-8000-{number:012}");
        write!(
            xml,
            "<domain type='test'><name>vm-{number}</name><uuid>{id}</uuid><memory>65536</memory><vcpu>2</vcpu>\
             <os><type>hvm</type></os></domain>"
        )
        .unwrap();
        servers.push(id.parse().unwrap());
    }
    xml.push_str("</node>");
    let path = directory.path().join("node.xml");
    fs::write(&path, xml).unwrap();
    (format!("test://{}", path.display()), servers)
}

fn resident_kib() -> u64 {
    procfs::process::Process::myself().unwrap().status().unwrap().vmrss.unwrap()
}

#[tokio::test]
async fn readings_lose_no_memory() {
    let directory = tempfile::tempdir().unwrap();
    let (uri, servers) = many_domains(&directory, 8);
    let guests = Guests::start(settings(&[&uri]));
    let read = async |times: u32| {
        for _ in 0..times {
            assert_eq!(guests.sample(&servers).await.unwrap().len(), 8);
        }
    };
    read(1_000).await;
    let before = resident_kib();
    read(20_000).await;
    let grown = resident_kib().saturating_sub(before);
    // Records that are not freed would cost about 50 MiB here.
    assert!(grown < 8 * 1024, "{grown} KiB more after 20 000 readings");
}

#[tokio::test]
async fn inspect_tells_what_is_there_and_for_the_rest_why_not() {
    let missing = "qemu+unix:///system?socket=/nonexistent/libvirt-sock-ro";
    let report = guests::inspect(&settings(&[missing, "test:///default"])).await.unwrap();
    assert!(report.library.0 >= 6_000_000, "{}", report.library);
    let of = |uri: &str| &report.endpoints.iter().find(|endpoint| endpoint.uri == uri).unwrap().found;
    let daemon = of("test:///default").as_ref().unwrap();
    assert_eq!((daemon.hypervisor.as_str(), daemon.domains.len()), ("TEST", 1));
    assert_eq!(
        (daemon.domains[0].name.as_str(), daemon.domains[0].server.to_string()),
        ("test", TEST_DOMAIN.to_owned())
    );
    let error = of(missing).as_ref().unwrap_err();
    assert_eq!(error.kind(), FailureKind::NotFound);
    let text = error.to_string();
    assert!(text.contains("/nonexistent/libvirt-sock-ro") && text.contains("start libvirt"), "{text}");
}

#[tokio::test]
async fn a_daemon_that_is_not_there_is_an_error_until_another_one_answers() {
    let missing = "qemu+unix:///system?socket=/nonexistent/libvirt-sock-ro";
    let server: ServerId = TEST_DOMAIN.parse().unwrap();
    let alone = Guests::start(settings(&[missing])).sample(&[server]).await.unwrap_err();
    assert!(matches!(alone, GuestsError::Open { .. }), "{alone}");
    let directory = tempfile::tempdir().unwrap();
    let (uri, servers) = many_domains(&directory, 1);
    let both = Guests::start(settings(&[missing, &uri]));
    assert_eq!(both.sample(&servers).await.unwrap().len(), 1);
    // It may be on the one that does not answer: that is not the same as "unknown".
    assert!(both.sample(&[server]).await.is_err());
}
