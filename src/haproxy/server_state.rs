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
}

/// Reads the servers of `backend`; `None` when `text` has no such table.
pub(super) fn parse(text: &str, backend: &str) -> Option<BTreeMap<BackendName, ServerState>> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with("# be_id"));
    let columns: Vec<&str> = lines.next()?.trim_start_matches("# ").split_whitespace().collect();
    let column = |name: &str| columns.iter().position(|&c| c == name);
    let [be_name, name, addr, port, weight, admin] =
        ["be_name", "srv_name", "srv_addr", "srv_port", "srv_uweight", "srv_admin_state"].map(column);
    let mut servers = BTreeMap::new();
    for line in lines {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let cell = |index: Option<usize>| index.and_then(|i| cells.get(i)).copied().unwrap_or("");
        if cell(be_name) != backend {
            continue;
        }
        let Ok(name) = BackendName::try_new(cell(name)) else { continue };
        let flags: u32 = cell(admin).parse().unwrap_or(0);
        let ip = cell(addr).parse::<IpAddr>().ok();
        servers.insert(
            name,
            ServerState {
                address: ip.zip(cell(port).parse().ok()).map(|(ip, port)| SocketAddr::new(ip, port)),
                weight: cell(weight).parse().unwrap_or(0),
                admin: if flags & MAINT != 0 {
                    LbAdmin::Maint
                } else if flags & DRAIN != 0 {
                    LbAdmin::Drain
                } else {
                    LbAdmin::Ready
                },
            },
        );
    }
    Some(servers)
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
            5 app 1 a 127.0.0.1 0 0 100 100 2 8 2 0 6 0 0 0 - 18001 -\n\
            5 app 2 b ::1 0 8 0 0 2 17 2 0 6 0 0 0 - 18002 -\n\
            5 app 3 c - 0 33 7 0 2 17 2 0 6 0 0 0 - 18002 -\n5 app 4\n\n";
        let servers = parse(text, "app").unwrap();
        let get = |name: &str| servers.get(&BackendName::try_new(name).unwrap()).cloned();
        assert_eq!(servers.len(), 3);
        let a = ServerState {
            address: Some("127.0.0.1:18001".parse().unwrap()),
            weight: 100,
            admin: LbAdmin::Ready,
        };
        assert_eq!(get("a"), Some(a));
        let b =
            ServerState { address: Some("[::1]:18002".parse().unwrap()), weight: 0, admin: LbAdmin::Drain };
        assert_eq!(get("b"), Some(b));
        assert_eq!(get("c"), Some(ServerState { address: None, weight: 7, admin: LbAdmin::Maint }));
    }

    #[test]
    fn anything_else_is_none() {
        assert_eq!(parse("", "app"), None);
        assert_eq!(parse("Can't find backend.\n", "app"), None);
    }
}
