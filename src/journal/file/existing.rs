//! Files found in the folder in which a journal is opened, and the decision whether the stored
//! journal continues.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::options::{FileOptions, Start};
use crate::ids::{Epoch, Lsn, QueueOffset};
use crate::journal::folder::{self, JournalHeader, OpenError, State, StoredHeader};
use crate::journal::recent::RecentRecords;
use crate::journal::segment::{Fault, Segment};

/// Number of LSNs that are skipped at a start, unless the folder is empty or a closed journal
/// continues. A killed process may have used these LSNs without writing their records.
pub(super) const SKIPPED_LSNS: u64 = 1 << 20;

/// The journal found in a folder, or the empty journal that replaces it.
pub(super) struct ExistingJournal {
    pub(super) start: Start,
    pub(super) epoch: Epoch,
    pub(super) head: Lsn,
    pub(super) sequence: u64,
    pub(super) segments: VecDeque<Segment>,
    pub(super) recent: RecentRecords,
    /// The newest position in the queue that a discarded journal says, as far as it can be read.
    pub(super) stored: Option<QueueOffset>,
}

/// Reason why a journal does not continue.
enum OpenFailure {
    /// The journal is discarded. The text is the reason.
    Discard(String),
    /// The journal is left unchanged, and the start fails.
    Refuse(OpenError),
}

impl ExistingJournal {
    /// Reads a folder and decides whether its journal continues. If a killed process has left a
    /// partial record at the end of the newest segment, that record is removed. The folder is not
    /// changed otherwise.
    pub(super) fn read(path: &Path, stored: &StoredHeader, options: &FileOptions) -> Result<Self, OpenError> {
        let mut found = Self {
            start: Start::New,
            epoch: options.epoch,
            head: Lsn(0),
            sequence: 1,
            segments: VecDeque::new(),
            recent: RecentRecords::new(Lsn(0), options.records_max, options.bytes_max),
            stored: None,
        };
        let files = folder::segments(path)?;
        found.sequence = files.last().map_or(1, |(newest, _)| newest + 1);
        let (reason, header) = match stored {
            StoredHeader::Nothing if files.is_empty() => return Ok(found),
            StoredHeader::Nothing => ("its header is missing".to_owned(), None),
            StoredHeader::Damaged(reason) => (reason.clone(), None),
            StoredHeader::Header(header) => {
                let reason = match header.state {
                    State::Failed => "a write to it had failed".to_owned(),
                    State::Open if options.boot.is_none() || header.boot != options.boot => {
                        "it was not closed before the machine restarted".to_owned()
                    }
                    State::Open | State::Closed => match read_segments(&files, header, options, &mut found) {
                        Ok(()) => return Ok(found),
                        Err(OpenFailure::Refuse(error)) => return Err(error),
                        Err(OpenFailure::Discard(reason)) => reason,
                    },
                };
                (reason, Some(header))
            }
        };
        // The new journal must not reuse an LSN or an epoch of the discarded journal, so find the
        // greatest LSN and the newest epoch in the folder. Nor may a restored queue reuse a number,
        // so find the newest one that was revealed.
        let mut used = header.map_or(Lsn(0), |header| header.floor);
        let mut newest = header.map(|header| header.epoch);
        let mut stored = None;
        for (sequence, path) in files.iter().rev() {
            let Ok(mut segment) = Segment::open(path.clone(), *sequence, options.index_bytes(), false) else {
                continue;
            };
            newest = newest.max(Some(segment.epoch));
            if used <= segment.after || stored.is_none() {
                let mut found = None;
                let _ = segment.scan(|record| found = record.body.stored().or(found));
                used = used.max(segment.last);
                stored = stored.or(found);
            }
        }
        let epoch = match newest {
            Some(newest) if newest >= options.epoch => Epoch::from_bits(newest.to_bits() + 1),
            _ => options.epoch,
        };
        Ok(Self {
            start: Start::Discarded { reason },
            epoch,
            head: skip_lost(used),
            segments: VecDeque::new(),
            recent: RecentRecords::new(Lsn(0), options.records_max, options.bytes_max),
            stored,
            ..found
        })
    }
}

/// Reads the segments of a stored journal into `found`. If a segment is damaged or missing, returns
/// the reason why the journal does not continue.
fn read_segments(
    files: &[(u64, PathBuf)],
    header: &JournalHeader,
    options: &FileOptions,
    found: &mut ExistingJournal,
) -> Result<(), OpenFailure> {
    let was_closed = header.state == State::Closed;
    let (mut records, mut cut) = (0, 0);
    for (position, (sequence, path)) in files.iter().enumerate() {
        // A killed process leaves a partial record only at the end of the newest segment.
        let may_be_short = !was_closed && position + 1 == files.len();
        let mut segment = match Segment::open(path.clone(), *sequence, options.index_bytes(), true) {
            Err(Fault::Short(_)) if may_be_short => break,
            opened => opened.map_err(|fault| failure(path, fault))?,
        };
        if segment.epoch != header.epoch {
            continue;
        }
        if let Some(before) = found.segments.back()
            && (before.sequence + 1, before.last) != (segment.sequence, segment.after)
        {
            return Err(OpenFailure::Discard(format!("{} does not follow the segment before it", path.display())));
        }
        let scanned = segment.scan(|record| {
            records += 1;
            found.recent.push(record);
            found.recent.trim();
        });
        match scanned {
            Err(Fault::Short(_)) if may_be_short => {
                cut = segment.truncate().map_err(|error| OpenFailure::Refuse(OpenError::at(path, error)))?;
            }
            scanned => scanned.map_err(|fault| failure(path, fault))?,
        }
        found.segments.push_back(segment);
    }
    let newest = found.segments.back().map(|newest| newest.last);
    if was_closed && newest != Some(header.last) {
        return Err(OpenFailure::Discard(format!("its end is missing: record {} was the newest", header.last.0)));
    }
    let head = newest.map_or(header.floor, |newest| newest.max(header.floor));
    found.head = if was_closed { head } else { skip_lost(head) };
    (found.epoch, found.start) = (header.epoch, Start::Continued { records, cut });
    Ok(())
}

/// If the fault is damage, the journal is discarded. If the file cannot be read or has a newer
/// format, the start fails.
fn failure(path: &Path, fault: Fault) -> OpenFailure {
    match fault {
        Fault::Io(_) | Fault::Newer(_) => OpenFailure::Refuse(OpenError::fault(path, fault)),
        Fault::Short(_) | Fault::Damaged(..) => OpenFailure::Discard(fault.into_journal_error(path).to_string()),
    }
}

fn skip_lost(head: Lsn) -> Lsn {
    Lsn((head.0 + SKIPPED_LSNS).min(Lsn::END - 1))
}
