//! Micro-guests: a distribution's kernel, a busybox initramfs and a small HTTP service, started by libvirt.

mod accelerator;
mod cpio;
mod domain;
mod image;
mod kernel;
pub mod libvirt;

pub use accelerator::Accelerator;
pub use domain::Domain;
pub use image::Image;
pub use kernel::Kernel;

/// Kernel arguments of every guest.
pub const COMMAND_LINE: &str = "console=ttyS0 quiet nokaslr mitigations=off tsc=reliable no_timer_check random.trust_cpu=on panic=5 rdinit=/init";
