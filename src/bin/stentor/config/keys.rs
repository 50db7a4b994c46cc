//! The table of settings. Flags, environment, file, `explain` and `default` are all read off it, so they cannot drift apart.

use std::net::IpAddr;
use std::time::Duration;

use stentor::{Cookie, Cors, NamespacePath, Parser, RecoveryClients, SameSite, Server};

use super::value::{Field, Form, Named, SHORTEST, Value};
use super::{Config, RecoveryMode};

pub(super) struct Key {
    /// As the file spells it.
    pub(super) name: &'static str,
    /// Under which heading it is listed; the first is what most people want to know.
    pub(super) group: &'static str,
    /// What it means, in whole sentences.
    pub(super) meaning: &'static str,
    pub(super) form: Form,
    /// Masked wherever it is printed.
    pub(super) is_secret: bool,
    pub(super) put: fn(&mut Config, Value) -> bool,
    value: fn(&Config) -> Value,
}

impl Key {
    /// Its value in a configuration.
    pub(super) fn show(&self, config: &Config) -> Value {
        match ((self.value)(config), self.form) {
            (Value::Number(bytes), Form::Bytes { .. }) => Value::Bytes(bytes),
            (value, _) => value,
        }
    }

    /// `--ping-interval`, without the dashes before it.
    pub(super) fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// The variable, such as `STENTOR_PING_INTERVAL`.
    pub(super) fn variable(&self) -> String {
        format!("STENTOR_{}", self.name.to_ascii_uppercase())
    }
}

/// The setting of this name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The name that was probably meant.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let name = name.replace('-', "_").to_ascii_lowercase();
    let near = KEYS.iter().map(|key| (strsim::jaro_winkler(&name, key.name), key.name));
    near.filter(|(likeness, _)| *likeness > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

/// The heading of what most people want to know.
pub(super) const BASICS: &str = "Basics";
const HTTP: &str = "HTTP API";
const ACCESS: &str = "Who may connect";
const TIMES: &str = "Connections";
const SIZES: &str = "What a client may send";
const PRESSURE: &str = "Back-pressure and memory";

const BYTES_MAX: u64 = 1 << 40;

const fn number(unit: &'static str, least: u64, most: u64) -> Form {
    Form::Number { unit, least, most }
}

/// As many as memory allows.
const fn count(unit: &'static str) -> Form {
    number(unit, 1, u32::MAX as u64)
}

const fn bytes(least: u64) -> Form {
    Form::Bytes { or_zero: false, least, most: BYTES_MAX }
}

/// 0 is a value that follows from others, or no limit.
const fn zero_or_bytes(least: u64, most: u64) -> Form {
    Form::Bytes { or_zero: true, least, most }
}

const DURATION: Form = Form::Duration { least: SHORTEST };

/// Pings more often than this are all that a server does.
const PING: Form = Form::Duration { least: Duration::from_millis(100) };

const MIB: u64 = 1 << 20;

/// The HTTP layer refuses a larger head, whatever the setting says.
const HEAD_BYTES_MAX: u64 = 128 << 10;

macro_rules! keys {
    ($($group:ident $name:ident $($secret:ident)? = $($field:ident).+, $form:expr, $meaning:expr;)*) => {
        &[$(Key {
            name: stringify!($name),
            group: $group,
            meaning: $meaning,
            form: $form,
            is_secret: keys!(@secret $($secret)?),
            put: |config, value| config.$($field).+.put(value),
            value: |config| config.$($field).+.show(),
        },)*]
    };
    (@secret secret) => { true };
    (@secret) => { false };
}

#[rustfmt::skip]
pub(super) const KEYS: &[Key] = keys! {
    BASICS host = host, Form::Text { expected: "an address such as \"127.0.0.1\" or \"::\"", check: |text| text.parse::<IpAddr>().is_ok() },
        "Address to listen on: \"127.0.0.1\" is this machine alone, \"0.0.0.0\" or \"::\" every address of it.";
    BASICS port = port, number("", 0, 65_535),
        "Port to listen on; 0 takes a free one and prints which.";
    BASICS workers = workers, number("threads", 1, 1_024),
        "Threads that serve connections; one per core if not set.";
    BASICS path = path, Form::Text { expected: "a path such as \"/socket.io\"", check: is_path },
        "Path that clients connect to.";
    BASICS namespaces = namespaces, Form::List { expected: "a list of namespaces such as \"/chat\"", check: is_namespace },
        "Namespaces served beside \"/\", with the same events.";
    BASICS recovery = recovery, Form::Text { expected: "\"off\", \"memory\" or \"disk\"", check: is_name_of::<RecoveryMode> },
        "Where events are kept for clients whose connection breaks: on \"disk\", which outlives the process; in \"memory\", which ends with it; \"off\", nowhere.";
    BASICS data_dir = data_dir, Form::Text { expected: "a folder", check: |text| !text.is_empty() },
        "Folder of the journal with recovery = \"disk\"; it is created if it does not exist. One server at a time may use it.";
    BASICS recovery_window = limits.recovery.window, DURATION,
        "How long a disconnected client may resume its session and get what it missed.";
    BASICS recovery_clients = recovery_clients, Form::Text { expected: "\"auto\", \"all\" or \"ask\"", check: is_name_of::<RecoveryClients> },
        "Clients that are recoverable, and get an offset token as the last argument of events: \"auto\", JavaScript's (recognised browsers and Node) and each that asks with auth: {recovery: true} or ?recovery=1; \"all\", each that does not decline with false or 0; \"ask\", only each that asks.";
    BASICS parser = parser, Form::Text { expected: "\"json\" or \"msgpack\"", check: is_name_of::<Parser> },
        "Encoding of packets, for all clients: \"json\", or \"msgpack\" for clients with socket.io-msgpack-parser, which the demo page does not have.";
    BASICS log_level = log_level, Form::Text { expected: "error, warn, info, debug, trace, off, or a filter such as \"stentor=debug\"", check: is_log_filter },
        "Lines that are written to stderr. actix_http's own are off unless named, such as \"info,actix_http=error\".";

    HTTP api_key secret = api_key, Form::Text { expected: "16 characters or more, without spaces", check: is_api_key },
        "Key of the HTTP API /api/v1/, sent as \"Authorization: Bearer …\"; the API is off without one. Other users of this machine can read command lines: prefer the environment or the file.";
    HTTP api_body_bytes_max = api.body_bytes_max, bytes(1_000),
        "Largest request body of the HTTP API.";
    HTTP publish_batch_max = api.batch_max, count("events"),
        "Events in one request to the HTTP API.";
    HTTP publish_rooms_max = api.rooms_max, count("rooms"),
        "Rooms that one event of the HTTP API may name, excepted ones included.";
    HTTP page_entries_max = api.page_entries_max, count("entries"),
        "Rooms or sockets in one answer of the HTTP API; the next page has the others.";

    ACCESS cors_origins = cors_origins, Form::List { expected: "a list of origins such as \"https://example.org\", without paths, or \"*\"", check: is_origin },
        "Origins of other sites whose pages may connect, as browsers write origins; \"*\" is any origin. Pages of the server's own host always may.";
    ACCESS origins_guard = origins_guard, Form::Switch,
        "Websockets of pages are refused if true, unless their origin is the server's own host or in cors_origins. Clients that are no browsers send no origin, and pass.";
    ACCESS allowed_hosts = allowed_hosts, Form::List { expected: "a list of names or addresses without ports such as \"hub.example.org\", or \"*\"", check: |text| Server::builder().allowed_hosts([text]).check().is_ok() },
        "Hosts that requests may name, beside localhost, 127.0.0.0/8 and [::1]; \"*\" is any host. If not set: none besides on a loopback address, any host on others. Behind a proxy, the public name.";
    ACCESS cors_credentials = cors_credentials, Form::Switch,
        "Pages of cors_origins may send cookies if true; not with \"*\".";
    ACCESS trusted_proxies = trusted_proxies, Form::List { expected: "a list of addresses or networks such as \"127.0.0.1\" or \"10.0.0.0/8\"", check: |text| Server::builder().trusted_proxies([text]).check().is_ok() },
        "Proxies in front of the server, whose X-Forwarded-For, X-Forwarded-Host and Forwarded headers are believed.";
    ACCESS cookie = cookie, Form::Text { expected: "the name of a cookie, such as \"io\"", check: |text| Server::builder().cookie(Cookie::default().name(text)).check().is_ok() },
        "Name of a cookie that holds the session's id, for load balancers that route by it; no cookie if not set.";
    ACCESS cookie_secure = cookie_secure, Form::Switch,
        "Browsers send the cookie over encrypted connections only if true.";
    ACCESS cookie_same_site = cookie_same_site, Form::Text { expected: "\"strict\", \"lax\" or \"none\"", check: is_name_of::<SameSite> },
        "SameSite attribute of the cookie; \"none\" requires cookie_secure.";
    ACCESS sessions_per_address_max = limits.sessions.per_address_max, number("connections", 0, u32::MAX as u64),
        "Sessions of one client address (for IPv6, of one /64) at a time; further ones get 429. 0 is no limit.";
    ACCESS sessions_max = limits.sessions.max, count("connections"),
        "Sessions at a time; further ones get 503. An idle one takes 3.3 KiB of memory with recovery, 2.7 without, and a socket. Lowered at start to what the open file limit allows.";
    ACCESS events_per_second = limits.rates.events_per_second, number("events", 0, u32::MAX as u64),
        "Events (publish, join, …) and CONNECTs that one connection may send per second, over all its namespaces, in bursts of twice that; more are answered rate_limited, and a client that continues is read more slowly. 0 is no limit.";
    ACCESS bytes_per_second = limits.rates.bytes_per_second, zero_or_bytes(1_000, u32::MAX as u64),
        "Bytes that one connection may send per second, in bursts of twice that; more is treated as with events_per_second. 0 is no limit.";
    ACCESS address_events_per_second = limits.rates.address_events_per_second, number("events", 0, u32::MAX as u64),
        "The same as events_per_second for all connections of one client address together (of IPv6, of one /64), also one after another. 0 is ten times events_per_second.";
    ACCESS address_bytes_per_second = limits.rates.address_bytes_per_second, zero_or_bytes(1_000, u32::MAX as u64),
        "The same as bytes_per_second for all connections of one client address together. 0 is ten times bytes_per_second.";
    ACCESS rate_addresses_max = limits.rates.addresses_max, count("addresses"),
        "Client addresses whose rates are known at a time; further ones are limited by connection only.";
    ACCESS namespaces_per_session_max = limits.sessions.namespaces_max, count("namespaces"),
        "Namespaces that one session may join.";
    ACCESS rooms_per_socket_max = limits.sockets.rooms_max, count("rooms"),
        "Rooms that one client may be in, in each namespace.";
    ACCESS room_bytes_per_socket_max = limits.sockets.room_bytes_max, bytes(256),
        "Bytes of the names of the rooms that one client may be in, in each namespace.";

    TIMES ping_interval = limits.sessions.ping_interval, PING,
        "Time between two pings of the server to a client.";
    TIMES ping_timeout = limits.sessions.ping_timeout, PING,
        "Time for a client to answer a ping; then its session ends.";
    TIMES connect_timeout = limits.sessions.connect_timeout, DURATION,
        "Time for a new session to join its first namespace; then it ends.";
    TIMES upgrade_timeout = limits.transport.upgrade_timeout, DURATION,
        "Time for an upgrade from polling to websocket; then the session stays with polling.";
    TIMES request_head_timeout = limits.http.head_timeout, DURATION,
        "Time for a client to send the head of an HTTP request, from its first byte; then the connection is closed.";
    TIMES http_keep_alive = limits.http.keep_alive, Form::Duration { least: Duration::from_secs(1) },
        "Time for which a connection without a request is kept open. Longer than a proxy keeps its own, which is 60 s for nginx and AWS.";
    TIMES response_timeout = limits.http.response_timeout, DURATION,
        "Time for a client to read a response once it takes no more of it; then the connection is closed.";
    TIMES body_timeout = limits.http.body_timeout, DURATION,
        "Time for a client to send the body of an HTTP request; then the connection is closed.";
    TIMES message_timeout = limits.transport.message_timeout, DURATION,
        "Time for a client to complete a websocket message that it has begun; then the session ends.";
    TIMES stall_timeout = limits.sessions.stall_timeout, DURATION,
        "Time for which a client may take nothing of what waits for it, though it answers pings; then the session ends. ping_interval and ping_timeout together if not set.";
    TIMES attachments_timeout = limits.transport.attachments_timeout, DURATION,
        "Time for the attachments of a binary event to follow it; then the session ends.";
    TIMES close_linger = limits.transport.close_linger, DURATION,
        "Time for a closing connection to take its last bytes; then it is reset.";
    TIMES drain = drain, Form::Duration { least: Duration::ZERO },
        "Time over which all sessions are closed when the process is asked to end, in waves, so that clients do not all return in the same moment. A second signal ends the server immediately.";
    TIMES stop_timeout = limits.journal.stop_timeout, DURATION,
        "Time for the journal to be written to the disk when the server stops. A supervisor must allow this and drain together.";
    TIMES backlog = limits.http.backlog, count("connections"),
        "Connections that may wait in the kernel to be accepted.";
    TIMES http_connections_max = limits.http.connections_max, count("connections"),
        "Connections that may speak HTTP at a time, websockets not counted; further ones get 503. Lowered at start to a quarter of what the open file limit allows.";
    TIMES http_reserve = limits.http.reserve, number("connections", 0, 65_535),
        "Connections beyond http_connections_max that serve health, metrics, the HTTP API and new websockets.";

    SIZES max_payload = max_payload, Form::Bytes { or_zero: false, least: 1_000, most: 100_000_000 },
        "Largest message that a client may send, and largest answer to a poll.";
    SIZES packets_per_turn = limits.sessions.packets_per_turn, count("packets"),
        "Packets of one client that are taken in one turn, before others have theirs.";
    SIZES fragments_max = limits.transport.fragments_max, count("fragments"),
        "Fragments of one websocket message.";
    SIZES auth_bytes_max = limits.sockets.auth_bytes_max, bytes(256),
        "Largest credentials that a client may send when it joins a namespace.";
    SIZES handshake_bytes_max = limits.http.handshake_bytes_max, Form::Bytes { or_zero: false, least: 1 << 10, most: HEAD_BYTES_MAX },
        "Bytes of a handshake's request line and headers, which are kept for the application; a longer head is refused with 431.";

    PRESSURE memory_max = limits.memory.bytes_max, zero_or_bytes(16 * MIB, BYTES_MAX),
        "Memory that all clients together may take; the budgets follow from it. 0 is half of what this process may have: of the machine, of its cgroup or of its address space.";
    PRESSURE outboxes_bytes_max = limits.memory.outboxes_bytes_max, zero_or_bytes(MIB, BYTES_MAX),
        "Bytes that may wait for all clients together to be read; beyond it the clients with most are disconnected. 0 is a quarter of memory_max.";
    PRESSURE incoming_bytes_max = limits.memory.incoming_bytes_max, zero_or_bytes(MIB, BYTES_MAX),
        "Bytes that all clients together have sent and that are not handled yet: incomplete messages and requests, held events, credentials; beyond it more is refused. 0 is an eighth of memory_max.";
    PRESSURE rooms_bytes_max = limits.memory.rooms_bytes_max, zero_or_bytes(MIB, BYTES_MAX),
        "Size of all rooms and memberships; beyond it joins are refused as overloaded. 0 is an eighth of memory_max.";
    PRESSURE outbox_bytes_max = limits.sessions.outbox_bytes_max, bytes(1_000),
        "Size of what may wait for one client to read it; beyond it the client is disconnected.";
    PRESSURE send_buffer_bytes = limits.transport.send_buffer_bytes, Form::Bytes { or_zero: false, least: 4_096, most: 1 << 30 },
        "Size of a websocket's send buffer in the kernel.";
    PRESSURE handlers_pending_max = limits.handlers.pending_max, count("events"),
        "Events of one client that may be handled at a time.";
    PRESSURE held_events_max = limits.handlers.held_events_max, count("events"),
        "Events of one client that may wait for earlier ones to be handled; beyond it nothing more is read from the client.";
    PRESSURE held_bytes_max = limits.handlers.held_bytes_max, bytes(1_000),
        "Bytes of one client's events that may wait for earlier ones to be handled; beyond it nothing more is read from the client.";
    PRESSURE credit_commands = limits.hub.credit_commands, count("commands"),
        "Commands that one client may have unanswered at the hub.";
    PRESSURE credit_bytes = limits.hub.credit_bytes, bytes(1_000),
        "Bytes of the commands that one client may have unanswered at the hub.";
    PRESSURE credit_waiting_max = limits.hub.credit_waiting_max, count("commands"),
        "Commands of one client that may wait until it has fewer unanswered at the hub; further ones fail as overloaded.";
    PRESSURE credit_timeout = limits.hub.credit_timeout, DURATION,
        "Time for a command to wait until its client has fewer unanswered at the hub; then it fails as overloaded.";
    PRESSURE hub_answer_timeout = limits.hub.answer_timeout, DURATION,
        "Time for the hub to answer a command.";
    PRESSURE worker_bytes_max = limits.hub.worker_bytes_max, bytes(1_000),
        "Bytes that may wait to be written by one worker before publishers are slowed down.";
    PRESSURE mailbox_batches = limits.hub.mailbox_batches, count("batches"),
        "Batches of messages that may wait between two threads.";
    PRESSURE recovery_sessions_max = limits.recovery.sessions_max, count("sessions"),
        "Sessions that can be recovered, connected ones included.";
    PRESSURE recovery_bytes_max = limits.recovery.bytes_max, bytes(1_000),
        "Bytes of what is known of all clients for recovery: 128 bytes each, 64 for each room, names and data. On disk at most a quarter of journal_segments_max - 1 segments. Beyond, the largest clients are given up first.";
    PRESSURE recovery_session_bytes_max = limits.recovery.session_bytes_max, bytes(1_000),
        "Bytes of what is known of one client for recovery; a client with more cannot be recovered.";
    PRESSURE recovery_left_rooms_max = limits.recovery.left_rooms_max, count("rooms"),
        "Rooms that a client has left and that still count for what it missed.";
    PRESSURE replay_bytes = limits.recovery.replay_bytes, bytes(1_000),
        "Bytes that are read from the journal for one client at a time while it catches up.";
    PRESSURE replay_records_per_turn = limits.recovery.replay_records_per_turn, count("records"),
        "Records of the journal that are read for clients that catch up before live events get their turn.";
    PRESSURE journal_records_max = limits.journal.records_max, count("records"),
        "Records of the journal that are kept in memory: all of them with recovery = \"memory\", the newest ones with \"disk\".";
    PRESSURE journal_bytes_max = limits.journal.bytes_max, bytes(1_000),
        "Bytes of the journal's records that are kept in memory.";
    PRESSURE journal_segments_max = limits.journal.segments_max, number("files", 2, u32::MAX as u64),
        "Segment files of the journal on disk. The oldest is dropped when the newest is full.";
    PRESSURE journal_segment_bytes = limits.journal.segment_bytes, bytes(MIB),
        "Size of one segment file of the journal, and so the largest event.";
    PRESSURE journal_sender_bytes_max = limits.journal.sender_bytes_max, zero_or_bytes(MIB, BYTES_MAX),
        "Bytes that one connection may have journalled before it waits, and twice as much in each recovery_window. 0 is an eighth of the journal; at least 1 MiB and the largest event.";
};

fn is_path(text: &str) -> bool {
    let path = text.strip_suffix('/').unwrap_or(text);
    path.len() > 1 && path.starts_with('/') && !path.ends_with('/') && !path.contains(['?', '#', '{', '}', ' '])
}

fn is_namespace(text: &str) -> bool {
    NamespacePath::parse(text).is_ok()
}

fn is_api_key(text: &str) -> bool {
    text.len() >= 16 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_origin(text: &str) -> bool {
    text == "*" || Server::builder().cors(Cors::origins([text])).check().is_ok()
}

fn is_name_of<T: Named>(text: &str) -> bool {
    T::named(text).is_some()
}

/// `level` or `target=level`, joined by commas.
fn is_log_filter(text: &str) -> bool {
    !text.is_empty()
        && text.split(',').all(|part| {
            let level = part.split_once('=').map_or(part, |(_, level)| level);
            level.trim().parse::<log::LevelFilter>().is_ok()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_that_its_key_takes() {
        let defaults = Config::default();
        for key in KEYS {
            let value = key.show(&defaults);
            if value == Value::None {
                continue;
            }
            let mut config = Config::default();
            let read = match &value {
                Value::List(items) => key.form.read_list(items.iter().map(String::as_str)),
                other => key.form.read(other.to_string().trim_matches('"')),
            };
            assert_eq!(read.as_ref(), Some(&value), "{}", key.name);
            assert!((key.put)(&mut config, value.clone()), "{}", key.name);
            assert_eq!(key.show(&config), value, "{}", key.name);
        }
    }

    /// Values around the bounds of a form: those taken, and those refused.
    fn around(form: Form) -> (Vec<String>, Vec<String>) {
        let below = |least: u64, or_zero: bool| {
            let refused = least.checked_sub(1).filter(|value| *value > 0 || !or_zero);
            refused.map(|value| value.to_string()).into_iter()
        };
        match form {
            Form::Duration { least } => {
                let shorter =
                    least.checked_sub(Duration::from_nanos(1)).into_iter().map(|time| format!("{}ns", time.as_nanos()));
                (vec![format!("{}ns", least.as_nanos()), "12days".into()], shorter.chain(["13days".into()]).collect())
            }
            Form::Number { least, most, .. } => {
                let above = [(most + 1).to_string(), u64::MAX.to_string()];
                (vec![least.to_string(), most.to_string()], below(least, false).chain(above).collect())
            }
            Form::Bytes { or_zero, least, most } => {
                let zero = or_zero.then(|| "0".to_owned());
                let above = [(most + 1).to_string(), "18446744073709551615".into()];
                let taken = [least.to_string(), most.to_string()].into_iter().chain(zero);
                (taken.collect(), below(least, or_zero).chain(above).collect())
            }
            Form::Switch | Form::Text { .. } | Form::List { .. } => (Vec::new(), Vec::new()),
        }
    }

    #[test]
    fn every_bound_is_taken_and_what_lies_beyond_is_refused_by_name() {
        for key in KEYS {
            let (taken, refused) = around(key.form);
            for text in taken {
                let value = key.form.read(&text).unwrap_or_else(|| panic!("{} = {text}", key.name));
                assert!((key.put)(&mut Config::default(), value), "{} = {text}", key.name);
            }
            for text in refused {
                assert_eq!(key.form.read(&text), None, "{} = {text}", key.name);
            }
            if let Form::Duration { least } = key.form {
                let least = Value::Duration(least).to_string();
                assert!(key.form.to_string().contains(&format!("from {least} to \"12days\"")), "{}", key.form);
            }
            if let Form::Bytes { least, .. } = key.form {
                assert!(least > 0, "{}: a size of nothing", key.name);
            }
        }
    }

    #[test]
    fn a_server_is_built_with_the_least_and_the_most_of_every_setting() {
        // A capacity that cannot be had, or a sum that overflows, would end the process at its start.
        actix::System::new().block_on(async {
            for key in KEYS {
                for text in around(key.form).0 {
                    let mut config = Config { recovery: RecoveryMode::Memory, ..Config::default() };
                    let value = key.form.read(&text).expect("a value that is taken");
                    assert!((key.put)(&mut config, value), "{} = {text}", key.name);
                    let built = config.builder().build();
                    let io = built.unwrap_or_else(|error| panic!("{} = {text}: {error}", key.name));
                    io.close().await;
                }
            }
        });
    }

    #[test]
    fn origins_are_taken_as_people_write_them_and_hosts_without_ports() {
        let reads = |name: &str, text: &str| find(name).and_then(|key| key.form.read(text)).is_some();
        for origin in ["https://a.example/", "https://A.example", "HTTPS://a.example:443", "http://a.example:80/", "*"]
        {
            assert!(reads("cors_origins", origin), "{origin}");
        }
        for origin in ["a.example", "https://a.example/app", "https://a.example:port", "https://*.a.example", "null"] {
            assert!(!reads("cors_origins", origin), "{origin}");
        }
        for host in ["a.example", "A.EXAMPLE.", "[::1]", "10.0.0.1"] {
            assert!(reads("allowed_hosts", host), "{host}");
        }
        for host in ["a.example:443", "https://a.example", "a.example/"] {
            assert!(!reads("allowed_hosts", host), "{host}");
        }
    }

    #[test]
    fn durations_are_bounded_and_only_drain_may_take_none() {
        for key in KEYS.iter().filter(|key| matches!(key.form, Form::Duration { .. })) {
            assert_eq!(key.form.read("0s").is_some(), key.name == "drain", "{}", key.name);
            assert!(key.form.read("12days").is_some(), "{}", key.name);
            for longer in ["12days 1ns", "1year", "500000000000years", "18446744073709551615s"] {
                assert_eq!(key.form.read(longer), None, "{} {longer}", key.name);
            }
        }
        let expected = "a duration such as \"25s\", from \"0s\" to \"12days\"";
        assert_eq!(find("drain").map(|key| key.form.to_string()).as_deref(), Some(expected));
    }

    #[test]
    fn names_are_unique_and_a_near_miss_finds_its_name() {
        for (at, key) in KEYS.iter().enumerate() {
            assert!(KEYS[..at].iter().all(|other| other.name != key.name), "{}", key.name);
        }
        assert_eq!(nearest("ping_intervall"), Some("ping_interval"));
        assert_eq!(nearest("pingInterval"), Some("ping_interval"));
        assert_eq!(nearest("zzz"), None);
    }
}
