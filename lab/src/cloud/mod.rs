//! The lab's cloud: Keystone, Nova, Neutron and Glance in one process, over real guests.

pub mod driver;
