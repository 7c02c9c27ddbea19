//! Whether an address can be listened on, in the network namespace where HAProxy will do it.
//!
//! `haproxy -c` does not try that, and a start or reload that fails for it is noticed only when it is too late for a clear word.

use std::{
    fs::File,
    io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    thread,
};

use nix::sched::{CloneFlags, setns};

use super::{
    error::{HaproxyError, Obstacle},
    settings::{HaproxySettings, Supervisor},
};

const BIND: &str = "bind";

/// Where `ip netns` keeps the namespace of that name.
pub(super) fn netns_path(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// Tries to listen on one of the settings' addresses for a moment; what came of it, for people. A service address that comes to the
/// host later is free while it is not there. Where a unit starts HAProxy, it has rights that we need not have: what we may not try is
/// left to it.
///
/// # Errors
/// Why that does not work.
pub(super) fn usable(settings: &HaproxySettings, address: SocketAddr) -> Result<&'static str, HaproxyError> {
    let later = settings.bind_nonlocal && settings.binds.contains(&address);
    let key = if address == settings.stats.bind { "haproxy.stats_bind" } else { "haproxy.bind" };
    match free(address, settings.netns.as_deref(), key) {
        Ok(()) => Ok("free"),
        Err(HaproxyError::Bind { obstacle: Obstacle::Absent, .. }) if later => {
            Ok("free until this host has it")
        }
        Err(HaproxyError::Bind { obstacle: Obstacle::Denied, .. })
            if matches!(settings.supervisor, Supervisor::Systemd(_)) =>
        {
            Ok("not tried: HAProxy's unit may listen there, and this user may not")
        }
        Err(error) => Err(error),
    }
}

/// Tries to listen on `address`, which the setting `key` says, for a moment.
///
/// # Errors
/// Why that does not work.
fn free(address: SocketAddr, netns: Option<&str>, key: &str) -> Result<(), HaproxyError> {
    let failed = |why: String| HaproxyError::Bind { address, why, obstacle: Obstacle::Other };
    let denied = |why: String| HaproxyError::Bind { address, why, obstacle: Obstacle::Denied };
    let path = netns.map(netns_path);
    let tried = thread::scope(|scope| {
        // The namespace is a property of the thread; this one ends with the try.
        scope.spawn(|| try_bind(address, path.as_deref())).join()
    });
    match tried {
        Ok(Ok(())) => Ok(()),
        Ok(Err((_, error))) if error.kind() == io::ErrorKind::AddrInUse => Err(failed(format!(
            "another program listens there (`ss -ltnp` shows which); stop it, or choose another address with {key}"
        ))),
        Ok(Err((_, error))) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            let why = format!("no interface has this address; correct {key}");
            Err(HaproxyError::Bind { address, why, obstacle: Obstacle::Absent })
        }
        Ok(Err((what, error))) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(denied(if what == BIND {
                "ports below 1024 need root or CAP_NET_BIND_SERVICE".into()
            } else {
                format!("{what}: {error}; root may enter it")
            }))
        }
        Ok(Err((what, error))) => Err(failed(format!("{what}: {error}"))),
        Err(_) => Err(failed("the try itself failed".into())),
    }
}

fn try_bind(address: SocketAddr, netns: Option<&Path>) -> Result<(), (String, io::Error)> {
    if let Some(path) = netns {
        let what = || format!("namespace {}", path.display());
        let namespace = File::open(path).map_err(|error| (what(), error))?;
        setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|error| (what(), error.into()))?;
    }
    TcpListener::bind(address).map(drop).map_err(|error| (BIND.into(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_address_is_told_from_a_missing_one() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = free(taken.local_addr().unwrap(), None, "haproxy.bind").unwrap_err().to_string();
        assert!(error.contains("another program listens there"), "{error}");
        // TEST-NET-3 is never on an interface.
        let error = free("203.0.113.7:80".parse().unwrap(), None, "haproxy.bind").unwrap_err().to_string();
        assert!(error.contains("no interface has this address"), "{error}");
        let error = free("127.0.0.1:0".parse().unwrap(), Some("no-such-namespace"), "haproxy.bind")
            .unwrap_err()
            .to_string();
        assert!(error.contains("namespace /run/netns/no-such-namespace"), "{error}");
        assert!(free("127.0.0.1:0".parse().unwrap(), None, "haproxy.bind").is_ok());
    }
}
