//! The file of a unix socket, from its creation to its removal.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// The file of a bound unix socket, removed when dropped.
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and number of the file. A file that another server has put in its place is not
    /// removed.
    identity: (u64, u64),
}

impl SocketFile {
    /// Binds a socket at `path`. A socket that no server listens on is replaced.
    pub(super) fn bind(path: &Path, mode: u32, backlog: i32) -> io::Result<(UnixListener, Self)> {
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let file = Self { path: path.to_owned(), identity: identity(path)? };
        // No client can connect before `listen`, so none connects with other permissions.
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        socket.listen(backlog)?;
        socket.set_nonblocking(true)?;
        Ok((socket.into(), file))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("file of the unix socket not removed path={:?} error={error}", self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Removes the socket of a server that has ended.
fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file exists and is not a socket"));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "a server listens on this socket")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("stentor-{}-{name}.sock", std::process::id()))
    }

    #[test]
    fn a_stale_socket_is_replaced_and_the_file_removed_at_the_end() {
        let path = path("stale");
        drop(UnixListener::bind(&path).unwrap());
        let (socket, file) = SocketFile::bind(&path, 0o640, 16).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        let error = SocketFile::bind(&path, 0o600, 16).map(drop).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (io::ErrorKind::AddrInUse, "a server listens on this socket")
        );
        drop(UnixStream::connect(&path).unwrap());
        drop((socket, file));
        assert!(!path.exists());
    }

    #[test]
    fn other_files_are_neither_replaced_nor_removed() {
        let path = path("other");
        fs::write(&path, "text").unwrap();
        let error = SocketFile::bind(&path, 0o600, 16).map(drop).unwrap_err();
        assert_eq!(error.to_string(), "the file exists and is not a socket");
        fs::remove_file(&path).unwrap();
        let (_socket, file) = SocketFile::bind(&path, 0o600, 16).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "of another server").unwrap();
        drop(file);
        assert!(path.exists(), "the file belongs to another server");
        fs::remove_file(&path).unwrap();
    }
}
