//! What one source says of a cloud, under the names of clouds.yaml, and what credentials follow from it.

use std::collections::BTreeMap;

use secrecy::SecretString;

use crate::{
    config::env::Env,
    openstack::settings::{Credentials, Domain, Project},
};

/// What is read, and the variable that says the same. The names within `auth` come first.
const NAMES: &[(&str, &str)] = &[
    ("auth_url", "OS_AUTH_URL"),
    ("username", "OS_USERNAME"),
    ("user_id", "OS_USER_ID"),
    ("password", "OS_PASSWORD"),
    ("project_name", "OS_PROJECT_NAME"),
    ("project_id", "OS_PROJECT_ID"),
    ("tenant_name", "OS_TENANT_NAME"),
    ("tenant_id", "OS_TENANT_ID"),
    ("user_domain_name", "OS_USER_DOMAIN_NAME"),
    ("user_domain_id", "OS_USER_DOMAIN_ID"),
    ("project_domain_name", "OS_PROJECT_DOMAIN_NAME"),
    ("project_domain_id", "OS_PROJECT_DOMAIN_ID"),
    ("default_domain", "OS_DEFAULT_DOMAIN"),
    ("application_credential_id", "OS_APPLICATION_CREDENTIAL_ID"),
    ("application_credential_name", "OS_APPLICATION_CREDENTIAL_NAME"),
    ("application_credential_secret", "OS_APPLICATION_CREDENTIAL_SECRET"),
    ("auth_type", "OS_AUTH_TYPE"),
    ("region_name", "OS_REGION_NAME"),
    ("interface", "OS_INTERFACE"),
    ("endpoint_type", "OS_ENDPOINT_TYPE"),
    ("cacert", "OS_CACERT"),
    ("insecure", "OS_INSECURE"),
    ("verify", ""),
];

/// How many of [`NAMES`] are written within `auth`.
const IN_AUTH: usize = 16;

/// One source's fields. It holds secrets, so it cannot be printed.
pub(super) struct Fields {
    /// The source, for messages.
    pub(super) origin: String,
    values: BTreeMap<&'static str, String>,
    variables: bool,
}

impl Fields {
    /// Fields that have the names of environment variables.
    pub(super) fn of_variables(origin: String, get: impl Fn(&str) -> Option<String>) -> Self {
        let values = NAMES.iter().filter_map(|(name, variable)| Some((*name, get(variable)?))).collect();
        Self { origin, values, variables: true }
    }

    /// Fields of a cloud in clouds.yaml: `get(name, in_auth)`.
    pub(super) fn of_cloud(origin: String, get: impl Fn(&str, bool) -> Option<String>) -> Self {
        let values = NAMES
            .iter()
            .enumerate()
            .filter_map(|(i, (name, _))| Some((*name, get(name, i < IN_AUTH)?)))
            .collect();
        Self { origin, values, variables: false }
    }

    /// Takes this field from the environment when it is set there.
    pub(super) fn override_from(&mut self, env: &Env, field: &str) {
        if let Some((name, value)) = variable(env, field) {
            self.values.insert(name, value);
        }
    }

    /// Takes from the environment what is missing here of who we are.
    pub(super) fn complete_from(&mut self, env: &Env) {
        for (name, _) in NAMES.iter().take(IN_AUTH) {
            if let Some((name, value)) = variable(env, name) {
                self.values.entry(name).or_insert(value);
            }
        }
    }

    /// A field's value; an empty one is none.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.values.get(name).filter(|value| !value.is_empty()).cloned()
    }

    /// A field's value, or the sentence that it is missing.
    pub(super) fn need(&self, name: &str) -> Result<String, String> {
        self.get(name).ok_or_else(|| format!("{}: {} is missing", self.origin, self.name(name)))
    }

    /// What a field is called in this source.
    pub(super) fn name(&self, name: &str) -> String {
        match NAMES.iter().enumerate().find(|(_, (field, _))| *field == name) {
            Some((_, (_, variable))) if self.variables => (*variable).to_owned(),
            Some((i, _)) if i < IN_AUTH => format!("auth.{name}"),
            _ => name.to_owned(),
        }
    }

    /// Who we are.
    ///
    /// # Errors
    /// A sentence for each thing that is missing or not understood.
    pub(super) fn credentials(&self) -> Result<Credentials, Vec<String>> {
        let auth_type = self.get("auth_type").unwrap_or_else(|| {
            let application = self.get("application_credential_secret").is_some();
            if application { "v3applicationcredential" } else { "password" }.to_owned()
        });
        let mut missing = Vec::new();
        let mut need = |name| self.need(name).map_err(|why| missing.push(why)).unwrap_or_default();
        let credentials = match auth_type.as_str() {
            "v3applicationcredential" => {
                let secret = SecretString::from(need("application_credential_secret"));
                match (self.get("application_credential_id"), self.get("application_credential_name")) {
                    (None, Some(name)) => Credentials::NamedApplicationCredential {
                        name,
                        secret,
                        username: need("username"),
                        user_domain: self.user_domain(),
                    },
                    (Some(id), _) => Credentials::ApplicationCredential { id, secret },
                    (None, None) => {
                        Credentials::ApplicationCredential { id: need("application_credential_id"), secret }
                    }
                }
            }
            "password" | "v3password" => Credentials::Password {
                username: need("username"),
                user_domain: self.user_domain(),
                password: need("password").into(),
                project: match (self.get("project_id"), self.get("tenant_id")) {
                    (Some(id), _) | (None, Some(id)) => Project::Id(id),
                    (None, None) => Project::Name(
                        self.get("tenant_name").unwrap_or_else(|| need("project_name")),
                        self.domain("project_domain"),
                    ),
                },
            },
            other => {
                return Err(vec![format!(
                    "{}: {} = {other:?} is not understood: use password or v3applicationcredential \
                     (`openstack application credential create lbsidecar` makes one)",
                    self.origin,
                    self.name("auth_type")
                )]);
            }
        };
        if self.get("username").is_none() && self.get("user_id").is_some() {
            missing.push(format!(
                "{}: {} is not understood: give the user's name and domain",
                self.origin,
                self.name("user_id")
            ));
        }
        if missing.is_empty() { Ok(credentials) } else { Err(missing) }
    }

    fn user_domain(&self) -> Domain {
        self.domain("user_domain")
    }

    /// `<which>_id`, `<which>_name`, the default domain, or the domain that every Keystone has, in this order.
    fn domain(&self, which: &str) -> Domain {
        let id = self.get(&format!("{which}_id")).map(Domain::Id);
        let name = || self.get(&format!("{which}_name")).map(Domain::Name);
        id.or_else(name)
            .unwrap_or_else(|| Domain::Id(self.get("default_domain").unwrap_or_else(|| "default".to_owned())))
    }
}

fn variable(env: &Env, field: &str) -> Option<(&'static str, String)> {
    let (name, variable) = NAMES.iter().find(|(name, _)| *name == field)?;
    Some((name, env.get(variable)?.to_owned()))
}
