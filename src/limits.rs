//! Limits of a server: every bound that an operator may want to set, with its default.
//!
//! Every queue, buffer, map and retry has a bound. Bounds that nobody should need to change are
//! constants beside the code that they bound.

use std::num::NonZeroU32;
use std::time::Duration;

/// Bytes of an idle session with recovery, as `make load` measures them, and as much for its data.
const SESSION_BYTES: usize = 5 * KIB;

/// Bytes of a connection in actix-http.
const HTTP_CONNECTION_BYTES: usize = 20 * KIB;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Defines `Limits` and its groups. The doc of each limit is its only description: rustdoc shows
/// it, and `Limits::DESCRIPTIONS` holds it for programs such as `stentor config explain`.
macro_rules! limits {
    ($(
        $(#[doc = $about:literal])+
        $group:ident: $Group:ident {
            $($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr;)+
        }
    )+) => {
        /// Bounds and time limits of one server, grouped by what they bound.
        ///
        /// ```
        /// let limits = stentor::Limits::with(|limits| limits.recovery.sessions_max = 1_000);
        /// ```
        ///
        /// Durations above [`DURATION_MAX`](Self::DURATION_MAX) are lowered to it, so
        /// [`Duration::MAX`] may stand for "never".
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Limits {
            $($(#[doc = $about])+ pub $group: $Group,)+
        }

        $(
            $(#[doc = $about])+
            #[derive(Debug, Clone, PartialEq, Eq)]
            #[non_exhaustive]
            pub struct $Group {
                $(
                    $(#[doc = $doc])+
                    #[doc = concat!("\n\nDefault: `", stringify!($default), "`.")]
                    pub $name: $type,
                )+
            }

            impl Default for $Group {
                fn default() -> Self {
                    Self { $($name: $default,)+ }
                }
            }
        )+

        impl Limits {
            /// Path (`"recovery.window"`) and description of every limit. The first paragraph of a
            /// description says what is bounded, a second one gives the reason for the default.
            pub const DESCRIPTIONS: &'static [(&'static str, &'static str)] = &[$($(
                (concat!(stringify!($group), ".", stringify!($name)), concat!($($doc, "\n"),+)),
            )+)+];

            /// Lowers every duration to the longest one allowed.
            pub(crate) fn bounded(mut self) -> Self {
                $($(self.$group.$name.bound();)+)+
                self
            }
        }
    };
}

limits! {
    /// Memory of all clients together.
    memory: MemoryLimits {
        /// Bytes of memory that all clients together may use. The limits of outboxes, input, rooms,
        /// sessions, HTTP connections, journal and recovery follow from it if they are unset or set
        /// higher. Unset: half of the memory that this process may use (of the machine, its cgroup
        /// or its address space, whichever is smallest).
        bytes_max: Option<usize> = None;
        /// Bytes queued for clients that are not reading. Above half of it an outbox keeps little
        /// of what the journal also has; above all of it the largest outboxes are emptied and their
        /// sessions end. Replays to reconnected clients may use a quarter more. Unset: a quarter of
        /// the memory for clients.
        ///
        /// A packet that is queued for many clients counts once for each.
        outboxes_bytes_max: Option<usize> = None;
        /// Bytes received from clients and not yet handled: incomplete messages and bodies, held
        /// events, waiting commands, collected acks, credentials. Beyond it, further input is
        /// refused. Beyond three quarters of it, input is refused if the client holds more than 64
        /// KiB. Unset: an eighth of the memory for clients.
        incoming_bytes_max: Option<usize> = None;
        /// Bytes of all rooms, their names and memberships. Beyond it, joins fail as overloaded.
        /// Beyond three quarters of it, joins fail if the socket is in more than 32 rooms. Unset:
        /// an eighth of the memory for clients.
        rooms_bytes_max: Option<usize> = None;
    }

    /// Sessions: how many there are, and how long and how large each may become.
    sessions: SessionLimits {
        /// Maximum number of sessions on all transports; further handshakes get status 503. An idle
        /// session uses 3.3 KiB with recovery, 2.7 KiB without, and a socket of the kernel. At
        /// start `stentor serve` lowers it to what the limit on open files allows.
        ///
        /// The default is more than one process can have sockets for, so that memory decides.
        max: usize = 1_000_000;
        /// Maximum number of sessions of one client address (for IPv6, of one /64); further
        /// handshakes get status 429. Unset: no limit.
        ///
        /// A school or a mobile carrier may use a single address.
        per_address_max: Option<usize> = None;
        /// Maximum number of namespaces that one session may join.
        ///
        /// Clients use a handful.
        namespaces_max: usize = 64;
        /// Interval between pings of the server. Longer saves packets, shorter detects dead clients
        /// sooner.
        ///
        /// The default is that of Socket.IO.
        ping_interval: Duration = Duration::from_secs(25);
        /// Time limit for a client to answer a ping; then its session ends with "ping timeout".
        ///
        /// The default is that of Socket.IO.
        ping_timeout: Duration = Duration::from_secs(20);
        /// Time limit for a new session to join its first namespace; then it ends.
        ///
        /// The default is that of Socket.IO.
        connect_timeout: Duration = Duration::from_secs(45);
        /// Time for which a client may read nothing of its queued packets, even if it answers
        /// pings; then its session ends. It is checked with each ping. Unset: ping interval plus
        /// ping timeout.
        stall_timeout: Option<Duration> = None;
        /// Bytes that may be queued for one client, packet overhead included; beyond it the session
        /// ends. Beyond half of it, events for a recoverable socket stay in the journal until the
        /// client has read what is queued.
        ///
        /// A worker writes as much in half a second; a client that is further behind cannot keep
        /// up.
        outbox_bytes_max: usize = 4 * MIB;
        /// Maximum number of packets that one session handles in one turn, before other sessions
        /// have theirs; at least 1.
        ///
        /// That many take some hundred microseconds.
        packets_per_turn: usize = 256;
    }

    /// Rates at which clients may send. Excess events are refused: the ack is
    /// `{"error":{"code":"rate_limited","message"}}`; without an ack the client gets the event
    /// `stentor:error` once a second; a CONNECT gets the CONNECT_ERROR `rate_limited`. A client
    /// that continues is not read for as long as its refusals exceed the rate, at most five seconds
    /// at a time.
    rates: RateLimits {
        /// Events, CONNECTs and DISCONNECTs per second of one session over all its namespaces, in
        /// bursts of twice that; more are answered `rate_limited`, and a client that continues is
        /// read more slowly. Unset: no limit.
        events_per_second: Option<NonZeroU32> = None;
        /// Bytes per second of one session's packets, in bursts of twice that; events beyond it are
        /// answered `rate_limited`. A larger packet passes alone, and delays later ones.
        /// Unset: no limit.
        bytes_per_second: Option<NonZeroU32> = None;
        /// Events, CONNECTs and DISCONNECTs per second of all sessions of one client address (for
        /// IPv6, of one /64), including sessions one after another. Unset: ten times the rate of a
        /// session.
        ///
        /// An office may use a single address.
        address_events_per_second: Option<NonZeroU32> = None;
        /// Bytes per second of all sessions of one client address (for IPv6, of one /64), including
        /// sessions one after another. Unset: ten times the rate of a session.
        address_bytes_per_second: Option<NonZeroU32> = None;
        /// Maximum number of client addresses whose rates are measured. Addresses that sent nothing
        /// for two seconds are dropped; sessions of further addresses have only their own limits.
        ///
        /// The default takes about 20 MiB.
        addresses_max: usize = 100_000;
    }

    /// HTTP connections and requests.
    http: HttpLimits {
        /// Maximum number of connections in the kernel that wait to be accepted.
        ///
        /// The kernel holds a reconnect storm meanwhile.
        backlog: u32 = 4_096;
        /// Maximum number of connections that speak HTTP, websockets not counted; further ones wait
        /// in the backlog. At least 1. At start `stentor serve` lowers it to a quarter of what the
        /// limit on open files allows.
        ///
        /// actix-http uses about 20 KiB for each, a gigabyte for all.
        connections_max: usize = 50_000;
        /// Additional connections, one request each, for health, metrics, the HTTP API and upgrades
        /// to websocket; other requests on them get status 503.
        ///
        /// Operators send one request at a time, and each of these connections lives two seconds.
        reserve: usize = 16;
        /// Time limit for a client to send the head of a request, from its first byte (of the first
        /// request: from the start of the connection); then the connection is closed.
        head_timeout: Duration = Duration::from_secs(10);
        /// Time limit for a client to send the body of a request; then the connection is closed.
        ///
        /// A phone on a bad line needs seconds, a slow attack takes minutes.
        body_timeout: Duration = Duration::from_secs(30);
        /// Time for which a connection without a request is kept open. It must be longer than a
        /// proxy keeps its own connections, which is 60 s for nginx and AWS.
        keep_alive: Duration = Duration::from_secs(75);
        /// Time limit for a client to read a response, from the moment at which it stops reading;
        /// then the connection is closed.
        response_timeout: Duration = Duration::from_secs(30);
        /// Time limit for a client to read the response to the upgrade of its session, or a
        /// refusal.
        ///
        /// It is a few hundred bytes. The response that opens a new session is not bounded by this
        /// but by the limits of queued packets.
        upgrade_response_timeout: Duration = Duration::from_secs(5);
        /// Bytes of request line and headers of a handshake, which are kept for the application; a
        /// longer head is refused with status 431.
        ///
        /// Node's limit. A browser sends 500 to 900 bytes, with large cookies a few thousand.
        handshake_bytes_max: usize = 16 * KIB;
    }

    /// Messages, polling and websockets of a session.
    transport: TransportLimits {
        /// Bytes of the largest websocket message and the largest POST body accepted.
        ///
        /// The default is that of Socket.IO.
        payload_bytes_max: usize = 1_000_000;
        /// Bytes of one poll's response. A single larger packet is sent alone.
        poll_bytes_max: usize = 1_000_000;
        /// Maximum number of fragments of one websocket message.
        ///
        /// Browsers send one; many tiny fragments are an attack on memory.
        fragments_max: usize = 1_024;
        /// Time limit from the first byte of a websocket message to its last; then the connection
        /// is closed.
        message_timeout: Duration = Duration::from_secs(30);
        /// Time limit from the header of a binary event to its last attachment; then the session
        /// ends with "parse error".
        attachments_timeout: Duration = Duration::from_secs(10);
        /// Time limit for an upgrade from polling to websocket; then the websocket is closed and
        /// the session stays with polling.
        ///
        /// The default is that of Socket.IO.
        upgrade_timeout: Duration = Duration::from_secs(10);
        /// Interval between the noop packets that release a pending poll during an upgrade.
        ///
        /// The default is that of Socket.IO.
        upgrade_noop_interval: Duration = Duration::from_millis(100);
        /// Time limit for a client to read the last bytes of a closing connection; then it is
        /// reset.
        ///
        /// A healthy client needs milliseconds.
        close_linger: Duration = Duration::from_secs(1);
        /// Bytes of a websocket's send buffer in the kernel.
        ///
        /// It counts as memory of the server while a client does not read.
        send_buffer_bytes: usize = 256 * KIB;
        /// Bytes in flight from a session to its websocket inside a host application, packet
        /// overhead included. A single larger packet is sent alone.
        ///
        /// Two writes of actix-http: one is ready when the other is done.
        pump_bytes_max: usize = 64 * KIB;
    }

    /// Sockets: the presence of a session in one namespace.
    sockets: SocketLimits {
        /// Maximum number of rooms that one socket may be in.
        ///
        /// Each uses up to 0.5 KiB, and the journal on disk rewrites it. Other servers allow 100 to
        /// 1 000.
        rooms_max: usize = 1_024;
        /// Bytes of the names of the rooms that one socket may be in.
        ///
        /// 64 bytes for each of 1 024 rooms.
        room_bytes_max: usize = 64 * KIB;
        /// Bytes of JSON that the application may store with one socket.
        data_bytes_max: usize = 64 * KIB;
        /// Bytes of JSON that a client may send with a CONNECT.
        ///
        /// A token with room to spare; it is stored as long as its socket exists.
        auth_bytes_max: usize = 16 * KIB;
    }

    /// Code of the application: handlers, middleware, listeners.
    handlers: HandlerLimits {
        /// Maximum number of handlers of one session that run or wait for the results of their
        /// operations.
        ///
        /// Enough to overlap waits, few enough to hold in memory.
        pending_max: usize = 128;
        /// Number of events of one session that wait for earlier ones to be handled, from which the
        /// server stops reading from the client. Packets that were already read are still held.
        held_events_max: usize = 256;
        /// Bytes of the events of one session that wait for earlier ones to be handled; then the
        /// server stops reading from the client.
        held_bytes_max: usize = MIB;
        /// Time limit for the application to accept or refuse a handshake; then it gets status 503.
        ///
        /// A database query takes milliseconds, and clients wait 20 s.
        allow_request_timeout: Duration = Duration::from_secs(10);
        /// Time limit for all connection middleware of a namespace together; then the CONNECT is
        /// refused.
        ///
        /// socket.io-client gives up after as long.
        middleware_timeout: Duration = Duration::from_secs(20);
        /// Time limit for the connection handler to return; then held events are handled, and a
        /// warning is logged.
        connection_timeout: Duration = Duration::from_secs(10);
        /// Maximum number of events of one session queued for catch-all listeners; further events
        /// are not shown to them.
        observed_events_max: usize = 128;
    }

    /// Acks that the server asks of clients.
    acks: AckLimits {
        /// Time limit for a client's ack, if the caller sets no other.
        timeout: Duration = Duration::from_secs(10);
        /// Maximum number of acks pending at one session; then `emit_with_ack` fails as overloaded.
        pending_max: usize = 4_096;
        /// Maximum number of emits to many sockets whose acks one session, or all code outside
        /// sessions, collects at a time; then `emit_with_ack` fails as overloaded. Handlers that
        /// wait for them are not counted as pending.
        collections_max: usize = 256;
        /// Bytes of all acks of one emit to many sockets; acks beyond it are dropped.
        answers_bytes_max: usize = 16 * MIB;
    }

    /// Hub: its queues, and the credit with which sessions send it commands.
    hub: HubLimits {
        /// Maximum number of commands of one session that the hub has not answered.
        ///
        /// The default is enough for the commands of one turn of the worker. The limit bounds the
        /// hub's mailbox.
        credit_commands: usize = 64;
        /// Bytes of the commands of one session that the hub has not answered. A single larger
        /// command passes if no other is unanswered.
        credit_bytes: usize = MIB;
        /// Maximum number of commands of one session that wait for credit, and of emits that wait
        /// for its client to read; further ones fail as overloaded.
        credit_waiting_max: usize = 1_024;
        /// Time limit for a command to get credit; then it fails as overloaded.
        credit_timeout: Duration = Duration::from_secs(10);
        /// Bytes of the commands on one worker that wait for credit after their sessions ended,
        /// about 100 for each command beside its content; further ones fail as overloaded. They are
        /// sent at the pace of the credit that the sessions had.
        departed_bytes_max: usize = 4 * MIB;
        /// Time limit for the hub to answer a command.
        ///
        /// The hub answers in microseconds unless it is overloaded.
        answer_timeout: Duration = Duration::from_secs(10);
        /// Bytes sent to one worker and not yet written, above which events wait in the hub and
        /// their senders wait for the answer. Above a quarter of it, senders that caused much of it
        /// wait.
        ///
        /// A worker writes as much in some milliseconds.
        worker_bytes_max: usize = 8 * MIB;
        /// Maximum number of batches in the mailbox of the hub or of a fanout; a sender keeps its
        /// batch while the mailbox is full.
        mailbox_batches: usize = 4_096;
        /// Maximum number of room events queued for code that watches rooms; slower code is
        /// notified that it missed some.
        room_events_max: usize = 1_024;
    }

    /// Connection state recovery.
    recovery: RecoveryLimits {
        /// Time for which a disconnected client may resume its session and get missed events.
        ///
        /// The default is that of Socket.IO.
        window: Duration = Duration::from_secs(120);
        /// Maximum number of sessions known for recovery, connected ones included. A further one
        /// replaces the session that has been disconnected for longest.
        sessions_max: usize = 1_000_000;
        /// Bytes of all sessions known for recovery: 128 for each, 64 for each room that it is in
        /// or has left, and the bytes of room names and data. Beyond it sessions become
        /// unrecoverable: the largest down to 1 KiB, then the ones disconnected for longest, then
        /// the newest. With a journal on disk at most a quarter of the journal less one segment.
        ///
        /// The default is a million sessions in one room each. The journal on disk rewrites each
        /// session as its oldest segment is dropped.
        bytes_max: usize = 256 * MIB;
        /// Bytes of one session known for recovery; a larger one cannot be recovered. At most a
        /// quarter of the bytes of all.
        ///
        /// A thousand rooms with names of 192 bytes.
        session_bytes_max: usize = 256 * KIB;
        /// Maximum number of rooms that a socket has left and whose events it may have missed. A
        /// socket that leaves more within the span of the journal cannot be recovered.
        left_rooms_max: usize = 4_096;
        /// Bytes read from the journal for one client at a time, at most a quarter of its outbox. A
        /// single larger event is sent alone.
        replay_bytes: usize = 256 * KIB;
        /// Maximum number of journal records read for reconnected clients before live events have
        /// their turn. A large record counts once more for each KiB.
        ///
        /// That many take less than 0.3 ms.
        replay_records_per_turn: usize = 1_024;
    }

    /// Journal of events.
    journal: JournalLimits {
        /// Maximum number of journal records in memory: all of them, or the newest of a journal on
        /// disk.
        records_max: usize = 65_536;
        /// Bytes of the journal records in memory.
        bytes_max: usize = 64 * MIB;
        /// Maximum number of segment files of a journal on disk, at least 2. The oldest is dropped
        /// when the newest is full.
        segments_max: usize = 8;
        /// Bytes of one segment file of a journal on disk, and so of the largest event.
        ///
        /// Eight segments hold 256 MiB: two minutes at 2 MB/s, and 56 MiB of sessions for recovery,
        /// 290 000 in one room each.
        segment_bytes: usize = 32 * MIB;
        /// Bytes of events that one session may add to the journal before its events wait, and
        /// twice as much in each recovery window. Its events stay in order, and no other session
        /// waits. Code outside sessions is not bounded. Unset: no limit, but for `stentor serve` an
        /// eighth of the journal, at least 1 MiB and the largest event.
        sender_bytes_max: Option<usize> = None;
        /// Time limit for writing the journal to the disk when the server stops. If it is exceeded,
        /// the process ends without having written all of it, and the journal is lost when the
        /// machine reboots. A supervisor must allow more time than this for the server to stop.
        ///
        /// A slow disk writes a quarter of a gigabyte in that time.
        stop_timeout: Duration = Duration::from_secs(30);
    }
}

impl Limits {
    /// Longest duration of a limit.
    ///
    /// Timers of JavaScript count 31 bits of milliseconds, nearly 25 days, and clients add up ping
    /// interval and ping timeout.
    pub const DURATION_MAX: Duration = Duration::from_secs(12 * 24 * 60 * 60);

    /// Creates the default limits and changes them with `change`.
    pub fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut limits = Self::default();
        change(&mut limits);
        limits
    }

    /// Fills in the limits that are shares of memory, for a process that may use `available` bytes.
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
    /// The stall timeout in force.
    pub(crate) fn stalls_after(&self) -> Duration {
        self.stall_timeout.unwrap_or(self.ping_interval + self.ping_timeout)
    }
}

/// A type of limits. Only durations have a bound of their own.
trait Bounded {
    fn bound(&mut self) {}
}

impl Bounded for usize {}
impl Bounded for u32 {}
impl Bounded for Option<usize> {}
impl Bounded for Option<NonZeroU32> {}

impl Bounded for Duration {
    fn bound(&mut self) {
        *self = (*self).min(Limits::DURATION_MAX);
    }
}

impl Bounded for Option<Duration> {
    fn bound(&mut self) {
        if let Some(duration) = self {
            duration.bound();
        }
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
        })
        .bounded();
        assert_eq!(longest.sessions.ping_interval, Limits::DURATION_MAX);
        assert_eq!(longest.sessions.stall_timeout, Some(Limits::DURATION_MAX));
        assert_eq!(longest.journal.stop_timeout, Limits::DURATION_MAX);
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
