//! Text of a scrape, with the sums of the counters of all threads.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::limits::Limits;
use crate::metrics::{
    COMMIT_CHANGES, COMMIT_TIMES, Counter, FLUSH_BATCHES, HANDLER_TIMES, Histogram, Metrics, SubscriberMetrics,
    WorkerMetrics,
};
use crate::protocol::engineio::transport_kind::TransportKind;
use crate::protocol::label::Label;
use crate::protocol::reason::{NotRecovered, RefusalKind};
use crate::queue::record::GapReason;
use crate::queue::service::QueueService;
use crate::state::budget::Budgets;

/// Content type of [`Server::metrics`](crate::Server::metrics).
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const MICROS_PER_SECOND: f64 = 1e6;

pub(super) fn text(
    metrics: Arc<Metrics>,
    limits: Arc<Limits>,
    budgets: Arc<Budgets>,
    queue: Option<Arc<QueueService>>,
) -> String {
    let mut registry = Registry::with_prefix("stentor");
    registry.register_collector(Box::new(Scrape { metrics, limits, budgets, queue }));
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = text::encode(&mut text, &registry);
    text
}

#[derive(Debug)]
struct Scrape {
    metrics: Arc<Metrics>,
    limits: Arc<Limits>,
    budgets: Arc<Budgets>,
    queue: Option<Arc<QueueService>>,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page { workers: self.metrics.workers(), encoder };
        page.server(&self.limits)?;
        page.sessions()?;
        page.traffic()?;
        page.handlers()?;
        page.budgets(&self.budgets)?;
        page.hub(&self.metrics)?;
        let Some(queue) = &self.queue else { return Ok(()) };
        page.queue(&self.metrics, queue, self.limits.queue.bytes_max)?;
        page.subscribers(&self.metrics.subscribers)
    }
}

/// A limit as the value of a gauge. A limit may be that of its type.
fn saturated(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

struct Page<'e> {
    workers: Vec<Arc<WorkerMetrics>>,
    encoder: DescriptorEncoder<'e>,
}

impl Page<'_> {
    fn server(&mut self, limits: &Limits) -> fmt::Result {
        let version = ([("version", env!("CARGO_PKG_VERSION"))], 1);
        self.gauges("build_info", "1, with the version of the server", &[version])?;
        self.limit("sessions_max", "Limit of sessions", limits.sessions.max)?;
        self.limit("http_connections_max", "Limit of HTTP connections", limits.http.connections_max)
    }

    fn sessions(&mut self) -> fmt::Result {
        let connections = TransportKind::ALL.iter().map(|kind| {
            let open: i64 = self.workers.iter().map(|worker| worker.connections[*kind].get()).sum();
            ([("transport", kind.as_str())], open)
        });
        let connections: Vec<_> = connections.collect();
        self.gauges("connections", "Sessions by current transport", &connections)?;
        let help = "Sessions opened, by first transport";
        self.counters("sessions_opened", help, "transport", |worker, kind| &worker.sessions_opened[kind])?;
        self.counter("upgrades", "Sessions upgraded from polling to websocket", |worker| &worker.upgrades)?;
        let help = "Sessions closed, by reason";
        self.counters("sessions_closed", help, "reason", |worker, reason| &worker.sessions_closed[reason])?;
        let refused = RefusalKind::ALL.iter().map(|kind| {
            let count = self.sum(|worker| &worker.requests_refused[*kind]);
            ([("code", kind.code().to_string()), ("reason", kind.as_str().to_owned())], count)
        });
        let refused: Vec<_> = refused.collect();
        self.family("requests_refused", "Requests refused, by code of Engine.IO and reason", &refused)?;
        let help = "HTTP connections closed by the server";
        self.counters("http_connections_closed", help, "reason", |worker, reason| &worker.http_closed[reason])?;
        let help = "Messages from clients larger than the limit";
        self.counters("oversized_messages", help, "transport", |worker, kind| &worker.oversized[kind])
    }

    fn traffic(&mut self) -> fmt::Result {
        self.counter("received_packets", "Engine.IO packets from clients", |worker| &worker.packets_received)?;
        self.counter("received_bytes", "Bytes of received packets, without framing", |worker| &worker.bytes_received)?;
        self.counter("received_events", "Events emitted by clients", |worker| &worker.events_received)?;
        self.counter("rate_limited", "Events, CONNECTs and DISCONNECTs beyond a rate limit", |worker| {
            &worker.rate_limited
        })?;
        let sent = self.workers.iter().map(|worker| worker.flush_packets.sum()).sum();
        self.constant("sent_packets", "Packets sent by websockets and polls", sent)?;
        self.counter("sent_bytes", "Bytes of sent packets as websocket frames", |worker| &worker.bytes_sent)?;
        self.counter("deliveries", "Broadcast events, once for each recipient", |worker| &worker.deliveries)?;
        self.counter("replayed_events", "Events read from the journal for one client", |worker| &worker.replayed)?;
        self.counter("lags", "Sockets that read too slowly and continued from the journal", |worker| &worker.lags)?;
        let catching_up = self.workers.iter().map(|worker| worker.catching_up.get()).sum();
        self.gauge("catching_up_sockets", "Sockets that receive events from the journal", catching_up)?;
        let dropped = [
            ([("reason", "not_ready")], self.sum(|worker| &worker.dropped_volatile)),
            ([("reason", "outbox_full")], self.sum(|worker| &worker.dropped_overflow)),
        ];
        self.family("dropped_events", "Events dropped, once for each recipient", &dropped)?;
        self.counter("outboxes_cut", "Sessions ended because the budget of outboxes was exceeded", |worker| {
            &worker.outboxes_cut
        })?;
        self.counter("stalled_sessions", "Sessions ended because clients read nothing", |worker| &worker.stalled)?;
        self.counter("incoming_refused", "Messages refused because the budget of input was exceeded", |worker| {
            &worker.incoming_refused
        })?;
        let bounds = FLUSH_BATCHES.map(|packets| packets as f64);
        self.histogram("flush_packets", "Packets in one write", bounds, 1.0, |worker| &worker.flush_packets)
    }

    fn handlers(&mut self) -> fmt::Result {
        let bounds = HANDLER_TIMES.map(|time| time.as_secs_f64());
        let help = "Duration of handlers, waits included";
        self.histogram("handler_seconds", help, bounds, MICROS_PER_SECOND, |worker| &worker.handler_micros)?;
        let failed = [
            ([("how", "error")], self.sum(|worker| &worker.handlers_failed)),
            ([("how", "panic")], self.sum(|worker| &worker.handlers_panicked)),
        ];
        self.family("handlers_failed", "Handlers that failed", &failed)
    }

    fn budgets(&mut self, budgets: &Budgets) -> fmt::Result {
        let all = [("outboxes", &budgets.outboxes), ("incoming", &*budgets.incoming), ("rooms", &budgets.rooms)];
        let taken = all.map(|(name, budget)| ([("budget", name)], budget.bytes() as i64));
        self.gauges("budget_bytes", "Bytes used by clients of each memory budget", &taken)?;
        let most = all.map(|(name, budget)| ([("budget", name)], saturated(budget.bytes_max())));
        self.gauges("budget_bytes_max", "Limit of each memory budget", &most)
    }

    fn hub(&mut self, metrics: &Metrics) -> fmt::Result {
        let hub = &metrics.hub;
        self.gauge("sockets", "Sockets connected to namespaces", hub.sockets.get())?;
        self.gauge("rooms", "Rooms with members, without the sockets' own rooms", hub.rooms.get())?;
        self.constant("joins_refused", "Joins refused because a limit of rooms was reached", hub.joins_refused.get())?;
        // `received` is read before `sent`, so that commands sent meanwhile cannot make the
        // difference negative.
        let received = hub.commands_taken.get();
        let sent = self.sum(|worker| &worker.commands_sent);
        self.constant("hub_commands", "Commands received by the hub", received)?;
        self.constant("hub_events", "Events received by the hub, once each", hub.events.get())?;
        let queued = sent.saturating_sub(received) as i64;
        self.gauge("hub_queue_commands", "Commands sent to the hub and not yet received", queued)?;
        self.gauge("hub_answers_held", "Commands held back by the hub", hub.answers_held.get())?;
        self.gauge("hub_unwritten_bytes", "Bytes sent to workers and not yet written", hub.unwritten_bytes.get())?;
        let outcomes = NotRecovered::ALL.iter().map(|why| (why.as_str(), hub.not_recovered[*why].get()));
        let malformed = self.sum(|worker| &worker.claims_malformed);
        let outcomes = outcomes.chain([("recovered", hub.recovered.get()), ("malformed", malformed)]);
        let outcomes: Vec<_> = outcomes.map(|(outcome, count)| ([("verdict", outcome)], count)).collect();
        self.family("recoveries", "Requests to recover, by outcome", &outcomes)?;
        self.gauge("recovery_sessions", "Sessions known for recovery", hub.recovery_sessions.get())?;
        let (bytes, bytes_max) = (&hub.recovery_session_bytes, &hub.recovery_session_bytes_max);
        self.gauge("recovery_session_bytes", "Bytes of sessions known for recovery", bytes.get())?;
        self.gauge("recovery_session_bytes_max", "Limit of the bytes of sessions known for recovery", bytes_max.get())?;
        self.constant(
            "recovery_given_up",
            "Sessions given up, because one session or all together exceeded a limit",
            hub.given_up.get(),
        )?;
        self.constant("journal_records", "Records written to the journal", hub.journalled.get())?;
        self.constant(
            "journal_waits",
            "Commands delayed because the journal share of their sender was used up",
            hub.journal_waits.get(),
        )?;
        self.constant("journal_failures", "Journals replaced after an error", hub.journals_failed.get())?;
        self.counter("credit_waits", "Commands that waited for credit", |worker| &worker.credit_waits)?;
        self.counter("credit_refusals", "Commands failed as overloaded for lack of credit", |worker| {
            &worker.credit_refusals
        })
    }

    fn queue(&mut self, metrics: &Metrics, queue: &QueueService, bytes_max: usize) -> fmt::Result {
        let (publishes, availability) = (&metrics.publishes, queue.availability());
        let (events, bytes) = availability.sizes();
        self.gauge("queue_events", "Durable events and dead letters that are stored", events as i64)?;
        self.gauge("queue_bytes", "Bytes of stored durable events and dead letters", bytes as i64)?;
        self.limit("queue_bytes_max", "Limit of the bytes of the queue", bytes_max)?;
        self.gauge("queue_waiting_changes", "Changes that wait for a commit", availability.waiting() as i64)?;
        let is_available = i64::from(availability.is_available());
        self.gauge("queue_available", "1 while durable events can be stored, otherwise 0", is_available)?;
        self.constant("queue_failures", "Failed commits and openings of the store", availability.failures())?;
        self.constant("queue_stored_events", "Durable events that were stored", publishes.stored.get())?;
        let duplicates = publishes.duplicates.get();
        self.constant("queue_duplicates", "Publishes of an event that was stored before", duplicates)?;
        let refused = [
            ("conflict", &publishes.conflicts),
            ("indeterminate", &publishes.indeterminate),
            ("invalid", &publishes.invalid),
            ("overloaded", &publishes.overloaded),
            ("too_large", &publishes.too_large),
            ("unavailable", &publishes.unavailable),
        ];
        let refused = refused.map(|(reason, count)| ([("reason", reason)], count.get()));
        self.family("queue_refused", "Durable publishes that failed, by reason", &refused)?;
        let bounds = COMMIT_TIMES.map(|time| time.as_secs_f64());
        let (micros, changes) = (&metrics.commits.micros, &metrics.commits.changes);
        self.histogram_of("queue_commit_seconds", "Duration of commits", bounds, MICROS_PER_SECOND, &[micros])?;
        let bounds = COMMIT_CHANGES.map(|changes| changes as f64);
        self.histogram_of("queue_commit_changes", "Changes of one commit", bounds, 1.0, &[changes])
    }

    fn subscribers(&mut self, metrics: &SubscriberMetrics) -> fmt::Result {
        let states = [("attached", metrics.connected.get()), ("away", metrics.away.get())];
        let states = states.map(|(state, count)| ([("state", state)], count));
        self.gauges("subscribers", "Subscribers of the queue, by state", &states)?;
        self.gauge("subscriber_in_flight_events", "Events sent and not handled", metrics.in_flight.get())?;
        let age = metrics.oldest_age_ms.get() / 1_000;
        self.gauge("subscriber_oldest_age_seconds", "Age of the oldest event that is not acknowledged", age)?;
        let backlog = metrics.largest_backlog.get();
        self.gauge("subscriber_largest_backlog_events", "Pending events of the subscriber with most", backlog)?;
        self.gauge("subscriber_dead_letters", "Stored dead letters", metrics.dead_letters.get())?;
        self.constant("subscriber_sent_events", "Events sent to subscribers", metrics.sent.get())?;
        let answers = [("ack", &metrics.acks), ("nak", &metrics.naks), ("term", &metrics.terms)];
        let answers = answers.map(|(answer, count)| ([("answer", answer)], count.get()));
        self.family("subscriber_answers", "Answers of subscribers to events, by kind", &answers)?;
        let ignored = [
            ("unknown", metrics.answers_unknown.get() + self.sum(|worker| &worker.answers_unknown)),
            ("overload", metrics.answers_dropped.get() + self.sum(|worker| &worker.answers_dropped)),
        ];
        let ignored = ignored.map(|(reason, count)| ([("reason", reason)], count));
        self.family("subscriber_answers_ignored", "Answers of clients that were ignored, by reason", &ignored)?;
        let redelivered = [
            ("nak", &metrics.redelivered_nak),
            ("timeout", &metrics.redelivered_timeout),
            ("connection_lost", &metrics.redelivered_lost),
        ];
        let redelivered = redelivered.map(|(reason, count)| ([("reason", reason)], count.get()));
        self.family("subscriber_redeliveries", "Failed deliveries that are repeated, by reason", &redelivered)?;
        self.constant("subscriber_undeliverable", "Events given up after all deliveries", metrics.undeliverable.get())?;
        self.constant("subscriber_dead_lettered", "Events that became dead letters", metrics.dead_lettered.get())?;
        let gaps = GapReason::ALL.map(|reason| ([("reason", reason.as_str())], metrics.gaps[reason as usize].get()));
        self.family("subscriber_gaps", "Gaps reported to subscribers, by reason", &gaps)?;
        self.constant("subscriber_evictions", "Attachments ended by newer ones", metrics.evictions.get())?;
        self.constant("subscriber_expired_events", "Events not sent since they had expired", metrics.expired.get())?;
        self.constant("subscriber_read_failures", "Reads of the store that failed", metrics.reads_failed.get())
    }

    fn sum(&self, of: impl Fn(&WorkerMetrics) -> &Counter) -> u64 {
        self.workers.iter().map(|worker| of(worker).get()).sum()
    }

    fn counter(&mut self, name: &str, help: &str, of: impl Fn(&WorkerMetrics) -> &Counter) -> fmt::Result {
        self.constant(name, help, self.sum(of))
    }

    fn constant(&mut self, name: &str, help: &str, count: u64) -> fmt::Result {
        ConstCounter::new(count).encode(self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
    }

    fn gauge(&mut self, name: &str, help: &str, value: i64) -> fmt::Result {
        ConstGauge::new(value).encode(self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }

    fn limit(&mut self, name: &str, help: &str, limit: usize) -> fmt::Result {
        self.gauge(name, help, saturated(limit))
    }

    fn gauges<L: EncodeLabelSet>(&mut self, name: &str, help: &str, values: &[(L, i64)]) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        values.iter().try_for_each(|(labels, value)| ConstGauge::new(*value).encode(family.encode_family(labels)?))
    }

    /// Encodes one counter for each value of a label.
    fn counters<L: Label>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        of: impl Fn(&WorkerMetrics, L) -> &Counter,
    ) -> fmt::Result {
        let count = |value: &L| ([(label, value.as_str())], self.sum(|worker| of(worker, *value)));
        let counts: Vec<_> = L::ALL.iter().map(count).collect();
        self.family(name, help, &counts)
    }

    fn family<L: EncodeLabelSet>(&mut self, name: &str, help: &str, counts: &[(L, u64)]) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        counts.iter().try_for_each(|(labels, count)| ConstCounter::new(*count).encode(family.encode_family(labels)?))
    }

    /// Encodes a histogram of all workers.
    fn histogram<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        bounds: [f64; N],
        per_unit: f64,
        of: impl Fn(&WorkerMetrics) -> &Histogram<N>,
    ) -> fmt::Result {
        let workers = self.workers.clone();
        let histograms: Vec<_> = workers.iter().map(|worker| of(worker)).collect();
        self.histogram_of(name, help, bounds, per_unit, &histograms)
    }

    /// Encodes the sum of histograms. `per_unit` converts units: it is the number of observed
    /// units, such as microseconds, in one unit of `bounds`, such as a second.
    fn histogram_of<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        bounds: [f64; N],
        per_unit: f64,
        histograms: &[&Histogram<N>],
    ) -> fmt::Result {
        let mut buckets: Vec<(f64, u64)> = bounds.into_iter().chain([f64::INFINITY]).map(|bound| (bound, 0)).collect();
        let mut sum = 0;
        for histogram in histograms {
            sum += histogram.sum();
            buckets.iter_mut().zip(histogram.counts()).for_each(|(bucket, count)| bucket.1 += count);
        }
        let count = buckets.iter().map(|(_, count)| count).sum();
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        metric.encode_histogram::<NoLabelSet>(sum as f64 / per_unit, count, &buckets, None)
    }
}
