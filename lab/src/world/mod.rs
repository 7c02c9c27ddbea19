//! The lab's world: namespaces, bridges, libvirt, guests, NAT.
