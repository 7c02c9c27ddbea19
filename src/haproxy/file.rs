//! `haproxy.cfg` on disk: written as a whole or not at all, and recognised when somebody else has changed it.
//!
//! The last line of every file that we write is a comment with a digest of all lines before it. So the file itself tells whether
//! it was edited, with nothing beside it that could get out of step.

use std::{
    fmt, fs, io,
    io::Write,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::sys::{stat::futimens, time::TimeSpec};
use sha2::{Digest, Sha256};

use super::error::HaproxyError;

const MARK: &str = "# digest of the lines above: ";

/// The configuration file and its kin.
#[derive(Debug, Clone)]
pub(super) struct ConfigFile {
    dir: PathBuf,
}

/// What lies there.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum OnDisk {
    /// Nothing.
    Missing,
    /// A file as we wrote it.
    Ours(String),
    /// A file that somebody wrote or changed.
    Edited(String),
}

impl fmt::Debug for OnDisk {
    /// Without the text, which holds a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "Missing",
            Self::Ours(_) => "Ours",
            Self::Edited(_) => "Edited",
        })
    }
}

impl OnDisk {
    /// The text, whoever wrote it.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Missing => None,
            Self::Ours(text) | Self::Edited(text) => Some(text),
        }
    }
}

/// Adds the line by which [`ConfigFile::read`] knows the text again.
pub(super) fn seal(text: &str) -> String {
    let text = format!("{}\n", text.trim_end());
    format!("{text}{MARK}{}\n", digest(&text))
}

pub(super) fn digest(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn is_sealed(text: &str) -> bool {
    text.trim_end_matches('\n')
        .rsplit_once('\n')
        .is_some_and(|(lines, last)| last.strip_prefix(MARK) == Some(&digest(&format!("{lines}\n"))))
}

impl ConfigFile {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// `haproxy.cfg`.
    pub(super) fn path(&self) -> PathBuf {
        self.dir.join("haproxy.cfg")
    }

    /// `haproxy.cfg.<suffix>`: `new`, `lkg`, `rejected`, `rejected.log` or `edited`.
    pub(super) fn beside(&self, suffix: &str) -> PathBuf {
        self.dir.join(format!("haproxy.cfg.{suffix}"))
    }

    /// Reads `haproxy.cfg`.
    pub(super) fn read(&self) -> Result<OnDisk, HaproxyError> {
        read(&self.path())
    }

    /// Where clients reach the service, when that is an address that the host need not have: the first one of the file.
    pub(super) fn foreign_address(&self) -> Option<SocketAddr> {
        let text = self.read().ok()?;
        let mut lines = text.text()?.lines();
        lines.find_map(|line| line.trim().strip_prefix("bind ")?.strip_suffix(" transparent")?.parse().ok())
    }

    /// The last version that HAProxy was seen running, if it is as we wrote it.
    pub(super) fn last_known_good(&self) -> Option<String> {
        match read(&self.beside("lkg")) {
            Ok(OnDisk::Ours(text)) => Some(text),
            _ => None,
        }
    }

    /// Puts `text` into `haproxy.cfg.new`, on disk and readable by us alone. There is one writer, so the name is free.
    pub(super) fn stage(&self, text: &str) -> Result<PathBuf, HaproxyError> {
        let path = self.beside("new");
        let write = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
            // What an interrupted run left behind could have other rights.
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        match write() {
            Ok(()) => Ok(path),
            Err(source) => Err(HaproxyError::File { operation: "write", path, source }),
        }
    }

    /// Gives the staged file the name `path`, and makes that last.
    pub(super) fn commit(&self, path: &Path) -> Result<(), HaproxyError> {
        fs::rename(self.beside("new"), path)
            .and_then(|()| fs::File::open(&self.dir)?.sync_all())
            .map_err(|source| HaproxyError::File { operation: "replace", path: path.to_owned(), source })
    }

    /// Lets whoever watches `haproxy.cfg` know that it is wanted, as it is.
    pub(super) fn touch(&self) -> Result<(), HaproxyError> {
        let path = self.path();
        fs::File::open(&path)
            .and_then(|file| Ok(futimens(file, &TimeSpec::UTIME_NOW, &TimeSpec::UTIME_NOW)?))
            .map_err(|source| HaproxyError::File { operation: "touch", path, source })
    }

    /// Writes a file at once.
    pub(super) fn write(&self, path: &Path, text: &str) -> Result<(), HaproxyError> {
        self.stage(text)?;
        self.commit(path)
    }
}

fn read(path: &Path) -> Result<OnDisk, HaproxyError> {
    match fs::read(path) {
        Ok(bytes) => {
            // What is not text is not ours either.
            let text = String::from_utf8_lossy(&bytes).into_owned();
            Ok(if is_sealed(&text) { OnDisk::Ours(text) } else { OnDisk::Edited(text) })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(OnDisk::Missing),
        Err(source) => Err(HaproxyError::File { operation: "read", path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_edit_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let file = ConfigFile::new(dir.path().join("made/on/demand"));
        assert_eq!(file.read().unwrap(), OnDisk::Missing);
        let text = seal("global\n    maxconn 5");
        file.write(&file.path(), &text).unwrap();
        assert_eq!(file.read().unwrap(), OnDisk::Ours(text.clone()));
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        for edited in [
            text.replace('5', "6"),
            text.replace("global", "global\n    nbthread 9"),
            format!("{text}# more\n"),
            "global\n".to_owned(),
            String::new(),
        ] {
            fs::write(file.path(), &edited).unwrap();
            assert_eq!(file.read().unwrap(), OnDisk::Edited(edited));
        }
        fs::write(file.path(), b"global\xff\n").unwrap();
        assert!(matches!(file.read().unwrap(), OnDisk::Edited(_)));
    }
}
