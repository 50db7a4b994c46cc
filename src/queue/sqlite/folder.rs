//! The folder of a queue: its lock, its database file, and the errors of both.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::ErrorCode;

use crate::folder::{FolderKind, LockError, LockedFolder, create_new};
use crate::queue::store::StoreError;

pub(in crate::queue) const DATABASE: &str = "queue.sqlite3";
const LOCK: &str = "queue.lock";
/// Written and removed at each opening.
const ROOM: &str = "queue.room";

/// Room that opening needs, most of it for the index of the log. SQLite maps that file without
/// allocating it, so on a full disk with blocks of less than 4 KiB a write to it would end the
/// process (SIGBUS).
const ROOM_BYTES: usize = 128 << 10;

const KIND: FolderKind =
    FolderKind { lock: LOCK, mark: DATABASE, is_known: |name| name == ROOM, warn: |text| log::warn!("{text}") };

/// The lock of a folder, which ends with the process, or when all copies are dropped.
pub(crate) type FolderLock = Arc<LockedFolder>;

/// A locked folder.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) database: PathBuf,
    _locked: FolderLock,
}

impl Folder {
    /// Makes the folder and an empty database if they do not exist, both for this user only. Locks
    /// the folder, or uses the lock in `held`.
    pub(super) fn open(path: &Path, held: &mut Option<FolderLock>) -> Result<Self, StoreError> {
        let locked = match held {
            Some(locked) => locked.clone(),
            None => held.insert(Arc::new(lock(path)?)).clone(),
        };
        let database = path.join(DATABASE);
        // SQLite makes its other files with the permissions and the owner of this one.
        match create_new(&database, KIND.warn) {
            Ok(_) => {
                locked.directory().map_or(Ok(()), File::sync_all).map_err(|error| io_error_at(path, &error))?;
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io_error_at(&database, &error)),
        }
        let room = path.join(ROOM);
        check_room(&room).map_err(|error| io_error_at(&room, &error))?;
        Ok(Self { database, _locked: locked })
    }
}

fn lock(path: &Path) -> Result<LockedFolder, StoreError> {
    LockedFolder::lock(path, &KIND).map_err(|error| match error {
        LockError::Foreign(found) => StoreError::Foreign { path: path.to_owned(), found },
        LockError::Locked(by) => StoreError::Locked { path: path.to_owned(), by },
        LockError::Io(at, error) => io_error_at(&at, &error),
    })
}

/// Fails if the disk is full.
fn check_room(path: &Path) -> io::Result<()> {
    // What an interrupted opening left may belong to another user.
    if let Err(error) = fs::remove_file(path)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error);
    }
    let written = create_new(path, |_| {}).and_then(|mut file| {
        file.write_all(&[1; ROOM_BYTES])?;
        file.sync_all()
    });
    match (written, fs::remove_file(path)) {
        (Ok(()), removed) => removed,
        (written, _) => written,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_interrupted_opening_left_is_removed() {
        let path = std::env::temp_dir().join(format!("stentor-queue-room-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::write(path.join(ROOM), "").unwrap();
        let locked = Folder::open(&path, &mut None);
        let has_room = path.join(ROOM).exists();
        fs::remove_dir_all(&path).unwrap();
        assert!(locked.is_ok() && !has_room, "{locked:?}");
    }

    #[cfg(unix)]
    #[test]
    fn files_that_root_makes_belong_to_the_owner_of_their_folder() {
        use crate::ids::Epoch;
        use crate::queue::sqlite::{SqliteOptions, SqliteStore, WORK_ROWS};
        use std::os::unix::fs::{MetadataExt, chown};
        const OWNER: (u32, u32) = (65_534, 65_533);
        let path = std::env::temp_dir().join(format!("stentor-queue-owner-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        if chown(&path, Some(OWNER.0), Some(OWNER.1)).is_err() {
            let _ = fs::remove_dir_all(&path);
            return eprintln!("skipped: only root may give files to another user");
        }
        let options = SqliteOptions {
            folder: path.clone(),
            epoch: Epoch::new(1, 1),
            limits: (&crate::limits::Limits::default().queue).into(),
            head_min: None,
            work_rows: WORK_ROWS,
            pages_max: None,
        };
        let store = SqliteStore::open(options);
        let files = fs::read_dir(&path).unwrap().map(Result::unwrap);
        let mut owners: Vec<_> = files
            .map(|file| (file.file_name().into_string().unwrap(), file.metadata().unwrap()))
            .map(|(name, file)| (name, (file.uid(), file.gid())))
            .collect();
        owners.sort();
        drop(store);
        fs::remove_dir_all(&path).unwrap();
        let expected = ["queue.lock", "queue.sqlite3", "queue.sqlite3-shm", "queue.sqlite3-wal"];
        assert_eq!(owners, expected.map(|name| (name.to_owned(), OWNER)));
    }

    #[test]
    fn a_held_lock_outlives_the_folder() {
        let path = std::env::temp_dir().join(format!("stentor-queue-held-{}", std::process::id()));
        let mut held = None;
        drop(Folder::open(&path, &mut held).unwrap());
        let other = Folder::open(&path, &mut None);
        let again = Folder::open(&path, &mut held);
        let _ = fs::remove_dir_all(&path);
        assert!(matches!(other, Err(StoreError::Locked { .. })), "{other:?}");
        assert!(again.is_ok(), "{again:?}");
    }
}
