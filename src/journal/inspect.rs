//! Read-only access to the folder of a journal. No lock is acquired, so a server may be writing to
//! the journal. Segments that the server drops in the meantime are skipped. Records that the server
//! appends in the meantime may be included.

mod json;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use thiserror::Error;

pub use self::json::InspectedRecord;
use self::json::{KINDS, kind};
use super::folder::{self, JournalHeader, OpenError, State, StoredHeader};
use super::segment::{Fault, Records, Segment};
use super::{JournalError, Record, RecordBody};
use crate::ids::{Epoch, Lsn};

/// Read-only access to a journal on disk. No lock is acquired, so a server may be using the
/// journal.
///
/// ```no_run
/// # use stentor::{JournalInspection, Lsn};
/// # fn print() -> Result<(), Box<dyn std::error::Error>> {
/// let journal = JournalInspection::open("/var/lib/stentor/stentor-data/journal")?;
/// for record in journal.records(Lsn(0)) {
///     println!("{}", serde_json::to_string(&record?)?);
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Inspection {
    header: JournalHeader,
    segments: Vec<Segment>,
}

/// The reason why the rest of a journal cannot be read. If the journal is damaged, the next server
/// that opens the folder discards the records and begins a new epoch.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct ReadError(#[from] JournalError);

/// Summary of the contents of a journal.
#[derive(Debug)]
#[non_exhaustive]
pub struct JournalStats {
    /// The epoch of the journal, which is part of every offset.
    pub epoch: Epoch,
    /// The state in which the journal was left, in words.
    pub state: &'static str,
    /// The records up to this position were dropped.
    pub trimmed_to: Lsn,
    /// Position of the newest record that can be read.
    pub newest: Lsn,
    /// Number of segment files.
    pub segments: usize,
    /// Bytes of the segment files.
    pub bytes: u64,
    /// Number of records of each kind.
    pub records: Vec<(&'static str, u64)>,
    /// Number of sessions stored for recovery, including sessions whose recovery window has passed.
    pub sessions: usize,
    /// Number of these sessions that had a connection when the newest record was written.
    pub connected: usize,
    /// The error, if records after `newest` cannot be read.
    pub damage: Option<ReadError>,
}

impl Inspection {
    /// Opens the journal in a folder.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let header = match JournalHeader::read(path)? {
            StoredHeader::Header(header) => header,
            StoredHeader::Nothing => return Err(OpenError::Absent { path: path.to_owned() }),
            StoredHeader::Damaged(found) => return Err(OpenError::Damaged { path: path.to_owned(), found }),
        };
        let mut segments = Vec::new();
        for (sequence, path) in folder::segments(path)? {
            match Segment::open(path.clone(), sequence, u64::MAX, false) {
                Ok(segment) if segment.epoch == header.epoch => segments.push(segment),
                // The segment has another epoch: it belongs to a discarded journal.
                Ok(_) => {}
                // The server is creating or recycling this segment.
                Err(Fault::Short(_)) => {}
                Err(Fault::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(fault) => return Err(OpenError::fault(&path, fault)),
            }
        }
        Ok(Self { header, segments })
    }

    fn state(&self) -> &'static str {
        match self.header.state {
            State::Open => "open (in use, or its process was killed)",
            State::Closed => "closed",
            State::Failed => "failed (a write failed: the next start begins a new epoch)",
        }
    }

    fn trimmed_to(&self) -> Lsn {
        self.segments.first().map_or(self.header.floor, |oldest| oldest.after)
    }

    /// Reads the whole journal and counts its contents.
    pub fn stats(&self) -> JournalStats {
        let mut kinds = KINDS.map(|kind| (kind, 0u64));
        // Sockets whose sessions can be resumed. The value is true while the socket has a
        // connection.
        let mut sessions = HashMap::new();
        let mut newest = self.trimmed_to();
        let mut damage = None;
        for record in self.read(Lsn(0)) {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    damage = Some(error.into());
                    break;
                }
            };
            newest = record.lsn;
            let kind = kind(&record.body);
            kinds.iter_mut().filter(|(name, _)| *name == kind).for_each(|(_, count)| *count += 1);
            match record.body {
                RecordBody::Connect { socket, .. } => drop(sessions.insert(socket, true)),
                RecordBody::Session(session) => drop(sessions.insert(session.socket, session.connected)),
                RecordBody::Disconnect { socket, forever: true, .. } => drop(sessions.remove(&socket)),
                RecordBody::Disconnect { socket, forever: false, .. } => drop(sessions.insert(socket, false)),
                RecordBody::Resumed { socket, .. } => {
                    if let Some(connected) = sessions.get_mut(&socket) {
                        *connected = true;
                    }
                }
                RecordBody::ProcessEnded { .. } => sessions.values_mut().for_each(|connected| *connected = false),
                RecordBody::GivenUp { socket, .. } => drop(sessions.remove(&socket)),
                RecordBody::Event(_)
                | RecordBody::Join { .. }
                | RecordBody::Leave { .. }
                | RecordBody::Revoked { .. }
                | RecordBody::Data { .. }
                | RecordBody::Expired { .. }
                | RecordBody::Stored(_) => {}
            }
        }
        JournalStats {
            epoch: self.header.epoch,
            state: self.state(),
            trimmed_to: self.trimmed_to(),
            newest,
            segments: self.segments.len(),
            bytes: self.segments.iter().map(Segment::size).sum(),
            records: kinds.into(),
            sessions: sessions.len(),
            connected: sessions.values().filter(|connected| **connected).count(),
            damage,
        }
    }

    /// The records after the position `after`, in order. Records that the server drops in the
    /// meantime are skipped. The iterator ends after the first error.
    pub fn records(&self, after: Lsn) -> impl Iterator<Item = Result<InspectedRecord, ReadError>> {
        let epoch = self.header.epoch;
        self.read(after).map(move |record| Ok(InspectedRecord { epoch, record: record? }))
    }

    fn read(&self, after: Lsn) -> impl Iterator<Item = Result<Record, JournalError>> {
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
                let next = records.next(after);
                // The server renames a segment file before reusing it. If the file name still
                // exists after the read, the bytes belong to this segment.
                if !path.exists() {
                    reading = None;
                    continue;
                }
                match next {
                    Ok(Some(record)) => return Some(Ok(record)),
                    Ok(None) => reading = None,
                    // The server has not finished writing the last record of the newest segment.
                    Err(Fault::Short(_)) if is_newest(path) => reading = None,
                    Err(fault) => {
                        let error = fault.into_journal_error(path);
                        rest = [].iter();
                        reading = None;
                        return Some(Err(error));
                    }
                }
            }
        })
    }
}
