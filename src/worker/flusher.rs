//! The task that runs at the end of a worker's turn. It sends commands to the hub and writes
//! outboxes to their sockets.
//!
//! A write takes several microseconds in the kernel, and any other step takes much less than one
//! microsecond. Therefore the flusher runs after the ready tasks of the worker, and writes each
//! dirty outbox with one vectored write.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use local_waker::LocalWaker;

use super::Worker;
use crate::messages::abort::AbortOnUnwind;
use crate::messages::hub::ImmediateCommand;

/// Maximum number of writes before the flusher yields.
const WRITES_PER_TURN: usize = 256;

/// Maximum time of writing before the flusher yields.
const TURN_MAX: Duration = Duration::from_millis(1);

/// Maximum number of yields before a write while deliveries keep arriving, so that one write covers
/// several deliveries.
const YIELDS_MAX: usize = 4;

/// Interval between attempts to send to the hub while its mailbox is full.
const HUB_RETRY: Duration = Duration::from_millis(1);

/// Interval between checks of the replay budget while journal readers of this thread wait for
/// budget.
const REPLAY_RETRY: Duration = Duration::from_millis(20);

/// Interval between checks of the replay budget while clients of this thread hold a share of it.
const UNREAD_REPLAY_RETRY: Duration = Duration::from_millis(500);

/// Minimum number of written bytes in a report to the hub, unless the worker's limit is small.
const REPORT_BYTES: usize = 64 << 10;

/// Single-task notification within a thread. Notifications before a wake-up are merged.
#[derive(Default)]
pub(super) struct LocalNotify {
    notified: Cell<bool>,
    waker: LocalWaker,
    /// Number of batches of deliveries since the worker was started.
    deliveries: Cell<u64>,
}

impl LocalNotify {
    pub(super) fn notify(&self) {
        if !self.notified.replace(true) {
            self.waker.wake();
        }
    }

    /// Notifies the flusher of a batch of deliveries. Further batches may follow soon.
    pub(super) fn notify_delivered(&self) {
        self.deliveries.set(self.deliveries.get() + 1);
        self.notify();
    }

    pub(super) async fn notified(&self) {
        poll_fn(|cx| {
            if self.notified.replace(false) {
                return Poll::Ready(());
            }
            self.waker.register(cx.waker());
            Poll::Pending
        })
        .await;
    }
}

/// Bytes that were delivered to the outboxes of a worker and are not written yet.
pub(super) struct Backlog {
    /// Bytes of messages delivered since the flusher's last round. Each message is counted once.
    /// Deliveries cannot have enlarged any outbox by more than this.
    fresh: Cell<usize>,
    fresh_max: usize,
    /// Notified by the flusher at the beginning of a round.
    drained: LocalNotify,
    unreported: Cell<Written>,
}

/// Bytes that were written, or that wait for a slow client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Written {
    /// Bytes of live events, counted once per member.
    bytes: usize,
    replayed: usize,
}

impl Backlog {
    /// Limits the deliveries between two rounds to a quarter of an outbox, so that outboxes of
    /// healthy clients stay less than half full.
    pub(super) fn new(outbox_bytes_max: usize) -> Self {
        let fresh_max = outbox_bytes_max / 4;
        Self { fresh: Cell::new(0), fresh_max, drained: LocalNotify::default(), unreported: Cell::default() }
    }

    pub(super) fn add(&self, bytes: usize) {
        self.fresh.set(self.fresh.get() + bytes);
    }

    pub(super) fn record_delivered(&self, fanout_bytes: usize) {
        let Written { bytes, replayed } = self.unreported.get();
        self.unreported.set(Written { bytes: bytes + fanout_bytes, replayed });
    }

    pub(super) fn record_replayed(&self, fanout_bytes: usize) {
        let Written { bytes, replayed } = self.unreported.get();
        self.unreported.set(Written { bytes, replayed: replayed + fanout_bytes });
        self.add(fanout_bytes);
    }

    /// Returns whether the flusher should run before more is delivered.
    pub(super) fn is_full(&self) -> bool {
        self.fresh.get() >= self.fresh_max
    }

    pub(super) async fn wait_for_room(&self) {
        while self.is_full() {
            self.drained.notified().await;
        }
    }

    /// Begins a round. Returns the bytes that will have been written, or will wait for a slow
    /// client, when the round ends.
    fn begin_round(&self) -> Written {
        self.fresh.set(0);
        self.drained.notify();
        self.unreported.get()
    }

    /// Subtracts `written` from the unreported bytes, and returns `written`. Returns `None` if
    /// `written` is below `enough`.
    fn take_report(&self, written: Written, enough: usize) -> Option<Written> {
        if written.bytes.max(written.replayed) < enough.max(1) {
            return None;
        }
        let all = self.unreported.get();
        let left = Written { bytes: all.bytes - written.bytes, replayed: all.replayed - written.replayed };
        self.unreported.set(left);
        Some(written)
    }
}

pub(super) async fn run(worker: Rc<Worker>) {
    let mut seen = 0;
    loop {
        next_turn(&worker).await;
        flush_hub_sender(&worker).await;
        for _ in 0..YIELDS_MAX {
            let deliveries = worker.flush_notify.deliveries.get();
            if deliveries == seen || worker.backlog.is_full() {
                break;
            }
            seen = deliveries;
            tokio::task::yield_now().await;
            flush_hub_sender(&worker).await;
        }
        flush_rounds(&worker).await;
    }
}

/// Waits for work. Polls the replay budget while journal readers wait for budget or clients hold a
/// share of it, since other threads send no notification when they release their share.
async fn next_turn(worker: &Worker) {
    while worker.has_waiting_readers() || worker.has_unread_replays() {
        let interval = if worker.has_waiting_readers() { REPLAY_RETRY } else { UNREAD_REPLAY_RETRY };
        if tokio::time::timeout(interval, worker.flush_notify.notified()).await.is_ok() {
            return;
        }
        worker.send_replay_requests();
    }
    worker.flush_notify.notified().await;
}

/// Writes rounds until no outbox is dirty. A round covers the outboxes that are dirty when it
/// begins. After each round, its bytes are reported to the hub.
async fn flush_rounds(worker: &Worker) {
    loop {
        let delivered = worker.backlog.begin_round();
        worker.outboxes.borrow_mut().held.begin_round();
        let mut left = worker.outboxes.borrow().dirty_len();
        loop {
            left = flush_some(worker, left);
            if left == 0 {
                break;
            }
            tokio::task::yield_now().await;
            flush_hub_sender(worker).await;
        }
        report_consumed(worker, delivered);
        if worker.outboxes.borrow().dirty_len() == 0 {
            return;
        }
        tokio::task::yield_now().await;
        flush_hub_sender(worker).await;
    }
}

async fn flush_hub_sender(worker: &Worker) {
    while !offer_commands(worker) {
        tokio::time::sleep(HUB_RETRY).await;
    }
}

fn offer_commands(worker: &Worker) -> bool {
    let _guard = AbortOnUnwind("flusher");
    worker.hub_sender.borrow_mut().flush()
}

/// Writes up to `left` outboxes in one turn. Returns the number of outboxes that are left.
fn flush_some(worker: &Worker, left: usize) -> usize {
    let _guard = AbortOnUnwind("flusher");
    let left = write_some(worker, left);
    worker.send_replay_requests();
    left
}

fn write_some(worker: &Worker, left: usize) -> usize {
    let begun = Instant::now();
    let mut outboxes = worker.outboxes.borrow_mut();
    for written in 1..=left.min(WRITES_PER_TURN) {
        let Some(slot) = outboxes.next_dirty() else { return 0 };
        outboxes.flush(slot);
        if written % 16 == 0 && begun.elapsed() >= TURN_MAX {
            return left - written;
        }
    }
    left.saturating_sub(WRITES_PER_TURN)
}

/// Reports to the hub the bytes that were written or that wait for a slow client.
fn report_consumed(worker: &Worker, delivered: Written) {
    let _guard = AbortOnUnwind("flusher");
    worker.outboxes.borrow_mut().enforce_budget();
    let enough = REPORT_BYTES.min(worker.limits.hub.worker_bytes_max / 4);
    if let Some(Written { bytes, replayed }) = worker.backlog.take_report(delivered, enough) {
        worker.hub_sender.borrow_mut().push(ImmediateCommand::Consumed { bytes, replayed }.into());
        worker.flush_notify.notify();
    }
}
