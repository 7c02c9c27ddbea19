//! A router's address translation as one nftables table.

use std::net::Ipv4Addr;

/// The table that makes these floating IPs lead to these fixed ones, and hides everybody else behind the external address.
///
/// It replaces the whole table in one transaction: no packet sees half of it, and flows that go on keep their entry in the
/// kernel's table of connections. Flows of a floating IP that leads elsewhere by now are ended, as the L3 agent ends them by
/// deleting their entries: here their packets are refused, whose reset also closes the entry.
pub(super) fn rules(leg: &str, external: Option<Ipv4Addr>, floating: &[(Ipv4Addr, Ipv4Addr)]) -> String {
    let mut inward = String::new();
    let mut outward = String::new();
    let mut moved = String::new();
    let mut known = Vec::new();
    for (floating, fixed) in floating {
        inward.push_str(&format!("    ip daddr {floating} dnat to {fixed}\n"));
        outward.push_str(&format!("    oifname \"{leg}\" ip saddr {fixed} snat to {floating}\n"));
        moved.push_str(&format!(
            "    ct original ip daddr {floating} ct direction original ip daddr != {fixed} goto refuse\n\
             \x20   ct original ip daddr {floating} ct direction reply ip saddr != {fixed} goto refuse\n"
        ));
        known.push(floating.to_string());
    }
    if known.is_empty() {
        moved.push_str("    ct status dnat goto refuse\n");
    } else {
        moved.push_str(&format!(
            "    ct status dnat ct original ip daddr != {{ {} }} goto refuse\n",
            known.join(", ")
        ));
    }
    if let Some(external) = external {
        outward.push_str(&format!("    oifname \"{leg}\" ct status ! dnat snat to {external}\n"));
    }
    format!(
        "table ip lab {{}}\n\
         delete table ip lab\n\
         table ip lab {{\n\
         \x20 chain prerouting {{\n    type nat hook prerouting priority dstnat;\n{inward}  }}\n\
         \x20 chain postrouting {{\n    type nat hook postrouting priority srcnat;\n{outward}  }}\n\
         \x20 chain refuse {{\n    meta l4proto tcp reject with tcp reset\n    drop\n  }}\n\
         \x20 chain forward {{\n    type filter hook forward priority filter;\n{moved}  }}\n\
         }}\n"
    )
}
