//! The lab: a whole single-node cloud in namespaces of its own.
//!
//! - [`cloud`] is an OpenStack API in one process: records, HTTP, faults on demand. It asks a [`cloud::driver::Driver`] for everything real.
//! - [`world`] is that driver: namespaces, bridges, libvirt, guests, NAT.

pub mod cloud;
pub mod world;
