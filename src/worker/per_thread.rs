//! Finding the current thread's worker: made when a thread first meets a server.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use actix::Recipient;

use super::Worker;
use crate::ids::WorkerId;
use crate::limits::Limits;
use crate::messages::hub::HubBatch;
use crate::metrics::Metrics;
use crate::state::budget::Budgets;

thread_local! {
    /// The workers of this thread: one for each server that it serves, mostly one.
    static WORKERS: RefCell<Vec<(u64, Rc<Worker>)>> = const { RefCell::new(Vec::new()) };
}

/// Servers that this process has made.
static SERVERS: AtomicU64 = AtomicU64::new(0);

/// What it takes to make the workers of one server.
pub(crate) struct WorkerFactory {
    /// Tells servers apart, also from those that are gone.
    server: u64,
    hub: Recipient<HubBatch>,
    limits: Limits,
    budgets: Arc<Budgets>,
    metrics: Arc<Metrics>,
    next: AtomicU16,
}

impl WorkerFactory {
    pub(crate) fn new(hub: Recipient<HubBatch>, limits: Limits, budgets: Arc<Budgets>, metrics: Arc<Metrics>) -> Self {
        let server = SERVERS.fetch_add(1, Ordering::Relaxed);
        Self { server, hub, limits, budgets, metrics, next: AtomicU16::new(0) }
    }

    /// What all clients of the server share.
    pub(crate) fn budgets(&self) -> &Arc<Budgets> {
        &self.budgets
    }

    /// The next worker's number, for one that is not found by thread.
    pub(crate) fn next_id(&self) -> WorkerId {
        WorkerId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// This thread's worker of this server. The thread must run an actix system.
    pub(crate) fn current(&self) -> Rc<Worker> {
        let known = WORKERS.with_borrow(|workers| {
            workers.iter().find(|(server, _)| *server == self.server).map(|(_, worker)| worker.clone())
        });
        known.unwrap_or_else(|| {
            let metrics = self.metrics.new_worker();
            let (hub, limits, budgets) = (self.hub.clone(), self.limits.clone(), self.budgets.clone());
            let worker = Worker::start(self.next_id(), hub, limits, budgets, metrics);
            WORKERS.with_borrow_mut(|workers| workers.push((self.server, worker.clone())));
            worker
        })
    }
}
