//! What can go wrong with libvirt, each as a fragment that reads after "failed to …".

use std::{path::PathBuf, time::Duration};

use crate::core::cloud::FailureKind;

/// Why guests could not be read. The same failure is told to whoever asks while it lasts, therefore it can be cloned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuestsError {
    /// No socket of a libvirt daemon is where one may be.
    #[error(
        "find libvirt: none of {} is there; install and start libvirt, or give its URI with --libvirt-uri",
        list(.sockets)
    )]
    NotThere {
        /// Where it was looked for.
        sockets: Vec<PathBuf>,
    },
    /// The daemon cannot be reached or refuses us.
    #[error("open libvirt at {uri}: {cause}{}", advice.as_deref().map(|a| format!("; {a}")).unwrap_or_default())]
    Open {
        /// The daemon.
        uri: String,
        /// libvirt's own words.
        cause: String,
        /// What to do, when that is known.
        advice: Option<String>,
        /// Whether it may pass.
        kind: FailureKind,
    },
    /// A call failed.
    #[error("{operation} at {uri}: {cause}")]
    Call {
        /// The daemon.
        uri: String,
        /// What was asked.
        operation: &'static str,
        /// libvirt's own words.
        cause: String,
    },
    /// No answer in time. The call itself may go on for long: libvirt offers no way to stop one.
    #[error("read guests at {uri}: no answer within {deadline:?}")]
    Deadline {
        /// The daemon.
        uri: String,
        /// How long was waited.
        deadline: Duration,
    },
    /// All threads that may be used for one daemon hang in it.
    #[error("read guests at {uri}: earlier calls still hang in libvirt; see to that daemon")]
    Stuck {
        /// The daemon.
        uri: String,
    },
    /// The system gave no thread.
    #[error("start a thread for libvirt at {uri}: {cause}")]
    Thread {
        /// The daemon.
        uri: String,
        /// The system's own words.
        cause: String,
    },
    /// Several daemons failed.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<GuestsError>),
}

impl GuestsError {
    /// What the core and the exit code have to know of it.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::NotThere { .. } => FailureKind::NotFound,
            Self::Open { kind, .. } => *kind,
            Self::Call { .. } | Self::Deadline { .. } | Self::Stuck { .. } | Self::Thread { .. } => {
                FailureKind::Transient
            }
            // What refuses us is what the operator has to see to first.
            Self::Several(errors) => errors
                .iter()
                .map(Self::kind)
                .find(|kind| *kind == FailureKind::Unauthorized)
                .or_else(|| errors.first().map(Self::kind))
                .unwrap_or(FailureKind::Transient),
        }
    }

    /// One error out of the errors of all daemons; `None` of none. Places that were only probed are told as one.
    pub(super) fn of_all(errors: Vec<GuestsError>) -> Option<GuestsError> {
        let mut sockets = Vec::new();
        let mut others = Vec::new();
        for error in errors {
            match error {
                Self::NotThere { sockets: more } => sockets.extend(more),
                other => others.push(other),
            }
        }
        match (others.len(), sockets.is_empty()) {
            (0, true) => None,
            (0, false) => Some(Self::NotThere { sockets }),
            (1, _) => others.pop(),
            _ => Some(Self::Several(others)),
        }
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probed_places_are_told_once_and_only_when_nothing_else_is_wrong() {
        let absent = |path: &str| GuestsError::NotThere { sockets: vec![path.into()] };
        let refused = GuestsError::Open {
            uri: "qemu:///system".into(),
            cause: "no".into(),
            advice: None,
            kind: FailureKind::Unauthorized,
        };
        assert_eq!(GuestsError::of_all(vec![]), None);
        assert_eq!(
            GuestsError::of_all(vec![absent("/a"), absent("/b")]),
            Some(GuestsError::NotThere { sockets: vec!["/a".into(), "/b".into()] })
        );
        assert_eq!(GuestsError::of_all(vec![absent("/a"), refused.clone()]), Some(refused.clone()));
        let late = GuestsError::Deadline { uri: "x".into(), deadline: Duration::from_secs(2) };
        let both = GuestsError::of_all(vec![late, refused]).unwrap();
        assert_eq!(both.kind(), FailureKind::Unauthorized);
        assert_eq!(
            both.to_string(),
            "read guests at x: no answer within 2s; open libvirt at qemu:///system: no"
        );
    }
}
