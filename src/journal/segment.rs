//! One file of the journal's ring: a header, then records one behind the other.
//!
//! | bytes | | |
//! |---|---|---|
//! | 8 | `stentorS` | |
//! | 4 | format | of the folder: 1, 2 or 3 |
//! | 8 | epoch | of the log it belongs to |
//! | 8 | sequence | its place in the ring; also its name |
//! | 8 | after | every record in it lies behind this LSN |
//! | 4 | checksum | of the bytes before it, CRC-32 |
//!
//! It is written at its end and nowhere else. It refuses to judge what it finds: where it ends early and where it is damaged is
//! told, and what that means is the journal's to say.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::codec::{self, CodecError};
use super::layout::{self, FORMAT};
use super::{JournalError, Record, disk};
use crate::ids::{Epoch, Lsn};

const MAGIC: [u8; 8] = *b"stentorS";

/// What stands before the first record.
pub(super) const HEADER_BYTES: usize = 40;

/// Read at a time.
const BLOCK_BYTES: usize = 64 << 10;

/// Why a segment, or the rest of one, could not be read.
#[derive(Debug)]
pub(super) enum Fault {
    /// The file system failed.
    Io(io::Error),
    /// The file ends within what begins at this byte.
    Short(u64),
    /// What stands at this byte is not what was written there.
    Damaged(u64, String),
    /// Written by a newer program, in this format.
    Newer(u32),
}

impl Fault {
    /// In a segment in use, where nothing may end early.
    pub(super) fn in_use(self, path: &Path) -> JournalError {
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

/// One file of the ring.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    file: Arc<File>,
    pub(super) epoch: Epoch,
    pub(super) sequence: u64,
    /// Every record in here lies behind.
    pub(super) after: Lsn,
    /// The newest record in here, or `after`.
    pub(super) last: Lsn,
    /// Written so far.
    pub(super) bytes: u64,
    /// Where some of the records begin.
    index: Vec<(Lsn, u64)>,
    /// Between two of those, at least.
    index_bytes: u64,
}

/// An empty file, open, in which a segment will begin: descriptors may have run out when it does.
#[derive(Debug)]
pub(super) struct Spare {
    file: Arc<File>,
    path: PathBuf,
    /// Unique among spare files: the sequence of the segment that the file was, or a later one than any in use.
    pub(super) number: u64,
}

impl Spare {
    /// Creates the spare file of this number.
    pub(super) fn create(folder: &Path, number: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create_new(true);
        layout::for_owner_only(&mut options);
        let path = folder.join(layout::spare_name(number));
        Ok(Self { file: Arc::new(disk::open(&options, &path)?), path, number })
    }
}

impl Segment {
    /// Begins a segment in a spare file. It appears with its whole header.
    pub(super) fn begin(
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

    /// Drops what the segment holds and makes its file a spare one, with the descriptor that it has.
    pub(super) fn recycle(self, folder: &Path) -> io::Result<Spare> {
        let path = folder.join(layout::spare_name(self.sequence));
        // In this order: a segment that is cut short would be damage at the next start.
        disk::rename(&self.path, &path)?;
        disk::set_len(&self.file, 0)?;
        Ok(Spare { file: self.file, path, number: self.sequence })
    }

    /// Opens a segment and reads its header; to write behind its records, [`scan`](Self::scan) them first.
    pub(super) fn open(path: PathBuf, sequence: u64, index_bytes: u64, writing: bool) -> Result<Self, Fault> {
        let mut options = OpenOptions::new();
        let file = disk::open(options.read(true).append(writing), &path)?;
        let mut header = Vec::new();
        disk::read(&file, 0, HEADER_BYTES as u64, &mut header)?;
        let damaged = |reason: &str| Fault::Damaged(0, reason.to_owned());
        let Some((header, [])) = header.split_first_chunk::<HEADER_BYTES>() else { return Err(Fault::Short(0)) };
        if header[..8] != MAGIC {
            return Err(damaged("it does not begin as a segment does"));
        }
        if layout::u32_at(header, 36) != crc32fast::hash(&header[..36]) {
            return Err(damaged("checksum of the segment's header is wrong"));
        }
        let format = layout::u32_at(header, 8);
        if format > FORMAT {
            return Err(Fault::Newer(format));
        }
        if layout::u64_at(header, 20) != sequence {
            return Err(damaged("its name is another segment's"));
        }
        let (epoch, after) = (Epoch::from_bits(layout::u64_at(header, 12)), Lsn(layout::u64_at(header, 28)));
        let (bytes, file) = (HEADER_BYTES as u64, Arc::new(file));
        Ok(Self { path, file, epoch, sequence, after, last: after, bytes, index: Vec::new(), index_bytes })
    }

    /// Reads all records of a segment that was just opened.
    pub(super) fn scan(&mut self, mut each: impl FnMut(Record)) -> Result<(), Fault> {
        let mut records = Records::new(&self.file, HEADER_BYTES as u64, u64::MAX);
        let mut found = Vec::new();
        let (mut last, mut bytes) = (self.after, self.bytes);
        let outcome = loop {
            match records.next(self.after) {
                Ok(Some(record)) => {
                    last = record.lsn;
                    if is_due(&found, bytes, self.index_bytes) {
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

    /// Cuts off what stands behind the records that were found.
    pub(super) fn cut(&self) -> io::Result<u64> {
        let there = self.file.metadata()?.len();
        if there > self.bytes {
            disk::set_len(&self.file, self.bytes)?;
        }
        Ok(there.saturating_sub(self.bytes))
    }

    /// Says that the record `lsn` will begin at byte `at`.
    pub(super) fn note(&mut self, lsn: Lsn, at: u64) {
        if is_due(&self.index, at, self.index_bytes) {
            self.index.push((lsn, at));
        }
    }

    /// Writes encoded records, of which `last` is the newest. After an error, some of `bytes` may stand in the file.
    pub(super) fn write(&mut self, bytes: &[u8], last: Lsn) -> io::Result<()> {
        disk::write(&self.file, bytes)?;
        self.bytes += bytes.len() as u64;
        self.last = last;
        Ok(())
    }

    /// Its size by now.
    pub(super) fn size(&self) -> u64 {
        self.file.metadata().map_or(self.bytes, |metadata| metadata.len())
    }

    /// Its file, for who waits until all of it is on the disk.
    pub(super) fn file(&self) -> Arc<File> {
        self.file.clone()
    }

    /// Its records behind `after`, as far as it was written by this program.
    pub(super) fn records_behind(&self, after: Lsn) -> Records<'_> {
        let at = match self.index.partition_point(|(lsn, _)| *lsn <= after) {
            0 => HEADER_BYTES as u64,
            next => self.index[next - 1].1,
        };
        Records::new(&self.file, at, self.bytes)
    }

    /// The newest position of which the index tells that it and all before it begin before byte `at`.
    pub(super) fn before(&self, at: u64) -> Lsn {
        match self.index.partition_point(|(_, begin)| *begin <= at) {
            0 => self.after,
            next => self.index[next - 1].0.before().max(self.after),
        }
    }

    /// All its records, as far as there are any by now.
    pub(super) fn records(&self) -> Records<'_> {
        Records::new(&self.file, HEADER_BYTES as u64, u64::MAX)
    }

    /// Stands in for the file, to see what a failing one does.
    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: File) {
        self.file = Arc::new(file);
    }
}

fn is_due(index: &[(Lsn, u64)], at: u64, index_bytes: u64) -> bool {
    at >= index.last().map_or(HEADER_BYTES as u64, |(_, at)| *at) + index_bytes
}

/// Reads records one behind the other.
pub(super) struct Records<'a> {
    file: &'a File,
    /// Where the next record begins.
    pub(super) at: u64,
    /// Nothing is read from here on.
    end: u64,
    buffer: Vec<u8>,
    /// Of the next record, in the buffer.
    start: usize,
    last: Lsn,
}

impl<'a> Records<'a> {
    fn new(file: &'a File, at: u64, end: u64) -> Self {
        Self { file, at, end, buffer: Vec::new(), start: 0, last: Lsn(0) }
    }

    /// The next record behind `after`; those before it are passed over, not decoded.
    pub(super) fn next(&mut self, after: Lsn) -> Result<Option<Record>, Fault> {
        loop {
            let left = self.fill(codec::HEADER_BYTES)?;
            if left == 0 {
                return Ok(None);
            }
            let header = codec::decode_header(&self.buffer[self.start..]).map_err(|error| self.fault(error))?;
            if header.lsn <= self.last {
                return Err(self.fault(CodecError::Content("a number that is not behind the one before it")));
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

    /// Reads until `bytes` of the next record are there, or all that there are. A length is not believed: memory grows with
    /// what is read.
    fn fill(&mut self, bytes: usize) -> io::Result<usize> {
        let there = self.buffer.len() - self.start;
        if there < bytes {
            self.buffer.drain(..self.start);
            self.start = 0;
            let read_to = self.at + there as u64;
            let wanted = ((bytes - there).max(BLOCK_BYTES) as u64).min(self.end.saturating_sub(read_to));
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
