//! How to reach the cloud: what clouds.yaml, an openrc or our own configuration say.

use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;

/// One cloud, one project, one region.
#[derive(Debug, Clone)]
pub struct CloudSettings {
    /// Keystone's URL, with or without `/v3`.
    pub auth_url: String,
    /// Who we are.
    pub credentials: Credentials,
    /// The region, when the catalog has several.
    pub region: Option<String>,
    /// Which endpoints: `public`, `internal` or `admin`.
    pub interface: String,
    /// How the server's certificate is checked.
    pub tls: Tls,
    /// Deadline of one call.
    pub timeout: Duration,
    /// Where these values come from, for messages: a file, or `environment`.
    pub origin: String,
}

/// Who we are.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// A user's password, scoped to a project.
    Password {
        /// User name.
        username: String,
        /// The user's domain: a name, or an id.
        user_domain: Domain,
        /// Password.
        password: SecretString,
        /// Project name or id.
        project: Project,
    },
    /// An application credential by id.
    ApplicationCredential {
        /// Its id.
        id: String,
        /// Its secret.
        secret: SecretString,
    },
    /// An application credential by name, which needs its user.
    NamedApplicationCredential {
        /// Its name.
        name: String,
        /// Its secret.
        secret: SecretString,
        /// User name.
        username: String,
        /// The user's domain.
        user_domain: Domain,
    },
}

/// A Keystone domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Domain {
    /// By id.
    Id(String),
    /// By name.
    Name(String),
}

/// A Keystone project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Project {
    /// By id.
    Id(String),
    /// By name, within a domain.
    Name(String, Domain),
}

/// How the server's certificate is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// Against the system's authorities.
    System,
    /// Against the authority in this PEM file.
    CaFile(PathBuf),
    /// Not at all; the operator said so.
    Insecure,
}
