//! What the package ships of the command line's grammar: shells read the completions, and manual pages raise no warning.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where it cannot go on")]

use std::{fs, path::Path, process::Command};

fn lbsidecar(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_lbsidecar")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a program says; `None`, with a word about it, where it is not installed.
fn said(program: &str, arguments: &[&str], at: &Path) -> Option<String> {
    match Command::new(program).args(arguments).current_dir(at).output() {
        Ok(output) => Some(
            [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat(),
        ),
        Err(error) => {
            assert!(std::env::var("CI").is_err(), "{program} must run in CI: {error}; ./x setup installs it");
            eprintln!("SKIPPED: {program}: {error}");
            None
        }
    }
}

#[test]
fn three_shells_load_their_completions_and_complete() {
    // Each loads the script as it loads the one of the package, and is asked what may follow `lbsidecar sca`.
    for (shell, name, options, script) in [
        (
            "bash",
            "lbsidecar.bash",
            &["--norc", "-c"][..],
            "set -e; . ./lbsidecar.bash; complete -p lbsidecar >/dev/null; COMP_WORDS=(lbsidecar sca); COMP_CWORD=1; \
             _lbsidecar lbsidecar sca lbsidecar; echo \"${COMPREPLY[@]}\"",
        ),
        (
            "zsh",
            "_lbsidecar",
            &["-f", "-c"],
            "fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D; [[ $_comps[lbsidecar] = _lbsidecar ]] || exit; \
             autoload +X _lbsidecar; print -r -- ${(M)${=functions[_lbsidecar]}:#*scale-out*}",
        ),
        (
            "fish",
            "lbsidecar.fish",
            &["--no-config", "-c"],
            "source lbsidecar.fish; complete -C 'lbsidecar sca'",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(name), lbsidecar(&["completions", shell])).unwrap();
        if let Some(complaint) = said(shell, &["-n", name], dir.path()) {
            assert_eq!(complaint, "", "{shell} -n");
        }
        let Some(answer) = said(shell, &[options, &[script]].concat(), dir.path()) else { continue };
        assert!(answer.contains("scale-out"), "{shell}: {answer:?}");
    }
}

#[test]
fn manual_pages_raise_no_warning() {
    let dir = tempfile::tempdir().unwrap();
    lbsidecar(&["man", dir.path().to_str().unwrap()]);
    let mut pages: Vec<String> =
        fs::read_dir(&dir).unwrap().map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    pages.sort();
    for page in ["lbsidecar.1", "lbsidecar-plug.1", "lbsidecar-host-nat-enable.1"] {
        assert!(pages.iter().any(|found| found == page), "{page} is not among {pages:?}");
    }
    let pages: Vec<&str> = pages.iter().map(String::as_str).collect();
    for (program, options) in
        [("mandoc", &["-T", "lint", "-W", "warning"][..]), ("groff", &["-man", "-T", "utf8", "-ww", "-z"])]
    {
        if let Some(complaints) = said(program, &[options, &pages].concat(), dir.path()) {
            assert_eq!(complaints, "", "{program}");
        }
    }
}
