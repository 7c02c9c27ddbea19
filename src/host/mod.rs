//! The compute host's own resources, from /proc: whether there is room for one more guest, and whether one would help.

use std::fs;

use procfs::{Current, CurrentSI, KernelStats, LoadAverage, Meminfo, ProcError};

use crate::core::units::Percent;

/// Why the host could not be read.
#[derive(Debug, thiserror::Error)]
#[error("read the host's {what}: {cause}")]
pub struct HostError {
    what: &'static str,
    cause: String,
}

impl HostError {
    fn of(what: &'static str) -> impl Fn(ProcError) -> HostError {
        move |cause| HostError { what, cause: cause.to_string() }
    }
}

/// Memory that can be given to a new guest without swapping (`MemAvailable`), in MiB.
///
/// # Errors
/// [`HostError`] when /proc/meminfo cannot be read, or is of a kernel before 3.14.
pub fn memory_available_mib() -> Result<u64, HostError> {
    let memory = Meminfo::current().map_err(HostError::of("memory"))?;
    let bytes = memory
        .mem_available
        .ok_or_else(|| HostError { what: "memory", cause: "/proc/meminfo has no MemAvailable".to_owned() })?;
    Ok(bytes / (1024 * 1024))
}

/// Share of the last ten seconds in which some task waited for a CPU (`some avg10` of /proc/pressure/cpu). `None` on kernels
/// without pressure stall information, or booted with `psi=0`.
#[must_use]
pub fn cpu_pressure() -> Option<Percent> {
    some_avg10(&fs::read_to_string("/proc/pressure/cpu").ok()?)
}

/// The CPUs that the host has online. What this process itself may use (its affinity, its cgroup) does not count: guests do not share it.
///
/// # Errors
/// [`HostError`] when /proc/stat cannot be read.
pub fn cpus() -> Result<usize, HostError> {
    Ok(KernelStats::current().map_err(HostError::of("CPUs"))?.cpu_time.len())
}

/// Tasks that run or wait for a CPU or a disk, mean of the last minute.
///
/// # Errors
/// [`HostError`] when /proc/loadavg cannot be read.
pub fn load() -> Result<f32, HostError> {
    Ok(LoadAverage::current().map_err(HostError::of("load"))?.one)
}

/// The crate `procfs` refuses the file of kernels before 5.13, which has no line `full`.
fn some_avg10(text: &str) -> Option<Percent> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let value = some.split_whitespace().find_map(|pair| pair.strip_prefix("avg10="))?;
    value.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read_with_and_without_the_line_full() {
        let some = "some avg10=12.34 avg60=5.00 avg300=1.00 total=17250574\n";
        let full = "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(some_avg10(some).map(Percent::get), Some(12.34));
        assert_eq!(some_avg10(&format!("{some}{full}")).map(Percent::get), Some(12.34));
        for bad in ["", "full avg10=1.00", "some avg60=1.00", "some avg10=x"] {
            assert_eq!(some_avg10(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn this_host_has_memory_and_cpus() {
        assert!(memory_available_mib().unwrap() > 16);
        assert!(cpus().unwrap() >= std::thread::available_parallelism().unwrap().get());
        assert!(load().unwrap() >= 0.0);
    }
}
