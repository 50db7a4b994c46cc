//! File operations of the journal. Tests can make each of them fail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

#[cfg(test)]
pub(super) mod faults;

/// Counts one file operation. The operation fails if a test has planned a failure.
#[inline]
fn step() -> io::Result<()> {
    #[cfg(test)]
    faults::step()?;
    Ok(())
}

pub(super) fn open(options: &OpenOptions, path: &Path) -> io::Result<File> {
    step()?;
    #[cfg(test)]
    faults::open()?;
    options.open(path)
}

pub(super) fn write(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    step()?;
    file.write_all(bytes)
}

/// Replaces the contents of the file.
pub(super) fn overwrite(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    step()?;
    file.seek(SeekFrom::Start(0))?;
    step()?;
    file.write_all(bytes)?;
    if file.metadata()?.len() > bytes.len() as u64 { set_len(file, bytes.len() as u64) } else { Ok(()) }
}

/// Appends at most `bytes_max` bytes of the file to `into`, starting at byte `at`.
pub(super) fn read(mut file: &File, at: u64, bytes_max: u64, into: &mut Vec<u8>) -> io::Result<()> {
    step()?;
    file.seek(SeekFrom::Start(at))?;
    step()?;
    file.take(bytes_max).read_to_end(into).map(drop)
}

pub(super) fn set_len(file: &File, bytes: u64) -> io::Result<()> {
    step()?;
    file.set_len(bytes)
}

pub(super) fn sync(file: &File) -> io::Result<()> {
    step()?;
    file.sync_all()
}

pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    step()?;
    fs::rename(from, to)
}

/// Removes a file. Succeeds if the file does not exist.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    step()?;
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

pub(super) fn names(folder: &Path) -> io::Result<Vec<String>> {
    step()?;
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}
