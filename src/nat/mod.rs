//! The host as the cloud's way to the Internet: forwarding and masquerade for the external network of a single-node cloud.
//!
//! ```text
//!  guest ──► router (Neutron's SNAT) ──► br-ex 10.20.20.1 ══ host ══► uplink ──► Internet
//!                                        forward rules, ip_forward    masquerade
//! ```
//!
//! Everything that is set up is in a place of our own, so that it can be told from what others set up, and be taken away whole:
//!
//! | what | where |
//! |---|---|
//! | the rules | the nftables table `ip lbsidecar_nat`, replaced in one transaction |
//! | the rules for the next boot | `/etc/lbsidecar/host-nat.nft` |
//! | forwarding | `/etc/sysctl.d/90-lbsidecar-host-nat.conf`, which also notes what it was before |
//! | who loads the rules at boot | `/etc/systemd/system/lbsidecar-host-nat.service` and its link in `multi-user.target.wants` |
//!
//! Debian and Ubuntu include no directory from `/etc/nftables.conf`, and that file begins with `flush ruleset`: a unit that is ordered
//! after `nftables.service`, and restarted with it, is what lives beside it without changing it.

mod change;
mod error;
mod files;
mod look;
mod nft;
mod rules;
mod spec;

pub use self::{
    change::{disable, enable},
    error::NatError,
    files::{RULES, SYSCTL, UNIT, WANTED, contents},
    look::{Forwarding, Rules, Seen, look, uplink},
    rules::{TABLE, rules},
    spec::{Interface, NatSpec},
};
