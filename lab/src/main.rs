//! The lab: a whole single-node cloud in namespaces of its own.

// TODO: remove with the first user.
#![allow(dead_code)]

mod cloud;
mod world;

fn main() {}
