//! The daemon: one task that owns the state, and what joins the core with the outside.
//!
//! ```text
//!  sources ──Event──► run: core::Machine::step ──► store.save ──► executor ──► Nova, Neutron, HAProxy
//!     ▲                 │                                            │
//!     └── focus ────────┴──► publish (status, metrics, systemd)      └──Event::Done──► run
//! ```
//!
//! - [`mod@run`]: the loop. - `start`: from a configuration to the loop. - `sources`: who tells what, how often.
//! - `executor`: effects as calls. - `address`: the service address, Neutron's side and the host's. - `cloud`: our VMs as facts.
//! - `publish`, `notify`: what is shown. - `clock`: the only clock. - `crash`: death on order, in debug builds.

mod address;
mod address_error;
mod clock;
mod cloud;
mod crash;
mod executor;
mod notify;
mod publish;
mod run;
mod sources;
mod start;

pub(crate) use self::{
    address::ServiceAddress,
    start::{exit_of_haproxy, fit, no_base, plug_spec},
};
pub use self::{
    run::{LoopError, Reread},
    start::{DaemonError, plug_port, run},
};
