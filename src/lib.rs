//! lbsidecar: scales one OpenStack VM out and back behind HAProxy without losing a request.
//!
//! The map, from the inside out (`docs/architecture.md` has the picture and a ten-minute tour):
//!
//! - [`core`] decides; it is pure. Everything else serves it.
//! - [`guests`] reads CPU and lifecycle from libvirt. [`host`] reads the compute host's own memory and pressure from /proc.
//! - [`openstack`] speaks Keystone, Nova, Neutron and Glance.
//! - [`haproxy`] renders, checks, applies and watches HAProxy.
//! - [`vip`] makes the service address reach HAProxy.
//! - [`nat`] lets the cloud's external network out through the host.
//! - [`store`] keeps the state file and the lock.
//! - [`daemon`] is the one task that owns the state and joins all of these.
//! - [`admin`] is the local socket: status, explain, operator commands, metrics.
//! - [`config`] reads flags, environment and files into settings. [`telemetry`] is logs and metrics. [`cli`] is the commands.
//! - [`load`] is the counting client that shows that nothing is lost.
//! - [`provision`] makes what a pool needs in an empty project, and takes it away again.
//! - [`exit`] lists the exit codes.
//!
//! Who may import whom is written down and checked in `tests/architecture.rs`.

pub mod admin;
pub mod cli;
pub mod config;
pub mod core;
pub mod daemon;
pub mod exit;
pub mod guests;
pub mod haproxy;
pub mod host;
pub mod load;
pub mod nat;
pub mod openstack;
pub mod provision;
pub mod store;
pub mod telemetry;
pub mod vip;

#[cfg(test)]
#[path = "../tests/mutate/mod.rs"]
mod mutate;
