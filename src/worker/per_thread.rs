//! Look-up of the current thread's worker, which is started on first use.

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
    /// Workers of this thread, each with the number of its server. A list suffices, since most
    /// programs run one server.
    static WORKERS: RefCell<Vec<(u64, Rc<Worker>)>> = const { RefCell::new(Vec::new()) };
}

static SERVERS: AtomicU64 = AtomicU64::new(0);

pub(crate) struct WorkerFactory {
    /// Number of the server. No other server of this process has the same number, not even a
    /// stopped server.
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

    pub(crate) fn budgets(&self) -> &Arc<Budgets> {
        &self.budgets
    }

    pub(crate) fn next_id(&self) -> WorkerId {
        WorkerId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns this thread's worker of this server, and starts it if necessary. The thread must run
    /// an actix system.
    pub(crate) fn current(&self) -> Rc<Worker> {
        let existing = WORKERS.with_borrow(|workers| {
            workers.iter().find(|(server, _)| *server == self.server).map(|(_, worker)| worker.clone())
        });
        existing.unwrap_or_else(|| {
            let metrics = self.metrics.new_worker();
            let (hub, limits, budgets) = (self.hub.clone(), self.limits.clone(), self.budgets.clone());
            let worker = Worker::start(self.next_id(), hub, limits, budgets, metrics);
            WORKERS.with_borrow_mut(|workers| workers.push((self.server, worker.clone())));
            worker
        })
    }
}
