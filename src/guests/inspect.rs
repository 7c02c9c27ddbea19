//! What `check` shows of libvirt: which daemons are there, which versions, which domains, and for every place that was looked at
//! why it is not used.

use std::{fmt, thread, time::Duration};

use tokio::sync::oneshot;
use virt::connect::Connect;

use super::{
    counters::domain_state,
    endpoint::{Endpoint, endpoints},
    error::GuestsError,
    libvirt::connection::Connection,
    settings::GuestsSettings,
};
use crate::core::{guest::DomainState, ids::ServerId};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestsReport {
    /// The version of the libvirt library in this program.
    pub library: Version,
    /// Every place that was looked at, in order; those with `Ok` are used.
    pub endpoints: Vec<EndpointReport>,
}

/// One place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointReport {
    /// Who put a daemon there: `configured`, `distribution`, or a snap.
    pub origin: &'static str,
    /// libvirt's URI for it.
    pub uri: String,
    /// What is there, or why it is not used.
    pub found: Result<DaemonSeen, GuestsError>,
}

/// A libvirt daemon that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonSeen {
    /// The host's name as it tells it.
    pub hostname: String,
    /// The daemon's version; may be older or newer than the library's.
    pub daemon: Version,
    /// The hypervisor, such as `QEMU`.
    pub hypervisor: String,
    /// The hypervisor's version, when the daemon knows one.
    pub hypervisor_version: Option<Version>,
    /// All its domains, by name.
    pub domains: Vec<DomainSeen>,
}

/// A domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainSeen {
    /// Its UUID, which is the Nova server's id.
    pub server: ServerId,
    /// Its name in libvirt, which is not the server's.
    pub name: String,
    /// Its run state.
    pub state: DomainState,
}

/// A version as libvirt numbers them: 1 000 000 · major + 1 000 · minor + release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0 / 1_000_000, self.0 / 1_000 % 1_000, self.0 % 1_000)
    }
}

/// A daemon that has just been started, or boots many guests, is slow to accept somebody new. A reading may be missed; this look may not.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks at every configured daemon, or at all usual places. Changes nothing.
///
/// # Errors
/// [`GuestsError`] when none can be used; it says for each why not.
pub async fn inspect(settings: &GuestsSettings) -> Result<GuestsReport, GuestsError> {
    let mut started = Vec::new();
    for endpoint in endpoints(settings) {
        let answer = start(endpoint.clone());
        started.push((endpoint, answer));
    }
    let mut reports = Vec::new();
    for (endpoint, answer) in started {
        let found = match answer {
            Ok(answer) => finish(&endpoint, answer, settings.deadline.max(PATIENCE)).await,
            Err(error) => Err(error),
        };
        reports.push(EndpointReport { origin: endpoint.origin, uri: endpoint.uri, found });
    }
    if reports.iter().all(|report| report.found.is_err()) {
        let errors = reports.into_iter().filter_map(|report| report.found.err()).collect();
        return Err(GuestsError::of_all(errors).unwrap_or(GuestsError::NotThere { sockets: Vec::new() }));
    }
    let library = Connect::version().map_or(Version(0), Version);
    Ok(GuestsReport { library, endpoints: reports })
}

type Found = oneshot::Receiver<Result<DaemonSeen, GuestsError>>;

/// A thread of its own, not one of the runtime's: a call that hangs must not keep the program from ending.
fn start(endpoint: Endpoint) -> Result<Found, GuestsError> {
    let (reply, answer) = oneshot::channel();
    let uri = endpoint.uri.clone();
    thread::Builder::new()
        .name("libvirt-check".to_owned())
        .spawn(move || {
            let found = Connection::open(&endpoint, None).and_then(|connection| look(&connection));
            let _ = reply.send(found);
        })
        .map(|_| answer)
        .map_err(|error| GuestsError::Thread { uri, cause: error.to_string() })
}

async fn finish(endpoint: &Endpoint, answer: Found, deadline: Duration) -> Result<DaemonSeen, GuestsError> {
    match tokio::time::timeout(deadline, answer).await {
        Ok(Ok(found)) => found,
        Ok(Err(_)) => Err(GuestsError::Thread { uri: endpoint.uri.clone(), cause: "it died".to_owned() }),
        Err(_) => Err(GuestsError::Deadline { uri: endpoint.uri.clone(), deadline }),
    }
}

fn look(connection: &Connection) -> Result<DaemonSeen, GuestsError> {
    let connect = connection.connect();
    let failed = |operation: &'static str| {
        move |error: virt::error::Error| GuestsError::Call {
            uri: connection.uri().to_owned(),
            operation,
            cause: error.message().to_owned(),
        }
    };
    let mut domains = Vec::new();
    for domain in connect.list_all_domains(0).map_err(failed("list domains"))? {
        // One that goes away while we look is not worth an error.
        let (Ok(uuid), Ok(name), Ok((state, _))) = (domain.uuid(), domain.name(), domain.state()) else {
            continue;
        };
        domains.push(DomainSeen { server: ServerId(uuid), name, state: domain_state(state.to_raw().into()) });
    }
    domains.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(DaemonSeen {
        hostname: connect.hostname().map_err(failed("ask for the host's name"))?,
        daemon: connect.lib_version().map(Version).map_err(failed("ask for the daemon's version"))?,
        hypervisor: connect.driver_type().map_err(failed("ask for the hypervisor"))?,
        hypervisor_version: connect.hyp_version().ok().filter(|version| *version > 0).map(Version),
        domains,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_read_as_people_write_them() {
        assert_eq!(Version(9_000_000).to_string(), "9.0.0");
        assert_eq!(Version(7_002_022).to_string(), "7.2.22");
    }
}
