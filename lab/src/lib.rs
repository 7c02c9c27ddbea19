//! The lab: a whole single-node cloud in namespaces of its own.
//!
//! - [`cloud`] is an OpenStack API in one process: records, HTTP, faults on demand. It asks a [`cloud::driver::Driver`] for everything real.
//! - [`world`] is that driver: namespaces, bridges, libvirt, guests, NAT.
//! - [`space`] makes the namespaces, keeps them and enters them; [`cli`] is the command line; [`server`] is the process that has both
//!   halves inside.

pub mod cli;
pub mod cloud;
pub mod demo;
mod directory;
mod publish;
mod server;
mod space;
pub mod world;
