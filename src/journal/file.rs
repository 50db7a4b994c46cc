//! The journal on disk: a ring of segment files in one folder. The newest records are in memory as
//! well.
//!
//! Flushed records survive a crash of the process, but not of the machine. A journal that was not
//! closed therefore continues only within the same boot. After another boot, records may be missing
//! without a trace. In that case, and after any damage, all records are discarded and a new epoch
//! starts. A damaged record is never skipped.

mod existing;
mod options;
mod sync;

use std::collections::VecDeque;
#[cfg(test)]
use std::fs::File;
use std::io;
use std::path::Path;

use self::existing::ExistingJournal;
pub(crate) use self::options::{FileOptions, Start};
use self::sync::Syncer;
use super::chunk::ChunkBuilder;
use super::folder::{self, Folder, JournalHeader, OpenError, State};
use super::recent::RecentRecords;
use super::segment::{self, Segment, Spare};
use super::{Chunk, Journal, JournalError, Record, codec, disk};
use crate::ids::{Epoch, Lsn, Offset, QueueOffset};

/// Number of pending bytes at which an append writes them, before the turn ends.
const PENDING_BYTES_MAX: usize = 1 << 20;

/// Maximum number of spare files while the ring grows. A full ring needs one. Each spare file needs
/// a descriptor.
const SPARES_MAX: usize = 8;

#[derive(Debug)]
pub(crate) struct FileJournal {
    folder: Folder,
    header: JournalHeader,
    options: FileOptions,
    start: Start,
    /// From a discarded journal.
    stored: Option<QueueOffset>,
    head: Lsn,
    /// At least one segment. The last is the newest, and the only one to which records are written.
    segments: VecDeque<Segment>,
    /// Encoded records that are not written yet. `recent` contains all of them as well.
    pending: Vec<u8>,
    recent: RecentRecords,
    /// Files for the next segments. A full ring reuses its oldest file and needs no further
    /// descriptor.
    spares: Vec<Spare>,
    syncer: Syncer,
    /// The reason why no more records are written: `Closed`, or a failure.
    ended: Option<JournalError>,
}

impl FileJournal {
    /// Opens the journal in the folder at `path`, or creates it.
    pub(crate) fn open(path: &Path, options: FileOptions) -> Result<Self, OpenError> {
        let options = FileOptions { segments_max: options.segments_max.max(2), ..options };
        let mut folder = Folder::lock(path)?;
        let ExistingJournal { start, epoch, head, sequence, segments, recent, stored } =
            ExistingJournal::read(path, &JournalHeader::read(path)?, &options)?;
        let header = JournalHeader { epoch, boot: options.boot, state: State::Open, floor: head, last: Lsn(0) };
        folder.write_header(&header)?;
        // Remove segments of another epoch, which a start that was interrupted may have left.
        let strays = folder::segments(path)?.into_iter().map(|(_, path)| path);
        let strays = strays.filter(|path| segments.iter().all(|segment| segment.path != *path));
        for stray in strays.chain(folder::spares(path)?) {
            disk::remove(&stray).map_err(|error| OpenError::at(&stray, error))?;
        }
        let is_empty = segments.is_empty();
        let mut journal = Self {
            folder,
            header,
            options,
            start,
            stored,
            head,
            segments,
            pending: Vec::new(),
            recent,
            spares: Vec::new(),
            syncer: Syncer::default(),
            ended: None,
        };
        let failed = |error| OpenError::at(path, error);
        if is_empty {
            journal.push_segment(sequence, head).map_err(failed)?;
        }
        journal.drop_oldest().map_err(failed)?;
        while journal.spares.len() < journal.spares_wanted() {
            journal.add_spare().map_err(failed)?;
        }
        Ok(journal)
    }

    /// The newest position in the queue that a discarded journal in this folder said.
    pub(crate) fn discarded_stored(&self) -> Option<QueueOffset> {
        self.stored
    }

    pub(crate) fn start(&self) -> &Start {
        &self.start
    }

    fn newest(&mut self) -> &mut Segment {
        let newest = self.segments.len() - 1;
        &mut self.segments[newest]
    }

    fn written(&self) -> Lsn {
        self.segments.back().map_or(self.head, |newest| newest.last)
    }

    /// Bytes of the ring before `segment`, computed as if each earlier segment were full.
    fn bytes_before(&self, segment: &Segment) -> u64 {
        segment.sequence.saturating_mul(self.options.segment_bytes as u64)
    }

    fn check_open(&self) -> Result<(), JournalError> {
        self.ended.clone().map_or(Ok(()), Err)
    }

    /// Appends `record` to the pending bytes. Starts another segment if the newest has no room for
    /// the record.
    fn encode(&mut self, record: &Record) -> Result<(), JournalError> {
        // `make torture-planted` compiles this bug in, to check that the torture test finds it.
        #[cfg(stentor_planted_bug)]
        if record.lsn.0.is_multiple_of(1000) {
            return Ok(());
        }
        let begin = self.pending.len();
        codec::encode(record, &mut self.pending);
        let bytes = self.pending.len() - begin;
        let limit = self.record_limit();
        if bytes > limit {
            self.pending.truncate(begin);
            return Err(JournalError::TooLarge { bytes, limit });
        }
        let has_room = self.newest().bytes + self.pending.len() as u64 <= self.options.segment_bytes as u64;
        if !has_room {
            let encoded = self.pending.split_off(begin);
            self.write_pending()?;
            self.begin_segment().map_err(|error| self.fail(error))?;
            self.pending = encoded;
        }
        let at = self.newest().bytes + (self.pending.len() - bytes) as u64;
        self.newest().index_record(record.lsn, at);
        Ok(())
    }

    /// Maximum number of bytes of a record: those of a segment.
    fn record_limit(&self) -> usize {
        self.options.segment_bytes.saturating_sub(segment::HEADER_BYTES)
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        // The end of the written records is used, since `head` is too high after a start that
        // skipped LSNs.
        let after = self.written();
        let (sequence, file) = (self.newest().sequence, self.newest().file());
        self.push_segment(sequence + 1, after)?;
        self.syncer.submit(sequence, file);
        self.drop_oldest()
    }

    fn push_segment(&mut self, sequence: u64, after: Lsn) -> io::Result<()> {
        let path = &self.folder.path;
        let spare = self.spares.pop().map_or_else(|| Spare::create(path, sequence), Ok)?;
        let index_bytes = self.options.index_bytes();
        self.segments.push_back(Segment::create(spare, path, self.header.epoch, sequence, after, index_bytes)?);
        Ok(())
    }

    fn drop_oldest(&mut self) -> io::Result<()> {
        while self.segments.len() > self.options.segments_max {
            let Some(oldest) = self.segments.pop_front() else { break };
            if self.spares.len() < self.spares_wanted() {
                self.spares.push(oldest.recycle(&self.folder.path)?);
            } else {
                disk::remove(&oldest.path)?;
            }
        }
        Ok(())
    }

    /// Number of spare files to keep: one more than the number of segments that the ring lacks,
    /// since the next segment starts before the oldest is dropped, but at most `SPARES_MAX`.
    fn spares_wanted(&self) -> usize {
        let lacking = self.options.segments_max.saturating_sub(self.segments.len());
        lacking.saturating_add(1).min(SPARES_MAX)
    }

    fn add_spare(&mut self) -> io::Result<()> {
        let newest = self.spares.iter().map(|spare| spare.number).max().unwrap_or(0).max(self.newest().sequence);
        self.spares.push(Spare::create(&self.folder.path, newest + 1)?);
        Ok(())
    }

    fn write_pending(&mut self) -> Result<(), JournalError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let (pending, head) = (std::mem::take(&mut self.pending), self.head);
        self.newest().write(&pending, head).map_err(|error| self.fail(error))?;
        self.pending = pending;
        self.pending.clear();
        self.pending.shrink_to(2 * PENDING_BYTES_MAX);
        self.recent.trim();
        Ok(())
    }

    /// Ends the journal after a failure, since later records would follow a gap. Marks the folder,
    /// so that no later start continues the journal.
    fn fail(&mut self, error: io::Error) -> JournalError {
        let path = self.newest().path.clone();
        log::error!("journal failed, further records are rejected file={} error={error}", path.display());
        let error = JournalError::Io { path, kind: error.kind() };
        self.pending = Vec::new();
        self.head = self.written();
        self.recent.truncate(self.head);
        self.header.state = State::Failed;
        if let Err(error) = self.folder.try_write_header(&self.header).or_else(|_| self.folder.remove_header()) {
            log::error!(
                "failed journal cannot be marked, remove it folder={} error={error}",
                self.folder.path.display()
            );
        }
        self.ended = Some(error.clone());
        error
    }

    fn read_files(&self, after: Lsn, builder: &mut ChunkBuilder) -> Result<(), JournalError> {
        let until = self.recent.after();
        let first = self.segments.partition_point(|segment| segment.last <= after);
        for segment in self.segments.range(first..).take_while(|segment| segment.after < until) {
            let mut records = segment.records_after(after);
            while let Some(record) = records.next(after).map_err(|fault| fault.into_journal_error(&segment.path))? {
                if record.lsn > until || !builder.push(&record) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn write_end(&mut self) -> Result<(), JournalError> {
        self.write_pending()?;
        self.sync().map_err(|error| self.fail(error))?;
        let header = JournalHeader { state: State::Closed, floor: self.head, last: self.written(), ..self.header };
        self.folder.try_write_header(&header).map_err(|error| self.fail(error))?;
        self.header = header;
        Ok(())
    }

    /// Waits until all records are synced to the disk. The syncer has already synced most full
    /// segments.
    fn sync(&mut self) -> io::Result<()> {
        let synced = self.syncer.finish()?;
        for segment in self.segments.iter().filter(|segment| !synced.contains(&segment.sequence)) {
            self.syncer.sync(&segment.file())?;
        }
        self.folder.sync()
    }

    /// Simulates a crash of the process after only the first `written` of the pending bytes were
    /// written.
    #[cfg(test)]
    pub(super) fn kill(mut self, written: usize) {
        let written = written.min(self.pending.len());
        let pending = std::mem::take(&mut self.pending);
        let head = self.head;
        self.newest().write(&pending[..written], head).unwrap();
        self.ended = Some(JournalError::Closed);
    }

    #[cfg(test)]
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    #[cfg(test)]
    pub(super) fn sync_with(&mut self, sync: fn(&File) -> io::Result<()>) {
        self.syncer = Syncer::new(sync);
    }

    #[cfg(test)]
    pub(super) fn write_to(&mut self, file: File) {
        self.newest().replace_file(file);
    }
}

impl Journal for FileJournal {
    fn epoch(&self) -> Epoch {
        self.header.epoch
    }

    fn head(&self) -> Lsn {
        self.head
    }

    fn trimmed_to(&self) -> Lsn {
        self.segments.front().map_or(self.head, |oldest| oldest.after)
    }

    fn append(&mut self, record: Record) -> Result<(), JournalError> {
        self.check_open()?;
        super::check_position(self.head, record.lsn)?;
        self.encode(&record)?;
        self.head = record.lsn;
        self.recent.push(record);
        if self.pending.len() >= PENDING_BYTES_MAX { self.write_pending() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), JournalError> {
        self.check_open()?;
        self.write_pending()?;
        if self.spares.len() < self.spares_wanted() {
            // A failure is ignored here, and the next turn retries. A missing spare file matters
            // only when a new segment has to start.
            let _ = self.add_spare();
        }
        Ok(())
    }

    fn at_risk(&self) -> Lsn {
        let distance = self.ring_bytes().unwrap_or(0) / 8 * 3;
        let Some(target) = self.used_bytes().checked_sub(distance) else { return self.trimmed_to() };
        let next = self.segments.partition_point(|segment| self.bytes_before(segment) <= target);
        let reached = next.checked_sub(1).and_then(|at| self.segments.get(at));
        reached
            .map_or_else(|| self.trimmed_to(), |segment| segment.position_before(target - self.bytes_before(segment)))
    }

    fn ring_bytes(&self) -> Option<u64> {
        Some((self.options.segments_max as u64 - 1).saturating_mul(self.options.segment_bytes as u64))
    }

    fn record_bytes_max(&self) -> Option<usize> {
        Some(self.record_limit())
    }

    fn used_bytes(&self) -> u64 {
        self.segments.back().map_or(0, |newest| self.bytes_before(newest) + newest.bytes + self.pending.len() as u64)
    }

    fn read(&self, after: Lsn, records_max: usize, bytes_max: usize) -> Result<Chunk, JournalError> {
        let trimmed = after < self.trimmed_to();
        let after = after.max(self.trimmed_to());
        let mut builder = ChunkBuilder::new(records_max, bytes_max);
        if after < self.recent.after() {
            self.read_files(after, &mut builder)?;
        }
        self.recent.read(after, &mut builder);
        Ok(Chunk { trimmed, ..builder.chunk })
    }

    fn knows(&self, offset: &Offset) -> bool {
        if offset.epoch != self.header.epoch || offset.lsn > self.head {
            return false;
        }
        if offset.lsn <= self.trimmed_to() {
            return true;
        }
        match self.read(Lsn(offset.lsn.0 - 1), 1, 0) {
            Ok(chunk) => chunk
                .records
                .first()
                .is_some_and(|record| record.lsn == offset.lsn && record.fingerprint == offset.fingerprint),
            Err(error) => {
                log::error!("offset check failed, the offset counts as unknown error={error}");
                false
            }
        }
    }

    fn close(&mut self) -> Result<(), JournalError> {
        match &self.ended {
            None => {}
            Some(JournalError::Closed) => return Ok(()),
            Some(error) => return Err(error.clone()),
        }
        self.write_end()?;
        self.ended = Some(JournalError::Closed);
        Ok(())
    }
}

impl Drop for FileJournal {
    fn drop(&mut self) {
        // The journal is not closed after a panic, since records may be missing.
        if self.ended.is_none() && !std::thread::panicking() && self.write_end().is_ok() {
            log::info!("journal closed folder={}", self.folder.path.display());
        }
    }
}

#[cfg(test)]
mod failing;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
