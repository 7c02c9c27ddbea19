//! The program against a real OpenStack: Keystone, Nova, Neutron, Glance and Placement of Debian 12, real libvirt and QEMU guests, real
//! floating IPs. `./x test-openstack` brings it up (`lab/openstack/up.sh`), runs these tests one after another and takes it down;
//! by themselves they are ignored. Each begins and ends with a project that has nothing of ours.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends by panicking"
)]

mod by_hand;
#[path = "../contract/compare.rs"]
#[allow(dead_code, reason = "made for the contract test")]
mod compare;
mod records;
mod refusals;
mod rig;
mod services;
mod story;
