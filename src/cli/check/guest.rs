//! `check --guest`: whether the base reaches the Internet, asked in the base itself, and which layer is wrong when it does not.
//!
//! ```text
//!  guest ──► subnet gateway (router) ──► external gateway (this host) ──► NAT, uplink ──► 1.1.1.1, 8.8.8.8 ──► names
//! ```
//!
//! The first hop that does not answer names the layer.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use super::{Config, Exit, Failure, Report};
use crate::{
    cli::ssh::{self, SshArgs},
    nat::{self, Rules},
    openstack::{Cloud, Reach, Server},
};

const GUEST: &str = "guest";
/// What stands for the Internet.
const OUTSIDE: [&str; 2] = ["1.1.1.1", "8.8.8.8"];
/// A name that the first of them has.
const NAME: &str = "one.one.one.one";
/// Two pings of two seconds each to four addresses, and a resolver that takes its time.
const DEADLINE: Duration = Duration::from_secs(75);

/// What the guest says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    /// The next hop of its default route.
    gateway: Option<String>,
    /// Address by address, whether it answered.
    answers: BTreeMap<String, bool>,
    resolvers: Vec<String>,
    /// `None` when it has no program to try.
    resolves: Option<bool>,
}

/// What there is on this host.
#[derive(Debug)]
struct Host {
    has_default_route: bool,
    /// Our own address translation, or why it cannot be looked at.
    nat: Result<nat::Seen, String>,
}

/// Asks the guest, and says what came of it.
pub(super) async fn look(
    report: &mut Report,
    config: &Config,
    cloud: &Cloud,
    base: &Server,
    args: &SshArgs,
) -> Result<(), Failure> {
    let netns = ssh::netns_of(config.core.pool.as_str());
    let outside = args.ssh_netns.as_deref().or(netns.as_deref()).is_none_or(|netns| netns == "none");
    let (fixed, floating) = (base.address(&Reach::Fixed { network: None }), base.address(&Reach::Floating));
    // HAProxy's namespace has a leg in the members' network; the host itself reaches them by their floating IPs.
    let Some(address) = (if outside { floating.or(fixed) } else { fixed.or(floating) }) else {
        return report.fail(GUEST, Exit::Degraded, format!("{} has no address to reach it at", base.name));
    };
    let gateways = external_gateways(cloud).await;
    let line = args.line(&address.to_string(), netns.as_deref());
    let answer = match ssh::run(&line, &script(&gateways), DEADLINE).await {
        Ok(answer) => answer,
        Err(why) => {
            return report.fail(
                GUEST,
                Exit::Degraded,
                format!(
                    "no SSH to {} at {address} as {}: {why}. Layer: the guest itself or the way to it. Its security group must allow TCP \
                     port 22 from here, its image must run an SSH server, and the key must be that of its key pair{}",
                    base.name,
                    args.ssh_user,
                    base.key_name.as_ref().map_or_else(String::new, |key| format!(" {key}"))
                ),
            );
        }
    };
    let said = read(&answer);
    let host = Host {
        has_default_route: nat::uplink().is_some(),
        nat: nat::look(None).map_err(|error| format!("failed to {error}")),
    };
    for (good, text) in verdict(&said, &gateways, &host) {
        if good {
            report.ok(GUEST, text)?;
        } else {
            report.fail(GUEST, Exit::Degraded, text)?;
        }
    }
    Ok(())
}

/// The next hops of routers. Without them two layers cannot be told apart, and are named together.
async fn external_gateways(cloud: &Cloud) -> Vec<IpAddr> {
    let mut all = Vec::new();
    for network in cloud.networks_outside().await.unwrap_or_default() {
        all.extend(cloud.gateways_of(network.id).await.unwrap_or_default());
    }
    all.retain(IpAddr::is_ipv4);
    all
}

/// For any shell, busybox's included. Where pings are not let through, a name server's port may be.
fn script(gateways: &[IpAddr]) -> String {
    let gateways: Vec<String> = gateways.iter().map(ToString::to_string).collect();
    format!(
        "PATH=$PATH:/sbin:/usr/sbin\n\
         gateway=$(ip route 2>/dev/null | sed -n 's/^default via \\([0-9.]*\\).*/\\1/p' | head -n 1)\n\
         [ -n \"$gateway\" ] || gateway=$(route -n 2>/dev/null | sed -n 's/^0\\.0\\.0\\.0 *\\([0-9.]*\\).*/\\1/p' | head -n 1)\n\
         echo gateway $gateway\n\
         sed -n 's/^nameserver */resolver /p' /run/systemd/resolve/resolv.conf /etc/resolv.conf 2>/dev/null\n\
         for address in $gateway {} {}; do\n\
         \x20 if ping -c 2 -W 2 $address >/dev/null 2>&1 || nc -z -w 2 $address 53 >/dev/null 2>&1\n\
         \x20 then echo answers $address; else echo silent $address; fi\n\
         done\n\
         if command -v getent >/dev/null; then getent hosts {NAME} >/dev/null; echo name $?\n\
         elif command -v nslookup >/dev/null; then nslookup {NAME} >/dev/null 2>&1; echo name $?; fi\n",
        gateways.join(" "),
        OUTSIDE.join(" ")
    )
}

fn read(answer: &str) -> Said {
    let mut said = Said::default();
    for line in answer.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim().to_owned();
        match word {
            "gateway" if !rest.is_empty() => said.gateway = Some(rest),
            "resolver" if !said.resolvers.contains(&rest) => said.resolvers.push(rest),
            "answers" => drop(said.answers.insert(rest, true)),
            "silent" => drop(said.answers.insert(rest, false)),
            "name" => said.resolves = Some(rest == "0"),
            _ => {}
        }
    }
    said
}

/// One line for each thing, and whether it is good.
fn verdict(said: &Said, gateways: &[IpAddr], host: &Host) -> Vec<(bool, String)> {
    let answers = |address: &str| said.answers.get(address) == Some(&true);
    let (reached, silent): (Vec<&str>, Vec<&str>) = OUTSIDE.iter().partition(|address| answers(address));
    if reached.is_empty() {
        return vec![(
            false,
            format!("it reaches neither {}. Layer: {}", OUTSIDE.join(" nor "), layer(said, gateways, host)),
        )];
    }
    let mut lines = vec![(true, format!("it reaches {}", reached.join(" and ")))];
    if !silent.is_empty() {
        lines.push((
            false,
            format!("it does not reach {}: something beyond this host drops it", silent.join(", ")),
        ));
    }
    lines.push(match said.resolves {
        Some(true) => (true, format!("it resolves {NAME}")),
        Some(false) if said.resolvers.is_empty() => (
            false,
            "it resolves no name, and has no name server. Layer: subnet DNS. `openstack subnet set --dns-nameserver 1.1.1.1 SUBNET`, then \
             renew its lease (reboot it)"
                .to_owned(),
        ),
        Some(false) => (
            false,
            format!(
                "it resolves no name. Layer: subnet DNS. It asks {}: `openstack subnet set --dns-nameserver 1.1.1.1 SUBNET`, then renew its \
                 lease (reboot it)",
                said.resolvers.join(", ")
            ),
        ),
        None => (false, format!("it has neither getent nor nslookup, so {NAME} was not tried")),
    });
    lines
}

/// The first layer that does not do its part, and what to do.
fn layer(said: &Said, gateways: &[IpAddr], host: &Host) -> String {
    let answers = |address: &str| said.answers.get(address) == Some(&true);
    let Some(gateway) = &said.gateway else {
        return "guest. It has no default route: it got no DHCP answer, or its subnet has no gateway (`openstack subnet show`)".to_owned();
    };
    let outer: Vec<String> = gateways.iter().map(ToString::to_string).collect();
    if !outer.iter().any(|address| answers(address)) {
        if !answers(gateway) {
            return format!(
                "router. Its gateway {gateway} does not answer: attach the subnet to a router (`openstack router add subnet`, or \
                 `lbsidecar provision`)"
            );
        }
        if !outer.is_empty() {
            return format!(
                "router. It answers at {gateway}, but {} on the external network cannot be reached through it: give it a gateway \
                 (`openstack router set --external-gateway`, or `lbsidecar provision`)",
                outer.join(", ")
            );
        }
    }
    if !host.has_default_route {
        return "host. It has no default route, so it does not reach the Internet itself".to_owned();
    }
    match &host.nat {
        Err(why) => format!("NAT on the host, probably; it could not be looked at: {why}"),
        Ok(seen) if !seen.forwarding.on => {
            "NAT on the host. IPv4 forwarding is off: `lbsidecar host-nat enable`".to_owned()
        }
        Ok(seen) if seen.rules == Rules::Absent => {
            "NAT on the host. `lbsidecar host-nat` is not enabled, and if nobody else masquerades the external network, answers do not come \
             back: `lbsidecar host-nat enable`"
                .to_owned()
        }
        Ok(seen) if !seen.dropped_by.is_empty() => format!(
            "NAT on the host. The chain {} drops what it does not know: `lbsidecar host-nat status` says what to add",
            seen.dropped_by.join(", ")
        ),
        Ok(seen) if !seen.is_whole() => {
            "NAT on the host. It is enabled in part: `lbsidecar host-nat status`".to_owned()
        }
        Ok(_) => "host, or beyond it. Forwarding and masquerade are in place; does the host itself reach 1.1.1.1?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::{Forwarding, Seen};

    const OUTER: [IpAddr; 1] = [IpAddr::V4(std::net::Ipv4Addr::new(10, 20, 20, 1))];

    fn host(default_route: bool, forwarding: bool, rules: Rules, dropped_by: &[&str]) -> Host {
        let dropped_by = dropped_by.iter().map(|chain| (*chain).to_owned()).collect();
        let forwarding = Forwarding { on: forwarding, before: None };
        Host {
            has_default_route: default_route,
            nat: Ok(Seen { spec: None, rules, forwarding, stale_files: Vec::new(), dropped_by }),
        }
    }

    fn good() -> Host {
        host(true, true, Rules::Good, &[])
    }

    #[track_caller]
    fn says(answer: &str, host: &Host, words: &str) {
        let lines = verdict(&read(answer), &OUTER, host);
        let found = lines.iter().any(|(good, line)| !good && line.contains(words));
        assert!(found, "{words:?} is not in {lines:?}");
    }

    #[test]
    fn all_well_is_two_good_lines() {
        let answer = "gateway 192.168.100.1\nresolver 1.1.1.1\nanswers 192.168.100.1\nanswers 10.20.20.1\nanswers 1.1.1.1\n\
                      answers 8.8.8.8\nname 0\n";
        let lines = verdict(&read(answer), &OUTER, &good());
        assert!(lines.len() == 2 && lines.iter().all(|(good, _)| *good), "{lines:?}");
    }

    #[test]
    fn the_first_hop_that_is_silent_names_the_layer() {
        let (silent, router) =
            ("silent 1.1.1.1\nsilent 8.8.8.8\nname 1\n", "gateway 192.168.100.1\nanswers 192.168.100.1\n");
        says(&format!("gateway \n{silent}"), &good(), "Layer: guest.");
        says(
            &format!("gateway 192.168.100.1\nsilent 192.168.100.1\nsilent 10.20.20.1\n{silent}"),
            &good(),
            "Layer: router. Its gateway 192.168.100.1",
        );
        says(&format!("{router}silent 10.20.20.1\n{silent}"), &good(), "Layer: router. It answers at");
        let through = format!("{router}answers 10.20.20.1\n{silent}");
        says(&through, &host(false, true, Rules::Good, &[]), "Layer: host. It has no default route");
        says(&through, &host(true, false, Rules::Absent, &[]), "IPv4 forwarding is off");
        says(&through, &host(true, true, Rules::Absent, &[]), "`lbsidecar host-nat enable`");
        says(
            &through,
            &host(true, true, Rules::Good, &["ip filter FORWARD"]),
            "The chain ip filter FORWARD drops",
        );
        says(
            &through,
            &Host { has_default_route: true, nat: Err("failed to run nft".into()) },
            "failed to run nft",
        );
        // A router that answers no pings, but lets packets through.
        says(
            &format!("gateway 192.168.100.1\nsilent 192.168.100.1\nanswers 10.20.20.1\n{silent}"),
            &host(false, true, Rules::Good, &[]),
            "Layer: host.",
        );
    }

    #[test]
    fn names_and_single_addresses_are_layers_of_their_own() {
        let outside = "gateway 192.168.100.1\nanswers 1.1.1.1\n";
        says(
            &format!("{outside}answers 8.8.8.8\nresolver 192.168.100.2\nname 2\n"),
            &good(),
            "It asks 192.168.100.2",
        );
        says(
            &format!("{outside}answers 8.8.8.8\nname 1\n"),
            &good(),
            "has no name server. Layer: subnet DNS",
        );
        says(&format!("{outside}silent 8.8.8.8\nname 0\n"), &good(), "does not reach 8.8.8.8");
        says(&format!("{outside}answers 8.8.8.8\n"), &good(), "neither getent nor nslookup");
    }

    #[tokio::test]
    async fn the_script_runs_in_a_shell() {
        // With commands that answer at once, and nothing on the network.
        let quick = "ping() { [ $5 = 1.1.1.1 ]; }; nc() { false; }; ip() { echo default via 10.9.9.1 dev eth0; }; getent() { false; }\n";
        let script = script(&OUTER).replacen('\n', &format!("\n{quick}"), 1);
        let answer = ssh::run(&["sh".to_owned(), "-s".to_owned()], &script, DEADLINE).await.unwrap();
        let said = read(&answer);
        assert_eq!((said.gateway.as_deref(), said.resolves), (Some("10.9.9.1"), Some(false)), "{answer}");
        assert_eq!(said.answers.len(), 4, "{answer}");
        assert!(said.answers["1.1.1.1"] && !said.answers["8.8.8.8"], "{answer}");
    }
}
