//! One file of the journal's ring: a header, followed by records.
//!
//! | bytes | | |
//! |---|---|---|
//! | 8 | `stentorS` | |
//! | 4 | format | of the folder: 1 to 4 |
//! | 8 | epoch | of the journal |
//! | 8 | sequence | number of the segment in the ring, also in its file name |
//! | 8 | after | the records of the segment have greater LSNs |
//! | 4 | checksum | of the bytes above, CRC-32 |
//!
//! Records are only appended. A [`Fault`] tells where a file ends early or is damaged. The journal
//! decides how to react to a fault.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::codec::{self, CodecError};
use super::layout::{self, FORMAT};
use super::{JournalError, Record, disk};
use crate::folder::for_owner_only;
use crate::ids::{Epoch, Lsn};

const MAGIC: [u8; 8] = *b"stentorS";

pub(super) const HEADER_BYTES: usize = 40;

/// Minimum number of bytes that one read requests, unless reading ends earlier.
const BLOCK_BYTES: usize = 64 << 10;

/// The reason why a segment, or the rest of a segment, could not be read.
#[derive(Debug)]
pub(super) enum Fault {
    Io(io::Error),
    /// The file ends within the header or record that begins at this byte.
    Short(u64),
    /// The header or record that begins at this byte is damaged. The text is the kind of damage.
    Damaged(u64, String),
    /// A newer program wrote the file in this format.
    Newer(u32),
}

impl Fault {
    /// Converts a fault in a segment that is in use. A truncated record in such a segment counts as
    /// damage.
    pub(super) fn into_journal_error(self, path: &Path) -> JournalError {
        let path = path.to_owned();
        match self {
            Self::Io(error) => JournalError::Io { path, kind: error.kind() },
            Self::Short(at) => JournalError::Damaged { path, at, reason: CodecError::Short.to_string() },
            Self::Damaged(at, reason) => JournalError::Damaged { path, at, reason },
            Self::Newer(version) => {
                JournalError::Damaged { path, at: 0, reason: format!("format {version} is newer than {FORMAT}") }
            }
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    file: Arc<File>,
    pub(super) epoch: Epoch,
    pub(super) sequence: u64,
    /// All records of the segment have greater LSNs.
    pub(super) after: Lsn,
    /// LSN of the newest record, or `after` if the segment has no records.
    pub(super) last: Lsn,
    pub(super) bytes: u64,
    /// LSN and first byte of some records, at least `index_bytes` bytes apart.
    index: Vec<(Lsn, u64)>,
    index_bytes: u64,
}

/// An empty file for the next segment. The file is opened in advance, because no file descriptor
/// may be available when the segment begins.
#[derive(Debug)]
pub(super) struct Spare {
    file: Arc<File>,
    path: PathBuf,
    /// Number in the file name, unique among spare files: the sequence number of the recycled
    /// segment, or a number greater than that of all segments and spare files.
    pub(super) number: u64,
}

impl Spare {
    pub(super) fn create(folder: &Path, number: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create_new(true);
        for_owner_only(&mut options);
        let path = folder.join(layout::spare_name(number));
        Ok(Self { file: Arc::new(disk::open(&options, &path)?), path, number })
    }
}

impl Segment {
    /// Turns a spare file into a segment. The header is written before the file is renamed to the
    /// name of a segment.
    pub(super) fn create(
        spare: Spare,
        folder: &Path,
        epoch: Epoch,
        sequence: u64,
        after: Lsn,
        index_bytes: u64,
    ) -> io::Result<Self> {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&FORMAT.to_le_bytes());
        for number in [epoch.to_bits(), sequence, after.0] {
            header.extend_from_slice(&number.to_le_bytes());
        }
        header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
        disk::write(&spare.file, &header)?;
        let path = folder.join(layout::segment_name(sequence));
        disk::rename(&spare.path, &path)?;
        let (bytes, file) = (HEADER_BYTES as u64, spare.file);
        Ok(Self { path, file, epoch, sequence, after, last: after, bytes, index: Vec::new(), index_bytes })
    }

    /// Empties the segment and turns it into a spare file with the same descriptor.
    pub(super) fn recycle(self, folder: &Path) -> io::Result<Spare> {
        let path = folder.join(layout::spare_name(self.sequence));
        // Rename the file before emptying it, because an empty segment would count as damage at the
        // next start.
        disk::rename(&self.path, &path)?;
        disk::set_len(&self.file, 0)?;
        Ok(Spare { file: self.file, path, number: self.sequence })
    }

    /// Opens a segment and reads its header. Before the segment is written, [`scan`](Self::scan)
    /// must be called.
    pub(super) fn open(path: PathBuf, sequence: u64, index_bytes: u64, writing: bool) -> Result<Self, Fault> {
        let mut options = OpenOptions::new();
        let file = disk::open(options.read(true).append(writing), &path)?;
        let mut header = Vec::new();
        disk::read(&file, 0, HEADER_BYTES as u64, &mut header)?;
        let damaged = |reason: &str| Fault::Damaged(0, reason.to_owned());
        let Some((header, [])) = header.split_first_chunk::<HEADER_BYTES>() else { return Err(Fault::Short(0)) };
        if header[..8] != MAGIC {
            return Err(damaged("the file does not begin with stentorS"));
        }
        if layout::u32_at(header, 36) != crc32fast::hash(&header[..36]) {
            return Err(damaged("checksum of the segment's header is wrong"));
        }
        let format = layout::u32_at(header, 8);
        if format > FORMAT {
            return Err(Fault::Newer(format));
        }
        if layout::u64_at(header, 20) != sequence {
            return Err(damaged("the file name does not match the sequence in the header"));
        }
        let (epoch, after) = (Epoch::from_bits(layout::u64_at(header, 12)), Lsn(layout::u64_at(header, 28)));
        let (bytes, file) = (HEADER_BYTES as u64, Arc::new(file));
        Ok(Self { path, file, epoch, sequence, after, last: after, bytes, index: Vec::new(), index_bytes })
    }

    /// Reads all records of a segment that was just opened, passes each record to `each`, and
    /// builds the index.
    pub(super) fn scan(&mut self, mut each: impl FnMut(Record)) -> Result<(), Fault> {
        let mut records = Records::new(&self.file, HEADER_BYTES as u64, u64::MAX);
        let mut found = Vec::new();
        let (mut last, mut bytes) = (self.after, self.bytes);
        let outcome = loop {
            match records.next(self.after) {
                Ok(Some(record)) => {
                    last = record.lsn;
                    if needs_entry(&found, bytes, self.index_bytes) {
                        found.push((last, bytes));
                    }
                    bytes = records.at;
                    each(record);
                }
                Ok(None) => break Ok(()),
                Err(fault) => break Err(fault),
            }
        };
        (self.last, self.bytes, self.index) = (last, bytes, found);
        outcome
    }

    /// Removes the bytes after the scanned records. Returns the number of removed bytes.
    pub(super) fn truncate(&self) -> io::Result<u64> {
        let bytes = self.file.metadata()?.len();
        if bytes > self.bytes {
            disk::set_len(&self.file, self.bytes)?;
        }
        Ok(bytes.saturating_sub(self.bytes))
    }

    /// Adds the record that begins at byte `at` to the index, unless the record of the last entry
    /// begins less than `index_bytes` bytes before `at`.
    pub(super) fn index_record(&mut self, lsn: Lsn, at: u64) {
        if needs_entry(&self.index, at, self.index_bytes) {
            self.index.push((lsn, at));
        }
    }

    /// Writes encoded records. `last` is the LSN of the newest of these records. After an error,
    /// the file may contain a part of `bytes`.
    pub(super) fn write(&mut self, bytes: &[u8], last: Lsn) -> io::Result<()> {
        disk::write(&self.file, bytes)?;
        self.bytes += bytes.len() as u64;
        self.last = last;
        Ok(())
    }

    /// Current size of the file in bytes. Another process may be writing to the file.
    pub(super) fn size(&self) -> u64 {
        self.file.metadata().map_or(self.bytes, |metadata| metadata.len())
    }

    pub(super) fn file(&self) -> Arc<File> {
        self.file.clone()
    }

    /// A reader that starts at or before the first record after `after`. It ends at the last record
    /// that this process has scanned or written.
    pub(super) fn records_after(&self, after: Lsn) -> Records<'_> {
        let at = match self.index.partition_point(|(lsn, _)| *lsn <= after) {
            0 => HEADER_BYTES as u64,
            next => self.index[next - 1].1,
        };
        Records::new(&self.file, at, self.bytes)
    }

    /// An LSN such that all records up to it begin before byte `at` of the file. Only the index is
    /// searched, so some later records may begin before that byte too.
    pub(super) fn position_before(&self, at: u64) -> Lsn {
        match self.index.partition_point(|(_, begin)| *begin <= at) {
            0 => self.after,
            next => self.index[next - 1].0.before().max(self.after),
        }
    }

    /// A reader of all records, including records that another process appends in the meantime.
    pub(super) fn records(&self) -> Records<'_> {
        Records::new(&self.file, HEADER_BYTES as u64, u64::MAX)
    }

    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: File) {
        self.file = Arc::new(file);
    }
}

fn needs_entry(index: &[(Lsn, u64)], at: u64, index_bytes: u64) -> bool {
    at >= index.last().map_or(HEADER_BYTES as u64, |(_, at)| *at) + index_bytes
}

pub(super) struct Records<'a> {
    file: &'a File,
    /// Position of the next record in the file, in bytes.
    pub(super) at: u64,
    /// Position in the file at which reading ends, in bytes.
    end: u64,
    buffer: Vec<u8>,
    start: usize,
    last: Lsn,
}

impl<'a> Records<'a> {
    fn new(file: &'a File, at: u64, end: u64) -> Self {
        Self { file, at, end, buffer: Vec::new(), start: 0, last: Lsn(0) }
    }

    /// Returns the next record whose LSN is greater than `after`. Records up to `after` are skipped
    /// without decoding their bodies.
    pub(super) fn next(&mut self, after: Lsn) -> Result<Option<Record>, Fault> {
        loop {
            if self.fill(codec::HEADER_BYTES)? == 0 {
                return Ok(None);
            }
            let header = codec::decode_header(&self.buffer[self.start..]).map_err(|error| self.fault(error))?;
            if header.lsn <= self.last {
                return Err(self.fault(CodecError::Content("an LSN that is not greater than the one before")));
            }
            let bytes = codec::HEADER_BYTES + header.body_bytes;
            self.fill(bytes)?;
            let body = &self.buffer[self.start + codec::HEADER_BYTES..];
            if body.len() < header.body_bytes {
                return Err(Fault::Short(self.at));
            }
            let wanted = header.lsn > after;
            let record = wanted.then(|| codec::decode_body(&header, body)).transpose();
            let record = record.map_err(|error| self.fault(error))?;
            self.last = header.lsn;
            self.start += bytes;
            self.at += bytes as u64;
            if record.is_some() {
                return Ok(record);
            }
        }
    }

    /// Buffers `bytes` bytes of the next record, or fewer at the end of the file. Returns the
    /// number of buffered bytes. Memory is allocated only for bytes that were read, because the
    /// length in a damaged header may be huge.
    fn fill(&mut self, bytes: usize) -> io::Result<usize> {
        let buffered = self.buffer.len() - self.start;
        if buffered < bytes {
            self.buffer.drain(..self.start);
            self.start = 0;
            let read_to = self.at + buffered as u64;
            let wanted = ((bytes - buffered).max(BLOCK_BYTES) as u64).min(self.end.saturating_sub(read_to));
            disk::read(self.file, read_to, wanted, &mut self.buffer)?;
        }
        Ok(self.buffer.len() - self.start)
    }

    fn fault(&self, error: CodecError) -> Fault {
        match error {
            CodecError::Short => Fault::Short(self.at),
            CodecError::Version(version) => Fault::Newer(version.into()),
            error => Fault::Damaged(self.at, error.to_string()),
        }
    }
}
