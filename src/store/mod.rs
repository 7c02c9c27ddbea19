//! The durable state: one file per pool, written so that at every moment a whole one is there, and a lock.
//!
//! ```text
//! state.json            the state                       save: state.json.new is written and synced, state.json becomes
//! state.json.previous   the one before                  .previous as well (a second name), .new is renamed to state.json,
//! state.json.corrupt-1  what could not be read          the directory is synced
//! lock                  one daemon works on a pool
//! ```
//!
//! It knows nothing of what a state means.

mod error;
mod format;
mod lock;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    marker::PhantomData,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use nix::fcntl::Flock;
use serde::{Serialize, de::DeserializeOwned};

pub use self::error::StoreError;
use self::format::{UPGRADES, Unusable};
use crate::core::ids::PoolName;

/// The state file of one pool, locked.
#[derive(Debug)]
pub struct Store<T> {
    files: Arc<Files>,
    pool: PoolName,
    _lock: Flock<File>,
    _state: PhantomData<fn() -> T>,
}

/// What was read.
#[derive(Debug, PartialEq)]
pub struct Loaded<T> {
    /// The state; `None` when there is none or none that can be read. Then it has to be rebuilt from what can be observed.
    pub state: Option<T>,
    /// What was wrong with the files.
    pub warning: Option<String>,
}

/// A state that was looked at without the lock.
#[derive(Debug)]
pub struct Peeked<T> {
    /// The state.
    pub state: T,
    /// When it was written.
    pub saved_at: SystemTime,
}

#[derive(Debug)]
struct Files {
    directory: PathBuf,
    current: PathBuf,
    previous: PathBuf,
    new: PathBuf,
}

impl<T: Serialize + DeserializeOwned> Store<T> {
    /// Takes the lock on the pool's directory, which is made when it is not there.
    ///
    /// # Errors
    /// When another daemon has the lock, the directory is open to others, or the operating system refuses.
    pub fn open(directory: &Path, pool: &PoolName) -> Result<Self, StoreError> {
        let io = |doing| move |source| StoreError::Io { doing, path: directory.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io("make directory"))?;
        let mode = fs::metadata(directory).map_err(io("look at"))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(StoreError::Open { path: directory.to_owned(), mode });
        }
        let lock = lock::take(&directory.join("lock"))?;
        Ok(Self {
            files: Arc::new(Files::of(directory)),
            pool: pool.clone(),
            _lock: lock,
            _state: PhantomData,
        })
    }

    /// Reads the state. A file that cannot be used is kept aside, and the one before is taken.
    ///
    /// # Errors
    /// When a newer version or another pool wrote it, or the operating system refuses: then nothing may be done with it.
    pub fn load(&self) -> Result<Loaded<T>, StoreError> {
        let mut warnings = Vec::new();
        for path in [&self.files.current, &self.files.previous] {
            match read(path, &self.pool)? {
                Found::State(state) => {
                    if *path == self.files.previous {
                        warnings.push(
                            "the state from before is used, and one change may be missing from it".to_owned(),
                        );
                    }
                    return Ok(Loaded { state: Some(state), warning: joined(&warnings) });
                }
                Found::Nothing => {}
                Found::Broken(why) => {
                    let aside = self.files.keep_aside(path)?;
                    warnings.push(format!(
                        "{} cannot be read ({why}) and is kept as {}",
                        path.display(),
                        aside.display()
                    ));
                }
            }
        }
        Ok(Loaded { state: None, warning: joined(&warnings) })
    }

    /// Removes the state, for a pool that is no more; a lock file is left behind.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn forget(self) -> Result<(), StoreError> {
        for path in [&self.files.new, &self.files.current, &self.files.previous] {
            match fs::remove_file(path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(StoreError::Io { doing: "remove", path: path.clone(), source }),
            }
        }
        Ok(())
    }

    /// Writes the state; when this returns it is on the disk.
    ///
    /// # Errors
    /// When it could not be written; the one before then still stands.
    pub async fn save(&self, state: &T) -> Result<(), StoreError> {
        let text = format::encode(&self.pool, state)?;
        let files = Arc::clone(&self.files);
        match tokio::task::spawn_blocking(move || files.write(&text)).await {
            Ok(result) => result,
            Err(broken) => Err(StoreError::Io {
                doing: "write",
                path: self.files.current.clone(),
                source: io::Error::other(broken),
            }),
        }
    }
}

/// Looks at a pool's state without the lock and without changing anything; `None` when there is none that can be read.
///
/// # Errors
/// When a newer version or another pool wrote it, or the operating system refuses.
pub fn peek<T: DeserializeOwned>(directory: &Path, pool: &PoolName) -> Result<Option<Peeked<T>>, StoreError> {
    let files = Files::of(directory);
    for path in [&files.current, &files.previous] {
        if let Found::State(state) = read(path, pool)? {
            let saved_at =
                fs::metadata(path).and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            return Ok(Some(Peeked { state, saved_at }));
        }
    }
    Ok(None)
}

enum Found<T> {
    State(T),
    Nothing,
    Broken(String),
}

fn read<T: DeserializeOwned>(path: &Path, pool: &PoolName) -> Result<Found<T>, StoreError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Ok(Found::Broken(error.to_string()));
        }
        Err(source) => return Err(StoreError::Io { doing: "read", path: path.to_owned(), source }),
    };
    match format::decode(&text, pool, UPGRADES) {
        Ok(state) => Ok(Found::State(state)),
        Err(Unusable::Broken(why)) => Ok(Found::Broken(why)),
        Err(Unusable::Newer(found)) => {
            Err(StoreError::Newer { path: path.to_owned(), found, known: format::newest(UPGRADES) })
        }
        Err(Unusable::Stranger(pool)) => Err(StoreError::Stranger { path: path.to_owned(), pool }),
    }
}

fn joined(warnings: &[String]) -> Option<String> {
    (!warnings.is_empty()).then(|| warnings.join("; "))
}

impl Files {
    fn of(directory: &Path) -> Self {
        let current = directory.join("state.json");
        Self {
            directory: directory.to_owned(),
            previous: directory.join("state.json.previous"),
            new: directory.join("state.json.new"),
            current,
        }
    }

    /// Replaces the state file. At every moment a whole state is there under `current`, once there was one.
    fn write(&self, text: &str) -> Result<(), StoreError> {
        let at = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Io { doing, path, source }
        };
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.new)
            .map_err(at("open", &self.new))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(at("write", &self.new))?;
        // A second name for the present file, so that it is never without its first.
        match fs::remove_file(&self.previous) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(at("remove", &self.previous)(error));
            }
            _ => {}
        }
        match fs::hard_link(&self.current, &self.previous) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(at("link", &self.previous)(error));
            }
            _ => {}
        }
        fs::rename(&self.new, &self.current).map_err(at("rename", &self.new))?;
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(at("sync", &self.directory))
    }

    /// Renames a file that cannot be used, so that a person can look at it.
    fn keep_aside(&self, path: &Path) -> Result<PathBuf, StoreError> {
        let free = (1..u32::MAX)
            .map(|n| self.directory.join(format!("state.json.corrupt-{n}")))
            .find(|path| !path.exists());
        let aside = free.unwrap_or_else(|| self.directory.join("state.json.corrupt"));
        fs::rename(path, &aside).map_err(|source| StoreError::Io {
            doing: "rename",
            path: path.to_owned(),
            source,
        })?;
        Ok(aside)
    }
}
