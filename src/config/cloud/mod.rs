//! Which cloud, and who we are there, found as the OpenStack CLI finds it.
//!
//! In this order: a cloud of clouds.yaml by name (`cloud.name`, `--os-cloud`, `OS_CLOUD`), the `OS_*` variables, the only cloud
//! of clouds.yaml (or the one named `openstack`), an openrc file. Keys of ours in `[cloud]` override what is found.

mod clouds_yaml;
mod fields;
mod openrc;

use std::path::Path;

use self::fields::Fields;
use super::{
    checks::Findings,
    choices::Interface,
    env::Env,
    files::says,
    keys::Values,
    problem::{Origin, Problem},
    secret_file,
    values::Effective,
};
use crate::openstack::settings::{CloudSettings, Credentials, Project, Tls};

/// Finds the cloud and the credentials.
pub(super) fn find(values: &Values, env: &Env, found: &mut Findings) -> Option<CloudSettings> {
    let mut fields = source(values, env, found)?;
    for name in ["region_name", "interface", "cacert", "insecure"] {
        // These are about the way to the cloud, not about who we are: a variable of the moment stands above a file.
        fields.override_from(env, name);
    }
    let credentials = match fields.credentials() {
        Ok(credentials) => Some(credentials),
        Err(problems) => {
            found.problems.extend(problems.into_iter().map(|why| Problem::of(None, "", why)));
            None
        }
    };
    let auth_url = match fields.need("auth_url") {
        Ok(url) if url.starts_with("http://") || url.starts_with("https://") => Some(url),
        Ok(url) => {
            let why = format!(
                "{}: {} = {url:?}: it must begin with https:// or http://",
                fields.origin,
                fields.name("auth_url")
            );
            found.problems.push(Problem::of(None, "", why));
            None
        }
        Err(why) => {
            found.problems.push(Problem::of(None, "", why));
            None
        }
    };
    let interface = interface(values, &fields, found);
    let tls = tls(values, env, &fields, found);
    Some(CloudSettings {
        auth_url: auth_url?,
        credentials: credentials?,
        region: values.cloud_region.as_ref().map(|s| s.value.clone()).or_else(|| fields.get("region_name")),
        interface: interface?,
        tls: tls?,
        timeout: values.cloud_timeout.as_ref()?.value,
        origin: fields.origin,
    })
}

/// What was found, for people.
pub(super) fn effective(cloud: &CloudSettings) -> Vec<Effective> {
    let who = match &cloud.credentials {
        Credentials::Password { username, project, .. } => {
            let (Project::Id(project) | Project::Name(project, _)) = project;
            format!("user {username}, project {project}, password ***")
        }
        Credentials::ApplicationCredential { id, .. } => format!("application credential {id}, secret ***"),
        Credentials::NamedApplicationCredential { name, username, .. } => {
            format!("application credential {name} of user {username}, secret ***")
        }
    };
    let row = |key, value| Effective { key, value: Some(value), origin: cloud.origin.clone() };
    vec![row("(cloud) auth_url", cloud.auth_url.clone()), row("(cloud) credentials", who)]
}

/// The place that says which cloud and who we are.
fn source(values: &Values, env: &Env, found: &mut Findings) -> Option<Fields> {
    let name = match &values.cloud_name {
        Some(set) => Some((set.value.clone(), set.origin.clone())),
        None => env.get("OS_CLOUD").map(|name| (name.to_owned(), Origin::Variable("OS_CLOUD".to_owned()))),
    };
    let from_variables = name.is_none() && env.get("OS_AUTH_URL").is_some();
    if from_variables {
        return Some(Fields::of_variables("the OS_* variables".to_owned(), |name| {
            env.get(name).map(str::to_owned)
        }));
    }
    let before = found.problems.len();
    let looked = clouds_yaml::find(values, env, name.as_ref(), found);
    if looked.fields.is_some() || found.problems.len() > before {
        return looked.fields;
    }
    let openrc = &values.cloud_openrc.as_ref()?;
    // The default is a place of the system, as /etc is.
    let path = match openrc.origin {
        Origin::Default => env.system(openrc.value.strip_prefix("/").unwrap_or(&openrc.value).to_str()?),
        _ => env.path(&openrc.value),
    };
    match secret_file::read(&path) {
        Ok(Some(file)) => {
            if file.world_readable {
                found.warnings.push(Problem::of(None, "", secret_file::too_open(&path)));
            }
            return openrc::parse(&path, &file.text, found);
        }
        Ok(None) if openrc.origin != Origin::Default => {
            found.problems.push(openrc.problem("there is no such file"));
            return None;
        }
        Ok(None) => {}
        Err(error) => {
            found.problems.push(Problem::of(None, "", format!("{}: {}", path.display(), says(&error))));
            return None;
        }
    }
    let places: Vec<String> = looked.places.iter().map(|place| place.display().to_string()).collect();
    found.problems.push(Problem::of(
        None,
        "",
        format!(
            "no cloud is configured: OS_CLOUD and OS_AUTH_URL are not set, cloud.name is not set, and there is none of {}, {}: \
             source an openrc file, or make a clouds.yaml and name a cloud of it by --os-cloud",
            places.join(", "),
            path.display()
        ),
    ));
    None
}

fn interface(values: &Values, fields: &Fields, found: &mut Findings) -> Option<String> {
    if let Some(set) = &values.cloud_interface {
        return Some(match set.value {
            Interface::Public => "public".to_owned(),
            Interface::Internal => "internal".to_owned(),
            Interface::Admin => "admin".to_owned(),
        });
    }
    let written = fields
        .get("interface")
        .or_else(|| fields.get("endpoint_type"))
        .unwrap_or_else(|| "public".to_owned());
    let interface = written.strip_suffix("URL").unwrap_or(&written);
    if ["public", "internal", "admin"].contains(&interface) {
        return Some(interface.to_owned());
    }
    let why = format!(
        "{}: {} = {written:?}: use public, internal or admin",
        fields.origin,
        fields.name("interface")
    );
    found.problems.push(Problem::of(None, "", why));
    None
}

fn tls(values: &Values, env: &Env, fields: &Fields, found: &mut Findings) -> Option<Tls> {
    let truth = |name| {
        fields.get(name).map(|word| ["1", "true", "yes", "on"].contains(&word.to_lowercase().as_str()))
    };
    let insecure = match &values.cloud_insecure {
        Some(set) => set.value,
        None => truth("insecure").unwrap_or(false) || truth("verify") == Some(false),
    };
    if insecure {
        return Some(Tls::Insecure);
    }
    let (file, who) = match (&values.cloud_ca_file, fields.get("cacert")) {
        (Some(set), _) => (env.path(&set.value), format!("{}: {}", set.origin, set.key)),
        (None, Some(file)) => (env.path(file), format!("{}: {}", fields.origin, fields.name("cacert"))),
        (None, None) => return Some(Tls::System),
    };
    match std::fs::File::open(&file) {
        Ok(_) => Some(Tls::CaFile(file)),
        Err(error) => {
            found.problems.push(Problem::of(
                None,
                "",
                format!("{who} = {}: {}", display(&file), says(&error)),
            ));
            None
        }
    }
}

fn display(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}
