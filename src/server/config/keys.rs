//! The table of settings. Flags, environment, file, `explain` and `default` are all read off it, so they cannot drift apart.

use std::net::IpAddr;

use super::value::{Field, Form, Value};
use super::{Config, RecoveryMode};
use crate::api::recovery_clients::RecoveryClients;
use crate::ids::NamespacePath;
use crate::protocol::socketio::Parser;
use crate::transport::cookie::{Cookie, SameSite};
use crate::transport::cors::Cors;
use crate::transport::proxies::Proxies;

/// One setting.
pub(super) struct Key {
    /// As the file spells it.
    pub(super) name: &'static str,
    /// Under which heading it is listed; the first is what most people want to know.
    pub(super) group: &'static str,
    /// What it means, in whole sentences.
    pub(super) meaning: &'static str,
    pub(super) form: Form,
    /// Never printed.
    pub(super) is_secret: bool,
    pub(super) put: fn(&mut Config, Value) -> bool,
    pub(super) show: fn(&Config) -> Value,
}

impl Key {
    /// `--ping-interval`, without the dashes before it.
    pub(super) fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// `STENTOR_PING_INTERVAL`.
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
    number("bytes", least, BYTES_MAX)
}

const DURATION: Form = Form::Duration { may_be_zero: false };

macro_rules! keys {
    ($($group:ident $name:ident $($secret:ident)? = $($field:ident).+, $form:expr, $meaning:expr;)*) => {
        &[$(Key {
            name: stringify!($name),
            group: $group,
            meaning: $meaning,
            form: $form,
            is_secret: keys!(@secret $($secret)?),
            put: |config, value| config.$($field).+.put(value),
            show: |config| config.$($field).+.show(),
        },)*]
    };
    (@secret secret) => { true };
    (@secret) => { false };
}

/// All settings.
#[rustfmt::skip]
pub(super) const KEYS: &[Key] = keys! {
    BASICS host = host, Form::Text { expected: "an address such as \"127.0.0.1\" or \"::\"", check: |text| text.parse::<IpAddr>().is_ok() },
        "Address to listen on. \"0.0.0.0\" or \"::\" are all of this machine's.";
    BASICS port = port, number("", 0, 65_535),
        "Port to listen on; 0 takes a free one and tells which.";
    BASICS workers = workers, number("threads", 1, 1_024),
        "Worker threads; one per core if not set.";
    BASICS path = path, Form::Text { expected: "a path such as \"/socket.io\"", check: is_path },
        "Path that clients connect to.";
    BASICS namespaces = namespaces, Form::List { expected: "a list of namespaces such as \"/chat\"", check: is_namespace },
        "Namespaces served beside \"/\", with the same events.";
    BASICS recovery = recovery, Form::Text { expected: "\"off\", \"memory\" or \"disk\"", check: |text| RecoveryMode::parse(text).is_some() },
        "Where events are kept for clients whose connection breaks: on \"disk\", also for when this process is killed; in \"memory\", gone with the process; \"off\", nowhere.";
    BASICS data_dir = data_dir, Form::Text { expected: "a folder", check: |text| !text.is_empty() },
        "Folder of what is kept with recovery = \"disk\"; made if it is not there. One hub at a time may use it.";
    BASICS recovery_window = limits.recovery_window, DURATION,
        "For a client whose connection broke to come back and get what it missed.";
    BASICS recovery_clients = recovery_clients, Form::Text { expected: "\"auto\", \"all\" or \"ask\"", check: |text| RecoveryClients::named(text).is_some() },
        "Which clients are recoverable, and get an offset token as the last argument of events: \"auto\", those recognised as JavaScript's (browsers, Node), and those that ask with auth: {recovery: true} or ?recovery=1; \"all\" that do not decline with false or 0; \"ask\", only those that ask.";
    BASICS parser = parser, Form::Text { expected: "\"json\" or \"msgpack\"", check: |text| Parser::named(text).is_some() },
        "How packets travel, for all clients: as \"json\", or as \"msgpack\", for clients with socket.io-msgpack-parser, which the demo page is not.";
    BASICS log_level = log_level, Form::Text { expected: "error, warn, info, debug, trace, off, or a filter such as \"stentor=debug\"", check: is_log_filter },
        "What is logged, to stderr.";

    HTTP api_key secret = api_key, Form::Text { expected: "16 characters or more, without spaces", check: is_api_key },
        "Key for /api/v1/, as \"Authorization: Bearer …\". Without one nobody may use it. On the command line others of this machine can read it: better in the environment or in the file.";
    HTTP api_body_bytes_max = limits.api_body_bytes_max, bytes(1_000),
        "Largest request.";
    HTTP publish_batch_max = limits.publish_batch_max, count("events"),
        "Events in one request.";
    HTTP publish_rooms_max = limits.publish_rooms_max, count("rooms"),
        "Rooms that one event names, excepted ones included.";
    HTTP page_entries_max = limits.page_entries_max, count("entries"),
        "Rooms or sockets in one answer.";

    ACCESS cors_origins = cors_origins, Form::List { expected: "a list of origins such as \"https://example.org\", or \"*\"", check: is_origin },
        "Web pages of other origins that may connect, as browsers write origins; \"*\" are all.";
    ACCESS cors_credentials = cors_credentials, Form::Switch,
        "Whether pages of those origins may send cookies; not with \"*\".";
    ACCESS trusted_proxies = trusted_proxies, Form::List { expected: "a list of addresses or networks such as \"127.0.0.1\" or \"10.0.0.0/8\"", check: |text| Proxies::parse([text]).is_ok() },
        "Proxies in front of the server. What they say of clients' addresses, in X-Forwarded-For or Forwarded, is believed.";
    ACCESS cookie = cookie, Form::Text { expected: "the name of a cookie, such as \"io\"", check: |text| Cookie::default().name(text).check().is_ok() },
        "Name of a cookie with the session's id, for load balancers that learn it. None if not set.";
    ACCESS cookie_secure = cookie_secure, Form::Switch,
        "Whether browsers send the cookie over encrypted connections alone.";
    ACCESS cookie_same_site = cookie_same_site, Form::Text { expected: "\"strict\", \"lax\" or \"none\"", check: |text| same_site(text).is_some() },
        "With which requests of other sites' pages browsers send the cookie; \"none\" wants cookie_secure.";
    ACCESS sessions_per_address_max = limits.sessions_per_address_max, number("connections", 0, u32::MAX as u64),
        "Connections of one client address (of IPv6, of one /64) at a time; further ones get 429. 0 is no limit.";
    ACCESS sessions_max = limits.sessions_max, count("connections"),
        "Connections at a time; further ones get 503. About 5 KiB of memory each.";
    ACCESS events_per_second = limits.events_per_second, number("events", 0, u32::MAX as u64),
        "Events (publish, join, …) and CONNECTs that one connection may send per second, over all its namespaces, in bursts of twice that; more are answered rate_limited, and a client that goes on is read more slowly. 0 is no limit.";
    ACCESS bytes_per_second = limits.bytes_per_second, number("bytes", 0, u32::MAX as u64),
        "Bytes that one connection may send per second, in bursts of twice that; more is treated as with events_per_second. 0 is no limit.";
    ACCESS address_events_per_second = limits.address_events_per_second, number("events", 0, u32::MAX as u64),
        "The same as events_per_second for all connections of one client address together (of IPv6, of one /64), also one after another. 0 is ten times events_per_second.";
    ACCESS address_bytes_per_second = limits.address_bytes_per_second, number("bytes", 0, u32::MAX as u64),
        "The same as bytes_per_second for all connections of one client address together. 0 is ten times bytes_per_second.";
    ACCESS rate_addresses_max = limits.rate_addresses_max, count("addresses"),
        "Client addresses whose rates are known at a time; further ones are limited by connection only.";
    ACCESS namespaces_per_session_max = limits.namespaces_per_session_max, count("namespaces"),
        "Namespaces one connection may join.";
    ACCESS rooms_per_socket_max = limits.rooms_per_socket_max, count("rooms"),
        "Rooms a client may be in, in each namespace.";
    ACCESS room_bytes_per_socket_max = limits.room_bytes_per_socket_max, bytes(256),
        "Size of the names of those rooms.";

    TIMES ping_interval = limits.ping_interval, DURATION,
        "Between the server's pings.";
    TIMES ping_timeout = limits.ping_timeout, DURATION,
        "From a ping to its pong, before the connection counts as dead.";
    TIMES connect_timeout = limits.connect_timeout, DURATION,
        "From the handshake to the first namespace joined.";
    TIMES upgrade_timeout = limits.upgrade_timeout, DURATION,
        "For the change from polling to websocket.";
    TIMES request_head_timeout = limits.request_head_timeout, DURATION,
        "For a client to send a request's head.";
    TIMES body_timeout = limits.body_timeout, DURATION,
        "For a client to send a request's body.";
    TIMES message_timeout = limits.message_timeout, DURATION,
        "For a client to send a websocket message that it has begun.";
    TIMES stall_timeout = limits.stall_timeout, DURATION,
        "For a client to take anything of what waits for it, though it may answer pings; then it is disconnected. Ping interval and timeout together if not set.";
    TIMES attachments_timeout = limits.attachments_timeout, DURATION,
        "For the attachments of a binary event to follow it.";
    TIMES close_linger = limits.close_linger, DURATION,
        "For a closing connection to take its last bytes; then it is reset.";
    TIMES drain = drain, Form::Duration { may_be_zero: true },
        "For closing all connections when asked to end, in waves, so that the clients do not come back all at once. Asked a second time, the hub ends at once.";
    TIMES stop_timeout = limits.stop_timeout, DURATION,
        "For the journal to be written to the disk when the hub ends. A supervisor must allow this and drain together.";
    TIMES backlog = limits.backlog, count("connections"),
        "Connections that may wait to be accepted.";
    TIMES http_connections_max = limits.http_connections_max, count("connections"),
        "Connections that may speak HTTP at a time; further ones wait to be accepted. Websockets do not count.";

    SIZES max_payload = max_payload, number("bytes", 1_000, 100_000_000),
        "Largest message a client may send, and largest answer to a poll.";
    SIZES payload_packets_max = limits.payload_packets_max, count("packets"),
        "Packets in one request of a polling client.";
    SIZES fragments_max = limits.fragments_max, count("fragments"),
        "Fragments of one websocket message.";
    SIZES auth_bytes_max = limits.auth_bytes_max, bytes(0),
        "Largest credentials a client may send when it joins a namespace.";
    SIZES handshake_bytes_max = limits.handshake_bytes_max, bytes(0),
        "How much of a connection's query and headers is kept.";

    PRESSURE memory_max = limits.memory_bytes_max, bytes(0),
        "Memory that all clients together may take; the budgets follow from it. 0 is half of what this process may have: of the machine, of its cgroup or of its address space.";
    PRESSURE outboxes_bytes_max = limits.outboxes_bytes_max, bytes(0),
        "What may wait for all clients that do not read; past it those with most are disconnected. 0 is a quarter of memory_max.";
    PRESSURE incoming_bytes_max = limits.incoming_bytes_max, bytes(0),
        "What all clients have sent and nobody has taken: incomplete messages and requests, events held, credentials; past it more is refused. 0 is an eighth of memory_max.";
    PRESSURE rooms_bytes_max = limits.rooms_bytes_max, bytes(0),
        "Size of all rooms and memberships; past it joins are refused as overloaded. 0 is an eighth of memory_max.";
    PRESSURE outbox_bytes_max = limits.outbox_bytes_max, bytes(1_000),
        "What may wait for one client to read it; past it the client is disconnected.";
    PRESSURE send_buffer_bytes = limits.send_buffer_bytes, number("bytes", 4_096, 1 << 30),
        "Size of a websocket's send buffer in the kernel.";
    PRESSURE handlers_pending_max = limits.handlers_pending_max, count("events"),
        "Events of one client that may be under way.";
    PRESSURE held_events_max = limits.held_events_max, count("events"),
        "Events of one client that wait for those; past it nothing more is read from it.";
    PRESSURE held_bytes_max = limits.held_bytes_max, bytes(1_000),
        "Size of those events.";
    PRESSURE credit_commands = limits.credit_commands, count("commands"),
        "Commands one client may have at the hub unanswered.";
    PRESSURE credit_bytes = limits.credit_bytes, bytes(1_000),
        "Size of those commands.";
    PRESSURE credit_waiting_max = limits.credit_waiting_max, count("commands"),
        "Commands of one client that may wait for that.";
    PRESSURE credit_timeout = limits.credit_timeout, DURATION,
        "For a command to wait; then it fails as overloaded.";
    PRESSURE hub_answer_timeout = limits.hub_answer_timeout, DURATION,
        "For the hub to answer.";
    PRESSURE worker_bytes_max = limits.worker_bytes_max, bytes(1_000),
        "What may wait to be written by one worker before publishers are slowed down.";
    PRESSURE mailbox_batches = limits.mailbox_batches, count("batches"),
        "Batches that may wait between two threads.";
    PRESSURE recovery_sessions_max = limits.recovery_sessions_max, count("sessions"),
        "Clients that can be recovered, connected ones included.";
    PRESSURE recovery_bytes_max = limits.recovery_bytes_max, bytes(1_000),
        "Size of what is known of all clients for recovery: 128 bytes each, 64 for each room, names and data. On disk at most a quarter of journal_segments_max - 1 segments. Beyond, the largest clients are given up first.";
    PRESSURE recovery_session_bytes_max = limits.recovery_session_bytes_max, bytes(1_000),
        "The same of one client; a larger one cannot be recovered.";
    PRESSURE recovery_left_rooms_max = limits.recovery_left_rooms_max, count("rooms"),
        "Rooms that a client has left and that still count for what it missed.";
    PRESSURE replay_bytes = limits.replay_bytes, bytes(1_000),
        "What is read for one client at a time that catches up.";
    PRESSURE replay_records_per_turn = limits.replay_records_per_turn, count("records"),
        "Records looked at for clients that catch up, before live events have their turn.";
    PRESSURE journal_records_max = limits.journal_records_max, count("records"),
        "Records of the journal kept in memory: all of them with recovery = \"memory\", else the newest.";
    PRESSURE journal_bytes_max = limits.journal_bytes_max, bytes(1_000),
        "Size of those records.";
    PRESSURE journal_segments_max = limits.journal_segments_max, count("files"),
        "Files of the journal on disk; at least 2. The oldest is dropped when the newest is full.";
    PRESSURE journal_segment_bytes = limits.journal_segment_bytes, bytes(1 << 20),
        "Size of each.";
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
    text == "*" || Cors::origins([text]).check().is_ok()
}

/// `strict`, `lax` or `none`.
pub(super) fn same_site(text: &str) -> Option<SameSite> {
    match text {
        "strict" => Some(SameSite::Strict),
        "lax" => Some(SameSite::Lax),
        "none" => Some(SameSite::None),
        _ => None,
    }
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
            let value = (key.show)(&defaults);
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
            assert_eq!((key.show)(&config), value, "{}", key.name);
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
        let expected = "\"0s\" or a duration such as \"25s\", at most \"12days\"";
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
