//! Flags, environment and files become settings, each checked and each with its origin.

mod flags;

pub use flags::{Flags, PlaceFlags};
