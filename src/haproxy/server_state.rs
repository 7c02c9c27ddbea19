//! Reads what `show servers state` prints: the run-time state of each server of one backend.
//!
//! Format: HAProxy's management manual, `show servers state`: a version number, a header line, then one line a server.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use crate::core::{ids::BackendName, lb::LbAdmin};

/// `srv_admin_state`: maintenance by command, inherited, by configuration, and by name resolution.
const MAINT: u32 = 0x01 | 0x02 | 0x04 | 0x20 | 0x40;
/// `srv_admin_state`: draining by command, and inherited.
const DRAIN: u32 = 0x08 | 0x10;

/// One server at run time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerState {
    /// Where its traffic goes; `None` when that is not an IP address.
    pub(super) address: Option<SocketAddr>,
    /// The weight in force.
    pub(super) weight: u16,
    /// The administrative state in force.
    pub(super) admin: LbAdmin,
    /// Whether its health allows traffic.
    pub(super) healthy: bool,
}

impl ServerState {
    /// Whether new requests can go to it.
    pub(super) fn is_usable(&self) -> bool {
        self.admin == LbAdmin::Ready && self.weight > 0 && self.healthy
    }
}

/// What `text` says of the servers of `backend` that are down by their health checks, as HAProxy reads it back from a state file.
///
/// Nothing is said of the others: for them the configuration file is right, and a state file would win over it in part (over a
/// changed port, for one).
pub(super) fn only_down(text: &str, backend: &str) -> String {
    let Some(table) = Table::parse(text) else { return String::new() };
    let rows = table.rows(backend).filter(|row| {
        row.cell("srv_op_state") == "0"
            && row.cell("srv_admin_state").parse::<u32>().unwrap_or(0) & MAINT == 0
    });
    let lines: String = rows.map(|row| format!("{}\n", row.line)).collect();
    format!("1\n{}\n{lines}", table.header)
}

/// Reads the servers of `backend`; `None` when `text` has no such table.
pub(super) fn parse(text: &str, backend: &str) -> Option<BTreeMap<BackendName, ServerState>> {
    let table = Table::parse(text)?;
    let servers = table.rows(backend).filter_map(|row| {
        let flags: u32 = row.cell("srv_admin_state").parse().unwrap_or(0);
        let ip = row.cell("srv_addr").parse::<IpAddr>().ok();
        let port = row.cell("srv_port").parse().ok();
        let state = ServerState {
            address: ip.zip(port).map(|(ip, port)| SocketAddr::new(ip, port)),
            weight: row.cell("srv_uweight").parse().unwrap_or(0),
            // 0 is down, 3 is up but on its way out; what we do not know is rather taken for usable.
            healthy: !matches!(row.cell("srv_op_state"), "0" | "3"),
            admin: if flags & MAINT != 0 {
                LbAdmin::Maint
            } else if flags & DRAIN != 0 {
                LbAdmin::Drain
            } else {
                LbAdmin::Ready
            },
        };
        Some((BackendName::try_new(row.cell("srv_name")).ok()?, state))
    });
    Some(servers.collect())
}

/// The table as it is printed; cells are found by the header's names.
struct Table<'a> {
    header: &'a str,
    lines: Vec<&'a str>,
}

struct Row<'a> {
    header: &'a str,
    line: &'a str,
}

impl<'a> Table<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut lines = text.lines().skip_while(|line| !line.starts_with("# be_id"));
        Some(Self { header: lines.next()?, lines: lines.collect() })
    }

    fn rows(&self, backend: &str) -> impl Iterator<Item = Row<'a>> {
        let rows = self.lines.iter().map(|line| Row { header: self.header, line });
        rows.filter(move |row| row.cell("be_name") == backend)
    }
}

impl<'a> Row<'a> {
    /// The cell in that column; empty when there is none.
    fn cell(&self, column: &str) -> &'a str {
        let columns = self.header.trim_start_matches("# ").split_whitespace();
        columns
            .zip(self.line.split_whitespace())
            .find(|(name, _)| *name == column)
            .map_or("", |(_, cell)| cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_backend_is_read() {
        let text = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
            srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state \
            srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord\n\
            4 probe.a 1 a 127.0.0.1 2 0 1 1 2 1 0 2 0 0 0 0 - 18001 -\n\
            5 app 1 a 127.0.0.1 2 0 100 100 2 8 2 0 6 0 0 0 - 18001 -\n\
            5 app 2 b ::1 0 8 0 0 2 17 2 0 6 0 0 0 - 18002 -\n\
            5 app 3 c - 0 33 7 0 2 17 2 0 6 0 0 0 - 18002 -\n5 app 4\n\n";
        let servers = parse(text, "app").unwrap();
        let get = |name: &str| servers.get(&BackendName::try_new(name).unwrap()).cloned();
        assert_eq!(servers.len(), 3);
        let a = ServerState {
            address: Some("127.0.0.1:18001".parse().unwrap()),
            weight: 100,
            admin: LbAdmin::Ready,
            healthy: true,
        };
        assert!(a.is_usable());
        assert_eq!(get("a"), Some(a.clone()));
        let b = ServerState {
            address: Some("[::1]:18002".parse().unwrap()),
            weight: 0,
            admin: LbAdmin::Drain,
            healthy: false,
        };
        assert!(!b.is_usable());
        assert_eq!(get("b"), Some(b));
        assert_eq!(
            get("c"),
            Some(ServerState { address: None, weight: 7, admin: LbAdmin::Maint, healthy: false })
        );
        for unusable in [
            ServerState { weight: 0, ..a.clone() },
            ServerState { admin: LbAdmin::Drain, ..a.clone() },
            ServerState { healthy: false, ..a },
        ] {
            assert!(!unusable.is_usable());
        }
    }

    #[test]
    fn only_what_is_down_is_carried_over() {
        let header = "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight";
        let text = format!(
            "1\n{header}\n5 app 1 up 127.0.0.1 2 0 100\n5 app 2 down 127.0.0.1 0 0 100\n\
             5 app 3 maint 127.0.0.1 0 1 100\n6 other 1 down 127.0.0.1 0 0 100\n\n"
        );
        assert_eq!(only_down(&text, "app"), format!("1\n{header}\n5 app 2 down 127.0.0.1 0 0 100\n"));
        assert_eq!(only_down("nonsense", "app"), "");
    }

    #[test]
    fn anything_else_is_none() {
        assert_eq!(parse("", "app"), None);
        assert_eq!(parse("Can't find backend.\n", "app"), None);
    }
}
