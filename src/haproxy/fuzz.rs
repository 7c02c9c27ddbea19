//! What HAProxy might print, and what might lie in its file's place: nothing of it breaks a reader.

use super::{
    csv::Table, description::Description, file, master::Session, processes::Processes, server_state,
};
use crate::mutate;

#[test]
fn nothing_that_haproxy_prints_breaks_a_reader() {
    let seeds = mutate::seeds("haproxy", "txt");
    mutate::cases("haproxy", |rng| {
        let text = mutate::wrong(rng, &seeds);
        if let Some(table) = Table::parse(&text) {
            for row in table.rows() {
                let _ = (row.text("svname").len(), row.count("scur"), row.count("qcur"));
            }
        }
        let _ = server_state::parse(&text, "app");
        // What is carried over into a state file are whole lines of what was there.
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            server_state::only_down(&text, "app")
                // A carriage return that ends the last line is no end of it.
                .split_terminator('\n')
                .all(|line| line == "1" || lines.contains(&line))
        );
        if let Some(processes) = Processes::parse(&text) {
            assert!(
                !processes.old.iter().any(|_| processes.current.is_none()) || text.contains("old workers")
            );
        }
        let _ = Description::in_file(&text);
        let _ = text.lines().filter_map(Session::parse).count();
        // Only what was sealed is ours.
        assert!(file::is_sealed(&file::seal(&text)));
        assert!(!file::is_sealed(&format!("{}x", file::seal(&text))));
    });
}
