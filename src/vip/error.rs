//! What can go wrong with the service address on this host.

use std::io;

use nix::errno::Errno;

use crate::core::cloud::FailureKind;

/// A failed operation; the text reads after "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum VipError {
    /// The kernel refused something.
    #[error("{operation} {object}: {source}{}", advice(source, *.rights))]
    System {
        /// What was to be done.
        operation: &'static str,
        /// To what: a device, an address, a namespace.
        object: String,
        /// What it would take.
        rights: Rights,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A command could not be run, failed, or took too long.
    #[error("run `{command}`: {detail}")]
    Command {
        /// The command line.
        command: String,
        /// What happened, with what it wrote to standard error.
        detail: String,
        /// The kind of failure.
        kind: FailureKind,
    },
    /// The unit that holds the address for us could not do it.
    #[error("have lbsidecar-address@ {request}: it {why}")]
    Unit {
        /// What it was asked.
        request: String,
        /// What it said.
        why: String,
    },
    /// Everything went well and yet it is not as it should be: somebody else sets the same things.
    #[error("keep port {port} plugged: {differs}; see who else manages this namespace and its devices")]
    Differs {
        /// The port.
        port: String,
        /// What differs from the wish.
        differs: String,
    },
    /// Several things went wrong while taking things down; the rest was done.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; and to "))]
    Several(Vec<VipError>),
}

/// What an operation needs, for the advice when it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Namespaces and links: root, once.
    Plug,
    /// An address and its announcement.
    Address,
}

impl VipError {
    /// The kind, which is all that decisions depend on.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::System { source, .. } => match errno(source) {
                Some(
                    Errno::EPERM
                    | Errno::EACCES
                    | Errno::EINVAL
                    | Errno::EOPNOTSUPP
                    | Errno::EAFNOSUPPORT
                    | Errno::EROFS,
                ) => FailureKind::Permanent,
                Some(Errno::ENODEV | Errno::ENOENT | Errno::ENXIO) => FailureKind::NotFound,
                Some(Errno::EBUSY | Errno::EEXIST) => FailureKind::Conflict,
                _ => FailureKind::Transient,
            },
            Self::Command { kind, .. } => *kind,
            Self::Differs { .. } => FailureKind::Conflict,
            Self::Unit { .. } => FailureKind::Transient,
            Self::Several(errors) => errors.first().map_or(FailureKind::Unknown, Self::kind),
        }
    }

    /// Whether it failed for want of rights.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        matches!(self, Self::System { source, .. } if refused(source))
    }

    /// All errors of a teardown that went on past each.
    pub(super) fn collect(mut errors: Vec<VipError>) -> Result<(), VipError> {
        match (errors.pop(), errors.is_empty()) {
            (None, _) => Ok(()),
            (Some(only), true) => Err(only),
            (Some(last), false) => {
                errors.push(last);
                Err(Self::Several(errors))
            }
        }
    }
}

/// `map_err(system("set", || "device x", Rights::Plug))`.
pub(super) fn system<E: Into<io::Error>>(
    operation: &'static str,
    object: impl ToString,
    rights: Rights,
) -> impl FnOnce(E) -> VipError {
    move |source| VipError::System { operation, object: object.to_string(), rights, source: source.into() }
}

fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw)
}

fn refused(error: &io::Error) -> bool {
    matches!(errno(error), Some(Errno::EPERM | Errno::EACCES))
}

fn advice(error: &io::Error, rights: Rights) -> &'static str {
    match rights {
        _ if !refused(error) => "",
        Rights::Plug => {
            "; plugging needs root (CAP_NET_ADMIN, CAP_SYS_ADMIN): run `sudo lbsidecar provision`, or start the pool's plug unit"
        }
        Rights::Address => {
            "; holding the address needs CAP_NET_ADMIN and CAP_NET_RAW: start lbsidecar-address@POOL.socket, or run as root"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do() {
        let refused = |rights| system::<Errno>("add", "address 10.0.0.1/32 to br-ex", rights)(Errno::EPERM);
        let text = refused(Rights::Address).to_string();
        assert!(
            text.starts_with("add address 10.0.0.1/32 to br-ex: ")
                && text.contains("lbsidecar-address@POOL.socket"),
            "{text}"
        );
        assert!(refused(Rights::Plug).to_string().contains("sudo lbsidecar provision"));
        assert!(refused(Rights::Plug).is_permission());
        assert_eq!(refused(Rights::Plug).kind(), FailureKind::Permanent);
        let missing = system::<Errno>("find", "device br-ex", Rights::Address)(Errno::ENODEV);
        assert_eq!((missing.kind(), missing.to_string().contains("needs")), (FailureKind::NotFound, false));
    }

    #[test]
    fn a_teardown_reports_all() {
        let error = |n: &str| system::<Errno>("remove", n, Rights::Plug)(Errno::EBUSY);
        assert!(VipError::collect(vec![]).is_ok());
        assert!(matches!(VipError::collect(vec![error("a")]), Err(VipError::System { .. })));
        let text = VipError::collect(vec![error("a"), error("b")]).unwrap_err().to_string();
        assert!(text.contains("remove a") && text.contains("and to remove b"), "{text}");
    }
}
