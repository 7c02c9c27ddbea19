//! The demo: scale-out, split and handover, again and again, under load that counts every request.
//!
//! ```text
//!  host: lbsidecar-lab demo ── makes and ends ──► the lab
//!            └── exec ──► story ──► lbsidecar run          as an operator types it; asked for its status all the time
//!                           ├─────► load (keep-alive, idle, new connections, POST)   in the namespace `client`
//!                           ├─────► load (requests that burn CPU)                     in the namespace `client`
//!                           └─────► the cloud's API, libvirt: the base at first, nothing left over at the end
//! ```
//!
//! [`rig`], [`api`], [`drive`] and [`sidecar`] are also what end-to-end tests are made of.

pub mod api;
pub mod drive;
mod host;
mod outcome;
pub mod rig;
mod screen;
pub mod sidecar;
mod story;
mod tide;
pub mod watch;

pub(crate) use self::{
    drive::run as load,
    host::{Wishes, run},
    story::run as story,
};
