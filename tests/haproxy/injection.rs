//! Whatever a tenant calls a server, the file differs by that name alone: no line, no directive, no other server comes with it.

use std::{net::SocketAddr, path::Path};

use lbsidecar::{
    core::{
        ids::{BackendName, ServerId},
        lb::{LbMode, LbModel, LbServer},
        units::Weight,
    },
    haproxy::{Haproxy, settings::ServiceMode},
};
use proptest::prelude::*;

use crate::support::settings;

/// What HAProxy, our template or a terminal gives a meaning to.
const SPECIAL: &[&str] = &[
    "\n",
    "\r",
    "\r\n",
    "\u{2028}",
    "\u{85}",
    "\0",
    "\t",
    " ",
    "#",
    "\"",
    "'",
    "\\",
    "$",
    "${HOME}",
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "{{ stats.login }}",
    "\n    server x 192.0.2.66:80",
    "\nlisten x",
    " weight 256",
    " backup",
    "if",
    "%[env(HOME)]",
    "\u{1b}[2J",
    "\u{202e}",
    "ä",
    "app",
    "probe.",
    "-",
    ".",
    "/",
];

fn name() -> impl Strategy<Value = String> {
    let part = prop_oneof![proptest::sample::select(SPECIAL).prop_map(str::to_owned), any::<String>()];
    proptest::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

fn rendered(mode: ServiceMode, name: &BackendName, address: SocketAddr) -> String {
    let mut settings = settings(Path::new("/nonexistent/lbsidecar/web"));
    settings.mode = mode;
    settings.binds = vec!["203.0.113.10:80".parse().unwrap()];
    settings.stats.bind = "127.0.0.1:8404".parse().unwrap();
    let server = LbServer { name: name.clone(), address, weight: Weight::FULL, mode: LbMode::Ready };
    let text =
        Haproxy::new(settings).unwrap().render(&LbModel { servers: vec![server], closing: false }).unwrap();
    // Two lines are hashes of the others.
    let hash = |line: &&str| line.starts_with("    description ") || line.starts_with("# digest ");
    text.lines().filter(|line| !hash(line)).collect::<Vec<_>>().join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_name_is_only_a_name(name in name(), id in any::<u128>(), tcp in any::<bool>()) {
        let mode = if tcp { ServiceMode::Tcp } else { ServiceMode::Http };
        let address = "10.20.20.11:80".parse().unwrap();
        let id = ServerId(uuid::Uuid::from_u128(id));
        let (evil, plain) = (BackendName::of(&name, id), BackendName::try_new("plain-0000").unwrap());
        let with_evil = rendered(mode, &evil, address);
        let with_plain = rendered(mode, &plain, address);
        prop_assert_eq!(with_evil.replace(evil.as_str(), plain.as_str()), with_plain);
    }
}
