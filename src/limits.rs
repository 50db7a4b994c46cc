//! Every bound of the hub, with its unit, its default, and why that default.
//!
//! A queue, buffer, map or retry without a bound is a defect. What an operator may want to set is a field here; what nobody should need
//! to is a constant beside what it bounds, with its reason.

use std::num::NonZeroU32;
use std::time::Duration;

/// What an idle session takes with recovery, as `make load` finds it, and as much again for what it has said.
const SESSION_BYTES: usize = 5 << 10;

/// What actix-http takes for each connection.
const HTTP_CONNECTION_BYTES: usize = 20 << 10;

/// The bounds and deadlines of one server. Defaults equal Socket.IO's where it has one.
///
/// Durations above twelve days are taken as twelve days, so [`Duration::MAX`] may stand for "never".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Between the server's pings. Default 25 s, Socket.IO's. Longer saves packets, shorter finds dead peers sooner.
    pub ping_interval: Duration,
    /// From a ping to the pong it wants; then the session ends with "ping timeout". Default 20 s, Socket.IO's.
    pub ping_timeout: Duration,
    /// From the handshake to the first CONNECT; then the session ends. Default 45 s, Socket.IO's.
    pub connect_timeout: Duration,
    /// Life of an upgrade candidate that does not finish its probe. Default 10 s, Socket.IO's.
    pub upgrade_timeout: Duration,
    /// Between the noops that free a pending poll while a candidate is probed. Default 100 ms, Socket.IO's.
    pub upgrade_noop_interval: Duration,
    /// For a client to take anything of what waits for it; then its session ends, though it may answer pings. Default `None`:
    /// ping interval and ping timeout together, as for one that answers none. Looked at with each ping, so up to a ping interval
    /// late.
    pub stall_timeout: Option<Duration>,
    /// From the first byte of a websocket message to its last; then the connection is closed. Default 30 s, as for the body of
    /// a POST.
    pub message_timeout: Duration,
    /// From a binary packet's header to its last attachment; then "parse error". Default 10 s: attachments follow at once.
    pub attachments_timeout: Duration,
    /// For a closing connection to take its last bytes; then it is reset. Default 1 s: a healthy peer needs milliseconds.
    pub close_linger: Duration,

    /// For the journal to be on the disk when the server closes; then the process ends without, and the next boot of the machine
    /// discards what the journal holds. Default 30 s: a quarter of a gigabyte on a slow disk. Below what a supervisor allows.
    pub stop_timeout: Duration,

    /// Bytes of memory that all clients together may make the server take; the budgets below and, where they are higher,
    /// `sessions_max`, `http_connections_max`, `journal_bytes_max` and `recovery_bytes_max` follow from it. Default `None`: half of the memory that
    /// this process may have (of the machine, of its cgroup, or its address space, whichever is smallest).
    pub memory_bytes_max: Option<usize>,
    /// Bytes that may wait in all outboxes whose clients take nothing at present. Above half of it an outbox holds little of
    /// what the journal has as well; above it the largest outboxes are emptied and their sessions end. What is replayed to clients that catch up may take a quarter of
    /// it more and ends nobody. Default `None`: a quarter
    /// of the memory. A packet that waits for many clients counts for each.
    pub outboxes_bytes_max: Option<usize>,
    /// Bytes that all clients have sent and the application has not taken: messages and bodies that are not complete, events
    /// held, commands that wait, acks collected, credentials. Past it who sends more is refused; who holds more than 64 KiB is
    /// from three quarters on. Default `None`: an eighth of the memory.
    pub incoming_bytes_max: Option<usize>,
    /// Bytes of all rooms, names and memberships; past it joins fail with `Overloaded`, for a socket in more than 32 rooms from
    /// three quarters on. Default `None`: an eighth of the memory.
    pub rooms_bytes_max: Option<usize>,
    /// Sessions at a time, over all transports; further handshakes get 503. Default 1 000 000: more than one process can
    /// have sockets for, so that memory is what counts; set it to what the machine has room for (an idle one takes 3.3 KiB
    /// with recovery and 2.7 without, and the kernel's socket).
    pub sessions_max: usize,
    /// Sessions at a time of one client's address, as trusted proxies tell it; of IPv6, of one /64, which is what a household
    /// has. Further handshakes get 429. Default `None`, any number: a school or a carrier may stand behind one address.
    pub sessions_per_address_max: Option<usize>,
    /// Events, CONNECTs and DISCONNECTs per second of one session, over all its namespaces, in bursts of twice that. What exceeds
    /// it is refused: an event's ack is `{"error":{"code":"rate_limited","message"}}`, without an ack the client gets the event
    /// `stentor:error` once a second; a CONNECT gets the CONNECT_ERROR `rate_limited`. A client that continues is not read for as
    /// long as its refusals exceed this rate, five seconds at a time. Default `None`, no limit.
    pub events_per_second: Option<NonZeroU32>,
    /// Bytes per second of one session's packets, in bursts of twice that; a larger packet passes alone, and what follows waits the
    /// longer. Exceeding events are treated as with [`events_per_second`](Self::events_per_second). Default `None`, no limit.
    pub bytes_per_second: Option<NonZeroU32>,
    /// The same as [`events_per_second`](Self::events_per_second) for all sessions of one client address together (of IPv6, of one
    /// /64), also one after another. Default `None`, ten times the session's: an office may stand behind one address.
    pub address_events_per_second: Option<NonZeroU32>,
    /// The same as [`bytes_per_second`](Self::bytes_per_second) for all sessions of one client address together. Default
    /// `None`, ten times the session's.
    pub address_bytes_per_second: Option<NonZeroU32>,
    /// Client addresses whose rates are known at a time; those that have sent nothing for two seconds are forgotten. Further ones
    /// are limited by session only. Default 100 000: about 20 MiB.
    pub rate_addresses_max: usize,
    /// For the application to decide on a handshake; then it gets 503. Default 10 s: a look into a database takes
    /// milliseconds, and clients wait 20 s.
    pub allow_request_timeout: Duration,
    /// Connections that may wait to be accepted. Default 4 096: a reconnect storm is taken in by the kernel meanwhile.
    pub backlog: u32,
    /// Connections at a time that speak HTTP: polls, handshakes, requests of pages; a websocket ceases to count once it is one.
    /// Further ones wait in the backlog. At least one. Default 50 000: actix-http takes about 20 KiB for each, a gigabyte for all.
    pub http_connections_max: usize,
    /// Connections beyond those, one request each, for health, metrics, the HTTP API and upgrades to websocket; every other
    /// request on them gets 503. Default 16: operators ask one at a time, and two seconds end each of them.
    pub http_reserve: usize,
    /// For a client to send a request's head, from its first byte on (from the connection's begin, if it is the first); then
    /// it is disconnected. Default 10 s.
    pub request_head_timeout: Duration,
    /// For a connection to wait for a further request; then it is closed. Default 75 s: more than the 60 s for which nginx and
    /// AWS's load balancer keep theirs, so that they never use one that is about to be closed.
    pub http_keep_alive: Duration,
    /// For a client to take a response, from the moment at which it takes no more of it; then it is disconnected. Default 30 s,
    /// as for a body.
    pub response_timeout: Duration,
    /// For a client to take the answer to the upgrade of its session, or a refusal. Default 5 s: it is a few hundred bytes. The
    /// answer that a new session begins with waits as its packets do.
    pub upgrade_answer_timeout: Duration,

    /// Largest POST body and largest websocket message accepted, in bytes. Default 1 000 000, Socket.IO's.
    pub payload_bytes_max: usize,
    /// For a request's body to come in whole. Default 30 s: a phone on a bad line needs seconds, a slow-loris minutes.
    pub body_timeout: Duration,
    /// Packets of one POST, or of one read of a websocket, that a session takes in one turn; then others have theirs. Default 256:
    /// some hundred microseconds. At least one. How many there may be in all is bounded by `payload_bytes_max` alone.
    pub packets_per_turn: usize,
    /// Bytes of one poll's answer, not counting a single larger packet. Default 1 000 000, as for what clients send.
    pub poll_bytes_max: usize,
    /// Fragments of one websocket message. Default 1 024: browsers send one, tiny fragments are an attack on memory.
    pub fragments_max: usize,
    /// Bytes of the head of a handshake, which is kept for the application: request line and headers. A longer one is refused with
    /// 431. Default 16 384, Node's; a browser sends 500 to 900, with large cookies a few thousand.
    pub handshake_bytes_max: usize,
    /// Namespaces one session may join. Default 64: clients multiplex a handful.
    pub namespaces_per_session_max: usize,
    /// Bytes of JSON that the application may keep with one socket. Default 65 536: a profile, not a document.
    pub socket_data_bytes_max: usize,
    /// Bytes of JSON that a client may send with a CONNECT. Default 16 384: a token with room to spare; it is kept as long as
    /// its socket.
    pub auth_bytes_max: usize,
    /// Bytes of one request to the HTTP API. Default 1 000 000, as for what clients send.
    pub api_body_bytes_max: usize,
    /// Events in one request to the HTTP API. Default 1 000: some tens of milliseconds of one connection's work.
    pub publish_batch_max: usize,
    /// Rooms that one event over the HTTP API names, excepted ones included. Default 1 024: the hub looks them up in one turn.
    pub publish_rooms_max: usize,
    /// Rooms or sockets in one answer of the HTTP API. Default 1 000; the next page has the others.
    pub page_entries_max: usize,
    /// Rooms one socket may be in. Default 1 024: each costs up to 0.5 KiB, written again as the journal turns; other hubs allow
    /// 100 to 1 000.
    pub rooms_per_socket_max: usize,
    /// Bytes of the names of those rooms. Default 64 KiB: 64 for each of 1 024.
    pub room_bytes_per_socket_max: usize,

    /// Bytes that may wait in one session's outbox, packet overhead included; past it the session is closed.
    /// Default 4 MiB: half a second of a full worker; a reader that is further behind is not keeping up.
    pub outbox_bytes_max: usize,
    /// Size of a websocket's kernel send buffer, in bytes. Default 256 KiB: it counts as the hub's memory when a peer jams.
    pub send_buffer_bytes: usize,

    /// Bytes on their way from a session to its websocket inside a host application, packet overhead included; a larger
    /// packet goes alone. Default 64 KiB: two of actix-http's writes, so that one is ready when the other is out.
    pub pump_bytes_max: usize,

    /// Handlers of one session that may be running, or that may end one after the other before what they asked for is taken in.
    /// Default 128: enough to overlap waits, few enough to hold in memory.
    pub handlers_pending_max: usize,
    /// Events of one session held because handlers or credit ran out; past it the session stops reading. Default 256.
    pub held_events_max: usize,
    /// Bytes of those events. Default 1 MiB.
    pub held_bytes_max: usize,
    /// For connection middleware, all of it together; then the client is refused. Default 20 s, after which socket.io-client
    /// gives up by itself.
    pub admission_timeout: Duration,
    /// For the connection handler to return; then held events are released with a warning. Default 10 s.
    pub connection_handler_timeout: Duration,

    /// Commands one session may have at the hub unanswered. Default 64: covers a worker's turn, bounds the hub's mailbox.
    pub credit_commands: usize,
    /// Bytes of those commands. Default 1 MiB; a single larger command passes when nothing else is under way.
    pub credit_bytes: usize,
    /// Commands that may wait for credit in one session, and emits that may wait for its client to read. Default 1 024; then
    /// `emit` fails at once with `Overloaded`.
    pub credit_waiting_max: usize,
    /// Bytes of commands that wait for credit on one worker and whose sessions have ended, about 100 for each command beside what it
    /// carries; beyond, they fail with `Overloaded`. Default 4 MiB: what some sessions may have waiting. They are sent at the pace of
    /// the credit that the sessions had.
    pub departed_bytes_max: usize,
    /// For a command to get credit; then it fails with `Overloaded`. Default 10 s.
    pub credit_timeout: Duration,
    /// For the hub to answer what a handler waits for. Default 10 s; the hub answers in microseconds unless it is pressed.
    pub hub_answer_timeout: Duration,
    /// Bytes handed to one worker and not yet written out, above which events wait in the hub, and their senders for the answer.
    /// From a quarter of it on those wait that have caused much of it. Default 8 MiB: some milliseconds of a worker.
    pub worker_bytes_max: usize,
    /// Batches that may wait in the hub's or a fanout's mailbox. Default 4 096; a full one makes the sender keep its batch.
    pub mailbox_batches: usize,
    /// For a client's ack, where the caller names no other time. Default 10 s.
    pub ack_timeout: Duration,
    /// Emits to many sockets whose acks one session, or code outside sessions, may be collecting at a time. Default 256; then
    /// `emit_with_ack` fails with `Overloaded`. Handlers that wait so do not count against `handlers_pending_max`.
    pub collections_max: usize,
    /// Events shown to catch-all listeners of one session, and not yet seen by them; what comes meanwhile is not shown.
    /// Default 128.
    pub observed_events_max: usize,
    /// Bytes of all acks that one emit to many sockets may collect; what would exceed it is not kept. Default 16 MiB.
    pub answers_bytes_max: usize,
    /// Acks one session may be asked for at a time. Default 4 096; then `emit_with_ack` fails with `Overloaded`.
    pub acks_pending_max: usize,

    /// Room events kept for code that watches rooms and is slower than they come. Default 1 024; then it is notified that it
    /// missed some.
    pub room_events_max: usize,
    /// For a client to come back after its connection was lost and go on where it was. Default 2 min, Socket.IO's.
    pub recovery_window: Duration,
    /// Sessions known for recovery at a time, those away included; a further one takes the place of the one away longest.
    /// Default 1 000 000, as many as there may be connections.
    pub recovery_sessions_max: usize,
    /// Bytes of all sessions known for recovery: 128 each, 64 for each room it is in or has left, and those of room names and
    /// data. Default 256 MiB: a million sessions in one room each. With a journal on disk at most a quarter of the ring less one
    /// segment, because each is written again as the ring turns. Beyond, sessions are given up: those above 1 KiB, the largest
    /// first, then those away for longest, then the newest.
    pub recovery_bytes_max: usize,
    /// The same of one session; a larger one cannot be recovered. Default 256 KiB: a thousand rooms with names of 192 bytes. At
    /// most a quarter of the bytes of all.
    pub recovery_session_bytes_max: usize,
    /// Rooms that one socket has left and that still count for what it missed, beside those it is in. Default 4 096: who leaves
    /// more of them than that within what the journal holds cannot be recovered.
    pub recovery_left_rooms_max: usize,
    /// Bytes that the hub reads from the journal for one client at a time; a single larger event goes alone. Default 256 KiB; not
    /// more than a quarter of its outbox.
    pub replay_bytes: usize,
    /// Records that the hub looks at for clients that catch up before it continues with live events; a large one counts once more for
    /// each KiB. Default 1 024: less than 0.3 ms.
    pub replay_records_per_turn: usize,
    /// Records of the journal in memory: all of them, or the newest of a journal on disk. Default 65 536.
    pub journal_records_max: usize,
    /// Bytes of those records. Default 64 MiB.
    pub journal_bytes_max: usize,
    /// Segment files of a journal on disk, which is a ring; at least 2. Default 8: a full ring drops an eighth at a time.
    pub journal_segments_max: usize,
    /// Bytes of each segment, and so the largest record. Default 32 MiB: the ring is 256 MiB, two minutes of 2 MB/s, and carries
    /// 56 MiB of sessions (`recovery_bytes_max`), 290 000 in one room each.
    pub journal_segment_bytes: usize,
    /// Bytes that one session may have journalled before it waits, and twice as much in each `recovery_window`. What it sends then
    /// waits in order, and nobody else does. Code outside of sessions has no such bound. Default `None`, no bound: what
    /// handlers emit is the application's to bound. `stentor serve`, whose clients publish themselves, sets an eighth of its journal.
    pub journal_sender_bytes_max: Option<usize>,
}

impl Limits {
    /// Longest duration of a limit. JavaScript's timers count 31 bits of milliseconds, nearly 25 days, and clients make one of two of
    /// these: of ping interval and ping timeout.
    pub const DURATION_MAX: Duration = Duration::from_secs(12 * 24 * 60 * 60);

    /// The same with no duration longer than the longest there is.
    pub(crate) fn bounded(mut self) -> Self {
        for duration in self.durations() {
            *duration = (*duration).min(Self::DURATION_MAX);
        }
        self.stall_timeout = self.stall_timeout.map(|timeout| timeout.min(Self::DURATION_MAX));
        self
    }

    /// The same with every bound that is a share of memory filled in, for a process that may have `available` bytes.
    pub(crate) fn within(mut self, available: usize) -> Self {
        let memory = *self.memory_bytes_max.get_or_insert(available / 2);
        self.outboxes_bytes_max.get_or_insert(memory / 4);
        self.incoming_bytes_max.get_or_insert(memory / 8);
        self.rooms_bytes_max.get_or_insert(memory / 8);
        self.sessions_max = self.sessions_max.min((memory / 2 / SESSION_BYTES).max(1));
        self.http_connections_max = self.http_connections_max.min((memory / 8 / HTTP_CONNECTION_BYTES).max(1));
        self.journal_bytes_max = self.journal_bytes_max.min(memory / 8);
        self.recovery_bytes_max = self.recovery_bytes_max.min(memory / 8);
        self
    }

    /// For a client to take anything of what waits for it.
    pub(crate) fn stalls_after(&self) -> Duration {
        self.stall_timeout.unwrap_or(self.ping_interval + self.ping_timeout)
    }

    fn durations(&mut self) -> [&mut Duration; 21] {
        [
            &mut self.message_timeout,
            &mut self.ping_interval,
            &mut self.ping_timeout,
            &mut self.connect_timeout,
            &mut self.upgrade_timeout,
            &mut self.upgrade_noop_interval,
            &mut self.attachments_timeout,
            &mut self.close_linger,
            &mut self.stop_timeout,
            &mut self.allow_request_timeout,
            &mut self.request_head_timeout,
            &mut self.http_keep_alive,
            &mut self.response_timeout,
            &mut self.upgrade_answer_timeout,
            &mut self.body_timeout,
            &mut self.admission_timeout,
            &mut self.connection_handler_timeout,
            &mut self.credit_timeout,
            &mut self.hub_answer_timeout,
            &mut self.ack_timeout,
            &mut self.recovery_window,
        ]
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(45),
            upgrade_timeout: Duration::from_secs(10),
            upgrade_noop_interval: Duration::from_millis(100),
            stall_timeout: None,
            message_timeout: Duration::from_secs(30),
            attachments_timeout: Duration::from_secs(10),
            close_linger: Duration::from_secs(1),
            stop_timeout: Duration::from_secs(30),
            memory_bytes_max: None,
            outboxes_bytes_max: None,
            incoming_bytes_max: None,
            rooms_bytes_max: None,
            sessions_max: 1_000_000,
            sessions_per_address_max: None,
            events_per_second: None,
            bytes_per_second: None,
            address_events_per_second: None,
            address_bytes_per_second: None,
            rate_addresses_max: 100_000,
            allow_request_timeout: Duration::from_secs(10),
            backlog: 4_096,
            http_connections_max: 50_000,
            http_reserve: 16,
            request_head_timeout: Duration::from_secs(10),
            http_keep_alive: Duration::from_secs(75),
            response_timeout: Duration::from_secs(30),
            upgrade_answer_timeout: Duration::from_secs(5),
            payload_bytes_max: 1_000_000,
            body_timeout: Duration::from_secs(30),
            packets_per_turn: 256,
            poll_bytes_max: 1_000_000,
            fragments_max: 1_024,
            handshake_bytes_max: 16_384,
            namespaces_per_session_max: 64,
            socket_data_bytes_max: 65_536,
            auth_bytes_max: 16_384,
            api_body_bytes_max: 1_000_000,
            publish_batch_max: 1_000,
            publish_rooms_max: 1_024,
            page_entries_max: 1_000,
            rooms_per_socket_max: 1_024,
            room_bytes_per_socket_max: 64 << 10,
            outbox_bytes_max: 4 << 20,
            send_buffer_bytes: 256 << 10,
            pump_bytes_max: 64 << 10,
            handlers_pending_max: 128,
            held_events_max: 256,
            held_bytes_max: 1 << 20,
            admission_timeout: Duration::from_secs(20),
            connection_handler_timeout: Duration::from_secs(10),
            credit_commands: 64,
            credit_bytes: 1 << 20,
            credit_waiting_max: 1_024,
            departed_bytes_max: 4 << 20,
            credit_timeout: Duration::from_secs(10),
            hub_answer_timeout: Duration::from_secs(10),
            worker_bytes_max: 8 << 20,
            mailbox_batches: 4_096,
            ack_timeout: Duration::from_secs(10),
            collections_max: 256,
            observed_events_max: 128,
            answers_bytes_max: 16 << 20,
            acks_pending_max: 4_096,
            room_events_max: 1_024,
            recovery_window: Duration::from_secs(120),
            recovery_sessions_max: 1_000_000,
            recovery_bytes_max: 256 << 20,
            recovery_session_bytes_max: 256 << 10,
            recovery_left_rooms_max: 4_096,
            replay_bytes: 256 << 10,
            replay_records_per_turn: 1_024,
            journal_records_max: 65_536,
            journal_bytes_max: 64 << 20,
            journal_segments_max: 8,
            journal_segment_bytes: 32 << 20,
            journal_sender_bytes_max: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_bounded() {
        let fields = include_str!("limits.rs")
            .lines()
            .filter(|line| line.starts_with("    pub "))
            .filter(|line| line.ends_with(": Duration,"));
        let mut limits = Limits::default();
        assert_eq!(limits.durations().len(), fields.count());
        limits.durations().into_iter().for_each(|duration| *duration = Duration::MAX);
        assert_eq!(limits.bounded().durations().map(|duration| *duration), [Limits::DURATION_MAX; 21]);
        assert_eq!(Limits::default().bounded(), Limits::default());
    }

    #[test]
    fn bounds_that_are_not_set_follow_from_memory() {
        let small = Limits::default().within(512 << 20);
        assert_eq!(small.memory_bytes_max, Some(256 << 20));
        assert_eq!((small.outboxes_bytes_max, small.incoming_bytes_max), (Some(64 << 20), Some(32 << 20)));
        assert_eq!((small.rooms_bytes_max, small.journal_bytes_max), (Some(32 << 20), 32 << 20));
        assert_eq!((small.sessions_max, small.http_connections_max), (26_214, 1_638));
        let large = Limits::default().within(64 << 30);
        assert_eq!((large.sessions_max, large.journal_bytes_max), (1_000_000, 64 << 20));
    }

    #[test]
    fn a_bound_that_is_set_is_kept() {
        let set =
            Limits { memory_bytes_max: Some(1 << 30), rooms_bytes_max: Some(7), sessions_max: 9, ..Limits::default() };
        let limits = set.within(512 << 20);
        assert_eq!((limits.rooms_bytes_max, limits.sessions_max), (Some(7), 9));
        assert_eq!(limits.outboxes_bytes_max, Some(256 << 20));
    }
}
