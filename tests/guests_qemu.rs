//! Guests through a real libvirtd and real QEMU: counters move, states and events are told, a restarted or frozen daemon is survived.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it cannot go on"
)]

mod guests_rig;

use std::time::{Duration, Instant};

use guests_rig::{Libvirtd, Load};
use lbsidecar::{
    core::{
        guest::{DomainCounters, DomainState},
        ids::ServerId,
    },
    guests::{self, Guests, GuestsError, Lifecycle, LifecycleKind, settings::GuestsSettings},
};
use tokio::sync::broadcast::Receiver;

const LIMIT: Duration = Duration::from_secs(20);

fn settings(libvirtd: &Libvirtd, deadline: Duration) -> GuestsSettings {
    GuestsSettings { uris: vec![libvirtd.uri()], deadline, sample: Duration::from_secs(1) }
}

/// Waits for an event of that kind; others may come before it.
async fn wait_for(events: &mut Receiver<Lifecycle>, server: ServerId, what: LifecycleKind) {
    let wanted = Lifecycle { server, what };
    let seen = async { while events.recv().await.unwrap() != wanted {} };
    tokio::time::timeout(LIMIT, seen).await.unwrap_or_else(|_| panic!("{what:?} was not told"));
}

async fn read(guests: &Guests, server: ServerId) -> DomainCounters {
    let mut readings = guests.sample(&[server]).await.unwrap();
    assert_eq!(readings.len(), 1);
    readings.remove(0)
}

#[tokio::test]
async fn a_real_guest_from_its_start_to_its_end() {
    let libvirtd = Libvirtd::start();
    let guests = Guests::start(settings(&libvirtd, Duration::from_secs(5)));
    let mut events = guests.events();
    let hand = libvirtd.hand();
    // Only a connected daemon tells events; the first answer shows that it is.
    assert_eq!(guests.sample(&[]).await, Ok(Vec::new()));
    let (server, domain) = libvirtd.boot(&hand, 1, Load::Busy);
    wait_for(&mut events, server, LifecycleKind::Started).await;

    // The boot sector runs after the BIOS: from then on the first vCPU wants all of a host CPU.
    let limit = Instant::now() + LIMIT;
    let mut before = read(&guests, server).await;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let after = read(&guests, server).await;
        assert_eq!(
            (after.state, after.instance, after.memory),
            (DomainState::Running, before.instance, None),
            "a guest without a balloon driver tells no memory"
        );
        assert_eq!(after.vcpus.len(), 2);
        let elapsed = after.at_ns - before.at_ns;
        let wanted = |number| {
            let (old, new) = (before.vcpus[&number], after.vcpus[&number]);
            new.time_ns - old.time_ns + new.delay_ns.unwrap() - old.delay_ns.unwrap()
        };
        if (elapsed * 3 / 4..elapsed * 5 / 4).contains(&wanted(0)) && wanted(1) < elapsed / 10 {
            break;
        }
        assert!(Instant::now() < limit, "{before:?} {after:?}");
        before = after;
    }

    domain.suspend().unwrap();
    wait_for(&mut events, server, LifecycleKind::Suspended).await;
    assert_eq!(read(&guests, server).await.state, DomainState::Paused);
    domain.resume().unwrap();
    wait_for(&mut events, server, LifecycleKind::Resumed).await;
    assert_eq!(read(&guests, server).await.state, DomainState::Running);
    domain.destroy().unwrap();
    wait_for(&mut events, server, LifecycleKind::Stopped).await;
    assert_eq!(guests.sample(&[server]).await, Ok(Vec::new()), "a domain that is gone is absent");
    libvirtd.boot(&hand, 1, Load::Idle);
    assert_ne!(read(&guests, server).await.instance, before.instance, "a new QEMU is a new instance");
}

#[tokio::test]
async fn short_samples_are_read_in_nanoseconds() {
    let libvirtd = Libvirtd::start();
    let mut settings = settings(&libvirtd, Duration::from_secs(5));
    settings.sample = Duration::from_millis(100);
    let guests = Guests::start(settings);
    let (server, _) = libvirtd.boot(&libvirtd.hand(), 1, Load::Busy);
    let limit = Instant::now() + LIMIT;
    let mut before = read(&guests, server).await;
    // Wanted for nearly all of three samples in a row, each known to a fiftieth: steps of 10 ms could not show that.
    let mut good = 0;
    while good < 3 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let after = read(&guests, server).await;
        let (old, new) = (before.vcpus[&0], after.vcpus[&0]);
        assert!(new.time_ns % 10_000_000 != 0, "{new:?}");
        let elapsed = (after.at_ns - before.at_ns) as f64;
        let wanted = (new.time_ns - old.time_ns + new.delay_ns.unwrap() - old.delay_ns.unwrap()) as f64;
        good = if (0.95..1.02).contains(&(wanted / elapsed)) { good + 1 } else { 0 };
        assert!(Instant::now() < limit, "{before:?} {after:?}");
        before = after;
    }
}

#[tokio::test]
async fn a_restarted_daemon_is_found_again_with_its_guests_and_events() {
    let mut libvirtd = Libvirtd::start();
    let settings = settings(&libvirtd, Duration::from_secs(5));
    let guests = Guests::start(settings.clone());
    let mut events = guests.events();
    let (server, _) = libvirtd.boot(&libvirtd.hand(), 1, Load::Idle);
    let before = read(&guests, server).await;

    libvirtd.tell("stop");
    let error = guests.sample(&[server]).await.unwrap_err();
    assert!(matches!(error, GuestsError::Open { .. }), "{error}");
    let error = guests::inspect(&settings).await.unwrap_err().to_string();
    assert!(error.contains("start libvirt"), "{error}");
    libvirtd.tell("start");
    let limit = Instant::now() + LIMIT;
    let after = loop {
        match guests.sample(&[server]).await {
            Ok(readings) => {
                assert_eq!(readings.len(), 1, "a guest that runs must never look gone");
                break readings.into_iter().next().unwrap();
            }
            Err(error) => assert!(Instant::now() < limit, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(after.instance, before.instance);

    libvirtd.hand().lookup_domain_by_uuid(server.0).unwrap().suspend().unwrap();
    wait_for(&mut events, server, LifecycleKind::Suspended).await;
    let report = guests::inspect(&settings).await.unwrap();
    let daemon = report.endpoints[0].found.as_ref().unwrap();
    assert_eq!((daemon.hypervisor.as_str(), daemon.domains.len()), ("QEMU", 1));
    assert_eq!((daemon.domains[0].server, daemon.domains[0].state), (server, DomainState::Paused));
}

#[tokio::test]
async fn a_frozen_daemon_costs_readings_and_nothing_else() {
    let mut libvirtd = Libvirtd::start();
    let guests = Guests::start(settings(&libvirtd, Duration::from_millis(200)));
    let (server, _) = libvirtd.boot(&libvirtd.hand(), 1, Load::Idle);
    let limit = Instant::now() + LIMIT;
    while guests.sample(&[server]).await.map(|readings| readings.len()) != Ok(1) {
        assert!(Instant::now() < limit, "no first reading");
    }
    libvirtd.tell("freeze");
    for _ in 0..8 {
        let asked = Instant::now();
        let error = guests.sample(&[server]).await.unwrap_err();
        assert!(matches!(error, GuestsError::Deadline { .. } | GuestsError::Stuck { .. }), "{error}");
        assert!(asked.elapsed() < Duration::from_secs(2), "an answer took {:?}", asked.elapsed());
    }
    libvirtd.tell("thaw");
    let limit = Instant::now() + LIMIT;
    while let Err(error) = guests.sample(&[server]).await {
        assert!(Instant::now() < limit, "{error}");
    }
}
