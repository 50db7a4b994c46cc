//! Looks into a journal's folder from outside, also while a server writes there.
//!
//! It takes no lock and writes nothing. What it sees is the journal as of its opening: segments that the ring drops meanwhile are
//! still read, records that come meanwhile may be.

use std::path::{Path, PathBuf};

use super::folder::{self, JournalHeader, OpenError, State, StoredHeader};
use super::segment::{Fault, Records, Segment};
use super::{JournalError, Record};
use crate::ids::{Epoch, Lsn};

/// A journal seen from outside.
#[derive(Debug)]
pub(crate) struct Inspection {
    header: JournalHeader,
    segments: Vec<Segment>,
}

impl Inspection {
    /// Opens what stands in the folder at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let header = match JournalHeader::read(path)? {
            StoredHeader::Header(header) => header,
            StoredHeader::Nothing => return Err(OpenError::Absent { path: path.to_owned() }),
            StoredHeader::Damaged(found) => return Err(OpenError::Damaged { path: path.to_owned(), found }),
        };
        let mut segments = Vec::new();
        for (sequence, path) in folder::segments(path)? {
            match Segment::open(path.clone(), sequence, u64::MAX, false) {
                Ok(segment) if segment.epoch == header.epoch => segments.push(segment),
                // Left behind by a log that was discarded.
                Ok(_) => {}
                // Just begun by its server, or just dropped.
                Err(Fault::Short(_)) => {}
                Err(Fault::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(fault) => return Err(OpenError::fault(&path, fault)),
            }
        }
        Ok(Self { header, segments })
    }

    /// The life of this log.
    pub(crate) fn epoch(&self) -> Epoch {
        self.header.epoch
    }

    /// How it was left, in words.
    pub(crate) fn state(&self) -> &'static str {
        match self.header.state {
            State::Open => "open (in use, or its process was killed)",
            State::Closed => "closed",
            State::Failed => "failed (a write failed: the next start begins a new epoch)",
        }
    }

    /// Every record up to here is gone.
    pub(crate) fn trimmed_to(&self) -> Lsn {
        self.segments.first().map_or(self.header.floor, |oldest| oldest.after)
    }

    /// Its files, the oldest first, with their sizes.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&Path, u64)> {
        self.segments.iter().map(|segment| (segment.path.as_path(), segment.size()))
    }

    /// All records behind `after`, in order. Ends with the first that cannot be read.
    pub(crate) fn records(&self, after: Lsn) -> impl Iterator<Item = Result<Record, JournalError>> {
        let mut rest = self.segments.iter();
        let mut reading: Option<(PathBuf, Records<'_>)> = None;
        let is_newest = |path: &PathBuf| self.segments.last().is_some_and(|newest| newest.path == *path);
        std::iter::from_fn(move || {
            loop {
                if reading.is_none() {
                    let segment = rest.next()?;
                    reading = Some((segment.path.clone(), segment.records()));
                }
                let (path, records) = reading.as_mut()?;
                match records.next(after) {
                    Ok(Some(record)) => return Some(Ok(record)),
                    Ok(None) => reading = None,
                    // Its server is writing there.
                    Err(Fault::Short(_)) if is_newest(path) => reading = None,
                    Err(fault) => {
                        let error = fault.in_use(path);
                        rest = [].iter();
                        reading = None;
                        return Some(Err(error));
                    }
                }
            }
        })
    }
}
