//! A router's address translation as one nftables table.

use std::net::Ipv4Addr;

/// The table that makes these floating IPs lead to these fixed ones, and hides everybody else behind the external address.
///
/// It replaces the whole table in one transaction: no packet sees half of it, and flows that go on keep their entry in the
/// kernel's table of connections.
pub(super) fn rules(leg: &str, external: Option<Ipv4Addr>, floating: &[(Ipv4Addr, Ipv4Addr)]) -> String {
    let mut inward = String::new();
    let mut outward = String::new();
    for (floating, fixed) in floating {
        inward.push_str(&format!("    ip daddr {floating} dnat to {fixed}\n"));
        outward.push_str(&format!("    oifname \"{leg}\" ip saddr {fixed} snat to {floating}\n"));
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
         }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floating_ips_lead_in_and_out() {
        let floating = [([10, 20, 20, 21].into(), [192, 168, 100, 11].into())];
        let rules = rules("qg-1", Some([10, 20, 20, 9].into()), &floating);
        for line in [
            "ip daddr 10.20.20.21 dnat to 192.168.100.11",
            "oifname \"qg-1\" ip saddr 192.168.100.11 snat to 10.20.20.21",
            "oifname \"qg-1\" ct status ! dnat snat to 10.20.20.9",
        ] {
            assert!(rules.lines().any(|there| there.trim() == line), "{line} is not in\n{rules}");
        }
    }
}
