//! A driver without a world: it says yes, remembers what was asked, and can be held back or told to fail.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use uuid::Uuid;

use super::driver::{Answer, Boot, Driver, Router};

/// The driver for tests of the API alone.
#[derive(Debug, Default)]
pub struct NullDriver {
    held: watch::Sender<bool>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    running: BTreeSet<Uuid>,
    calls: Vec<String>,
    failing: Option<(&'static str, String)>,
}

impl NullDriver {
    /// From now on, calls about guests wait (`true`), or go on (`false`).
    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// Makes every call of this name fail, e.g. `boot`.
    pub fn fail(&self, call: &'static str, why: &str) {
        self.lock().failing = Some((call, why.to_owned()));
    }

    /// What was called so far: name and arguments in words.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    /// A guest that dies by itself.
    pub fn kill(&self, id: Uuid) {
        self.lock().running.remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, call: &'static str, arguments: &str) -> Result<(), String> {
        let mut inner = self.lock();
        inner.calls.push(format!("{call} {arguments}"));
        match &inner.failing {
            Some((failing, why)) if *failing == call => Err(why.clone()),
            _ => Ok(()),
        }
    }

    /// A call about a guest, which waits while calls are held.
    fn guest(&self, call: &'static str, id: Uuid, runs: Option<bool>) -> Answer<'_, ()> {
        let mut held = self.held.subscribe();
        Box::pin(async move {
            held.wait_for(|held| !held).await.map_err(|_| "the driver is gone".to_owned())?;
            self.note(call, &id.to_string())?;
            let mut inner = self.lock();
            match runs {
                Some(true) => inner.running.insert(id),
                Some(false) => inner.running.remove(&id),
                None => false,
            };
            Ok(())
        })
    }

    fn wire(&self, call: &'static str, arguments: String) -> Answer<'_, ()> {
        Box::pin(async move { self.note(call, &arguments) })
    }
}

impl Driver for NullDriver {
    fn boot(&self, guest: Boot) -> Answer<'_, ()> {
        self.guest("boot", guest.id, Some(true))
    }

    fn power_off(&self, id: Uuid, _graceful: bool) -> Answer<'_, ()> {
        self.guest("power_off", id, Some(false))
    }

    fn power_on(&self, id: Uuid) -> Answer<'_, ()> {
        self.guest("power_on", id, Some(true))
    }

    fn destroy(&self, id: Uuid) -> Answer<'_, ()> {
        self.guest("destroy", id, Some(false))
    }

    fn snapshot(&self, id: Uuid, _image: Uuid) -> Answer<'_, ()> {
        self.guest("snapshot", id, None)
    }

    fn running(&self, id: Uuid) -> Answer<'_, bool> {
        Box::pin(async move { Ok(self.lock().running.contains(&id)) })
    }

    fn network_up(&self, network: Uuid) -> Answer<'_, ()> {
        self.wire("network_up", network.to_string())
    }

    fn network_down(&self, network: Uuid) -> Answer<'_, ()> {
        self.wire("network_down", network.to_string())
    }

    fn router_up(&self, router: Router) -> Answer<'_, ()> {
        self.wire("router_up", format!("{} {:?} {} legs", router.id, router.external, router.legs.len()))
    }

    fn router_down(&self, router: Uuid) -> Answer<'_, ()> {
        self.wire("router_down", router.to_string())
    }

    fn port_up(&self, port: Uuid, network: Uuid) -> Answer<'_, ()> {
        self.wire("port_up", format!("{port} {network}"))
    }

    fn port_down(&self, port: Uuid) -> Answer<'_, ()> {
        self.wire("port_down", port.to_string())
    }

    fn associate(&self, floating: Ipv4Addr, fixed: Ipv4Addr, router: Uuid) -> Answer<'_, ()> {
        self.wire("associate", format!("{floating} {fixed} {router}"))
    }

    fn disassociate(&self, floating: Ipv4Addr) -> Answer<'_, ()> {
        self.wire("disassociate", floating.to_string())
    }
}
