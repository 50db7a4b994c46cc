//! What stands in a folder when a journal is opened, and how to go on with it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::options::{FileOptions, Start};
use crate::ids::{Epoch, Lsn};
use crate::journal::folder::{self, JournalHeader, OpenError, State, StoredHeader};
use crate::journal::recent::RecentRecords;
use crate::journal::segment::{Fault, Segment};

/// Numbers passed over where some may have been given away and lost.
pub(super) const JUMP: u64 = 1 << 20;

/// What a folder held.
pub(super) struct ExistingJournal {
    pub(super) start: Start,
    pub(super) epoch: Epoch,
    pub(super) head: Lsn,
    /// Of a segment that begins now.
    pub(super) sequence: u64,
    pub(super) segments: VecDeque<Segment>,
    pub(super) recent: RecentRecords,
}

/// Why a log cannot go on, or may not be touched.
enum OpenFailure {
    Discard(String),
    Refuse(OpenError),
}

/// Reads what a folder holds and decides how to go on. Changes nothing but the end of the newest segment, which a killed
/// process has left half written.
pub(super) fn find(path: &Path, left: &StoredHeader, options: &FileOptions) -> Result<ExistingJournal, OpenError> {
    let mut found = ExistingJournal {
        start: Start::New,
        epoch: options.epoch,
        head: Lsn(0),
        sequence: 1,
        segments: VecDeque::new(),
        recent: RecentRecords::new(Lsn(0), options.records_max, options.bytes_max),
    };
    let files = folder::segments(path)?;
    found.sequence = files.last().map_or(1, |(newest, _)| newest + 1);
    let (reason, left) = match left {
        StoredHeader::Nothing if files.is_empty() => return Ok(found),
        StoredHeader::Nothing => ("its header is missing".to_owned(), None),
        StoredHeader::Damaged(reason) => (reason.clone(), None),
        StoredHeader::Header(left) => {
            let reason = match left.state {
                State::Failed => "writing to it had failed".to_owned(),
                State::Open if options.boot.is_none() || left.boot != options.boot => {
                    "it was not closed before the machine was started again".to_owned()
                }
                State::Open | State::Closed => match read_log(&files, left, options, &mut found) {
                    Ok(()) => return Ok(found),
                    Err(OpenFailure::Refuse(error)) => return Err(error),
                    Err(OpenFailure::Discard(reason)) => reason,
                },
            };
            (reason, Some(left))
        }
    };
    // What was given away, as far as it can still be told, and the newest epoch that something in the folder bears.
    let mut given = left.map_or(Lsn(0), |left| left.floor);
    let mut newest = left.map(|left| left.epoch);
    for (sequence, path) in files.iter().rev() {
        let Ok(mut segment) = Segment::open(path.clone(), *sequence, options.index_bytes(), false) else { continue };
        newest = newest.max(Some(segment.epoch));
        if given <= segment.after {
            let _ = segment.scan(|_| {});
            given = given.max(segment.last);
        }
    }
    let epoch = match newest {
        Some(newest) if newest >= options.epoch => Epoch::from_bits(newest.to_bits() + 1),
        _ => options.epoch,
    };
    Ok(ExistingJournal {
        start: Start::Discarded { reason },
        epoch,
        head: jump(given),
        segments: VecDeque::new(),
        recent: RecentRecords::new(Lsn(0), options.records_max, options.bytes_max),
        ..found
    })
}

/// Reads a log that may go on.
fn read_log(
    files: &[(u64, PathBuf)],
    left: &JournalHeader,
    options: &FileOptions,
    found: &mut ExistingJournal,
) -> Result<(), OpenFailure> {
    let was_closed = left.state == State::Closed;
    let (mut records, mut cut) = (0, 0);
    for (position, (sequence, path)) in files.iter().enumerate() {
        // A killed process was writing at one place: the end of the newest segment.
        let may_be_short = !was_closed && position + 1 == files.len();
        let mut segment = match Segment::open(path.clone(), *sequence, options.index_bytes(), true) {
            Err(Fault::Short(_)) if may_be_short => break,
            opened => opened.map_err(|fault| failure(path, fault))?,
        };
        if segment.epoch != left.epoch {
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
                cut = segment.cut().map_err(|error| OpenFailure::Refuse(OpenError::at(path, error)))?;
            }
            scanned => scanned.map_err(|fault| failure(path, fault))?,
        }
        found.segments.push_back(segment);
    }
    let newest = found.segments.back().map(|newest| newest.last);
    if was_closed && newest != Some(left.last) {
        return Err(OpenFailure::Discard(format!("its end is missing: record {} was the newest", left.last.0)));
    }
    let head = newest.map_or(left.floor, |newest| newest.max(left.floor));
    found.head = if was_closed { head } else { jump(head) };
    (found.epoch, found.start) = (left.epoch, Start::Continued { records, cut });
    Ok(())
}

/// Damage is never passed over; a file that cannot be read, or not by this program, is not taken for damaged.
fn failure(path: &Path, fault: Fault) -> OpenFailure {
    match fault {
        Fault::Io(_) | Fault::Newer(_) => OpenFailure::Refuse(OpenError::fault(path, fault)),
        Fault::Short(_) | Fault::Damaged(..) => OpenFailure::Discard(fault.in_use(path).to_string()),
    }
}

/// Beyond every number that may have been given away behind `head`.
fn jump(head: Lsn) -> Lsn {
    Lsn((head.0 + JUMP).min(Lsn::END - 1))
}
