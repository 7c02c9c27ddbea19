//! The rules as text, and the text of a kernel's answer held against them. Pure.

use super::spec::NatSpec;

/// The table of ours, of family `ip`.
pub const TABLE: &str = "lbsidecar_nat";

/// What nftables gets: the whole table anew in one transaction, so that no packet sees half of it and a second time changes nothing.
#[must_use]
pub fn rules(spec: &NatSpec) -> String {
    let [out, back, hide] = lines(spec);
    format!(
        "# lbsidecar host-nat enable {spec}\n\
         # Written by lbsidecar; `lbsidecar host-nat disable` removes it.\n\
         table ip {TABLE} {{}}\n\
         delete table ip {TABLE}\n\
         table ip {TABLE} {{\n\
         \x20 chain forward {{\n\
         \x20   type filter hook forward priority filter; policy accept;\n\
         \x20   {out}\n\
         \x20   {back}\n\
         \x20 }}\n\
         \x20 chain postrouting {{\n\
         \x20   type nat hook postrouting priority srcnat; policy accept;\n\
         \x20   {hide}\n\
         \x20 }}\n\
         }}\n"
    )
}

/// The rules themselves, in the words in which `nft list` shows them.
fn lines(spec: &NatSpec) -> [String; 3] {
    let NatSpec { uplink, bridge, cidr } = spec;
    [
        format!("iifname \"{bridge}\" oifname \"{uplink}\" ip saddr {cidr} accept"),
        format!(
            "iifname \"{uplink}\" oifname \"{bridge}\" ip daddr {cidr} ct state established,related accept"
        ),
        format!("oifname \"{uplink}\" ip saddr {cidr} masquerade"),
    ]
}

/// What a file of ours was written for.
pub(super) fn spec_of(rules: &str) -> Option<NatSpec> {
    rules.lines().next()?.strip_prefix("# lbsidecar host-nat enable ")?.parse().ok()
}

/// How a listed table differs from what it is to be; empty when it does not. Chain heads are compared by their hook alone: versions of
/// nftables differ in how they write priorities.
pub(super) fn differences(spec: &NatSpec, listed: &str) -> Vec<String> {
    let lines = lines(spec);
    let mut differs = Vec::new();
    let there: Vec<&str> = listed
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && *line != "}" && !line.ends_with('{') && !line.starts_with("type "))
        .collect();
    for wanted in &lines {
        if !there.contains(&wanted.as_str()) {
            differs.push(format!("the rule `{wanted}` is missing"));
        }
    }
    for line in &there {
        if !lines.iter().any(|wanted| wanted == line) {
            differs.push(format!("the rule `{line}` is not ours"));
        }
    }
    for hook in ["type filter hook forward ", "type nat hook postrouting "] {
        if !listed.lines().any(|line| line.trim().starts_with(hook)) {
            differs.push(format!("no chain is of {}", hook.trim_end()));
        }
    }
    differs
}

/// Chains of others that drop what they do not know on its way through this host: an accept of ours does not overrule them.
/// `json` is the answer to `nft --json list chains`.
pub(super) fn others_that_drop(json: &str) -> Vec<String> {
    let Ok(answer) = serde_json::from_str::<serde_json::Value>(json) else { return Vec::new() };
    let chains = answer.get("nftables").and_then(|all| all.as_array()).into_iter().flatten();
    chains
        .filter_map(|one| one.get("chain"))
        .filter(|chain| {
            let is = |key: &str, value: &str| chain.get(key).and_then(|v| v.as_str()) == Some(value);
            is("hook", "forward")
                && is("policy", "drop")
                && !is("table", TABLE)
                && (is("family", "ip") || is("family", "inet"))
        })
        .map(|chain| {
            let word = |key: &str| chain.get(key).and_then(|v| v.as_str()).unwrap_or_default();
            format!("{} {} {}", word("family"), word("table"), word("name"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> NatSpec {
        "--uplink eth0 --bridge br-ex --cidr 10.20.20.0/24".parse().unwrap()
    }

    /// As nftables 1.0.6 lists it.
    const LISTED: &str = "table ip lbsidecar_nat {
\tchain forward {
\t\ttype filter hook forward priority filter; policy accept;
\t\tiifname \"br-ex\" oifname \"eth0\" ip saddr 10.20.20.0/24 accept
\t\tiifname \"eth0\" oifname \"br-ex\" ip daddr 10.20.20.0/24 ct state established,related accept
\t}

\tchain postrouting {
\t\ttype nat hook postrouting priority srcnat; policy accept;
\t\toifname \"eth0\" ip saddr 10.20.20.0/24 masquerade
\t}
}
";

    #[test]
    fn the_file_says_what_it_was_written_for() {
        assert_eq!(spec_of(&rules(&spec())), Some(spec()));
        assert_eq!(spec_of("table ip x {}\n"), None);
    }

    #[test]
    fn a_table_is_held_against_what_it_is_to_be() {
        assert_eq!(differences(&spec(), LISTED), Vec::<String>::new());
        let foreign = LISTED
            .replace("\t\toifname \"eth0\" ip saddr", "\t\tcounter drop\n\t\toifname \"eth1\" ip saddr");
        assert_eq!(differences(&spec(), &foreign).len(), 3, "{:?}", differences(&spec(), &foreign));
        assert!(!differences(&spec(), "").is_empty());
    }

    #[test]
    fn chains_that_drop_are_found_and_those_of_no_matter_are_not() {
        let json = r#"{"nftables": [{"metainfo": {}},
            {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}},
            {"chain": {"family": "ip", "table": "filter", "name": "INPUT", "hook": "input", "policy": "drop"}},
            {"chain": {"family": "ip6", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}},
            {"chain": {"family": "ip", "table": "lbsidecar_nat", "name": "forward", "hook": "forward", "policy": "drop"}},
            {"chain": {"family": "inet", "table": "fw", "name": "f", "hook": "forward", "policy": "accept"}}]}"#;
        assert_eq!(others_that_drop(json), ["ip filter FORWARD"]);
        assert!(others_that_drop("no json").is_empty());
    }
}
