//! Counters as relaxed atomics: one instance for each worker thread and one for the hub.
//!
//! Each instance is written by its own thread and has cache lines of its own, so counting causes no
//! contention. A scrape sums up the instances. `server/metrics.rs` assigns names, labels and
//! formats.

mod cells;
mod queue;
mod subscribers;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::protocol::engineio::transport_kind::TransportKind;
use crate::protocol::reason::{DisconnectReason, HttpCloseReason, NotRecovered, RefusalKind};

pub(crate) use self::cells::{Counter, Gauge, Histogram, Labelled};
pub(crate) use self::queue::{COMMIT_CHANGES, COMMIT_TIMES, CommitMetrics, PublishMetrics};
pub(crate) use self::subscribers::SubscriberMetrics;

/// Upper bounds of the buckets of handler times. The first bounds distinguish handlers that do not
/// wait. The last bound is the default time limit for acks and for answers of the hub.
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

#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct WorkerMetrics {
    /// Open sessions by [`TransportKind`].
    pub(crate) connections: Labelled<TransportKind, Gauge, { TransportKind::COUNT }>,
    /// Opened sessions by their initial [`TransportKind`].
    pub(crate) sessions_opened: Labelled<TransportKind, Counter, { TransportKind::COUNT }>,
    pub(crate) upgrades: Counter,
    pub(crate) sessions_closed: Labelled<DisconnectReason, Counter, { DisconnectReason::COUNT }>,
    pub(crate) requests_refused: Labelled<RefusalKind, Counter, { RefusalKind::COUNT }>,
    /// HTTP connections that were closed by this server.
    pub(crate) http_closed: Labelled<HttpCloseReason, Counter, { HttpCloseReason::COUNT }>,
    /// Messages from clients that exceeded the size limit, by [`TransportKind`].
    pub(crate) oversized: Labelled<TransportKind, Counter, { TransportKind::COUNT }>,

    /// Received Engine.IO packets.
    pub(crate) packets_received: Counter,
    /// Bytes of data in received Engine.IO packets.
    pub(crate) bytes_received: Counter,
    pub(crate) events_received: Counter,
    /// Events, CONNECTs and DISCONNECTs that exceeded a rate limit.
    pub(crate) rate_limited: Counter,
    /// Number of packets in each drain that sent any. The sum of the histogram is the number of all
    /// sent packets.
    pub(crate) flush_packets: Histogram<{ FLUSH_BATCHES.len() }>,
    /// Bytes of sent packets, including websocket frame headers.
    pub(crate) bytes_sent: Counter,

    /// Events queued for recipients, counted once per recipient.
    pub(crate) deliveries: Counter,
    /// Volatile events dropped because the recipient was not ready.
    pub(crate) dropped_volatile: Counter,
    /// Sockets that began to read from the journal because their outbox had no room for another
    /// journalled event.
    pub(crate) lags: Counter,
    /// Sockets that are currently reading from the journal.
    pub(crate) catching_up: Gauge,
    /// Events read from the journal and queued for a recipient.
    pub(crate) replayed: Counter,
    /// Resume requests with malformed ids or positions.
    pub(crate) claims_malformed: Counter,
    /// Events dropped because an outbox overflowed (the event that did not fit, and all queued
    /// events) or was emptied to save memory. The session ends in both cases.
    pub(crate) dropped_overflow: Counter,
    /// Sessions that were ended because the budget of outboxes was exceeded.
    pub(crate) outboxes_cut: Counter,
    /// Messages and bodies refused because the budget of incoming bytes was exceeded.
    pub(crate) incoming_refused: Counter,
    /// Sessions that were ended because their clients read nothing.
    pub(crate) stalled: Counter,

    /// Answers to durable events by clients that are no subscribers.
    pub(crate) answers_unknown: Counter,
    /// Answers to durable events that were dropped since too many of the client waited.
    pub(crate) answers_dropped: Counter,

    /// Finished handlers by running time in microseconds.
    pub(crate) handler_micros: Histogram<{ HANDLER_TIMES.len() }>,
    pub(crate) handlers_failed: Counter,
    pub(crate) handlers_panicked: Counter,

    /// Commands sent to the hub. The length of the hub's queue is the sum of this counter over all
    /// workers minus [`HubMetrics::commands_taken`].
    pub(crate) commands_sent: Counter,
    /// Commands that waited for credit.
    pub(crate) credit_waits: Counter,
    /// Commands refused because credit was not available in time, or too many commands waited.
    pub(crate) credit_refusals: Counter,
}

impl WorkerMetrics {
    pub(crate) fn record_opened(&self, transport_kind: TransportKind) {
        self.sessions_opened[transport_kind].add(1);
        self.connections[transport_kind].add(1);
    }

    pub(crate) fn record_upgrade(&self) {
        self.upgrades.add(1);
        self.connections[TransportKind::Polling].add(-1);
        self.connections[TransportKind::Websocket].add(1);
    }

    /// Records the end of a session's connection. Called after
    /// [`record_closed`](Self::record_closed).
    pub(crate) fn record_ended(&self, transport_kind: TransportKind) {
        self.connections[transport_kind].add(-1);
    }

    /// Records that a session is closed for the application's handles. The connection may still be
    /// sending final packets.
    pub(crate) fn record_closed(&self, reason: DisconnectReason) {
        self.sessions_closed[reason].add(1);
    }

    pub(crate) fn record_handler(&self, took: Duration) {
        self.handler_micros.observe(took.as_micros() as u64, |at| HANDLER_TIMES[at].as_micros() as u64);
    }

    pub(crate) fn record_flush(&self, packets: usize, bytes: usize) {
        self.flush_packets.observe(packets as u64, |at| FLUSH_BATCHES[at]);
        self.bytes_sent.add(bytes as u64);
    }
}

#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct HubMetrics {
    /// Rooms with members, not counting the rooms of namespaces and of single sockets.
    pub(crate) rooms: Gauge,
    pub(crate) sockets: Gauge,
    /// Joins refused because the socket's bounds or the budget of rooms were exceeded.
    pub(crate) joins_refused: Counter,
    pub(crate) commands_taken: Counter,
    /// Events accepted for delivery.
    pub(crate) events: Counter,
    /// Commands that wait for the turn or the journal share of their senders, or until workers
    /// catch up.
    pub(crate) answers_held: Gauge,
    /// Bytes that were sent to workers and not reported as written.
    pub(crate) unwritten_bytes: Gauge,
    pub(crate) recovered: Counter,
    pub(crate) not_recovered: Labelled<NotRecovered, Counter, { NotRecovered::COUNT }>,
    /// Sessions stored for recovery.
    pub(crate) recovery_sessions: Gauge,
    /// Bytes of the sessions stored for recovery.
    pub(crate) recovery_session_bytes: Gauge,
    /// Maximum of `recovery_session_bytes`.
    pub(crate) recovery_session_bytes_max: Gauge,
    /// Sessions removed from recovery because they were too large, or for lack of space.
    pub(crate) given_up: Counter,
    pub(crate) journalled: Counter,
    /// Number of times that a sender had to wait because its share of the journal was used up.
    pub(crate) journal_waits: Counter,
    /// Journals abandoned because of an error.
    pub(crate) journals_failed: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) hub: HubMetrics,
    pub(crate) publishes: PublishMetrics,
    pub(crate) commits: CommitMetrics,
    pub(crate) subscribers: SubscriberMetrics,
    /// Counters of all workers, including workers that have ended. The list is locked only when a
    /// worker starts and during a scrape.
    workers: Mutex<Vec<Arc<WorkerMetrics>>>,
}

impl Metrics {
    pub(crate) fn new_worker(&self) -> Arc<WorkerMetrics> {
        let worker = Arc::<WorkerMetrics>::default();
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(worker.clone());
        worker
    }

    pub(crate) fn workers(&self) -> Vec<Arc<WorkerMetrics>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
