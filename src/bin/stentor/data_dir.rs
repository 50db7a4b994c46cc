//! The data folder of `stentor serve`, which has a folder for the journal and one for the queue.
//!
//! Earlier versions kept the journal directly in the data folder. Its files are moved one by one,
//! the header first: an earlier version refuses a folder without header that has other files, and a
//! move that was interrupted is continued at the next start.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

const JOURNAL: &str = "journal";
const QUEUE: &str = "queue";
/// Files that identify the folder of a journal and of a queue.
const JOURNAL_HEADER: &str = "journal.header";
const QUEUE_DATABASE: &str = "queue.sqlite3";
const JOURNAL_LOCK: &str = "journal.lock";
/// Lock files, which name the process that uses the folder.
const LOCKS: [&str; 3] = ["journal/journal.lock", "queue/queue.lock", JOURNAL_LOCK];

#[derive(Debug, Error)]
pub(crate) enum DataDirError {
    #[error(
        "data folder {}: it holds {found:?}, which is no part of a data folder; name an empty folder, or one that does not \
         exist yet",
        path.display()
    )]
    Foreign { path: PathBuf, found: String },
    #[error("data folder {}: it is a file; name a folder", path.display())]
    NotAFolder { path: PathBuf },
    #[error("data folder {}: in use by {by}; stop that process, or name another folder", path.display())]
    Locked { path: PathBuf, by: String },
    /// Both an earlier and this version have used the folder.
    #[error(
        "data folder {}: it holds {name:?} of an earlier version, and \"journal/{name}\" exists too; move one of these two \
         journals away",
        path.display()
    )]
    TwoJournals { path: PathBuf, name: String },
    #[error("data folder: {} not moved to {}: {error}; the journal of an earlier version is continued there", from.display(), to.display())]
    NotMoved { from: PathBuf, to: PathBuf, error: io::Error },
    #[error(
        "data folder {}: not permitted ({error}); the user of this process must be able to read and write there",
        path.display()
    )]
    NotPermitted { path: PathBuf, error: io::Error },
    #[error("data folder {}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |error| match error.kind() {
        ErrorKind::NotADirectory => DataDirError::NotAFolder { path },
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => DataDirError::NotPermitted { path, error },
        _ => DataDirError::Io { path, error },
    }
}

/// The folder of the journal below a data folder.
pub(crate) fn journal(data: &Path) -> PathBuf {
    data.join(JOURNAL)
}

/// The folder of the queue below a data folder.
pub(crate) fn queue(data: &Path) -> PathBuf {
    data.join(QUEUE)
}

/// The folder of the journal, given either that folder or a data folder.
pub(crate) fn find_journal(folder: &Path) -> PathBuf {
    let below = journal(folder);
    let is_data = !folder.join(JOURNAL_HEADER).exists() && below.join(JOURNAL_HEADER).exists();
    if is_data { below } else { folder.to_owned() }
}

/// A data folder that this process uses. Another process cannot open it before this is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    /// The opened folder, which is locked, on systems that can open a folder as a file. The folders
    /// of journal and queue have locks of their own.
    _lock: Option<File>,
}

impl DataDir {
    /// Opens the folder, which is created if it does not exist, and moves the journal of an earlier
    /// version.
    pub(crate) fn open(path: &Path) -> Result<Self, DataDirError> {
        create(path)?;
        check_names(path)?;
        let lock = if cfg!(unix) { Some(File::open(path).map_err(at(path))?) } else { None };
        // Some file systems can lock files but not folders.
        if lock.as_ref().is_some_and(|folder| matches!(folder.try_lock(), Err(TryLockError::WouldBlock))) {
            return Err(locked(path));
        }
        if !earlier_files(path)?.is_empty() {
            move_journal(path)?;
        }
        Ok(Self { _lock: lock })
    }
}

fn create(path: &Path) -> Result<(), DataDirError> {
    let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let new: Vec<&Path> = path.ancestors().take_while(is_missing).collect();
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    if !path.exists() {
        builder.recursive(true).create(path).map_err(at(path))?;
    }
    new.iter().filter_map(|folder| folder.parent()).try_for_each(sync)
}

/// Makes the names in a folder durable.
fn sync(folder: &Path) -> Result<(), DataDirError> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if cfg!(unix) { File::open(folder).and_then(|opened| opened.sync_all()).map_err(at(folder)) } else { Ok(()) }
}

fn names(path: &Path) -> Result<Vec<String>, DataDirError> {
    let names = fs::read_dir(path).and_then(|entries| {
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<io::Result<Vec<_>>>()
    });
    names.map_err(at(path))
}

/// Returns whether an earlier version gave this name to a file of a journal.
fn is_of_journal(name: &str) -> bool {
    let is_segment = |number: &str| number.len() >= 10 && number.bytes().all(|digit| digit.is_ascii_digit());
    [JOURNAL_HEADER, "journal.header.new", JOURNAL_LOCK].contains(&name)
        || name.starts_with("segment.next")
        || name.strip_prefix("segment-").is_some_and(is_segment)
}

/// Files of a journal directly in the data folder, the header first.
fn earlier_files(path: &Path) -> Result<Vec<String>, DataDirError> {
    let mut names = names(path)?;
    names.retain(|name| is_of_journal(name));
    names.sort_unstable_by_key(|name| (name != JOURNAL_HEADER, name.clone()));
    Ok(names)
}

/// Rejects a folder that contains other files and no journal or queue, because such a folder was
/// probably named by mistake.
fn check_names(path: &Path) -> Result<(), DataDirError> {
    let marks = [path.join(JOURNAL_HEADER), journal(path).join(JOURNAL_HEADER), queue(path).join(QUEUE_DATABASE)];
    if marks.iter().any(|mark| mark.exists()) {
        return Ok(());
    }
    let is_known = |name: &str| [JOURNAL, QUEUE, "lost+found"].contains(&name) || is_of_journal(name);
    match names(path)?.into_iter().find(|name| !is_known(name)) {
        None => Ok(()),
        Some(found) => Err(DataDirError::Foreign { path: path.to_owned(), found }),
    }
}

fn locked(path: &Path) -> DataDirError {
    let mut by = String::new();
    let holder = LOCKS.iter().find_map(|name| File::open(path.join(name)).ok());
    let _ = holder.map(|lock| lock.take(64).read_to_string(&mut by));
    let by = if by.is_empty() { "another process".to_owned() } else { by };
    DataDirError::Locked { path: path.to_owned(), by }
}

fn move_journal(path: &Path) -> Result<(), DataDirError> {
    // Versions before format 2 lock only this file.
    let lock_path = path.join(JOURNAL_LOCK);
    let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&lock_path);
    let lock = lock.map_err(at(&lock_path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(locked(path)),
        Err(TryLockError::Error(error)) => return Err(at(&lock_path)(error)),
    }
    // Another process may have moved files before the lock was acquired.
    let mut files = earlier_files(path)?;
    files.retain(|name| name != JOURNAL_LOCK);
    let journal = journal(path);
    if let Some(name) = files.iter().find(|name| fs::symlink_metadata(journal.join(name)).is_ok()) {
        return Err(DataDirError::TwoJournals { path: path.to_owned(), name: name.clone() });
    }
    create(&journal)?;
    for name in &files {
        let (from, to) = (path.join(name), journal.join(name));
        fs::rename(&from, &to).map_err(|error| DataDirError::NotMoved { from, to, error })?;
        // No later file may be found there after a crash before the header is.
        if name == JOURNAL_HEADER {
            sync(&journal)?;
            sync(path)?;
        }
    }
    sync(&journal)?;
    fs::remove_file(&lock_path).map_err(at(&lock_path))?;
    sync(path)?;
    log::info!("journal of an earlier version moved to={} files={}", journal.display(), files.len());
    Ok(())
}

#[cfg(test)]
mod tests;
