//! Files and requests that people and other programs might give us: each is taken, or refused with a sentence; none breaks us.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test ends by panicking"
)]

mod mutate;

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use lbsidecar::{
    admin::view::StatusView,
    config::{self, Env, Flags},
    core::{event::Command, ids::PoolName, state::State, time::Timestamp},
    store::Store,
};

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// It is taken or refused, and a refusal is not much longer than what it is about.
fn load(directory: &Path, variables: &[(&str, String)], text: &str) {
    let env = Env {
        variables: variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        root: directory.join("root"),
        directory: directory.to_owned(),
    };
    let flags = Flags { clone: Some("vm-test-clone".to_owned()), ..Flags::default() };
    match config::load(&flags, &env) {
        Ok(loaded) => drop(format!("{:?}", loaded.config)),
        Err(problems) => {
            let said = problems.to_string();
            assert!(!said.is_empty());
            assert!(
                said.len() < 10_000 + 50 * text.len(),
                "{} bytes about {}: {}",
                said.len(),
                text.len(),
                said.get(..1500).unwrap_or(&said)
            );
        }
    }
}

#[test]
fn no_configuration_breaks_us() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    let example =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/lbsidecar.example.toml")).unwrap();
    // As it is, and with every key set to its default.
    let set: String =
        example.lines().map(|line| format!("{}\n", line.strip_prefix('#').unwrap_or(line))).collect();
    let seeds = [example, set];
    let mut variables = vec![("LBSIDECAR_CONFIG", file.display().to_string())];
    variables.extend(
        ["OS_AUTH_URL", "OS_USERNAME", "OS_PASSWORD", "OS_PROJECT_NAME"].map(|n| (n, "http://x".to_owned())),
    );
    mutate::cases("configuration", |rng| {
        let text = mutate::wrong(rng, &seeds);
        write(&file, &text);
        load(directory.path(), &variables, &text);
    });
}

#[test]
fn no_credentials_file_breaks_us() {
    let directory = tempfile::tempdir().unwrap();
    let clouds = "clouds:\n  lab:\n    auth:\n      auth_url: http://10.20.20.1:5000/v3\n      username: admin\n      password: hunter2\n      \
                  project_name: admin\n      user_domain_name: Default\n      project_domain_name: Default\n    region_name: microstack\n    \
                  interface: public\n    verify: false\n"
        .to_owned();
    let bomb = "a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nclouds: {lab: {auth: [*c,*c,*c,*c]}}\n";
    let openrc = "export OS_AUTH_URL=http://10.20.20.1:5000/v3\nexport OS_USERNAME=admin\nexport OS_PASSWORD='hunter2'\nexport OS_PROJECT_NAME=\"admin\"\n";
    let yaml = [clouds, bomb.to_owned()];
    let openrc = [openrc.to_owned()];
    mutate::cases("credentials", |rng| {
        let text = mutate::wrong(rng, &yaml);
        let path = directory.path().join("clouds.yaml");
        write(&path, &text);
        load(directory.path(), &[("OS_CLOUD", "lab".to_owned())], &text);
        fs::remove_file(path).unwrap();
        let text = mutate::wrong(rng, &openrc);
        let path = directory.path().join("rc");
        write(&path, &text);
        load(directory.path(), &[("LBSIDECAR_CLOUD_OPENRC", path.display().to_string())], &text);
    });
}

#[test]
fn no_state_file_breaks_us() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let pool = PoolName::try_new("web").unwrap();
    let store: Store<State> = Store::open(directory.path(), &pool).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut state = State::new(pool, Timestamp(5));
    state.note(Timestamp(6), "started", "a seed");
    runtime.block_on(store.save(&state)).unwrap();
    let file = directory.path().join("state.json");
    let seeds = [fs::read_to_string(&file).unwrap()];
    mutate::cases("state file", |rng| {
        for name in ["state.json", "state.json.previous"] {
            write(&directory.path().join(name), &mutate::wrong(rng, &seeds));
        }
        // Refused, rebuilt, or exactly what was saved: nothing in between, since the checksum is over all of it.
        if let Ok(loaded) = store.load()
            && let Some(loaded) = loaded.state
        {
            assert_eq!(loaded, state);
        }
        for entry in fs::read_dir(directory.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.to_string_lossy().contains("corrupt") {
                fs::remove_file(path).unwrap();
            }
        }
    });
}

#[test]
fn no_request_or_status_breaks_us() {
    let mut seeds = mutate::seeds("status", "json");
    let commands = [
        Command::Hold { why: "night shift".to_owned() },
        Command::Resume,
        Command::ScaleOut,
        Command::Reload { force: true },
    ];
    seeds.extend(commands.iter().map(|command| serde_json::to_string(command).unwrap()));
    mutate::cases("requests", |rng| {
        let text = mutate::wrong(rng, &seeds);
        let _ = serde_json::from_str::<Command>(&text);
        let _ = serde_json::from_str::<StatusView>(&text);
    });
}
