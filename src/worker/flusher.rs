//! The end of a worker's turn: commands go to the hub, outboxes go to their sockets.
//!
//! A write to a socket costs the kernel several microseconds and everything above it well under one, so what counts is
//! the number of writes: the flusher runs after the worker's ready work, and each dirty socket gets one vectored write.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::Worker;
use crate::messages::abort::AbortOnUnwind;
use crate::messages::hub::HubCommand;

/// Writes between two looks at other work of this thread.
const WRITES_PER_TURN: usize = 256;

/// Longest stretch of writing between two looks at other work.
const TURN_MAX: Duration = Duration::from_millis(1);

/// Turns that the flusher steps back while more deliveries keep coming, so that one write takes them along.
const STEP_BACKS_MAX: usize = 4;

/// Before a command is offered again to a hub whose mailbox was full.
const HUB_RETRY: Duration = Duration::from_millis(1);

/// Bytes reported to the hub at a time, so that reports do not cost more than they tell.
const REPORT_BYTES: usize = 64 << 10;

/// Wakes the flusher, at most once per run.
#[derive(Default)]
pub(super) struct Alarm {
    rung: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// Batches of deliveries since the worker began.
    deliveries: Cell<u64>,
}

impl Alarm {
    pub(super) fn ring(&self) {
        if !self.rung.replace(true)
            && let Some(waker) = self.waker.borrow().as_ref()
        {
            waker.wake_by_ref();
        }
    }

    /// Deliveries came: more may be on their way.
    pub(super) fn delivered(&self) {
        self.deliveries.set(self.deliveries.get() + 1);
        self.ring();
    }

    async fn rung(&self) {
        poll_fn(|cx| {
            if self.rung.replace(false) {
                return Poll::Ready(());
            }
            let mut waker = self.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

/// Flushes for as long as the thread lives.
pub(super) async fn run(worker: Rc<Worker>) {
    let mut seen = 0;
    loop {
        worker.alarm.rung().await;
        flush_port(&worker).await;
        for _ in 0..STEP_BACKS_MAX {
            let deliveries = worker.alarm.deliveries.get();
            if deliveries == seen {
                break;
            }
            seen = deliveries;
            tokio::task::yield_now().await;
            flush_port(&worker).await;
        }
        while flush_some(&worker) {
            tokio::task::yield_now().await;
            flush_port(&worker).await;
        }
        report_consumed(&worker);
    }
}

async fn flush_port(worker: &Worker) {
    while !worker.port.borrow_mut().flush() {
        tokio::time::sleep(HUB_RETRY).await;
    }
}

/// Writes for one turn. Returns whether more is to be written.
fn flush_some(worker: &Worker) -> bool {
    let _guard = AbortOnUnwind("flusher");
    let begun = Instant::now();
    let mut slots = worker.slots.borrow_mut();
    for written in 1..=WRITES_PER_TURN {
        let Some(slot) = slots.next_dirty() else { return false };
        slots.flush(slot);
        if written % 16 == 0 && begun.elapsed() >= TURN_MAX {
            break;
        }
    }
    true
}

/// Everything delivered so far has been written, or waits in the outbox of a peer that is slow on its own account.
fn report_consumed(worker: &Worker) {
    if worker.consumed.get() >= REPORT_BYTES.min(worker.limits.worker_bytes_max / 4) && worker.consumed.get() > 0 {
        let bytes = worker.consumed.take();
        worker.port.borrow_mut().push(HubCommand::Consumed { bytes });
        worker.alarm.ring();
    }
}
