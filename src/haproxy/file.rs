//! `haproxy.cfg` on disk: written as a whole or not at all, and recognised when somebody else has changed it.
//!
//! The last line of every file that we write is a comment with a digest of all lines before it. So the file itself tells whether
//! it was edited, with nothing beside it that could get out of step.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::error::HaproxyError;

const MARK: &str = "# digest of the lines above: ";

/// The configuration file and its kin.
#[derive(Debug, Clone)]
pub(super) struct ConfigFile {
    dir: PathBuf,
}

/// What lies there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OnDisk {
    /// Nothing.
    Missing,
    /// A file as we wrote it.
    Ours(String),
    /// A file that somebody wrote or changed.
    Edited(String),
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

fn digest(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_sealed(text: &str) -> bool {
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

    /// `haproxy.cfg.<suffix>`: `lkg`, `rejected`, `rejected.log` or `edited`.
    pub(super) fn beside(&self, suffix: &str) -> PathBuf {
        self.dir.join(format!("haproxy.cfg.{suffix}"))
    }

    /// Reads `haproxy.cfg`.
    pub(super) fn read(&self) -> Result<OnDisk, HaproxyError> {
        read(&self.path())
    }

    /// The last version that HAProxy was seen running, if it is as we wrote it.
    pub(super) fn last_known_good(&self) -> Option<String> {
        match read(&self.beside("lkg")) {
            Ok(OnDisk::Ours(text)) => Some(text),
            _ => None,
        }
    }

    /// Puts `text` into a new file in the same directory, on disk and readable by us alone (as temporary files are), but under
    /// no name that counts.
    pub(super) fn stage(&self, text: &str) -> Result<NamedTempFile, HaproxyError> {
        let path = self.path();
        let failed = |operation| {
            let path = path.clone();
            move |source| HaproxyError::File { operation, path, source }
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(failed("create the directory of"))?;
        let mut staged = tempfile::Builder::new()
            .prefix(".haproxy.cfg.")
            .tempfile_in(&self.dir)
            .map_err(failed("create a new version of"))?;
        staged.write_all(text.as_bytes()).map_err(failed("write a new version of"))?;
        staged.as_file().sync_all().map_err(failed("sync a new version of"))?;
        Ok(staged)
    }

    /// Gives a staged file its name, and makes that last.
    pub(super) fn commit(&self, staged: NamedTempFile, path: &Path) -> Result<(), HaproxyError> {
        let failed =
            |operation| move |source| HaproxyError::File { operation, path: path.to_owned(), source };
        staged.persist(path).map_err(|error| failed("replace")(error.error))?;
        fs::File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(failed("sync the directory of"))
    }

    /// Writes a file beside `haproxy.cfg`.
    pub(super) fn keep(&self, suffix: &str, text: &str) -> Result<PathBuf, HaproxyError> {
        let path = self.beside(suffix);
        self.commit(self.stage(text)?, &path)?;
        Ok(path)
    }
}

fn read(path: &Path) -> Result<OnDisk, HaproxyError> {
    match fs::read_to_string(path) {
        Ok(text) if is_sealed(&text) => Ok(OnDisk::Ours(text)),
        Ok(text) => Ok(OnDisk::Edited(text)),
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
        file.commit(file.stage(&text).unwrap(), &file.path()).unwrap();
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
    }
}
