//! Bulk domain statistics over the C API. One of two files with `unsafe`: everything that leaves it is plain Rust.
//!
//! The crate's own wrapper (`Connect::all_domain_stats`) hands out raw pointers, never frees the records (350 bytes of memory
//! are lost with every call on one domain) and cannot ask for some domains only.
#![expect(unsafe_code, reason = "virt wraps no bulk statistics that can be freed; see the module's text")]

use std::{ffi::CStr, ptr, slice};

use uuid::Uuid;
use virt::{domain::Domain, error::Error, sys};

/// Run state, vCPU times and balloon statistics.
const GROUPS: sys::virDomainStatsTypes =
    sys::VIR_DOMAIN_STATS_STATE | sys::VIR_DOMAIN_STATS_VCPU | sys::VIR_DOMAIN_STATS_BALLOON;

/// Whether to wait for a domain that somebody else works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Busy {
    /// Leave out what cannot be had at once (a migration would hold us up for minutes otherwise).
    Skip,
    /// Wait: for drivers that do not know the flag.
    Wait,
}

/// The statistics of some domains, as one answer of libvirt; freed when dropped.
pub(super) struct Statistics {
    /// A null-terminated array, or null when there is no record.
    records: *mut sys::virDomainStatsRecordPtr,
    count: usize,
}

impl Statistics {
    /// Asks for the statistics of `domains`, which must all belong to the same connection. Domains that are gone are left out.
    ///
    /// # Errors
    /// libvirt's own.
    pub(super) fn read<'a>(domains: impl Iterator<Item = &'a Domain>, busy: Busy) -> Result<Self, Error> {
        // SAFETY: the pointers are used within this function only, while `domains` borrows the objects that own them.
        let mut pointers: Vec<sys::virDomainPtr> = domains.map(|domain| unsafe { domain.as_ptr() }).collect();
        if pointers.is_empty() {
            return Ok(Self { records: ptr::null_mut(), count: 0 });
        }
        pointers.push(ptr::null_mut());
        let flags = match busy {
            Busy::Skip => sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT,
            Busy::Wait => 0,
        };
        let mut records = ptr::null_mut();
        // SAFETY: `pointers` is a null-terminated array of live domains, and `records` is a place for one pointer.
        let count =
            unsafe { sys::virDomainListGetStats(pointers.as_mut_ptr(), GROUPS, &raw mut records, flags) };
        match usize::try_from(count) {
            Ok(count) => Ok(Self { records, count }),
            Err(_) => Err(Error::last_error()),
        }
    }

    /// One record per domain that is there.
    pub(super) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let records = if self.records.is_null() {
            &[][..]
        } else {
            // SAFETY: libvirt gave an array of `count` pointers, which lives until `self` is dropped.
            unsafe { slice::from_raw_parts(self.records, self.count) }
        };
        // SAFETY: each pointer is null or points to a record that lives until `self` is dropped.
        records.iter().filter_map(|record| unsafe { record.as_ref() }.map(Record))
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        // SAFETY: `records` came from libvirt and is freed once; null is allowed.
        unsafe { sys::virDomainStatsRecordListFree(self.records) };
    }
}

/// What libvirt tells about one domain.
pub(super) struct Record<'a>(&'a sys::virDomainStatsRecord);

impl Record<'_> {
    /// The domain's UUID.
    pub(super) fn uuid(&self) -> Option<Uuid> {
        let mut bytes = [0; sys::VIR_UUID_BUFLEN as usize];
        // SAFETY: the record owns a live domain, and `bytes` has the length that libvirt writes.
        let result = unsafe { sys::virDomainGetUUID(self.0.dom, bytes.as_mut_ptr()) };
        (result == 0).then(|| Uuid::from_bytes(bytes))
    }

    /// libvirt's id of the domain's QEMU process; `None` when it has none.
    pub(super) fn instance(&self) -> Option<u32> {
        // SAFETY: the record owns a live domain.
        let id = unsafe { sys::virDomainGetID(self.0.dom) };
        // -1 means "not running".
        (id != u32::MAX).then_some(id)
    }

    /// The parameters that are whole numbers, not negative, by name.
    pub(super) fn numbers(&self) -> impl Iterator<Item = (&str, u64)> {
        let params = match usize::try_from(self.0.nparams) {
            // SAFETY: libvirt gave an array of `nparams` parameters, which lives as long as the record.
            Ok(count) if !self.0.params.is_null() => unsafe { slice::from_raw_parts(self.0.params, count) },
            _ => &[],
        };
        params.iter().filter_map(|param| Some((name(param)?, number(param)?)))
    }
}

fn name(param: &sys::virTypedParameter) -> Option<&str> {
    // SAFETY: `c_char` has the size and alignment of `u8`, and the array belongs to `param`.
    let bytes = unsafe { slice::from_raw_parts(param.field.as_ptr().cast::<u8>(), param.field.len()) };
    CStr::from_bytes_until_nul(bytes).ok()?.to_str().ok()
}

fn number(param: &sys::virTypedParameter) -> Option<u64> {
    let kind = sys::virTypedParameterType::try_from(param.type_).ok()?;
    // SAFETY: the type says which member of the union was written.
    unsafe {
        match kind {
            sys::VIR_TYPED_PARAM_INT => u64::try_from(param.value.i).ok(),
            sys::VIR_TYPED_PARAM_UINT => Some(param.value.ui.into()),
            sys::VIR_TYPED_PARAM_LLONG => u64::try_from(param.value.l).ok(),
            sys::VIR_TYPED_PARAM_ULLONG => Some(param.value.ul),
            _ => None,
        }
    }
}
