//! Archives in the "newc" form, which the kernel unpacks as initramfs.
//!
//! The format is in the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`. Several archives may follow each
//! other, later ones adding to and replacing files of earlier ones: that is how a guest gets its own facts.

use std::io::{self, Write};

/// A directory, mode 0755.
const DIRECTORY: u32 = 0o040_755;
/// A regular file.
const FILE: u32 = 0o100_000;

/// Writes one archive.
#[derive(Debug)]
pub(super) struct Cpio<W> {
    out: W,
    written: usize,
    inode: u32,
}

impl<W: Write> Cpio<W> {
    /// Starts an archive at the beginning of `out`, or after another archive that was padded to four bytes.
    pub(super) fn new(out: W) -> Self {
        Self { out, written: 0, inode: 0 }
    }

    /// Adds a directory; its parents must be there before it.
    ///
    /// # Errors
    ///
    /// What `out` says.
    pub(super) fn directory(&mut self, name: &str) -> io::Result<()> {
        self.entry(name, DIRECTORY, &[])
    }

    /// Adds a file with the given permissions.
    ///
    /// # Errors
    ///
    /// What `out` says.
    pub(super) fn file(&mut self, name: &str, permissions: u32, data: &[u8]) -> io::Result<()> {
        self.entry(name, FILE | permissions, data)
    }

    /// Ends the archive.
    ///
    /// # Errors
    ///
    /// What `out` says.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, name: &str, mode: u32, data: &[u8]) -> io::Result<()> {
        let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        let size = u32::try_from(data.len()).map_err(too_large)?;
        let name_size = u32::try_from(name.len() + 1).map_err(too_large)?;
        let inode = self.inode;
        self.inode += 1;
        // Magic, then inode, mode, uid, gid, links, mtime, size, device and special device (two words each), name size, checksum.
        let mut header = String::from("070701");
        for field in [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0] {
            header.push_str(&format!("{field:08x}"));
        }
        self.write(header.as_bytes())?;
        self.write(name.as_bytes())?;
        self.write(&[0])?;
        self.pad()?;
        self.write(data)?;
        self.pad()
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len();
        self.out.write_all(bytes)
    }

    fn pad(&mut self) -> io::Result<()> {
        let missing = self.written.next_multiple_of(4) - self.written;
        self.write(&[0; 3][..missing])
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn two_archives_in_a_row_are_read_by_the_real_cpio() {
        let mut first = Cpio::new(Vec::new());
        first.directory("etc").unwrap();
        first.file("etc/hostname", 0o644, b"vm-test").unwrap();
        let bytes = first.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let Ok(mut cpio) = Command::new("busybox")
            .args(["cpio", "-tv"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
        else {
            eprintln!("skipped: there is no busybox");
            return;
        };
        cpio.stdin.take().unwrap().write_all(&bytes).unwrap();
        let listing = String::from_utf8(cpio.wait_with_output().unwrap().stdout).unwrap();
        assert!(listing.contains("drwxr-xr-x"), "{listing}");
        assert!(
            listing.lines().any(|line| line.contains(" 7 ") && line.ends_with("etc/hostname")),
            "{listing}"
        );
    }
}
