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
    /// From now on, calls that change something wait (`true`), or go on (`false`).
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

    /// A call, which waits while calls are held; afterwards the guest runs, or not.
    fn call(&self, name: &'static str, arguments: String, after: Option<(Uuid, bool)>) -> Answer<'_, ()> {
        let mut held = self.held.subscribe();
        Box::pin(async move {
            held.wait_for(|held| !held).await.map_err(|_| "the driver is gone".to_owned())?;
            self.note(name, &arguments)?;
            match after {
                Some((id, true)) => self.lock().running.insert(id),
                Some((id, false)) => self.lock().running.remove(&id),
                None => false,
            };
            Ok(())
        })
    }
}

impl Driver for NullDriver {
    fn boot(&self, guest: Boot) -> Answer<'_, ()> {
        self.call("boot", guest.id.to_string(), Some((guest.id, true)))
    }

    fn power_off(&self, id: Uuid, _graceful: bool) -> Answer<'_, ()> {
        self.call("power_off", id.to_string(), Some((id, false)))
    }

    fn power_on(&self, id: Uuid) -> Answer<'_, ()> {
        self.call("power_on", id.to_string(), Some((id, true)))
    }

    fn destroy(&self, id: Uuid) -> Answer<'_, ()> {
        self.call("destroy", id.to_string(), Some((id, false)))
    }

    fn snapshot(&self, id: Uuid, _image: Uuid) -> Answer<'_, ()> {
        self.call("snapshot", id.to_string(), None)
    }

    fn running(&self, id: Uuid) -> Answer<'_, bool> {
        Box::pin(async move { Ok(self.lock().running.contains(&id)) })
    }

    fn network_up(&self, network: Uuid) -> Answer<'_, ()> {
        self.call("network_up", network.to_string(), None)
    }

    fn network_down(&self, network: Uuid) -> Answer<'_, ()> {
        self.call("network_down", network.to_string(), None)
    }

    fn router_up(&self, router: Router) -> Answer<'_, ()> {
        self.call(
            "router_up",
            format!("{} {:?} {} legs", router.id, router.external, router.legs.len()),
            None,
        )
    }

    fn router_down(&self, router: Uuid) -> Answer<'_, ()> {
        self.call("router_down", router.to_string(), None)
    }

    fn port_up(&self, port: Uuid, network: Uuid) -> Answer<'_, ()> {
        self.call("port_up", format!("{port} {network}"), None)
    }

    fn port_down(&self, port: Uuid) -> Answer<'_, ()> {
        self.call("port_down", port.to_string(), None)
    }

    fn associate(&self, floating: Ipv4Addr, fixed: Ipv4Addr, router: Uuid) -> Answer<'_, ()> {
        self.call("associate", format!("{floating} {fixed} {router}"), None)
    }

    fn disassociate(&self, floating: Ipv4Addr) -> Answer<'_, ()> {
        self.call("disassociate", floating.to_string(), None)
    }
}
