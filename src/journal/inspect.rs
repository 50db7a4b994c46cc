//! Looks into a journal's folder from outside, also while a server writes there.
//!
//! It takes no lock and writes nothing. What it sees is the journal as of its opening: of segments that the ring drops meanwhile the
//! rest is skipped, records that come meanwhile may be read.

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

/// A journal on disk, seen from outside: nothing is locked or written, also while a server runs on it.
///
/// ```no_run
/// # use stentor::{JournalInspection, Lsn};
/// # fn look() -> Result<(), Box<dyn std::error::Error>> {
/// let journal = JournalInspection::open("/var/lib/stentor/journal")?;
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

/// Why the records of a journal cannot be read further. The next start of a server on the folder begins a new epoch.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct ReadError(#[from] JournalError);

/// Counts of a journal's contents.
#[derive(Debug)]
#[non_exhaustive]
pub struct JournalStats {
    /// The life of this journal.
    pub epoch: Epoch,
    /// The state in which the journal was left, in words.
    pub state: &'static str,
    /// Every record up to this position is gone.
    pub trimmed_to: Lsn,
    /// The newest record that can be read.
    pub newest: Lsn,
    /// Number of segment files.
    pub segments: usize,
    /// Size of the segment files.
    pub bytes: u64,
    /// Number of records of each kind.
    pub records: Vec<(&'static str, u64)>,
    /// Sessions that may be resumed, unless their window has passed.
    pub sessions: usize,
    /// Those of the sessions that have a connection.
    pub connected: usize,
    /// Set if records behind `newest` cannot be read.
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

    /// Counts what the journal holds; reads all of it.
    pub fn stats(&self) -> JournalStats {
        let mut kinds = KINDS.map(|kind| (kind, 0u64));
        // Sockets that may be claimed, and whether they have a connection.
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
                | RecordBody::Data { .. }
                | RecordBody::Expired { .. } => {}
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

    /// All records behind `after`, in order, but for those that the ring drops meanwhile. Ends with the first that cannot be read.
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
                // The ring renames a file before it uses it again, so what was read while the name stood is of this segment.
                if !path.exists() {
                    reading = None;
                    continue;
                }
                match next {
                    Ok(Some(record)) => return Some(Ok(record)),
                    Ok(None) => reading = None,
                    // Its server is writing there.
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
