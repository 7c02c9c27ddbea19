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

/// A promise without a test is none: each row of the table names tests, and each of these is there.
#[test]
fn every_row_about_operations_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = String::new();
    for directory in ["src", "tests", "lab/tests"] {
        collect(&root.join(directory), &mut sources);
    }
    let text = fs::read_to_string(root.join("docs/operations.md")).unwrap();
    let tables = text.split("\n## ").filter(|section| section.contains("| what breaks |"));
    let rows = tables.flat_map(str::lines);
    let rows = rows.filter(|line| line.starts_with("| ") && !line.starts_with("| what breaks |"));
    let mut count = 0;
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        assert_eq!(cells.len(), 4, "{row}");
        let tests: Vec<&str> = cells.last().unwrap().split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "it names no test: {row}");
        for test in tests {
            let found = sources.contains(&format!("fn {test}()"));
            assert!(found, "there is no test {test}: {row}");
        }
        count += 1;
    }
    assert!(count > 73, "{count} rows");
}

fn collect(directory: &Path, text: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, text);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}
