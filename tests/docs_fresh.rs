//! What is generated is committed as it would be generated now. `LBSIDECAR_BLESS=1 cargo test --test docs_fresh` writes it.

#![allow(clippy::unwrap_used, reason = "it is a test: that is how it fails")]

use std::{fs, path::Path};

use lbsidecar::{config, core::transition::diagram, telemetry};

#[track_caller]
fn fresh(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("LBSIDECAR_BLESS").is_some() {
        fs::write(&file, text).unwrap();
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    assert!(committed == text, "{path} is not what would be generated now: run with LBSIDECAR_BLESS=1");
}

#[test]
fn the_state_diagram_is_the_table() {
    let text = format!(
        "# The stages of a transition\n\nMade from `StageName::next` in `src/core/transition.rs`, the table that the core itself goes by.\n\n\
         ```mermaid\n{}```\n",
        diagram()
    );
    fresh("docs/state-machine.md", &text);
}

#[test]
fn every_setting_is_in_the_documentation() {
    fresh("docs/configuration.md", &config::reference());
    fresh("docs/lbsidecar.example.toml", &config::example());
}

#[test]
fn every_metric_is_in_the_documentation() {
    fresh("docs/metrics.md", &telemetry::reference());
}
