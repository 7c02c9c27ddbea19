//! Reads what the master's `show proc` prints: who serves, and who still serves an older configuration.

/// HAProxy's processes at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Processes {
    /// How often the master has reloaded.
    pub(super) reloads: u64,
    /// How many of the last reloads in a row failed; absent in versions before 2.6.
    pub(super) failed: u64,
    /// The worker that takes new connections.
    pub(super) current: Option<u32>,
    /// Workers of former configurations that have not ended yet.
    pub(super) old: Vec<u32>,
}

impl Processes {
    /// Reads `show proc`; `None` when `text` is something else (the master may be cut short while it executes itself anew).
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().skip_while(|line| !line.starts_with("#<PID>"));
        // Column names hold spaces in some versions: `<relative PID>`.
        let columns: Vec<&str> =
            lines.next()?.split('<').skip(1).filter_map(|c| c.split('>').next()).collect();
        let reloads_at = columns.iter().position(|&name| name == "reloads")?;
        let mut processes = Self::default();
        let mut workers = Vec::new();
        let mut section = "";
        for line in lines {
            if let Some(name) = line.strip_prefix("# ") {
                section = name.trim();
                continue;
            }
            let cells: Vec<&str> = line.split_whitespace().collect();
            let Some(pid) = cells.first().and_then(|pid| pid.parse().ok()) else { continue };
            let reloads = cells.get(reloads_at).and_then(|n| n.parse().ok()).unwrap_or(0);
            match (cells.get(1), section) {
                (Some(&"master"), _) => {
                    processes.reloads = reloads;
                    processes.failed = line
                        .split_once("[failed:")
                        .and_then(|(_, rest)| rest.split(']').next()?.trim().parse().ok())
                        .unwrap_or(0);
                }
                (Some(&"worker"), "workers") => workers.push((reloads, pid)),
                (Some(&"worker"), "old workers") => processes.old.push(pid),
                _ => {}
            }
        }
        // One worker is listed; should a version ever list more, the one that outlived the fewest reloads is the current one.
        workers.sort_unstable();
        let mut pids = workers.into_iter().map(|(_, pid)| pid);
        processes.current = pids.next();
        processes.old.extend(pids);
        Some(processes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_told_apart() {
        let text = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n\
            19740           master          3 [failed: 1]   0d00h00m19s     2.6.12-1+deb12u4\n\
            # workers\n20910           worker          1               0d00h00m00s     2.6.12\n\
            # old workers\n19783           worker          2               0d00h00m19s     2.6.12\n\
            19700           worker          3               0d00h00m19s     2.6.12\n# programs\n\n";
        let processes = Processes::parse(text).unwrap();
        assert_eq!(
            processes,
            Processes { reloads: 3, failed: 1, current: Some(20910), old: vec![19783, 19700] }
        );
    }

    #[test]
    fn the_older_layout_is_read_too() {
        let text = "#<PID>          <type>          <relative PID>  <reloads>       <uptime>        <version>      \n\
            55              master          0               5               0d00h03m28s     2.4.0\n\
            # workers\n77              worker          1               0               0d00h00m00s     2.4.0\n\
            # old workers\n66              worker          [was: 1]        1               0d00h00m28s     2.4.0\n";
        let processes = Processes::parse(text).unwrap();
        assert_eq!((processes.reloads, processes.current, processes.old), (5, Some(77), vec![66]));
    }

    #[test]
    fn anything_else_is_none() {
        assert_eq!(Processes::parse(""), None);
        assert_eq!(Processes::parse("Unknown command"), None);
        assert_eq!(Processes::parse("#<PID> <type>\n"), None);
        let empty = Processes::parse("#<PID>  <type>  <reloads>  <uptime>  <version>\n").unwrap();
        assert_eq!(empty.current, None);
    }
}
