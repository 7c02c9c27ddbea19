//! Where libvirt daemons may be, and what to tell the operator when one cannot be reached.
//!
//! Without a URI in the settings these places are probed, and all daemons that are there are asked, since a host may have both a
//! distribution's libvirt and the one inside an OpenStack snap; a guest is found on whichever knows it.

use std::{
    io::ErrorKind,
    os::unix::{fs::MetadataExt, net::UnixStream},
    path::{Path, PathBuf},
};

use nix::unistd::{Gid, Group, Uid, User};
use virt::error::{Error as VirtError, ErrorNumber};

use super::{error::GuestsError, settings::GuestsSettings};
use crate::core::cloud::FailureKind;

/// One place where a libvirt daemon is or may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Who put the daemon there.
    pub(super) origin: &'static str,
    /// libvirt's URI for it.
    pub(super) uri: String,
    /// When probed: the sockets of which one has to exist. Empty for a configured URI, which has to be there.
    pub(super) probed: Vec<PathBuf>,
}

/// The configured daemons, or the usual places.
pub(super) fn endpoints(settings: &GuestsSettings) -> Vec<Endpoint> {
    if !settings.uris.is_empty() {
        let configured =
            |uri: &String| Endpoint { origin: "configured", uri: uri.clone(), probed: Vec::new() };
        let mut found: Vec<Endpoint> = settings.uris.iter().map(configured).collect();
        found.sort_by(|a, b| a.uri.cmp(&b.uri));
        found.dedup();
        return found;
    }
    let snap = |origin, directory: &str| {
        // With an explicit socket libvirt does not choose the read-only one by itself.
        let socket = format!("{directory}/libvirt-sock-ro");
        Endpoint {
            origin,
            uri: format!("qemu+unix:///system?socket={socket}"),
            probed: vec![PathBuf::from(socket)],
        }
    };
    vec![
        Endpoint {
            origin: "distribution",
            uri: "qemu:///system".to_owned(),
            probed: vec!["/run/libvirt/libvirt-sock-ro".into(), "/run/libvirt/virtqemud-sock-ro".into()],
        },
        snap("snap microstack", "/var/snap/microstack/common/run/libvirt"),
        snap("snap openstack-hypervisor", "/var/snap/openstack-hypervisor/common/run/libvirt"),
    ]
}

impl Endpoint {
    /// Whether it is worth a try to connect.
    ///
    /// # Errors
    /// [`GuestsError::NotThere`] when it is a place to be probed and none of its sockets exists.
    pub(super) fn probe(&self) -> Result<(), GuestsError> {
        if self.probed.is_empty() || self.probed.iter().any(|socket| may_exist(socket)) {
            Ok(())
        } else {
            Err(GuestsError::NotThere { sockets: self.probed.clone() })
        }
    }

    /// What a failed attempt to connect means. libvirt's message names the socket and the system's error, but not the remedy.
    pub(super) fn explain(&self, error: &VirtError) -> GuestsError {
        let refused = [
            ErrorNumber::AuthFailed,
            ErrorNumber::AuthCancelled,
            ErrorNumber::AuthUnavailable,
            ErrorNumber::AccessDenied,
            ErrorNumber::OperationDenied,
        ];
        let wrong = [ErrorNumber::InvalidArg, ErrorNumber::NoConnect, ErrorNumber::NoSupport];
        let socket = self.sockets().into_iter().find(|socket| may_exist(socket));
        let (kind, advice) = match (&socket, socket.as_deref().map(UnixStream::connect)) {
            (Some(socket), Some(Err(error))) if error.kind() == ErrorKind::PermissionDenied => {
                (FailureKind::Unauthorized, Some(format!("let this user in: {}", join_group(socket))))
            }
            (Some(socket), Some(Err(error))) if error.kind() == ErrorKind::ConnectionRefused => (
                FailureKind::Transient,
                Some(format!("{} is left over from a daemon that is gone: start libvirt", socket.display())),
            ),
            _ if error.code().is_any(refused.into()) => (
                FailureKind::Unauthorized,
                Some(socket.as_deref().map_or_else(
                    || "that daemon refuses this user".to_owned(),
                    |socket| format!("let this user in: {}", join_group(socket)),
                )),
            ),
            (None, _) if !self.sockets().is_empty() => (
                FailureKind::NotFound,
                Some("its socket is not there: install and start libvirt, or correct the URI".to_owned()),
            ),
            _ if error.code().is_any(wrong.into()) => {
                (FailureKind::Permanent, Some("correct the URI".to_owned()))
            }
            _ => (
                FailureKind::Transient,
                Some(format!(
                    "is the URI right, and does that daemon run? `virsh -r -c {} list` tries the same",
                    self.uri
                )),
            ),
        };
        GuestsError::Open { uri: self.uri.clone(), cause: error.message().to_owned(), advice, kind }
    }

    /// The local sockets that libvirt would try for this URI; empty for remote daemons and drivers without a daemon.
    fn sockets(&self) -> Vec<PathBuf> {
        let (address, query) = self.uri.split_once('?').unwrap_or((&self.uri, ""));
        if let Some(socket) = query.split('&').find_map(|pair| pair.strip_prefix("socket=")) {
            return vec![PathBuf::from(socket)];
        }
        match address {
            "qemu:///system" | "qemu+unix:///system" => {
                vec!["/run/libvirt/libvirt-sock-ro".into(), "/run/libvirt/virtqemud-sock-ro".into()]
            }
            _ => Vec::new(),
        }
    }
}

/// A directory that is closed to us may hold the socket: then the attempt shall fail, and say so.
fn may_exist(socket: &Path) -> bool {
    socket.try_exists().unwrap_or(true)
}

/// How this user gets to use a socket that is not open to all.
fn join_group(socket: &Path) -> String {
    let user = User::from_uid(Uid::effective()).ok().flatten().map_or_else(|| "USER".to_owned(), |u| u.name);
    let owner =
        socket.metadata().ok().and_then(|meta| Group::from_gid(Gid::from_raw(meta.gid())).ok().flatten());
    // A socket of group root is one whose daemon's `unix_sock_group` was left alone; the packages' group is libvirt.
    let group =
        owner.map(|group| group.name).filter(|name| name != "root").unwrap_or_else(|| "libvirt".to_owned());
    format!("usermod -aG {group} {user}, then log in again or restart the service")
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, time::Duration};

    use super::*;

    fn settings(uris: &[&str]) -> GuestsSettings {
        GuestsSettings {
            uris: uris.iter().map(ToString::to_string).collect(),
            deadline: Duration::from_secs(2),
            sample: Duration::from_secs(1),
        }
    }

    fn configured(uri: &str) -> Endpoint {
        endpoints(&settings(&[uri])).remove(0)
    }

    #[test]
    fn configured_daemons_replace_the_usual_places() {
        let found =
            endpoints(&settings(&["qemu+ssh://a/system", "qemu+ssh://b/system", "qemu+ssh://a/system"]));
        assert_eq!(
            found.iter().map(|e| e.uri.as_str()).collect::<Vec<_>>(),
            ["qemu+ssh://a/system", "qemu+ssh://b/system"]
        );
        assert!(found.iter().all(|endpoint| endpoint.probe().is_ok()), "what is configured has to be there");
        let usual = endpoints(&settings(&[]));
        assert_eq!(
            usual.iter().map(|e| e.origin).collect::<Vec<_>>(),
            ["distribution", "snap microstack", "snap openstack-hypervisor"]
        );
    }

    #[test]
    fn a_probed_place_without_a_socket_is_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("libvirt-sock-ro");
        let place = Endpoint { origin: "x", uri: "qemu:///system".into(), probed: vec![socket.clone()] };
        assert_eq!(place.probe(), Err(GuestsError::NotThere { sockets: vec![socket.clone()] }));
        let _listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(place.probe(), Ok(()));
    }

    #[test]
    fn a_failed_attempt_names_the_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("libvirt-sock-ro");
        let place = configured(&format!("qemu+unix:///system?socket={}", socket.display()));
        // Any error of libvirt serves: the socket itself decides.
        virt::error::clear_error_callback();
        let error = virt::connect::Connect::open(Some("nonsense")).unwrap_err();
        let explain = |place: &Endpoint| match place.explain(&error) {
            GuestsError::Open { kind, advice, .. } => (kind, advice.unwrap_or_default()),
            other => panic!("{other}"),
        };
        let (kind, advice) = explain(&place);
        assert_eq!((kind, advice.contains("not there")), (FailureKind::NotFound, true), "{advice}");
        drop(UnixListener::bind(&socket).unwrap());
        let (kind, advice) = explain(&place);
        assert_eq!((kind, advice.contains("start libvirt")), (FailureKind::Transient, true), "{advice}");
        assert_eq!(explain(&configured("nonsense")).0, FailureKind::Permanent);
    }

    #[test]
    fn a_closed_socket_names_the_group_to_join() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("libvirt-sock-ro");
        let _listener = UnixListener::bind(&socket).unwrap();
        let advice = join_group(&socket);
        assert!(advice.starts_with("usermod -aG "), "{advice}");
        if socket.metadata().unwrap().gid() == 0 {
            assert!(advice.starts_with("usermod -aG libvirt "), "{advice}");
        }
    }
}
