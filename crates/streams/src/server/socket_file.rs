//! The file of a Unix socket: made by listening, and nobody's when the listener is gone.

use crate::unix::{UnixListener, abstract_name, address};
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

/// Removes a socket that nobody listens on. Asks without waiting: a listener whose queue is full is one, too.
fn make_way(path: &Path) -> io::Result<()> {
    let refused = match mio::net::UnixStream::connect_addr(&address(path)?) {
        Err(error) => error,
        Ok(_) => return in_use(),
    };
    match refused.kind() {
        io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        io::ErrorKind::NotFound => Ok(()), // gone meanwhile
        io::ErrorKind::WouldBlock => in_use(),
        // Of datagrams, say.
        _ if refused.raw_os_error() == Some(rustix::io::Errno::PROTOTYPE.raw_os_error()) => in_use(),
        _ => Err(refused),
    }
}

fn in_use() -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens there"))
}

/// Listens at `path`, and replaces a socket there that nobody listens on. An abstract name has no file.
pub(super) fn bind_unix(path: &Path) -> io::Result<(UnixListener, Removes)> {
    if abstract_name(path).is_some() {
        return Ok((UnixListener::bind(path)?, Removes::nothing()));
    }
    if std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
        make_way(path)?;
    }
    let listener = UnixListener::bind(path)?;
    let made = identity(path)?;
    Ok((listener, Removes(Some((path.to_owned(), made)))))
}
