//! Checks for settings that are valid separately but contradict each other.

use stentor::{Limits, SameSite};

use super::keys::find;
use super::value::Value;
use super::{Config, Storage, SubscriberAccess, listen};

/// Bytes reserved in a journal segment for the parts of a record other than the message: rooms,
/// namespace, headers. If these parts of the largest event need more, the event may be refused,
/// which happens only with very many rooms.
pub(super) const RECORD_BYTES: usize = 32 << 10;

/// Bytes reserved in the input of the queue's committer for the parts of a change other than the
/// message: origin and rooms.
const CHANGE_BYTES: usize = 1 << 20;

/// Maximum number of items in a list of keys, or of the queue's settings.
const ITEMS_MAX: usize = 256;

/// Returns an error text for each contradiction that is found.
pub(super) fn contradictions(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |is_wrong: bool, name: &str, expected: String| {
        if is_wrong {
            let value = find(name).map_or(Value::None, |key| key.show(config));
            found.push(format!("{name} = {value}: expected {expected}"));
        }
    };
    for (name, expected) in listen::contradictions(config).into_iter().chain(config.tokens.contradictions()) {
        check(true, name, expected);
    }
    let limits = &config.limits;
    check(
        config.cookie.is_some() && config.cookie_same_site == SameSite::None && !config.cookie_secure,
        "cookie_same_site",
        "cookie_secure = true as well, which browsers require".into(),
    );
    check(
        config.cors_credentials && config.cors_origins.iter().any(|origin| origin == "*" || origin == "null"),
        "cors_credentials",
        "cors_origins without \"*\", which browsers refuse, and \"null\", which any site can send".into(),
    );
    check(config.cors_credentials && config.cors_origins.is_empty(), "cors_credentials", "cors_origins as well".into());
    // Beyond three quarters of its limit, a memory budget refuses large charges. A message of any
    // permitted size must fit into these three quarters.
    let incoming = limits
        .memory
        .incoming_bytes_max
        .or_else(|| limits.memory.bytes_max.map(|bytes| bytes / 8))
        .unwrap_or(usize::MAX);
    let largest = config.largest_event();
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
        config.recovery == Storage::Disk && limits.journal.segment_bytes < largest + RECORD_BYTES,
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
    let hooks = &config.hooks;
    check(
        hooks.url.is_some() && hooks.key.is_none(),
        "hooks_url",
        "hooks_key as well, which signs the requests".into(),
    );
    check(hooks.url.is_some() && hooks.names.is_empty(), "hooks", "one hook at least, or no hooks_url".into());
    if let Some(reason) = config.nobody_may_connect() {
        let expected = format!(
            "true if every client may connect, or a key of tokens (token_hmac_key, token_public_key_file or \
             token_jwks_url) or hooks_url to admit clients, since {reason}"
        );
        check(true, "anonymous", expected);
    }
    check(
        config.subscribers == Some(SubscriberAccess::Token) && !config.identifies_clients(),
        "subscribers",
        "a key of tokens as well, such as token_hmac_key".into(),
    );
    let queue = &limits.queue;
    check(
        config.queue_storage() == Storage::Off
            && config.subscribers.is_some_and(|access| access != SubscriberAccess::Off),
        "subscribers",
        "queue = \"memory\" or \"disk\" as well".into(),
    );
    check(
        config.subscribers == Some(SubscriberAccess::Signed) && config.subscriber_key.is_none(),
        "subscribers",
        "subscriber_key as well".into(),
    );
    check(
        config.subscribers == Some(SubscriberAccess::Open) && config.subscriber_key.is_some(),
        "subscribers",
        "\"signed\" with subscriber_key, or no subscriber_key".into(),
    );
    // The default is lowered instead.
    check(
        queue.event_bytes_max > largest && queue.event_bytes_max != Limits::default().queue.event_bytes_max,
        "queue_event_bytes_max",
        format!("at most the larger of max_payload and api_body_bytes_max ({})", Value::Bytes(largest as u64)),
    );
    let event = queue.event_bytes_max.min(largest);
    check(
        queue.bytes_max / 100 * usize::from(queue.high_water_percent) < event,
        "queue_bytes_max",
        format!(
            "a size of which queue_high_water_percent ({}) holds an event of queue_event_bytes_max ({})",
            queue.high_water_percent,
            Value::Bytes(event as u64)
        ),
    );
    check(
        queue.waiting_bytes_max < event + CHANGE_BYTES,
        "queue_waiting_bytes_max",
        format!("at least {CHANGE_BYTES} bytes more than queue_event_bytes_max ({})", Value::Bytes(event as u64)),
    );
    check(
        queue.back_off.is_empty() || queue.back_off.len() > ITEMS_MAX,
        "back_off",
        format!("1 to {ITEMS_MAX} durations"),
    );
    check(config.api_keys.len() > ITEMS_MAX, "api_keys", format!("at most {ITEMS_MAX} keys"));
    check(queue.retention.len() > ITEMS_MAX, "retention", format!("at most {ITEMS_MAX} rules"));
    found
}
