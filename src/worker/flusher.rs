//! The end of a worker's turn: commands go to the hub, outboxes go to their sockets.
//!
//! A write to a socket costs the kernel several microseconds and everything above it well under one, so what counts is
//! the number of writes: the flusher runs after the worker's ready work, and each dirty socket gets one vectored write.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use local_waker::LocalWaker;

use super::Worker;
use crate::messages::abort::AbortOnUnwind;
use crate::messages::hub::ImmediateCommand;

/// Writes between two looks at other work of this thread.
const WRITES_PER_TURN: usize = 256;

/// Longest stretch of writing between two looks at other work.
const TURN_MAX: Duration = Duration::from_millis(1);

/// Turns that the flusher steps back while more deliveries keep coming, so that one write takes them along.
const STEP_BACKS_MAX: usize = 4;

/// Before a command is offered again to a hub whose mailbox was full.
const HUB_RETRY: Duration = Duration::from_millis(1);

/// Between two looks at a budget of replays that is spent.
const REPLAY_RETRY: Duration = Duration::from_millis(20);

/// Between two looks whether it is, where nobody of this thread waits for it.
const LENT_RETRY: Duration = Duration::from_millis(500);

/// Bytes reported to the hub at a time, so that reports do not cost more than they tell.
const REPORT_BYTES: usize = 64 << 10;

/// Wakes the flusher, at most once per run.
#[derive(Default)]
pub(super) struct LocalNotify {
    notified: Cell<bool>,
    waker: LocalWaker,
    /// Batches of deliveries since the worker began.
    deliveries: Cell<u64>,
}

impl LocalNotify {
    pub(super) fn notify(&self) {
        if !self.notified.replace(true) {
            self.waker.wake();
        }
    }

    /// Deliveries came: more may be on their way.
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

/// What was delivered to the outboxes of this worker and has not been written out yet.
pub(super) struct Backlog {
    /// Bytes of messages, however many members each has, since the flusher last began a round: the most by which one
    /// outbox can have grown.
    fresh: Cell<usize>,
    fresh_max: usize,
    /// Rung by the flusher when it begins a round.
    drained: LocalNotify,
    /// What the hub has not been told of.
    unreported: Cell<Written>,
}

/// Bytes that have been written out, or wait in the outbox of a peer that is slow on its own account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Written {
    /// Of events, all members counted.
    bytes: usize,
    /// Bytes of replays.
    replayed: usize,
}

impl Backlog {
    /// A quarter of an outbox may come between two rounds, so that a peer that takes all it is given stays below half.
    pub(super) fn new(outbox_bytes_max: usize) -> Self {
        let fresh_max = outbox_bytes_max / 4;
        Self { fresh: Cell::new(0), fresh_max, drained: LocalNotify::default(), unreported: Cell::default() }
    }

    /// A message of `bytes` begins to be delivered.
    pub(super) fn add(&self, bytes: usize) {
        self.fresh.set(self.fresh.get() + bytes);
    }

    /// Of events, `fanout_bytes` bytes were delivered, all members counted.
    pub(super) fn record_delivered(&self, fanout_bytes: usize) {
        let Written { bytes, replayed } = self.unreported.get();
        self.unreported.set(Written { bytes: bytes + fanout_bytes, replayed });
    }

    /// So many bytes were replayed.
    pub(super) fn record_replayed(&self, fanout_bytes: usize) {
        let Written { bytes, replayed } = self.unreported.get();
        self.unreported.set(Written { bytes, replayed: replayed + fanout_bytes });
        self.add(fanout_bytes);
    }

    /// Whether the flusher should have its turn before more is delivered.
    pub(super) fn is_full(&self) -> bool {
        self.fresh.get() >= self.fresh_max
    }

    /// Waits for that turn.
    pub(super) async fn wait_for_room(&self) {
        while self.is_full() {
            self.drained.notified().await;
        }
    }

    /// The flusher begins a round. Returns what will have been written, or be waiting for a slow peer, at its end.
    fn begin_round(&self) -> Written {
        self.fresh.set(0);
        self.drained.notify();
        self.unreported.get()
    }

    /// Takes what was written to report it to the hub, if it is enough to be worth a report.
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

/// Flushes for as long as the thread lives.
pub(super) async fn run(worker: Rc<Worker>) {
    let mut seen = 0;
    loop {
        next_turn(&worker).await;
        flush_hub_sender(&worker).await;
        for _ in 0..STEP_BACKS_MAX {
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

/// Waits until there is something to flush. While readers wait for the budget of replays, which other threads free without a word,
/// or hold a share of it, for which readers on other threads may wait, looks at it now and then.
async fn next_turn(worker: &Worker) {
    while worker.has_readers_awaiting_budget() || worker.has_lent() {
        let interval = if worker.has_readers_awaiting_budget() { REPLAY_RETRY } else { LENT_RETRY };
        if tokio::time::timeout(interval, worker.flush_notify.notified()).await.is_ok() {
            return;
        }
        worker.send_wanted();
    }
    worker.flush_notify.notified().await;
}

/// Writes until nothing is left, one round after the other: what is dirty when a round begins is written in it, and then
/// reported, however much keeps coming meanwhile.
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

/// Returns false while the hub's mailbox is full.
fn offer_commands(worker: &Worker) -> bool {
    let _guard = AbortOnUnwind("flusher");
    worker.hub_sender.borrow_mut().flush()
}

/// Writes for one turn, `left` outboxes at most. Returns how many of them are still to be written.
fn flush_some(worker: &Worker, left: usize) -> usize {
    let _guard = AbortOnUnwind("flusher");
    let left = write_some(worker, left);
    worker.send_wanted();
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

/// Everything `delivered` has been written, or waits in the outbox of a peer that is slow on its own account.
fn report_consumed(worker: &Worker, delivered: Written) {
    let _guard = AbortOnUnwind("flusher");
    worker.outboxes.borrow_mut().settle();
    let enough = REPORT_BYTES.min(worker.limits.hub.worker_bytes_max / 4);
    if let Some(Written { bytes, replayed }) = worker.backlog.take_report(delivered, enough) {
        worker.hub_sender.borrow_mut().push(ImmediateCommand::Consumed { bytes, replayed }.into());
        worker.flush_notify.notify();
    }
}
