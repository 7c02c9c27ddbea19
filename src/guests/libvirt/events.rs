//! Lifecycle events over the C API. One of two files with `unsafe`: everything that leaves it is plain Rust.
//!
//! libvirt calls back on the thread of its event loop ([`super::event_loop`]); the callback only puts the event into a channel.
#![expect(unsafe_code, reason = "virt has no lifecycle events")]

use std::{
    ffi::{c_int, c_void},
    ptr,
};

use tokio::sync::broadcast::Sender;
use uuid::Uuid;
use virt::{connect::Connect, error::Error, sys};

use crate::{
    core::ids::ServerId,
    guests::{Lifecycle, LifecycleKind},
};

/// What libvirt hands back to the callback, and gives back to be freed when the subscription has ended.
type Sink = Sender<Lifecycle>;

/// A registration for the lifecycle events of all domains of a connection; ends when dropped.
#[derive(Debug)]
pub(super) struct Subscription {
    /// A reference of its own, so that the connection is still there when the registration ends.
    connect: Connect,
    /// libvirt's number for the registration; 0 is a valid one.
    callback: c_int,
}

impl Subscription {
    /// Puts every lifecycle event into `sink` from now on. The event loop's default implementation must have been registered
    /// before the connection was opened.
    ///
    /// # Errors
    /// libvirt's own.
    pub(super) fn start(connect: &Connect, sink: Sink) -> Result<Self, Error> {
        let opaque = Box::into_raw(Box::new(sink)).cast::<c_void>();
        type Lifecycled =
            unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void) -> c_int;
        type Generic = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);
        // SAFETY: libvirt casts a callback back to the type that belongs to the event's id before it calls it
        // (VIR_DOMAIN_EVENT_CALLBACK in libvirt-domain.h); for lifecycle events that is `Lifecycled`.
        let callback = unsafe { std::mem::transmute::<Lifecycled, Generic>(on_lifecycle) };
        // SAFETY: the connection is alive; no domain means all; `opaque` stays valid until libvirt calls `free_sink` with it.
        let callback = unsafe {
            sys::virConnectDomainEventRegisterAny(
                connect.as_ptr(),
                ptr::null_mut(),
                sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE as c_int,
                Some(callback),
                opaque,
                Some(free_sink),
            )
        };
        if callback < 0 {
            let error = Error::last_error();
            // SAFETY: a registration that failed does not take `opaque`, so that it is freed here and nowhere else.
            unsafe { free_sink(opaque) };
            return Err(error);
        }
        Ok(Self { connect: connect.clone(), callback })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // A failure means that the daemon is gone; libvirt has ended the registration on this side all the same.
        // SAFETY: the connection is alive, and the number came from it.
        unsafe { sys::virConnectDomainEventDeregisterAny(self.connect.as_ptr(), self.callback) };
    }
}

unsafe extern "C" fn on_lifecycle(
    _connect: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    _detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    let mut uuid = [0; sys::VIR_UUID_BUFLEN as usize];
    // SAFETY: libvirt gives a live domain, and `uuid` has the length that it writes.
    if unsafe { sys::virDomainGetUUID(domain, uuid.as_mut_ptr()) } == 0 {
        // SAFETY: `opaque` is the sink that was registered, and libvirt calls `free_sink` only after the last callback.
        let sink = unsafe { &*opaque.cast::<Sink>() };
        // That nobody listens is no error.
        let _ = sink.send(Lifecycle { server: ServerId(Uuid::from_bytes(uuid)), what: kind(event) });
    }
    0
}

unsafe extern "C" fn free_sink(opaque: *mut c_void) {
    // SAFETY: `opaque` came from `Box::into_raw` in `Subscription::start` and is given back once.
    drop(unsafe { Box::from_raw(opaque.cast::<Sink>()) });
}

fn kind(event: c_int) -> LifecycleKind {
    match sys::virDomainEventType::try_from(event) {
        Ok(sys::VIR_DOMAIN_EVENT_DEFINED) => LifecycleKind::Defined,
        Ok(sys::VIR_DOMAIN_EVENT_UNDEFINED) => LifecycleKind::Undefined,
        Ok(sys::VIR_DOMAIN_EVENT_STARTED) => LifecycleKind::Started,
        Ok(sys::VIR_DOMAIN_EVENT_SUSPENDED) => LifecycleKind::Suspended,
        Ok(sys::VIR_DOMAIN_EVENT_RESUMED) => LifecycleKind::Resumed,
        Ok(sys::VIR_DOMAIN_EVENT_STOPPED) => LifecycleKind::Stopped,
        Ok(sys::VIR_DOMAIN_EVENT_SHUTDOWN) => LifecycleKind::Shutdown,
        Ok(sys::VIR_DOMAIN_EVENT_PMSUSPENDED) => LifecycleKind::Sleeping,
        Ok(sys::VIR_DOMAIN_EVENT_CRASHED) => LifecycleKind::Crashed,
        _ => LifecycleKind::Other(event),
    }
}
