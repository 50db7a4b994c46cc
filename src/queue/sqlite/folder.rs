//! The folder of a queue: private, locked against a second process, and free of other files.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::queue::store::StoreError;

pub(in crate::queue) const DATABASE: &str = "queue.sqlite3";
const LOCK: &str = "queue.lock";

/// A locked folder. The lock ends with the process, or when this is dropped.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) database: PathBuf,
    /// The folder itself, locked too: a lock file that is removed opens the folder to nobody.
    _directory: Option<File>,
    _lock: File,
}

impl Folder {
    /// Makes the folder and an empty database if they do not exist, both for this user only.
    pub(super) fn lock(path: &Path) -> Result<Self, StoreError> {
        // The folders whose names are new.
        let new: Vec<&Path> =
            path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists()).collect();
        create_folder(path).map_err(|error| io_error_at(path, &error))?;
        sync_folders(new.iter().filter_map(|folder| folder.parent()))?;
        check_names(path)?;
        let directory = if cfg!(unix) { Some(File::open(path)) } else { None };
        let directory = directory.transpose().map_err(|error| io_error_at(path, &error))?;
        let lock_path = path.join(LOCK);
        let fail = |error| io_error_at(&lock_path, &error);
        let mut lock = private(OpenOptions::new().read(true).write(true).create(true).truncate(false))
            .open(&lock_path)
            .map_err(fail)?;
        // A file system that locks no folders locks files.
        if directory.as_ref().is_some_and(|directory| matches!(directory.try_lock(), Err(TryLockError::WouldBlock))) {
            return Err(locked(path, lock));
        }
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(locked(path, lock)),
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        lock.set_len(0).and_then(|()| write!(lock, "process {}", std::process::id())).map_err(fail)?;
        let database = path.join(DATABASE);
        // SQLite makes its other files with the permissions of this one.
        match private(OpenOptions::new().write(true).create_new(true)).open(&database) {
            Ok(_) => sync_folders([path].into_iter())?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io_error_at(&database, &error)),
        }
        Ok(Self { database, _directory: directory, _lock: lock })
    }
}

/// Makes the names in these folders durable.
fn sync_folders<'a>(folders: impl Iterator<Item = &'a Path>) -> Result<(), StoreError> {
    for folder in folders.filter(|_| cfg!(unix)) {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| io_error_at(folder, &error))?;
    }
    Ok(())
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

fn create_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(ErrorKind::NotADirectory.into()),
        Err(_) => builder.recursive(true).create(path),
    }
}

/// A folder without database must be a queue's or empty: with other files in it, it was named by
/// mistake.
fn check_names(path: &Path) -> Result<(), StoreError> {
    let fail = |error| io_error_at(path, &error);
    let mut foreign = None;
    for entry in fs::read_dir(path).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name().to_string_lossy().into_owned();
        if name == DATABASE {
            return Ok(());
        }
        if name != LOCK && name != "lost+found" {
            foreign = Some(name);
        }
    }
    foreign.map_or(Ok(()), |found| Err(StoreError::Foreign { path: path.to_owned(), found }))
}

fn locked(path: &Path, lock: File) -> StoreError {
    let mut by = String::new();
    let _ = lock.take(64).read_to_string(&mut by);
    let by = if by.is_empty() { "another process".to_owned() } else { by };
    StoreError::Locked { path: path.to_owned(), by }
}

fn io_error_at(path: &Path, error: &io::Error) -> StoreError {
    let path = path.to_owned();
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            StoreError::NotPermitted { path, error: error.to_string() }
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full { path, error: error.to_string() },
        ErrorKind::NotADirectory => StoreError::NotAFolder { path },
        _ => StoreError::Io { path, error: error.to_string() },
    }
}

/// The meaning of an error of SQLite at the database `path`.
pub(super) fn error_at(path: &Path, error: &rusqlite::Error) -> StoreError {
    let (path, text) = (path.to_owned(), error.to_string());
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => StoreError::NotSqlite { path },
        Some(ErrorCode::DatabaseCorrupt) => StoreError::Damaged { path, found: text },
        Some(ErrorCode::DiskFull) => StoreError::Full { path, error: text },
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => StoreError::NotPermitted { path, error: text },
        _ => StoreError::Io { path, error: text },
    }
}
