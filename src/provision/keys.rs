//! The key pair's files: a public key that was given, or a private one that is there or is made.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

use super::settings::ProvisionSettings;

/// Why there is no key.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("{doing} {}: {why}", path.display())]
    File {
        /// The operation.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        why: String,
    },
    /// It is no public key.
    #[error("read {}: this is not an OpenSSH public key (`ssh-ed25519 AAAA…`)", .0.display())]
    Strange(PathBuf),
    /// `ssh-keygen` did not do it.
    #[error("make key {} with ssh-keygen: {why}", path.display())]
    Keygen {
        /// The file.
        path: PathBuf,
        /// Its words.
        why: String,
    },
}

/// A public key: its type and its base64, without the comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(String);

impl PublicKey {
    /// Reads `ssh-ed25519 AAAA… comment`.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let (kind, key) = (words.next()?, words.next()?);
        let known = kind.starts_with("ssh-") || kind.starts_with("ecdsa-") || kind.starts_with("sk-");
        // Every OpenSSH key begins with the length of its type.
        (known && key.starts_with("AAAA")).then(|| Self(format!("{kind} {key}")))
    }

    /// The key with this comment.
    #[must_use]
    pub fn with_comment(&self, comment: &str) -> String {
        format!("{} {comment}", self.0)
    }
}

/// The comment of a public key.
#[must_use]
pub(super) fn comment(text: &str) -> Option<&str> {
    text.trim().splitn(3, char::is_whitespace).nth(2).map(str::trim)
}

/// The key that the operator has: the given public one, or that of the key file; `None` when neither is there.
///
/// # Errors
/// When a file is there and cannot be used.
pub(super) async fn find(settings: &ProvisionSettings) -> Result<Option<PublicKey>, KeyError> {
    if let Some(path) = &settings.public_key {
        return read(path).map(Some);
    }
    let (private, public) = (&settings.key_file, public(&settings.key_file));
    if public.exists() {
        return read(&public).map(Some);
    }
    if !private.exists() {
        return Ok(None);
    }
    let text = keygen(private, Command::new("ssh-keygen").arg("-y").arg("-f").arg(private)).await?;
    PublicKey::read(&text).map(Some).ok_or_else(|| KeyError::Strange(private.clone()))
}

/// Makes the key file, for its owner alone, and gives its public half.
///
/// # Errors
/// When the directory cannot be written or `ssh-keygen` is missing.
pub(super) async fn make(path: &Path, comment: &str) -> Result<PublicKey, KeyError> {
    let file = |doing, path: &Path, error: io::Error| KeyError::File {
        doing,
        path: path.to_owned(),
        why: error.to_string(),
    };
    if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
        made.map_err(|error| file("make directory", parent, error))?;
    }
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]).arg(path);
    keygen(path, &mut command).await?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .map_err(|error| file("protect", path, error))?;
    read(&public(path))
}

async fn keygen(path: &Path, command: &mut Command) -> Result<String, KeyError> {
    let failed = |why: String| KeyError::Keygen { path: path.to_owned(), why };
    // Without a terminal it asks nobody for a passphrase.
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            failed("it is not installed: install openssh-client, or give --public-key".to_owned())
        }
        _ => failed(error.to_string()),
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ")))
}

fn read(path: &Path) -> Result<PublicKey, KeyError> {
    let text = fs::read_to_string(path).map_err(|error| KeyError::File {
        doing: "read",
        path: path.to_owned(),
        why: error.to_string(),
    })?;
    PublicKey::read(&text).ok_or_else(|| KeyError::Strange(path.to_owned()))
}

fn public(private: &Path) -> PathBuf {
    let mut name = private.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}
