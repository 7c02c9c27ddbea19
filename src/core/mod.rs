//! The pure core: what we know, what we decide, what we ask for.
//!
//! Nothing in this folder reads a clock, a file, a socket or an environment variable, spawns a task, or depends on
//! the order of a hash map. Time comes in as [`time::Timestamp`], the world comes in as [`event::Event`]s, and all that goes out
//! are [`event::Effect`]s. That is what lets a test replay any incident and a simulation try a million of them.
//!
//! Where to look: [`machine`] is the loop; [`votes`] decides, and [`boot`] says whose load does not count; [`join`] (with [`ramp`]) and [`leave`] are the way in and out, stage by stage, by the
//! table in [`transition`], and [`call_off`] is the way back; [`heal`] replaces what is lost; [`upkeep`] repairs and obeys operators; [`recover`] makes a stored state fit for the present;
//! [`state`] is what survives a crash and [`view`] what can be seen again.

mod backoff;
pub mod boot;
mod call_off;
pub mod cloud;
pub mod condition;
pub mod cpu;
pub mod event;
pub mod guest;
pub mod heal;
pub mod ids;
mod join;
pub mod lb;
mod leave;
pub mod machine;
mod ramp;
pub mod recover;
pub mod sampler;
pub mod settings;
pub mod state;
pub mod time;
pub mod transition;
pub mod units;
mod upkeep;
pub mod view;
mod votes;
