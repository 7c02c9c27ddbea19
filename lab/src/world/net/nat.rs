//! A router's address translation as one nftables table.

use std::net::Ipv4Addr;

/// What happens to the flows of a floating IP that leads elsewhere by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OldFlows {
    /// They go on.
    Kept,
    /// They are ended.
    Cut,
}

/// The table that makes these floating IPs lead to these fixed ones, and hides everybody else behind the external address.
///
/// It replaces the whole table in one transaction: no packet sees half of it, and flows that go on keep their entry in the
/// kernel's table of connections. Where the L3 agent ends old flows by deleting their entries, their packets are refused here,
/// whose reset also closes the entry.
pub(super) fn rules(
    leg: &str,
    external: Option<Ipv4Addr>,
    floating: &[(Ipv4Addr, Ipv4Addr)],
    old_flows: OldFlows,
) -> String {
    let mut inward = String::new();
    let mut outward = String::new();
    let mut refused = String::new();
    for (floating, fixed) in floating {
        inward.push_str(&format!("    ip daddr {floating} dnat to {fixed}\n"));
        outward.push_str(&format!("    oifname \"{leg}\" ip saddr {fixed} snat to {floating}\n"));
        refused.push_str(&format!(
            "    ct original ip daddr {floating} ct direction original ip daddr != {fixed} goto refuse\n\
             \x20   ct original ip daddr {floating} ct direction reply ip saddr != {fixed} goto refuse\n"
        ));
    }
    if let Some(external) = external {
        outward.push_str(&format!("    oifname \"{leg}\" ct status ! dnat snat to {external}\n"));
    }
    if floating.is_empty() {
        refused.push_str("    ct status dnat goto refuse\n");
    } else {
        let known: Vec<_> = floating.iter().map(|(floating, _)| floating.to_string()).collect();
        refused.push_str(&format!(
            "    ct status dnat ct original ip daddr != {{ {} }} goto refuse\n",
            known.join(", ")
        ));
    }
    if old_flows == OldFlows::Kept {
        refused.clear();
    }
    format!(
        "table ip lab {{}}\n\
         delete table ip lab\n\
         table ip lab {{\n\
         \x20 chain prerouting {{\n    type nat hook prerouting priority dstnat;\n{inward}  }}\n\
         \x20 chain postrouting {{\n    type nat hook postrouting priority srcnat;\n{outward}  }}\n\
         \x20 chain refuse {{\n    meta l4proto tcp reject with tcp reset\n    drop\n  }}\n\
         \x20 chain forward {{\n    type filter hook forward priority filter;\n{refused}  }}\n\
         }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floating_ips_lead_in_and_out_and_old_flows_are_kept_or_cut() {
        let floating = [([10, 20, 20, 21].into(), [192, 168, 100, 11].into())];
        let cut = rules("qg-1", Some([10, 20, 20, 9].into()), &floating, OldFlows::Cut);
        for line in [
            "ip daddr 10.20.20.21 dnat to 192.168.100.11",
            "oifname \"qg-1\" ip saddr 192.168.100.11 snat to 10.20.20.21",
            "oifname \"qg-1\" ct status ! dnat snat to 10.20.20.9",
            "ct original ip daddr 10.20.20.21 ct direction original ip daddr != 192.168.100.11 goto refuse",
        ] {
            assert!(cut.lines().any(|there| there.trim() == line), "{line} is not in\n{cut}");
        }
        assert!(!rules("qg-1", None, &floating, OldFlows::Kept).contains("goto refuse"));
        assert!(rules("qg-1", None, &[], OldFlows::Cut).contains("ct status dnat goto refuse"));
    }
}
