//! The file of a Unix socket: made by listening, and nobody's when the listener is gone.

use crate::unix::{UnixListener, abstract_name};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Removes the file when dropped, if it is still that file (V4 of the server).
pub(super) struct Removes(Option<(PathBuf, (u64, u64))>);

impl Removes {
    /// For sockets without a file.
    pub(super) fn nothing() -> Self {
        Self(None)
    }
}

impl Drop for Removes {
    fn drop(&mut self) {
        let Some((path, made)) = self.0.take() else { return };
        if identity(&path).is_ok_and(|now| now == made) {
            // If it is gone meanwhile, there is nothing left to do.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Device and number of the file itself.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Listens at `path`, and replaces a socket there that nobody listens on. An abstract name has no file.
pub(super) fn bind_unix(path: &Path) -> io::Result<(UnixListener, Removes)> {
    if abstract_name(path).is_some() {
        return Ok((UnixListener::bind(path)?, Removes::nothing()));
    }
    if std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
        match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            _ => return Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens there")),
        }
    }
    let listener = UnixListener::bind(path)?;
    let made = identity(path)?;
    Ok((listener, Removes(Some((path.to_owned(), made)))))
}
