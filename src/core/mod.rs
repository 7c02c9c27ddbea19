//! The pure core: what we know, what we decide, what we ask for.
//!
//! Nothing in this folder reads a clock, a file, a socket or an environment variable, spawns a task, or depends on
//! the order of a hash map. Time comes in as [`time::Now`], the world comes in as [`event::Event`]s, and all that goes out
//! are [`event::Effect`]s. That is what lets a test replay any incident and a simulation try a million of them.

pub mod cloud;
pub mod guest;
pub mod ids;
pub mod lb;
pub mod settings;
pub mod time;
pub mod units;
