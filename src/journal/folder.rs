//! The folder of a journal: lock, header, file names, and the errors of opening a journal.
//!
//! The file `journal.header` identifies the journal and contains the state in which the journal was
//! left:
//!
//! | bytes | | |
//! |---|---|---|
//! | 8 | `stentorJ` | |
//! | 4 | format | of the folder: 4; formats 1 to 3, which differ only in their records, can be read too |
//! | 8 | epoch | |
//! | 16 | boot | id of the machine's boot in which the journal was opened, 0 if unknown |
//! | 1 | state | 0 open, 1 closed, 2 failed |
//! | 8 | floor | LSNs up to this one may be in use |
//! | 8 | last | LSN of the newest record, if the journal was closed |
//! | 4 | checksum | of the bytes above, CRC-32 |
//!
//! In every format, the last four bytes are the checksum of all bytes before them. A damaged format
//! number is thus not mistaken for a newer format. If the header is damaged or missing, the journal
//! is discarded. A folder that contains files of other programs and no header is left unchanged.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::disk;
use super::layout::{FORMAT, SEGMENT, SPARE, segment_name, u32_at, u64_at};
use super::segment::Fault;
use crate::folder::{FolderKind, LockError, LockedFolder, for_owner_only};
use crate::ids::{Epoch, Lsn};

const MAGIC: [u8; 8] = *b"stentorJ";
const HEADER: &str = "journal.header";
const HEADER_NEW: &str = "journal.header.new";
const HEADER_BYTES: usize = 57;
const LOCK: &str = "journal.lock";
const KIND: FolderKind = FolderKind {
    lock: LOCK,
    mark: HEADER,
    is_known: |name| name == HEADER_NEW || is_spare(name) || sequence(name).is_some(),
    warn: |text| log::warn!("{text}"),
};

/// The reason why a journal was not opened. After [`NotPermitted`](Self::NotPermitted),
/// [`NoSpace`](Self::NoSpace) and [`Io`](Self::Io), the folder may have been changed. After any
/// other error, the journal is unchanged.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The folder contains a file that does not belong to a journal. Name an empty folder, or a
    /// path that does not exist yet.
    #[error(
        "journal folder {}: it holds {found:?}, which is no part of a journal; name an empty folder, or one that does not \
         exist yet",
        path.display()
    )]
    Foreign {
        /// Path of the folder.
        path: PathBuf,
        /// Name of a file in the folder that does not belong to a journal.
        found: String,
    },
    /// The path is that of a file. Name a folder.
    #[error("journal folder {}: it is a file; name a folder", path.display())]
    NotAFolder {
        /// Path of the file.
        path: PathBuf,
    },
    /// The folder contains no journal.
    #[error("journal folder {}: there is no journal in it", path.display())]
    Absent {
        /// Path where a journal was expected.
        path: PathBuf,
    },
    /// A newer version of the program wrote the file. Run that version, or move the folder away.
    #[error(
        "journal file {}: format {found} is newer than {FORMAT}, which this program knows; run the newer program, or move \
         the folder away and lose what it holds",
        path.display()
    )]
    Newer {
        /// Path of the file.
        path: PathBuf,
        /// Format of the file.
        found: u32,
    },
    /// Another program has changed the file, or the file was damaged on disk. Restore the file, or
    /// move the folder away.
    #[error(
        "journal file {}: {found}; restore it, or move the folder away and lose what it holds",
        path.display()
    )]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// The kind of damage.
        found: String,
    },
    /// Another process uses the folder. Stop that process, or name another folder.
    #[error("journal folder {}: in use by {by}; stop that process, or name another folder", path.display())]
    Locked {
        /// Path of the folder.
        path: PathBuf,
        /// The other process, as named in the lock file.
        by: String,
    },
    /// The user of this process may not read or write the file or folder. Grant the permission, or
    /// name another folder.
    #[error(
        "journal file {}: not permitted ({kind}); the user of this process must be able to read and write there",
        path.display()
    )]
    NotPermitted {
        /// Path of the file or folder.
        path: PathBuf,
        /// The error of the file system.
        kind: ErrorKind,
    },
    /// The disk or a quota is full. Free some space, or name a folder on another disk.
    #[error("journal file {}: no space left ({kind}); make room, or name a folder on another disk", path.display())]
    NoSpace {
        /// Path of the file.
        path: PathBuf,
        /// The error of the file system.
        kind: ErrorKind,
    },
    /// The file system failed.
    #[error("journal file {}: {error}", path.display())]
    Io {
        /// Path of the file or folder.
        path: PathBuf,
        /// The error of the file system.
        error: io::Error,
    },
}

impl OpenError {
    pub(super) fn at(path: &Path, error: io::Error) -> Self {
        let (path, kind) = (path.to_owned(), error.kind());
        match kind {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::NotPermitted { path, kind },
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::NoSpace { path, kind },
            ErrorKind::NotADirectory => Self::NotAFolder { path },
            _ => Self::Io { path, error },
        }
    }

    pub(super) fn fault(path: &Path, fault: Fault) -> Self {
        let file = path.to_owned();
        match fault {
            Fault::Io(error) => Self::at(path, error),
            Fault::Newer(found) => Self::Newer { path: file, found },
            Fault::Short(at) => Self::Damaged { path: file, found: format!("it ends early, at byte {at}") },
            Fault::Damaged(at, reason) => Self::Damaged { path: file, found: format!("{reason}, at byte {at}") },
        }
    }
}

/// The id of a boot of the machine. If a journal was written in another boot and not closed,
/// records may be missing without a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BootId(u128);

impl BootId {
    /// Returns `None` if `id` is 0, which stands for an unknown boot.
    pub(crate) fn new(id: u128) -> Option<Self> {
        (id != 0).then_some(Self(id))
    }

    /// The current boot, as reported by the kernel. If the boot is unknown, a journal continues
    /// only if it was closed.
    pub(crate) fn of_this_machine() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        u128::from_str_radix(&text.trim().replace('-', ""), 16).ok().and_then(Self::new)
    }
}

/// The state in which a journal was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The journal is in use, or its process was killed.
    Open,
    /// All records are on the disk.
    Closed,
    /// A write has failed, and records are missing.
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JournalHeader {
    pub(super) epoch: Epoch,
    pub(super) boot: Option<BootId>,
    pub(super) state: State,
    pub(super) floor: Lsn,
    pub(super) last: Lsn,
}

impl JournalHeader {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&self.epoch.to_bits().to_le_bytes());
        bytes.extend_from_slice(&self.boot.map_or(0, |boot| boot.0).to_le_bytes());
        bytes.push(match self.state {
            State::Open => 0,
            State::Closed => 1,
            State::Failed => 2,
        });
        bytes.extend_from_slice(&self.floor.0.to_le_bytes());
        bytes.extend_from_slice(&self.last.0.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        let mut header = [0; HEADER_BYTES];
        header.copy_from_slice(&bytes);
        header
    }

    pub(super) fn read(folder: &Path) -> Result<StoredHeader, OpenError> {
        let path = folder.join(HEADER);
        let mut bytes = Vec::new();
        let mut options = OpenOptions::new();
        let read = disk::open(options.read(true), &path).and_then(|file| disk::read(&file, 0, 4_096, &mut bytes));
        match read.map_err(Fault::Io).and_then(|()| Self::decode(&bytes)) {
            Ok(header) => Ok(StoredHeader::Header(header)),
            Err(Fault::Io(error)) if error.kind() == ErrorKind::NotFound => Ok(StoredHeader::Nothing),
            Err(Fault::Io(error)) => Err(OpenError::at(folder, error)),
            Err(fault @ Fault::Newer(_)) => Err(OpenError::fault(&path, fault)),
            Err(Fault::Damaged(_, reason)) => Ok(StoredHeader::Damaged(format!("{HEADER} is damaged: {reason}"))),
            Err(Fault::Short(_)) => Ok(StoredHeader::Damaged(format!("{HEADER} ends early"))),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let damaged = |reason: String| Fault::Damaged(0, reason);
        let Some((said, sum)) = bytes.split_last_chunk::<4>().filter(|(said, _)| said.len() >= 12) else {
            return Err(damaged(format!("it has {} bytes, expected {HEADER_BYTES}", bytes.len())));
        };
        if said[..8] != MAGIC {
            return Err(damaged("it does not begin with stentorJ".to_owned()));
        }
        if u32::from_le_bytes(*sum) != crc32fast::hash(said) {
            return Err(damaged("its checksum is wrong".to_owned()));
        }
        if u32_at(bytes, 8) > FORMAT {
            return Err(Fault::Newer(u32_at(bytes, 8)));
        }
        if bytes.len() != HEADER_BYTES {
            return Err(damaged(format!("it has {} bytes, expected {HEADER_BYTES}", bytes.len())));
        }
        let boot = u128::from(u64_at(bytes, 20)) | u128::from(u64_at(bytes, 28)) << 64;
        let state = match bytes[36] {
            0 => State::Open,
            1 => State::Closed,
            2 => State::Failed,
            other => return Err(damaged(format!("its state is {other}, expected 0, 1 or 2"))),
        };
        Ok(Self {
            epoch: Epoch::from_bits(u64_at(bytes, 12)),
            boot: BootId::new(boot),
            state,
            floor: Lsn(u64_at(bytes, 37)),
            last: Lsn(u64_at(bytes, 45)),
        })
    }
}

#[derive(Debug)]
pub(super) enum StoredHeader {
    Nothing,
    /// The kind of damage.
    Damaged(String),
    Header(JournalHeader),
}

/// A locked folder. The files needed to mark the journal as failed are opened in advance, because
/// the process may have run out of file descriptors when a failure occurs. Programs older than
/// format 2 lock only the lock file.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    locked: LockedFolder,
    /// The header file. `None` until this process has written a header.
    header: Option<File>,
}

impl Folder {
    /// Locks the folder. Creates the folder if it does not exist.
    pub(super) fn lock(path: &Path) -> Result<Self, OpenError> {
        let path = path.to_owned();
        match LockedFolder::lock(&path, &KIND) {
            Ok(locked) => Ok(Self { path, locked, header: None }),
            Err(LockError::Foreign(found)) => Err(OpenError::Foreign { path, found }),
            Err(LockError::Locked(by)) => Err(OpenError::Locked { path, by }),
            Err(LockError::Io(at, error)) => Err(OpenError::at(&at, error)),
        }
    }

    /// Writes the header and waits until it is on the disk.
    pub(super) fn write_header(&mut self, header: &JournalHeader) -> Result<(), OpenError> {
        let path = self.path.join(HEADER);
        self.try_write_header(header).map_err(|error| OpenError::at(&path, error))
    }

    /// Writes the header. The first header is created atomically. A later header overwrites the
    /// file in place, within one sector, which works on a full disk too.
    pub(super) fn try_write_header(&mut self, header: &JournalHeader) -> io::Result<()> {
        let path = self.path.join(HEADER);
        let mut options = OpenOptions::new();
        options.write(true);
        let opened = self.header.take().map_or_else(|| disk::open(&options, &path), Ok);
        match opened {
            Ok(file) => {
                let file = self.header.insert(file);
                disk::overwrite(file, &header.encode())?;
                disk::sync(file)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let new = self.path.join(HEADER_NEW);
                for_owner_only(options.create(true).truncate(true));
                let file = disk::open(&options, &new)?;
                disk::write(&file, &header.encode())?;
                disk::sync(&file)?;
                disk::rename(&new, &path)?;
                self.header = Some(file);
                self.sync()
            }
            Err(error) => Err(error),
        }
    }

    /// Removes the header, so that the next start discards the journal.
    pub(super) fn remove_header(&self) -> io::Result<()> {
        disk::remove(&self.path.join(HEADER))
    }

    /// Waits until the folder's directory entries are on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.locked.directory().map_or(Ok(()), disk::sync)
    }
}

pub(super) fn spares(folder: &Path) -> Result<Vec<PathBuf>, OpenError> {
    Ok(names(folder)?.into_iter().filter(|name| is_spare(name)).map(|name| folder.join(name)).collect())
}

/// Returns whether a file name is the name of a spare file. Earlier versions used the name without
/// a number.
fn is_spare(name: &str) -> bool {
    name.starts_with(SPARE)
}

/// Sequence numbers and paths of the segments in a folder, the oldest first.
pub(super) fn segments(folder: &Path) -> Result<Vec<(u64, PathBuf)>, OpenError> {
    let mut segments = Vec::new();
    for name in names(folder)? {
        if let Some(sequence) = sequence(&name) {
            segments.push((sequence, folder.join(name)));
        }
    }
    segments.sort_unstable();
    Ok(segments)
}

fn sequence(name: &str) -> Option<u64> {
    let sequence = name.strip_prefix(SEGMENT)?.parse().ok()?;
    (name == segment_name(sequence)).then_some(sequence)
}

fn names(path: &Path) -> Result<Vec<String>, OpenError> {
    disk::names(path).map_err(|error| OpenError::at(path, error))
}

#[cfg(test)]
mod tests;
