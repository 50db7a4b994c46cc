//! Work that reads the store: its order, and its repetition after a failure.

use std::collections::VecDeque;

use super::Subscribers;
use crate::messages::attachment::AttachmentId;
use crate::queue::record::UnixMillis;
use crate::queue::store::StoreError;

/// Pause after which a read that failed is repeated.
pub(super) const READ_PAUSE_MS: u64 = 1_000;

pub(super) type RequestedRead = Box<dyn FnOnce(&mut Subscribers) -> Result<(), StoreError> + Send>;

/// Work that reads the store. Subscribers take turns.
pub(super) enum ReadJob {
    /// Begins the delivery of a socket or a pull whose attach was committed.
    Begin(AttachmentId),
    /// The next page of a delivery.
    Page(AttachmentId),
    Gaps(AttachmentId),
    /// A request of the application, which is answered also if the read fails.
    Request(RequestedRead),
    /// A request on which no delivery depends.
    Listing(RequestedRead),
}

/// Reads that wait for their turns, one item a turn.
#[derive(Default)]
pub(super) struct Reads {
    ready: VecDeque<ReadJob>,
    /// Number of requests among them.
    requested: usize,
    /// Requests that wait while deliveries read, up to one turn in eight.
    listings: VecDeque<RequestedRead>,
    /// Reads that are not repeated before their times, in the order of these.
    paused: VecDeque<(UnixMillis, ReadJob)>,
    turns: u32,
    /// No failure is logged before this time.
    logged_until: UnixMillis,
}

impl Reads {
    pub(super) fn push(&mut self, job: ReadJob) {
        self.requested += usize::from(matches!(job, ReadJob::Request(_)));
        self.ready.push_back(job);
    }

    /// Adds a read that has its turn at a time, or later.
    pub(super) fn push_at(&mut self, at: UnixMillis, job: ReadJob) {
        let place = self.paused.partition_point(|(other, _)| *other <= at);
        self.paused.insert(place, (at, job));
    }

    pub(super) fn push_listing(&mut self, read: RequestedRead) {
        self.listings.push_back(read);
    }

    pub(super) fn requested(&self) -> usize {
        self.requested
    }

    pub(super) fn listings(&self) -> usize {
        self.listings.len()
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty() || !self.listings.is_empty()
    }

    /// The time of the first read that pauses.
    pub(super) fn next_paused(&self) -> Option<UnixMillis> {
        self.paused.front().map(|(at, _)| *at)
    }

    fn end_pauses(&mut self, now: UnixMillis) {
        while let Some((_, job)) = self.paused.pop_front_if(|(at, _)| *at <= now) {
            self.ready.push_back(job);
        }
    }
}

impl Subscribers {
    /// Reads the store for one subscriber and one reader of rooms. Neither waits for the other
    /// if that fails.
    pub(super) fn read_next(&mut self) {
        self.reads.end_pauses(self.clock.now());
        if let Err(error) = self.read_rooms() {
            self.on_read_failed(&error);
        }
        if let Some(job) = self.next_job()
            && let Err(error) = self.run_job(job)
        {
            self.on_read_failed(&error);
        }
    }

    fn on_read_failed(&mut self, error: &StoreError) {
        self.metrics.subscribers.reads_failed.add(1);
        let now = self.clock.now();
        if self.reads.logged_until <= now {
            self.reads.logged_until = now.plus(READ_PAUSE_MS);
            log::error!("queue not read, deliveries repeat the read pause_ms={READ_PAUSE_MS} error=\"{error}\"");
        }
    }

    /// The next read. One turn in eight is for listings and one for gap checks; both also get turns
    /// that deliveries leave.
    fn next_job(&mut self) -> Option<ReadJob> {
        self.reads.turns = self.reads.turns.wrapping_add(1);
        let preferred = match self.reads.turns % 8 {
            0 => self.next_gap_check().map(ReadJob::Gaps),
            4 => self.reads.listings.pop_front().map(ReadJob::Listing),
            _ => None,
        };
        preferred
            .or_else(|| self.reads.ready.pop_front())
            .or_else(|| self.reads.listings.pop_front().map(ReadJob::Listing))
            .or_else(|| self.next_gap_check().map(ReadJob::Gaps))
    }

    /// Runs a read. A failed one is repeated later.
    fn run_job(&mut self, job: ReadJob) -> Result<(), StoreError> {
        let (result, job) = match job {
            ReadJob::Begin(id) => (self.begin(id), ReadJob::Begin(id)),
            ReadJob::Page(id) => (self.read_page(id), ReadJob::Page(id)),
            ReadJob::Gaps(id) => (self.read_gaps(id), ReadJob::Gaps(id)),
            ReadJob::Request(read) => {
                self.reads.requested -= 1;
                return read(self);
            }
            ReadJob::Listing(read) => return read(self),
        };
        if result.is_err() {
            self.reads.push_at(self.clock.now().plus(READ_PAUSE_MS), job);
        }
        result
    }
}
