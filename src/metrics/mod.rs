//! Counters of what the hub does: plain relaxed atomics, one instance for each worker thread and one for the hub.
//!
//! Each instance is written by its own thread (and stands on cache lines of its own), so counting costs no contention; a
//! scrape reads them all and adds up. Refuses to know names, labels and formats: `server/metrics.rs` gives those.

mod cells;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::protocol::engineio::transport_kind::TransportKind;
use crate::protocol::reason::{DisconnectReason, HttpCloseReason, NotRecovered, RefusalKind};

pub(crate) use self::cells::{Counter, Gauge, Histogram, Labelled};

/// Upper bounds of the buckets of handler times: from what a handler without waits needs to what its client gives up on.
pub(crate) const HANDLER_TIMES: [Duration; 9] = [
    Duration::from_micros(20),
    Duration::from_micros(100),
    Duration::from_micros(500),
    Duration::from_micros(2_500),
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(10),
];

/// Upper bounds of the buckets of flush batches, in packets.
pub(crate) const FLUSH_BATCHES: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 256, 1_024];

/// What one worker counts. On cache lines of its own: its thread alone writes here.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct WorkerMetrics {
    /// Sessions by [`TransportKind`].
    pub(crate) connections: Labelled<TransportKind, Gauge, { TransportKind::COUNT }>,
    /// Sessions opened, by the [`TransportKind`] that they began on.
    pub(crate) sessions_opened: Labelled<TransportKind, Counter, { TransportKind::COUNT }>,
    pub(crate) upgrades: Counter,
    /// Sessions closed, by reason.
    pub(crate) sessions_closed: Labelled<DisconnectReason, Counter, { DisconnectReason::COUNT }>,
    /// Requests refused by transports.
    pub(crate) requests_refused: Labelled<RefusalKind, Counter, { RefusalKind::COUNT }>,
    /// HTTP connections that a port closed by itself.
    pub(crate) http_closed: Labelled<HttpCloseReason, Counter, { HttpCloseReason::COUNT }>,
    /// Messages over the limit that clients sent, by [`TransportKind`].
    pub(crate) oversized: Labelled<TransportKind, Counter, { TransportKind::COUNT }>,

    /// Engine.IO packets that came in, and the bytes of their data.
    pub(crate) packets_received: Counter,
    pub(crate) bytes_received: Counter,
    /// Events that clients emitted.
    pub(crate) events_received: Counter,
    /// Events, CONNECTs and DISCONNECTs that exceeded a rate.
    pub(crate) rate_limited: Counter,
    /// Packets taken by each drain that took any; the sum is that of all packets sent.
    pub(crate) flush_packets: Histogram<{ FLUSH_BATCHES.len() }>,
    /// Bytes of those packets as a websocket frames them.
    pub(crate) bytes_sent: Counter,

    /// Events put into the outbox of one recipient.
    pub(crate) deliveries: Counter,
    /// Volatile events that a recipient was not ready for.
    pub(crate) dropped_volatile: Counter,
    /// Sockets that began to read from the journal because their outbox was full.
    pub(crate) lags: Counter,
    /// Sockets that read from the journal now.
    pub(crate) catching_up: Gauge,
    /// Events read from the journal and put into an outbox.
    pub(crate) replayed: Counter,
    /// Claims of clients that are no ids and positions at all.
    pub(crate) claims_malformed: Counter,
    /// Events that found the outbox full, which ends the session, and those that waited in it.
    pub(crate) dropped_overflow: Counter,
    /// Outboxes emptied, and their sessions ended, because all outboxes together were over their budget.
    pub(crate) outboxes_cut: Counter,
    /// Messages and bodies refused because what clients have sent was over its budget.
    pub(crate) incoming_refused: Counter,
    /// Sessions ended because their clients took nothing.
    pub(crate) stalled: Counter,

    /// Handlers that returned, by how long they ran, in microseconds.
    pub(crate) handler_micros: Histogram<{ HANDLER_TIMES.len() }>,
    /// Handlers that returned an error.
    pub(crate) handlers_failed: Counter,
    /// Handlers that panicked.
    pub(crate) handlers_panicked: Counter,

    /// Commands handed to the hub. Less those that the hub has taken, they are the depth of its queue.
    pub(crate) commands_sent: Counter,
    /// Commands that had to wait for credit.
    pub(crate) credit_waits: Counter,
    /// Commands refused because credit did not come, or because too many waited.
    pub(crate) credit_refusals: Counter,
}

impl WorkerMetrics {
    /// A session began.
    pub(crate) fn opened(&self, transport_kind: TransportKind) {
        self.sessions_opened[transport_kind].add(1);
        self.connections[transport_kind].add(1);
    }

    /// A session went from polling to a websocket.
    pub(crate) fn upgraded(&self) {
        self.upgrades.add(1);
        self.connections[TransportKind::Polling].add(-1);
        self.connections[TransportKind::Websocket].add(1);
    }

    /// A session is gone, with its connection.
    pub(crate) fn gone(&self, transport_kind: TransportKind) {
        self.connections[transport_kind].add(-1);
    }

    /// A session closed for the application.
    pub(crate) fn closed(&self, reason: DisconnectReason) {
        self.sessions_closed[reason].add(1);
    }

    /// A handler returned, or panicked.
    pub(crate) fn handled(&self, took: Duration) {
        self.handler_micros.observe(took.as_micros() as u64, |at| HANDLER_TIMES[at].as_micros() as u64);
    }

    /// A drain took this much out of an outbox.
    pub(crate) fn flushed(&self, packets: usize, bytes: usize) {
        self.flush_packets.observe(packets as u64, |at| FLUSH_BATCHES[at]);
        self.bytes_sent.add(bytes as u64);
    }
}

/// What the hub counts.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct HubMetrics {
    /// Rooms with members, those of everybody in a namespace and those of single sockets not counted.
    pub(crate) rooms: Gauge,
    /// Sockets connected to namespaces.
    pub(crate) sockets: Gauge,
    /// Joins refused because rooms were over their budget.
    pub(crate) joins_refused: Counter,
    /// Commands taken off the queue.
    pub(crate) commands_taken: Counter,
    /// Events taken for delivery.
    pub(crate) events: Counter,
    /// Commands that wait for their senders' turn, or for workers to catch up.
    pub(crate) answers_held: Gauge,
    /// Bytes handed to workers and not yet reported as written out.
    pub(crate) unwritten_bytes: Gauge,
    /// Sockets that continue where they were.
    pub(crate) recovered: Counter,
    pub(crate) not_recovered: Labelled<NotRecovered, Counter, { NotRecovered::COUNT }>,
    /// Sessions known for recovery.
    pub(crate) recovery_sessions: Gauge,
    /// Bytes that those sessions count for, and may count for.
    pub(crate) recovery_session_bytes: Gauge,
    pub(crate) recovery_session_bytes_max: Gauge,
    /// Sessions given up because they were too large, or had no room beside the others.
    pub(crate) given_up: Counter,
    /// Records written to the journal.
    pub(crate) journalled: Counter,
    /// Times that a session had to wait because its share of the journal was spent.
    pub(crate) journal_waits: Counter,
    /// Journals given up because of an error.
    pub(crate) journals_failed: Counter,
}

/// All counters of one server.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) hub: HubMetrics,
    /// One for each worker that ever was; taken only when a worker starts and at a scrape.
    workers: Mutex<Vec<Arc<WorkerMetrics>>>,
}

impl Metrics {
    /// The counters of one more worker.
    pub(crate) fn new_worker(&self) -> Arc<WorkerMetrics> {
        let worker = Arc::<WorkerMetrics>::default();
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(worker.clone());
        worker
    }

    /// The counters of all workers.
    pub(crate) fn workers(&self) -> Vec<Arc<WorkerMetrics>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
