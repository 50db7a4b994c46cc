//! Counters and rationed warnings of admission: who was refused, and why.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use stentor::{Identity, Socket, TokenError};

use super::super::throttle::Throttle;
use super::access::Operation;

/// Outcomes of the identification of a client: accepted with a user or without one, and the codes
/// of refused tokens.
const RESULTS: [&str; 8] = [
    "token",
    "anonymous",
    "token_missing",
    "token_invalid",
    "token_expired",
    "token_not_yet_valid",
    "forbidden",
    "unavailable",
];

/// One counter for each of [`RESULTS`].
type ByResult = [AtomicU64; RESULTS.len()];

/// The counters of this process.
struct Counters {
    connects: ByResult,
    renewals: ByResult,
    forbidden: [AtomicU64; Operation::ALL.len()],
    expired: AtomicU64,
    other_user: AtomicU64,
    refused_line: Throttle,
    forbidden_line: Throttle,
    expired_line: Throttle,
}

static COUNTERS: Counters = Counters {
    connects: [const { AtomicU64::new(0) }; RESULTS.len()],
    renewals: [const { AtomicU64::new(0) }; RESULTS.len()],
    forbidden: [const { AtomicU64::new(0) }; Operation::ALL.len()],
    expired: AtomicU64::new(0),
    other_user: AtomicU64::new(0),
    refused_line: Throttle::new(),
    forbidden_line: Throttle::new(),
    expired_line: Throttle::new(),
};

fn count(counters: &ByResult, result: &str) {
    if let Some(at) = RESULTS.iter().position(|known| *known == result) {
        counters[at].fetch_add(1, Relaxed);
    }
}

/// Counts a client that was admitted, with its user, or refused.
pub(super) fn connected(result: Result<Option<&str>, &TokenError>) {
    count(
        &COUNTERS.connects,
        match result {
            Ok(Some(_)) => "token",
            Ok(None) => "anonymous",
            Err(error) => error.code(),
        },
    );
}

/// Counts a new token of a connected client.
pub(super) fn renewed(result: Result<(), &TokenError>) {
    count(&COUNTERS.renewals, result.map_or_else(TokenError::code, |()| "token"));
}

/// Logs a token that was refused.
pub(super) fn log_refused(socket: &Socket, error: &TokenError) {
    if let Some(skipped) = COUNTERS.refused_line.is_due() {
        log::warn!(
            "client refused code={} reason=\"{error}\" namespace={} address={} skipped={skipped}",
            error.code(),
            socket.namespace().path(),
            address(socket)
        );
    }
}

/// Counts and logs an operation that a client may not do.
pub(super) fn forbidden(socket: &Socket, operation: Operation, room: &str) {
    COUNTERS.forbidden[operation as usize].fetch_add(1, Relaxed);
    if let Some(skipped) = COUNTERS.forbidden_line.is_due() {
        let room: String = room.chars().take(100).collect();
        log::warn!(
            "client has no permission operation={} room={room:?} user={:?} socket={} address={} skipped={skipped}",
            operation.name(),
            Identity::of(socket).user().unwrap_or_default(),
            socket.id(),
            address(socket)
        );
    }
}

/// Counts and logs a client that wanted to resume the session of another user.
pub(super) fn other_user(socket: &Socket) {
    COUNTERS.other_user.fetch_add(1, Relaxed);
    if let Some(skipped) = COUNTERS.refused_line.is_due() {
        log::warn!(
            "session not resumed, it belongs to another user user={:?} address={} skipped={skipped}",
            Identity::of(socket).user().unwrap_or_default(),
            address(socket)
        );
    }
}

/// Counts and logs a client whose connection is closed because its identity has expired.
pub(super) fn expired(socket: &Socket) {
    COUNTERS.expired.fetch_add(1, Relaxed);
    if let Some(skipped) = COUNTERS.expired_line.is_due() {
        log::info!(
            "connection closed, its token has expired user={:?} socket={} skipped={skipped}",
            Identity::of(socket).user().unwrap_or_default(),
            socket.id()
        );
    }
}

fn address(socket: &Socket) -> String {
    socket.handshake().address().map_or_else(|| "unknown".to_owned(), |address| address.to_string())
}

/// Text of the metrics in the Prometheus format.
pub(crate) fn metrics() -> String {
    let mut text = String::new();
    family(&mut text, "stentor_auth", "Clients that connected, by how they were identified or refused.");
    by_result(&mut text, "stentor_auth_total", &COUNTERS.connects);
    family(&mut text, "stentor_token_renewals", "New tokens of connected clients, accepted (token) or refused.");
    by_result(&mut text, "stentor_token_renewals_total", &COUNTERS.renewals);
    family(&mut text, "stentor_forbidden", "Operations in rooms for which clients had no permission.");
    for (operation, count) in Operation::ALL.iter().zip(&COUNTERS.forbidden) {
        text += &format!("stentor_forbidden_total{{operation=\"{}\"}} {}\n", operation.name(), count.load(Relaxed));
    }
    family(&mut text, "stentor_tokens_expired", "Connections that were closed because their token expired.");
    text += &format!("stentor_tokens_expired_total {}\n", COUNTERS.expired.load(Relaxed));
    family(&mut text, "stentor_resumes_of_another_user", "Sessions not resumed, since they belong to another user.");
    text += &format!("stentor_resumes_of_another_user_total {}\n", COUNTERS.other_user.load(Relaxed));
    text
}

fn family(text: &mut String, name: &str, help: &str) {
    *text += &format!("# HELP {name} {help}\n# TYPE {name} counter\n");
}

fn by_result(text: &mut String, name: &str, counters: &ByResult) {
    for (result, count) in RESULTS.iter().zip(counters) {
        *text += &format!("{name}{{result=\"{result}\"}} {}\n", count.load(Relaxed));
    }
}
