//! A folder that one process uses: private to its user, locked, and free of foreign files. The
//! journal and the queue have one each.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// Folder that a file system such as ext4 creates in each new volume. A volume with no other files
/// counts as empty.
const LOST_AND_FOUND: &str = "lost+found";

/// File names of a kind of folder.
pub(crate) struct FolderKind {
    /// The lock file, which names the process that holds the lock.
    pub(crate) lock: &'static str,
    /// The file that identifies the folder. In a folder that has it, other files are ignored.
    pub(crate) mark: &'static str,
    /// Returns whether a folder without mark may have a file of this name.
    pub(crate) is_known: fn(&str) -> bool,
    /// Logs a warning.
    pub(crate) warn: fn(String),
}

/// Reason why a folder was not locked.
#[derive(Debug)]
pub(crate) enum LockError {
    /// The folder has a file of this name and no mark: it was probably named by mistake.
    Foreign(String),
    /// The other process, as named in the lock file.
    Locked(String),
    /// The path may be that of a parent or of the lock file.
    Io(PathBuf, io::Error),
}

/// A locked folder. The lock ends with the process, or when this is dropped.
#[derive(Debug)]
pub(crate) struct LockedFolder {
    /// The opened folder, on systems that can open a folder as a file. The folder is locked too, so
    /// that removing the lock file does not unlock it.
    directory: Option<File>,
    _lock: File,
}

impl LockedFolder {
    /// Creates the folder if it does not exist, for this user only, and locks it.
    pub(crate) fn lock(path: &Path, kind: &FolderKind) -> Result<Self, LockError> {
        let fail = |error| LockError::Io(path.to_owned(), error);
        create(path)?;
        check_names(path, kind)?;
        // Only Unix systems can open a folder as a file.
        let directory = if cfg!(unix) { Some(File::open(path).map_err(fail)?) } else { None };
        let lock_path = path.join(kind.lock);
        let fail = |error| LockError::Io(lock_path.clone(), error);
        let mut lock = match create_new(&lock_path, kind.warn) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                OpenOptions::new().read(true).write(true).open(&lock_path)
            }
            created => created,
        }
        .map_err(fail)?;
        // Some file systems can lock files but not folders, so other errors of locking the folder
        // are ignored.
        let is_taken = |file: &File| matches!(file.try_lock(), Err(TryLockError::WouldBlock));
        if directory.as_ref().is_some_and(is_taken) {
            return Err(LockError::Locked(holder(lock)));
        }
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Locked(holder(lock))),
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        lock.set_len(0).and_then(|()| write!(lock, "process {}", std::process::id())).map_err(fail)?;
        Ok(Self { directory, _lock: lock })
    }

    /// The opened folder, whose sync makes its directory entries durable.
    pub(crate) fn directory(&self) -> Option<&File> {
        self.directory.as_ref()
    }
}

/// Restricts access to a new file to its owner, because the files contain private ids and payloads
/// of clients.
pub(crate) fn for_owner_only(options: &mut OpenOptions) {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
}

/// Creates a file for the owner of its folder only, so that a tool of root leaves no file that the
/// server cannot open. `warn` receives a sentence if the file stays with this process's user.
pub(crate) fn create_new(path: &Path, warn: fn(String)) -> io::Result<File> {
    let mut options = OpenOptions::new();
    for_owner_only(options.read(true).write(true).create_new(true));
    let file = options.open(path)?;
    // Only a new file is given away, since the name of an existing one may be a link to another.
    #[cfg(unix)]
    if let Err(error) = give_to_owner_of_folder(&file, path) {
        warn(format!("file not given to the owner of its folder path={} error={error}", path.display()));
    }
    #[cfg(not(unix))]
    let _ = warn;
    Ok(file)
}

#[cfg(unix)]
fn give_to_owner_of_folder(file: &File, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let folder = fs::metadata(path.with_file_name("."))?;
    let is_owner = file.metadata()?.uid() == folder.uid();
    if is_owner { Ok(()) } else { fchown(file, Some(folder.uid()), Some(folder.gid())) }
}

/// Creates a folder and its parents. Their names are durable, since a lost folder is a lost file.
fn create(path: &Path) -> Result<(), LockError> {
    let fail = |error| LockError::Io(path.to_owned(), error);
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => return Err(fail(ErrorKind::NotADirectory.into())),
        Err(_) => {}
    }
    let new: Vec<&Path> =
        path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists()).collect();
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path).map_err(fail)?;
    for parent in new.iter().filter_map(|folder| folder.parent()).filter(|_| cfg!(unix)) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let synced = File::open(parent).and_then(|parent| parent.sync_all());
        synced.map_err(|error| LockError::Io(parent.to_owned(), error))?;
    }
    Ok(())
}

fn check_names(path: &Path, kind: &FolderKind) -> Result<(), LockError> {
    let fail = |error| LockError::Io(path.to_owned(), error);
    let mut foreign = None;
    for entry in fs::read_dir(path).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name().to_string_lossy().into_owned();
        if name == kind.mark {
            return Ok(());
        }
        if name != kind.lock && name != LOST_AND_FOUND && !(kind.is_known)(&name) {
            foreign = Some(name);
        }
    }
    foreign.map_or(Ok(()), |found| Err(LockError::Foreign(found)))
}

fn holder(lock: File) -> String {
    let mut by = String::new();
    let _ = lock.take(64).read_to_string(&mut by);
    if by.is_empty() { "another process".to_owned() } else { by }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: FolderKind =
        FolderKind { lock: "the.lock", mark: "mark", is_known: |name| name == "known", warn: |text| panic!("{text}") };

    /// A path of its own, removed with what is there.
    struct Scratch(PathBuf);

    impl Scratch {
        fn with(name: &str, files: &[&str]) -> Self {
            let scratch = Self(std::env::temp_dir().join(format!("stentor-folder-{}-{name}", std::process::id())));
            let _ = fs::remove_dir_all(&scratch.0);
            fs::create_dir(&scratch.0).unwrap();
            files.iter().for_each(|file| fs::write(scratch.0.join(file), "").unwrap());
            scratch
        }

        fn lock(&self) -> Result<LockedFolder, LockError> {
            LockedFolder::lock(&self.0, &KIND)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_folder_with_other_files_needs_its_mark() {
        for files in [&[][..], &["known", LOST_AND_FOUND, "the.lock"], &["mark", "other"]] {
            Scratch::with("accepted", files).lock().unwrap();
        }
        let error = Scratch::with("foreign", &["known", "other"]).lock().unwrap_err();
        assert!(matches!(&error, LockError::Foreign(found) if found == "other"), "{error:?}");
    }

    #[test]
    fn a_locked_folder_names_its_process() {
        let scratch = Scratch::with("locked", &[]);
        let locked = scratch.lock().unwrap();
        let by = format!("process {}", std::process::id());
        assert!(matches!(scratch.lock(), Err(LockError::Locked(found)) if found == by));
        #[cfg(unix)]
        {
            // The folder itself is locked too.
            fs::remove_file(scratch.0.join("the.lock")).unwrap();
            assert!(matches!(scratch.lock(), Err(LockError::Locked(_))));
        }
        drop(locked);
        scratch.lock().unwrap();
    }

    #[test]
    fn a_file_in_the_place_of_a_folder_is_an_error() {
        let scratch = Scratch::with("file", &["f"]);
        let error = LockedFolder::lock(&scratch.0.join("f"), &KIND).unwrap_err();
        let LockError::Io(path, error) = error else { panic!("{error:?}") };
        assert_eq!((path, error.kind()), (scratch.0.join("f"), ErrorKind::NotADirectory));
    }
}
