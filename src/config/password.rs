//! The password of HAProxy's statistics page: the operator's, or one made up once and kept in a file.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::{Places, checks::Findings, env::Env, files::says, keys::Values, problem::Problem, secret_file};

/// The file's name, among the pool's own and among a service's credentials.
const NAME: &str = "stats-password";

/// A password, and the file that it still has to be written to.
#[derive(Debug, Clone)]
pub(super) struct Password {
    /// The password.
    pub(super) secret: SecretString,
    /// Where it is to be kept, when it was made up just now.
    pub(super) keep_in: Option<PathBuf>,
}

/// Reads the password, or makes one up.
pub(super) fn find(values: &Values, env: &Env, places: &Places, found: &mut Findings) -> Option<Password> {
    let (path, told) = match &values.haproxy_stats_password_file {
        Some(set) => (env.path(&set.value), Some(set)),
        None => (credential(env).unwrap_or_else(|| places.state_dir.join(NAME)), None),
    };
    let wrong = |why: String| match told {
        Some(set) => set.problem(why),
        None => Problem::of(None, "", format!("{}: {why}", path.display())),
    };
    match secret_file::read(&path) {
        Ok(Some(file)) if file.world_readable => {
            found.problems.push(Problem::of(None, "", secret_file::too_open(&path)));
            None
        }
        Ok(Some(file)) => {
            let password = file.text.trim_end_matches(['\r', '\n']);
            // It is put between quotes into HAProxy's configuration.
            let legal = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '\\' | '$' | '#');
            if password.is_empty() || password.len() > 128 || !password.chars().all(legal) {
                found.problems.push(wrong(
                    "it must hold one line of 1 to 128 visible ASCII characters without quotes, '\\', '$' and '#'".to_owned(),
                ));
                return None;
            }
            Some(Password { secret: password.to_owned().into(), keep_in: None })
        }
        Ok(None) if told.is_some() => {
            found.problems.push(wrong("there is no such file".to_owned()));
            None
        }
        Ok(None) => Some(Password { secret: made_up(), keep_in: Some(path) }),
        Err(error) => {
            found.problems.push(wrong(says(&error)));
            None
        }
    }
}

/// The password that systemd was told to hand over.
fn credential(env: &Env) -> Option<PathBuf> {
    let path = env.path(env.get("CREDENTIALS_DIRECTORY")?).join(NAME);
    path.exists().then_some(path)
}

fn made_up() -> SecretString {
    Uuid::new_v4().simple().to_string().into()
}

/// Writes a password to a new file that its owner alone can read.
///
/// # Errors
/// Any I/O error, also that the file is there.
pub(super) fn keep(secret: &SecretString, path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", secret.expose_secret())?;
    file.sync_all()
}
