//! A libvirt daemon that accepts and never answers: readings keep their deadline and threads do not pile up.
//!
//! Alone in its file, because it counts the threads of its process.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where it cannot go on"
)]

use std::{
    os::unix::net::{UnixListener, UnixStream},
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

use lbsidecar::{
    core::ids::ServerId,
    guests::{self, Guests, GuestsError, settings::GuestsSettings},
};

/// Threads of this process that own a libvirt connection.
fn owner_threads() -> usize {
    let tasks = procfs::process::Process::myself().unwrap().tasks().unwrap().flatten();
    tasks.filter(|task| task.stat().is_ok_and(|stat| stat.comm == "libvirt")).count()
}

#[tokio::test]
async fn a_daemon_that_never_answers_costs_a_deadline_and_a_few_threads() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("libvirt-sock-ro");
    let listener = UnixListener::bind(&socket).unwrap();
    // Keeps what it accepts, says nothing, and lets go of all when told to.
    let (held, holding) = channel::<UnixStream>();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            if held.send(stream).is_err() {
                return;
            }
        }
    });
    let uri = format!("qemu+unix:///system?socket={}", socket.display());
    let settings = GuestsSettings {
        uris: vec![uri],
        deadline: Duration::from_millis(40),
        sample: Duration::from_secs(1),
    };
    let guests = Guests::start(settings.clone());
    let server: ServerId = "00000000-0000-4000-8000-000000000001".parse().unwrap();
    let mut stuck = 0;
    for _ in 0..60 {
        let asked = Instant::now();
        match guests.sample(&[server]).await.unwrap_err() {
            GuestsError::Deadline { .. } => {}
            GuestsError::Stuck { .. } => stuck += 1,
            other => panic!("{other}"),
        }
        assert!(asked.elapsed() < Duration::from_secs(1), "an answer took {:?}", asked.elapsed());
    }
    assert!(stuck > 0, "the queue of a thread that hangs must have an end");
    let threads = owner_threads();
    assert!((2..=3).contains(&threads), "{threads} threads for one daemon");
    let report = guests::inspect(&settings).await.unwrap_err();
    assert!(matches!(report, GuestsError::Deadline { .. }), "{report}");

    // The hanging calls fail as soon as the daemon dies, and the threads that were left behind end.
    drop(guests);
    drop(holding);
    // Wakes the listener, unless one of the threads has done so by another attempt.
    let _ = UnixStream::connect(&socket);
    let limit = Instant::now() + Duration::from_secs(10);
    while owner_threads() > 0 {
        assert!(Instant::now() < limit, "{} threads are left", owner_threads());
        thread::sleep(Duration::from_millis(10));
    }
}
