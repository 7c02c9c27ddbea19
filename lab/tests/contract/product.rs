//! What the program itself asked of a real cloud (Zed, Linux bridges) from `provision` to `cleanup`, and what was answered:
//! `tests/recordings-zed/`, as `./x test-openstack` writes it down. Our cloud is asked the same in the same order, and must answer with
//! the same status, headers and members. Values are not compared: another pace gives other states.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use lbsidecar_lab::cloud::{
    clock::Clock,
    null::NullDriver,
    options::{Host, Options, Seed},
    serve,
};

use super::{Stage, recording_in};

const FOLDER: &str = "recordings-zed";

#[tokio::test]
async fn what_the_program_asks_is_answered_alike() {
    let host = Host { name: "microstack".into(), ..Options::default().host };
    let options = Options { host, seed: Seed::Empty, clock: Arc::new(Clock::manual()), ..Options::default() };
    let cloud = serve(Arc::new(NullDriver::default()), options).await.unwrap();
    let mut stage = Stage::new(cloud);
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(FOLDER);
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().replace(".json", ""))
        .collect();
    names.sort();
    for name in &names {
        stage.play_alike(name, &recording_in(FOLDER, name)).await;
        // What was asked for comes about between two requests, as it did there.
        for _ in 0..20 {
            stage.cloud.clock().advance(Duration::from_millis(200));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert!(stage.failures.is_empty(), "{}", stage.failures.join("\n"));
    eprintln!("{} exchanges of the program answered alike", stage.covered);
}
