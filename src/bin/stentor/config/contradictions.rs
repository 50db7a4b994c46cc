//! Checks for settings that are valid separately but contradict each other.

use stentor::SameSite;

use super::keys::find;
use super::value::Value;
use super::{Config, RecoveryMode};

/// Bytes reserved in a journal segment for the parts of a record other than the message: rooms,
/// namespace, headers. If these parts of the largest event need more, the event may be refused,
/// which happens only with very many rooms.
pub(super) const RECORD_BYTES: usize = 32 << 10;

/// Returns an error text for each contradiction that is found.
pub(super) fn contradictions(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |is_wrong: bool, name: &str, expected: String| {
        if is_wrong {
            let value = find(name).map_or(Value::None, |key| key.show(config));
            found.push(format!("{name} = {value}: expected {expected}"));
        }
    };
    let limits = &config.limits;
    check(
        config.cookie.is_some() && config.cookie_same_site == SameSite::None && !config.cookie_secure,
        "cookie_same_site",
        "cookie_secure = true as well, which browsers require".into(),
    );
    check(
        config.cors_credentials && config.cors_origins.iter().any(|origin| origin == "*"),
        "cors_credentials",
        "cors_origins without \"*\", which browsers refuse".into(),
    );
    check(config.cors_credentials && config.cors_origins.is_empty(), "cors_credentials", "cors_origins as well".into());
    // Beyond three quarters of its limit, a memory budget refuses large charges. A message of any
    // permitted size must fit into these three quarters.
    let incoming = limits
        .memory
        .incoming_bytes_max
        .or_else(|| limits.memory.bytes_max.map(|bytes| bytes / 8))
        .unwrap_or(usize::MAX);
    let largest = config.max_payload.max(config.api.body_bytes_max);
    let name = if limits.memory.incoming_bytes_max.is_some() { "incoming_bytes_max" } else { "memory_max" };
    let factor = if limits.memory.incoming_bytes_max.is_some() { "twice" } else { "16 times" };
    check(
        incoming < largest.saturating_mul(2),
        name,
        format!(
            "at least {factor} the larger of max_payload and api_body_bytes_max ({})",
            Value::Bytes(largest as u64)
        ),
    );
    let rates = [
        (
            "address_events_per_second",
            limits.rates.address_events_per_second,
            "events_per_second",
            limits.rates.events_per_second,
        ),
        (
            "address_bytes_per_second",
            limits.rates.address_bytes_per_second,
            "bytes_per_second",
            limits.rates.bytes_per_second,
        ),
    ];
    for (name, of_address, session, of_session) in rates {
        let is_less = of_address.zip(of_session).is_some_and(|(of_address, of_session)| of_address < of_session);
        check(is_less, name, format!("0, or at least {session} ({})", of_session.map_or(0, u32::from)));
    }
    check(
        config.recovery == RecoveryMode::Disk && limits.journal.segment_bytes < largest + RECORD_BYTES,
        "journal_segment_bytes",
        format!(
            "at least {RECORD_BYTES} bytes more than the larger of max_payload and api_body_bytes_max, or such events are never recovered"
        ),
    );
    check(
        limits.recovery.session_bytes_max > limits.recovery.bytes_max,
        "recovery_session_bytes_max",
        format!("at most recovery_bytes_max ({})", Value::Bytes(limits.recovery.bytes_max as u64)),
    );
    found
}
