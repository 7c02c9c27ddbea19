//! Files that hold a secret: readable for their owner, never for everybody.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
};

/// A file's text and who may read it.
pub(super) struct SecretFile {
    /// Its text.
    pub(super) text: String,
    /// Whether every user of the machine may read it.
    pub(super) world_readable: bool,
}

/// Reads a file; `None` when there is none.
///
/// # Errors
/// Any other I/O error.
pub(super) fn read(path: &Path) -> io::Result<Option<SecretFile>> {
    let mut file = match File::open(path) {
        // A path through something that is no directory leads to no file either.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        opened => opened?,
    };
    let world_readable = file.metadata()?.permissions().mode() & 0o004 != 0;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(Some(SecretFile { text, world_readable }))
}

/// What to say of a file that every user of the machine may read.
pub(super) fn too_open(path: &Path) -> String {
    let path = path.display();
    format!("{path}: it holds a secret and every user of this machine may read it: chmod 600 {path}")
}
