//! Limits of a server: every bound that an operator may want to set, with its default.
//!
//! Every queue, buffer, map and retry has a bound. Bounds that nobody should need to change are
//! constants in the code that enforces them.

mod define;
mod retention;

use std::num::NonZeroU32;
use std::time::Duration;

use self::define::{Bounded, limits};
pub use self::retention::RetentionRule;

/// Bytes of memory that are assumed for one session: an idle session with recovery, as measured by
/// `make load`, and space for its data.
const SESSION_BYTES: usize = 5 * KIB;

/// Approximate bytes of memory that actix-http uses for one connection.
const HTTP_CONNECTION_BYTES: usize = 20 * KIB;

/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

limits! {
    /// Memory that all clients together may use.
    memory: MemoryLimits {
        /// Maximum number of bytes of memory that all clients together may use. Unset limits on
        /// outboxes, input and rooms are shares of this limit. The limits on sessions, HTTP
        /// connections, journal and recovery are lowered if they exceed their shares. If unset, the
        /// limit is half of the memory that is available to this process: the memory of the
        /// machine, its cgroup or its address space, whichever is smallest.
        bytes_max: Option<usize> = None;
        /// Maximum number of bytes queued for all clients together. Beyond half of this limit, an
        /// outbox keeps few of the events that can be read from the journal again. Beyond the
        /// limit, the largest outboxes are emptied and their sessions end. Replays to reconnected
        /// clients may use an additional quarter of this limit. If unset, the limit is a quarter of
        /// the memory for all clients.
        ///
        /// A packet that is queued for many clients counts once for each client.
        outboxes_bytes_max: Option<usize> = None;
        /// Maximum number of bytes that were received from all clients and are not yet handled:
        /// incomplete messages and request bodies, held events, waiting commands, collected acks,
        /// credentials. Beyond three quarters of this limit, input is refused from clients that
        /// have more than 64 KiB of these bytes. Beyond the limit, input is refused from all
        /// clients. If unset, the limit is an eighth of the memory for all clients.
        incoming_bytes_max: Option<usize> = None;
        /// Maximum number of bytes of all rooms with their names and memberships. Beyond three
        /// quarters of this limit, a join fails as overloaded if the socket is in 32 or more
        /// rooms. Beyond the limit, all joins fail as overloaded. If unset, the limit is an eighth
        /// of the memory for all clients.
        rooms_bytes_max: Option<usize> = None;
    }

    /// Sessions: their number, and the time and memory that one session may use.
    sessions: SessionLimits {
        /// Maximum number of sessions on all transports. Further handshakes get status 503. An idle
        /// session uses 3.3 KiB of memory with recovery and 2.7 KiB without, and one kernel socket.
        /// At start, `stentor serve` lowers this limit to what the limit on open files allows.
        ///
        /// The default exceeds the number of sockets that one process can have, so that memory
        /// determines the number of sessions.
        max: usize = 1_000_000;
        /// Maximum number of sessions of one client address (for IPv6, of one /64 prefix). Further
        /// handshakes are refused with status 429. If unset, there is no limit.
        ///
        /// All users of a school or a mobile carrier may share one address.
        per_address_max: Option<usize> = None;
        /// Maximum number of namespaces that one session may join.
        ///
        /// Most clients join only a few namespaces.
        namespaces_max: usize = 64;
        /// Interval between pings of the server. A longer interval saves packets, a shorter
        /// interval detects dead clients sooner.
        ///
        /// The default of Socket.IO.
        ping_interval: Duration = Duration::from_secs(25);
        /// Time limit for a client to answer a ping. If the limit is exceeded, the session ends
        /// with "ping timeout".
        ///
        /// The default of Socket.IO.
        ping_timeout: Duration = Duration::from_secs(20);
        /// Time limit for a new session to join its first namespace. If the limit is exceeded, the
        /// session ends.
        ///
        /// The default of Socket.IO.
        connect_timeout: Duration = Duration::from_secs(45);
        /// Maximum time for which a client may read none of its queued packets. After this time,
        /// the session ends even if the client answers pings. The time is checked with each ping.
        /// If unset, the limit is the sum of ping interval and ping timeout.
        stall_timeout: Option<Duration> = None;
        /// Maximum number of bytes queued for one client, including packet overhead. Beyond this
        /// limit, the session ends. Beyond half of this limit, events for a recoverable socket stay
        /// in the journal until at most a quarter of this limit is queued.
        ///
        /// A worker writes this amount in half a second. A client that is further behind cannot
        /// keep up.
        outbox_bytes_max: usize = 4 * MIB;
        /// Maximum number of packets that one session handles before other sessions have their
        /// turn, at least 1.
        ///
        /// Handling this number of packets takes some hundred microseconds.
        packets_per_turn: usize = 256;
    }

    /// Rates at which clients may send. Packets beyond the rates are refused. If a refused event
    /// requests an ack, the ack is `{"error":{"code":"rate_limited","message"}}`. Otherwise, the
    /// client receives the event `stentor:error`, at most once a second. A refused CONNECT is
    /// answered with the CONNECT_ERROR `rate_limited`. If the refused packets exceed the rates too,
    /// the server pauses reading from the client, for at most five seconds at a time.
    rates: RateLimits {
        /// Maximum number of events, CONNECTs and DISCONNECTs per second of one session in all its
        /// namespaces. Bursts of twice this number are allowed. Packets beyond the rate are refused
        /// as `rate_limited`. If the client continues, the server reads from it more slowly. If
        /// unset, there is no limit.
        events_per_second: Option<NonZeroU32> = None;
        /// Maximum number of bytes per second of one session's packets. Bursts of twice this number
        /// are allowed, and the last packet of a burst may exceed this size. Events beyond the rate
        /// are refused as `rate_limited`. If unset, there is no limit.
        bytes_per_second: Option<NonZeroU32> = None;
        /// Maximum number of events, CONNECTs and DISCONNECTs per second of all sessions of one
        /// client address (for IPv6, of one /64 prefix). Recently ended sessions count too. If
        /// unset, the limit is ten times the rate of a session.
        ///
        /// All users of an office may share one address.
        address_events_per_second: Option<NonZeroU32> = None;
        /// Maximum number of bytes per second of all sessions of one client address (for IPv6, of
        /// one /64 prefix). Recently ended sessions count too. If unset, the limit is ten times the
        /// rate of a session.
        address_bytes_per_second: Option<NonZeroU32> = None;
        /// Maximum number of handshakes per second of one client address (for IPv6, of one /64
        /// prefix). Bursts of twice this number are allowed. Further handshakes are refused with
        /// status 429, and their clients try again. If unset, there is no limit.
        ///
        /// All users of an office may share one address, and return together after a restart.
        address_connects_per_second: Option<NonZeroU32> = None;
        /// Maximum number of client addresses whose rates are measured. An address that has sent
        /// nothing for two seconds is dropped. Sessions of further addresses have only the limits
        /// of a session.
        ///
        /// The default uses about 20 MiB of memory.
        addresses_max: usize = 100_000;
    }

    /// HTTP connections and requests.
    http: HttpLimits {
        /// Maximum number of connections that wait in the kernel to be accepted.
        ///
        /// During a reconnect storm, new connections wait in the kernel.
        backlog: u32 = 4_096;
        /// Maximum number of HTTP connections, not counting websockets; at least 1. Further
        /// connections wait in the backlog. At start, `stentor serve` lowers this limit to a
        /// quarter of what the limit on open files allows.
        ///
        /// actix-http uses about 20 KiB for each connection, which is one gigabyte for the default.
        connections_max: usize = 50_000;
        /// Number of additional connections that are reserved for health checks, metrics, the HTTP
        /// API and upgrades to websocket, with one request per connection. Other requests on these
        /// connections are refused with status 503.
        ///
        /// Operators send one request at a time, and a reserved connection lasts at most two
        /// seconds.
        reserve: usize = 16;
        /// Time limit for a client to send the head of a request. The time starts with the first
        /// byte of the request. For the first request, the time starts when the connection is
        /// opened. If the limit is exceeded, the connection is closed. A TLS handshake has the same
        /// limit.
        head_timeout: Duration = Duration::from_secs(10);
        /// Time limit for a client to send the body of a request. If the limit is exceeded, the
        /// connection is closed.
        ///
        /// A phone on a bad line needs seconds. A slow-request attack takes minutes.
        body_timeout: Duration = Duration::from_secs(30);
        /// Maximum time for which a connection without a request is kept open. This time must be
        /// longer than the corresponding time of a proxy in front of the server, which is 60 s for
        /// nginx and AWS.
        keep_alive: Duration = Duration::from_secs(75);
        /// Time limit for a client to read the rest of a response after it has stopped reading. If
        /// the limit is exceeded, the connection is closed.
        response_timeout: Duration = Duration::from_secs(30);
        /// Time limit for a client to read the response to a websocket handshake that upgrades a
        /// session or is refused.
        ///
        /// Such a response has a few hundred bytes. For the response that opens a new session, the
        /// limits on queued packets apply instead.
        upgrade_response_timeout: Duration = Duration::from_secs(5);
        /// Maximum number of bytes of the request line and the headers of a handshake, which are
        /// stored for the application. A longer head is refused with status 431.
        ///
        /// The default is the limit of Node.js. A browser sends 500 to 900 bytes, or a few thousand
        /// with large cookies.
        handshake_bytes_max: usize = 16 * KIB;
    }

    /// Messages, polling and websockets of a session.
    transport: TransportLimits {
        /// Maximum number of bytes of a websocket message and of a POST body.
        ///
        /// The default of Socket.IO.
        payload_bytes_max: usize = 1_000_000;
        /// Maximum number of bytes of the response to one poll. If a single packet is larger, it is
        /// sent alone.
        poll_bytes_max: usize = 1_000_000;
        /// Maximum number of fragments of one websocket message.
        ///
        /// Browsers send one fragment. Many tiny fragments are an attack on memory.
        fragments_max: usize = 1_024;
        /// Time limit from the first byte of a websocket message to the last byte. If the limit is
        /// exceeded, the connection is closed.
        message_timeout: Duration = Duration::from_secs(30);
        /// Time limit from the header of a binary event to its last attachment. If the limit is
        /// exceeded, the session ends with "parse error".
        attachments_timeout: Duration = Duration::from_secs(10);
        /// Time limit for an upgrade from polling to websocket. If the limit is exceeded, the
        /// websocket is closed and the session continues on polling.
        ///
        /// The default of Socket.IO.
        upgrade_timeout: Duration = Duration::from_secs(10);
        /// Interval between the noop packets that release a pending poll during an upgrade.
        ///
        /// The default of Socket.IO.
        upgrade_noop_interval: Duration = Duration::from_millis(100);
        /// Time limit for a client to read the last bytes of a closing connection. If the limit is
        /// exceeded, the connection is reset.
        ///
        /// A healthy client needs milliseconds.
        close_linger: Duration = Duration::from_secs(1);
        /// Size of a websocket's send buffer in the kernel, in bytes.
        ///
        /// The content of the buffer counts as memory of the server while a client does not read.
        send_buffer_bytes: usize = 256 * KIB;
        /// Maximum number of bytes in flight from a session to its websocket in a host application,
        /// including packet overhead. If a single packet is larger, it is sent alone.
        ///
        /// The default is enough for two writes of actix-http, so that the next write is ready when
        /// the current write is done.
        pump_bytes_max: usize = 64 * KIB;
    }

    /// Sockets. A socket is the connection of one session to one namespace.
    sockets: SocketLimits {
        /// Maximum number of rooms that one socket may be in.
        ///
        /// Each membership uses up to 0.5 KiB. A journal on disk repeatedly rewrites the
        /// memberships of each session. Other servers allow 100 to 1 000 rooms.
        rooms_max: usize = 1_024;
        /// Maximum number of bytes of the names of the rooms that one socket is in.
        ///
        /// The default is 64 bytes for each of 1 024 rooms.
        room_bytes_max: usize = 64 * KIB;
        /// Maximum number of bytes of JSON that the application may store with one socket.
        data_bytes_max: usize = 64 * KIB;
        /// Maximum number of bytes of JSON that a client may send with a CONNECT.
        ///
        /// The default is several times the size of an authentication token. The JSON is stored as
        /// long as the socket exists.
        auth_bytes_max: usize = 16 * KIB;
    }

    /// Code of the application: handlers, middleware, listeners.
    handlers: HandlerLimits {
        /// Maximum number of handlers of one session that are running or waiting for the results of
        /// their operations.
        ///
        /// The default allows many handlers to wait concurrently, and bounds their memory.
        pending_max: usize = 128;
        /// Maximum number of events of one session that wait until earlier events are handled. When
        /// this limit is reached, the server stops reading from the client. Packets that were
        /// already read are still held.
        held_events_max: usize = 256;
        /// Maximum number of bytes of the events of one session that wait until earlier events are
        /// handled. When this limit is reached, the server stops reading from the client.
        held_bytes_max: usize = MIB;
        /// Time limit for the application to accept or refuse a handshake. If the limit is
        /// exceeded, the handshake is refused with status 503.
        ///
        /// A database query takes milliseconds, and clients wait 20 s.
        allow_request_timeout: Duration = Duration::from_secs(10);
        /// Time limit for all connection middleware of a namespace together. If the limit is
        /// exceeded, the CONNECT is refused.
        ///
        /// socket.io-client gives up after the same time.
        middleware_timeout: Duration = Duration::from_secs(20);
        /// Time limit for the connection handler to return. If the limit is exceeded, held events
        /// are handled before the handler returns, and a warning is logged.
        connection_timeout: Duration = Duration::from_secs(10);
        /// Maximum number of events of one session queued for catch-all listeners. Further events
        /// are not passed to the listeners.
        observed_events_max: usize = 128;
    }

    /// Acks that the server requests from clients.
    acks: AckLimits {
        /// Time limit for a client's ack, unless the caller sets another one.
        timeout: Duration = Duration::from_secs(10);
        /// Maximum number of pending acks of one session. Beyond this limit, `emit_with_ack` fails
        /// as overloaded.
        pending_max: usize = 4_096;
        /// Maximum number of emits to many sockets whose acks are being collected by one session,
        /// or by all code outside sessions. Beyond this limit, `emit_with_ack` fails as overloaded.
        /// Handlers that wait for such acks are not counted as pending.
        collections_max: usize = 256;
        /// Maximum number of bytes of all acks of one emit to many sockets. Acks beyond this limit
        /// are dropped.
        answers_bytes_max: usize = 16 * MIB;
    }

    /// Hub: its queues, and the credit that limits the commands of a session.
    hub: HubLimits {
        /// Maximum number of commands of one session that the hub has not answered.
        ///
        /// The default is enough for the commands of one turn of a worker. The limit bounds the
        /// mailbox of the hub.
        credit_commands: usize = 64;
        /// Maximum number of bytes of the commands of one session that the hub has not answered. A
        /// command larger than this limit is sent only if no other command is unanswered.
        credit_bytes: usize = MIB;
        /// Maximum number of commands of one session that wait for credit, and of emits of one
        /// session that wait for the client to read. Further commands and emits fail as overloaded.
        credit_waiting_max: usize = 1_024;
        /// Time limit for a command to obtain credit. If the limit is exceeded, the command fails
        /// as overloaded.
        credit_timeout: Duration = Duration::from_secs(10);
        /// Maximum number of bytes of the commands on one worker that wait for credit after their
        /// sessions have ended. A command counts its content and about 100 bytes. Further commands
        /// fail as overloaded. The waiting commands are still sent only as their sessions' credit
        /// allows.
        departed_bytes_max: usize = 4 * MIB;
        /// Time limit for the hub to answer a command.
        ///
        /// The hub answers in microseconds unless it is overloaded.
        answer_timeout: Duration = Duration::from_secs(10);
        /// Maximum number of bytes that were sent to one worker and are not yet written. Beyond
        /// this limit, events wait in the hub, and their senders wait for the answer. Beyond a
        /// quarter of this limit, only senders that caused many of these bytes wait.
        ///
        /// A worker writes this amount in a few milliseconds.
        worker_bytes_max: usize = 8 * MIB;
        /// Maximum number of batches in the mailbox of the hub or of a worker. While the mailbox is
        /// full, a sender keeps its batch.
        mailbox_batches: usize = 4_096;
        /// Maximum number of room events queued for code that watches rooms. Code that is slower
        /// misses events and is notified.
        room_events_max: usize = 1_024;
    }

    /// Connection state recovery.
    recovery: RecoveryLimits {
        /// Maximum time after which a disconnected client may resume its session and receive missed
        /// events.
        ///
        /// The default of Socket.IO.
        window: Duration = Duration::from_secs(120);
        /// Maximum number of sessions stored for recovery, including connected sessions. A further
        /// session replaces the session that has been disconnected for the longest time. If all are
        /// connected, the further session is not stored.
        sessions_max: usize = 1_000_000;
        /// Maximum number of bytes of all sessions stored for recovery. A session counts 128 bytes,
        /// 64 bytes for each room that the socket is in or has left, and the bytes of room names
        /// and data. Beyond this limit, sessions become unrecoverable in this order: sessions
        /// larger than 1 KiB (the largest first), sessions that have been disconnected for the
        /// longest time, and the sessions that grew last. With a journal on disk, the limit is at
        /// most a quarter of the journal, not counting one segment.
        ///
        /// The default is enough for a million sessions in one room each. A journal on disk
        /// rewrites the stored sessions when it drops segments.
        bytes_max: usize = 256 * MIB;
        /// Maximum number of bytes of one session stored for recovery, at most a quarter of the
        /// bytes of all sessions. A larger session cannot be recovered.
        ///
        /// The default is enough for a thousand rooms with names of 192 bytes.
        session_bytes_max: usize = 256 * KIB;
        /// Maximum number of rooms that a socket may leave within the time covered by the journal,
        /// if it is also in as many rooms as allowed. A socket in fewer rooms may leave as many
        /// more. A socket that leaves more rooms cannot be recovered.
        left_rooms_max: usize = 4_096;
        /// Maximum number of bytes read from the journal for one client at a time, at most a
        /// quarter of the limit on the client's outbox. If a single event is larger, it is sent
        /// alone.
        replay_bytes: usize = 256 * KIB;
        /// Maximum number of journal records read for reconnected clients before live events are
        /// processed. A large record counts as one more record for each KiB.
        ///
        /// Reading this number of records takes less than 0.3 ms.
        replay_records_per_turn: usize = 1_024;
    }

    /// Journal of events.
    journal: JournalLimits {
        /// Maximum number of journal records in memory. A journal in memory consists of these
        /// records. A journal on disk keeps its newest records in memory too.
        records_max: usize = 65_536;
        /// Maximum number of bytes of the journal records in memory.
        bytes_max: usize = 64 * MIB;
        /// Maximum number of segment files of a journal on disk, at least 2. When this number
        /// of segments is full, the oldest segment is dropped.
        segments_max: usize = 8;
        /// Maximum number of bytes of one segment file of a journal on disk. An event cannot be
        /// larger than a segment.
        ///
        /// Eight segments hold 256 MiB, which is two minutes of events at 2 MB/s. Sessions stored
        /// for recovery may use 56 MiB, which is enough for 290 000 sessions in one room each.
        segment_bytes: usize = 32 * MIB;
        /// Maximum number of bytes that one session may add to the journal before further commands
        /// of the session, such as emits and joins, wait. In each recovery window, the session
        /// regains twice this number. The commands stay in order, and other sessions do not wait.
        /// Code outside sessions is not limited. If unset, `stentor serve` uses an eighth of the
        /// journal (on disk, not counting one segment), but at least 1 MiB and at least the size of
        /// the largest event. In a program that embeds the hub, there is no limit.
        sender_bytes_max: Option<usize> = None;
        /// Time limit for writing the journal to the disk when the server stops. If the limit is
        /// exceeded, the process ends before all records are written, and the journal is lost when
        /// the machine restarts. A supervisor must allow the server more time to stop than this
        /// limit.
        ///
        /// A slow disk writes a quarter of a gigabyte in 30 s.
        stop_timeout: Duration = Duration::from_secs(30);
    }

    /// Queue of durable events, and its subscribers.
    queue: QueueLimits {
        /// Maximum number of bytes of stored events and dead letters. If dead letters alone exceed
        /// this limit, the oldest ones are removed and their subscribers receive a gap.
        bytes_max: usize = 1_024 * MIB;
        /// Percentage of the maximum number of bytes from which publishers are refused as
        /// overloaded. Nothing that is stored is removed for a new event.
        ///
        /// The rest is left for dead letters, which are stored when a subscriber gives up events.
        high_water_percent: u8 = 80;
        /// Maximum number of bytes of one durable event. Larger events are refused.
        ///
        /// The default is the largest message that a client may send.
        event_bytes_max: usize = 1_000_000;
        /// Maximum number of changes in one commit: events, acks, subscriptions.
        ///
        /// Larger commits gain little speed and make each publisher wait longer.
        batch_max: usize = 512;
        /// Number of bytes after which a commit accepts no further change.
        batch_bytes_max: usize = MIB;
        /// Maximum number of changes that wait for a commit. Further publishers are refused as
        /// overloaded.
        ///
        /// The default is committed in less than a tenth of a second.
        waiting_max: usize = 4_096;
        /// Maximum number of bytes of the changes that wait for a commit. Further publishers are
        /// refused as overloaded.
        waiting_bytes_max: usize = 16 * MIB;
        /// Maximum number of subscribers. Creating a further one is refused.
        ///
        /// An absent subscriber uses space on the disk only.
        subscribers_max: usize = 100_000;
        /// Maximum number of rooms that one subscriber subscribes to.
        subscriptions_per_subscriber_max: usize = 1_000;
        /// Maximum number of events that were sent to one subscriber and are not acknowledged.
        /// Further events stay in the queue.
        in_flight_max: usize = 64;
        /// Maximum number of bytes of the events that were sent to one subscriber and are not
        /// acknowledged. A larger event is sent alone.
        in_flight_bytes_max: usize = MIB;
        /// Time limit for a subscriber to acknowledge the oldest event that it received. If the
        /// limit is exceeded, the attempt has failed and the event is sent again.
        ack_wait: Duration = Duration::from_secs(30);
        /// Delays before an event is sent again, by the number of failed attempts; the last one
        /// repeats. They also apply to an event that a subscriber refuses without giving a delay.
        back_off: Vec<Duration> = [1, 5, 30, 120, 600].map(Duration::from_secs).to_vec();
        /// Maximum delay that a subscriber may ask for when it refuses an event. Longer delays are
        /// lowered to it.
        nak_delay_max: Duration = Duration::from_secs(DAY);
        /// Number of failed attempts after which an event becomes a dead letter of the subscriber.
        max_deliver: u32 = 20;
        /// Maximum number of dead letters of one subscriber. Beyond this limit, the oldest ones are
        /// removed and the subscriber receives a gap.
        dead_letters_max: usize = 10_000;
        /// Time after which an absent subscriber is removed, with all that is pending for it.
        ///
        /// A phone that is off for a weekend misses nothing.
        subscriber_expiry: Duration = Duration::from_secs(7 * DAY), at most Limits::AGE_MAX;
        /// Time for which the name of a removed subscriber is stored, so that it is notified of the
        /// removal when it returns.
        tombstone_expiry: Duration = Duration::from_secs(30 * DAY), at most Limits::AGE_MAX;
        /// Time from the first event with a deduplication id during which events with the same id
        /// are duplicates.
        dedup_window: Duration = Duration::from_secs(DAY), at most Limits::AGE_MAX;
        /// Maximum number of stored deduplication ids. Beyond this limit, events with new ids are
        /// refused as overloaded. No id is removed before its time.
        dedup_ids_max: usize = 1_000_000;
        /// Maximum number of removed events of one room that are stored one by one for subscribers
        /// that did not receive them. Older ones become one gap.
        gaps_per_room_max: usize = 4_096;
        /// Maximum time for which a pull waits for events.
        pull_wait_max: Duration = Duration::from_secs(60);
        /// Rules by which rooms retain events, also for subscribers that come later. The first rule
        /// that matches a room applies. A room without a rule removes an event when all its
        /// subscribers have handled it.
        retention: Vec<RetentionRule> = Vec::new(), at most Limits::AGE_MAX;
    }
}

impl Limits {
    /// Maximum duration of a limit.
    ///
    /// A client waits for the sum of ping interval and ping timeout, and timers of JavaScript are
    /// limited to 31 bits of milliseconds, nearly 25 days.
    pub const DURATION_MAX: Duration = Duration::from_secs(12 * DAY);

    /// Maximum age of what the queue stores: ten years of 365.25 days.
    pub const AGE_MAX: Duration = Duration::from_secs(87_660 * 3_600);

    /// Creates the default limits and changes them with `change`.
    pub fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut limits = Self::default();
        change(&mut limits);
        limits
    }

    /// Sets unset limits to their shares of memory and lowers limits that exceed their shares, for
    /// a process that may use `available` bytes of memory.
    pub(crate) fn within(mut self, available: usize) -> Self {
        let memory = *self.memory.bytes_max.get_or_insert(available / 2);
        self.memory.outboxes_bytes_max.get_or_insert(memory / 4);
        self.memory.incoming_bytes_max.get_or_insert(memory / 8);
        self.memory.rooms_bytes_max.get_or_insert(memory / 8);
        self.sessions.max = self.sessions.max.min((memory / 2 / SESSION_BYTES).max(1));
        self.http.connections_max = self.http.connections_max.min((memory / 8 / HTTP_CONNECTION_BYTES).max(1));
        self.journal.bytes_max = self.journal.bytes_max.min(memory / 8);
        self.recovery.bytes_max = self.recovery.bytes_max.min(memory / 8);
        self
    }
}

impl SessionLimits {
    /// Returns `stall_timeout`, or its default if `stall_timeout` is unset.
    pub(crate) fn stalls_after(&self) -> Duration {
        self.stall_timeout.unwrap_or(self.ping_interval + self.ping_timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_bounded() {
        let longest = Limits::with(|limits| {
            limits.sessions.ping_interval = Duration::MAX;
            limits.sessions.stall_timeout = Some(Duration::MAX);
            limits.journal.stop_timeout = Duration::MAX;
            limits.queue.subscriber_expiry = Duration::MAX;
            limits.queue.back_off = vec![Duration::ZERO, Duration::MAX];
            limits.queue.retention.push(RetentionRule { max_age: Some(Duration::MAX), ..RetentionRule::new("*") });
        })
        .bounded();
        assert_eq!(longest.sessions.ping_interval, Limits::DURATION_MAX);
        assert_eq!(longest.sessions.stall_timeout, Some(Limits::DURATION_MAX));
        assert_eq!(longest.journal.stop_timeout, Limits::DURATION_MAX);
        assert_eq!(longest.queue.subscriber_expiry, Limits::AGE_MAX);
        assert_eq!(longest.queue.back_off, [Duration::ZERO, Limits::DURATION_MAX]);
        assert_eq!(longest.queue.retention[0].max_age, Some(Limits::AGE_MAX));
        assert_eq!(Limits::default().bounded(), Limits::default());
    }

    #[test]
    fn unset_limits_follow_from_memory() {
        let small = Limits::default().within(512 * MIB);
        assert_eq!(small.memory.bytes_max, Some(256 * MIB));
        let budgets = (small.memory.outboxes_bytes_max, small.memory.incoming_bytes_max);
        assert_eq!(budgets, (Some(64 * MIB), Some(32 * MIB)));
        assert_eq!((small.memory.rooms_bytes_max, small.journal.bytes_max), (Some(32 * MIB), 32 * MIB));
        assert_eq!((small.sessions.max, small.http.connections_max), (26_214, 1_638));
        let large = Limits::default().within(64 << 30);
        assert_eq!((large.sessions.max, large.journal.bytes_max), (1_000_000, 64 * MIB));
    }

    #[test]
    fn limits_that_are_set_are_kept() {
        let set = Limits::with(|limits| {
            limits.memory.bytes_max = Some(1 << 30);
            limits.memory.rooms_bytes_max = Some(7);
            limits.sessions.max = 9;
        });
        let limits = set.within(512 * MIB);
        assert_eq!((limits.memory.rooms_bytes_max, limits.sessions.max), (Some(7), 9));
        assert_eq!(limits.memory.outboxes_bytes_max, Some(256 * MIB));
    }
}
