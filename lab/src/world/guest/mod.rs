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

/// Kernel arguments of every guest. A plain, steady timer: setting the next moment anew at each sleep and wake-up is a trip through QEMU.
pub const COMMAND_LINE: &str = "console=ttyS0 quiet nokaslr nohz=off highres=off mitigations=off tsc=reliable no_timer_check random.trust_cpu=on panic=5 rdinit=/init";

/// How much guests go before whatever else runs on this machine. On a compute host the CPUs are theirs; here they are shared with the whole
/// cloud, its clients and the machine's own work, and a guest that waits for a CPU looks busy.
pub(super) const NICENESS: &str = "-15";
