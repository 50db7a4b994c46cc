//! The answer to a handshake: the `open` packet that tells a client its session and the server's terms.
//!
//! Refuses to choose any of the values; anyone who opens the session does.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// The first packet of a session.
///
/// Exactly these keys in this order: clients of other languages were written against them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Open<'a> {
    /// The session's id. A bearer secret: anyone who knows it can speak as this client.
    pub sid: &'a str,
    /// Transports the client may upgrade to: `["websocket"]` when it polls, none when it is on a websocket already.
    pub upgrades: &'a [&'a str],
    /// How long after the handshake, and after each pong, the server sends a ping. Travels in milliseconds.
    #[serde(serialize_with = "milliseconds")]
    pub ping_interval: Duration,
    /// How long the server waits for the pong; a client adds both and gives up after that. Travels in milliseconds.
    #[serde(serialize_with = "milliseconds")]
    pub ping_timeout: Duration,
    /// Largest body of a POST, in bytes. Clients split their polls by it and ignore it on a websocket.
    pub max_payload: usize,
}

impl Open<'_> {
    /// The packet as text: `0` and the JSON.
    pub(crate) fn to_packet(self) -> String {
        // Strings and integers written to memory: there is nothing here that serialisation could refuse.
        let json = serde_json::to_string(&self).unwrap_or_default();
        format!("0{json}")
    }
}

fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    // serde_json would write a u128 as well; a u64 is what a reader expects, and no timer needs more.
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Open<'static> = Open {
        sid: "lv_VI97HAXpY6yYWAAAC",
        upgrades: &["websocket"],
        ping_interval: Duration::from_millis(25_000),
        ping_timeout: Duration::from_millis(20_000),
        max_payload: 1_000_000,
    };

    #[test]
    fn keys_stand_in_the_order_of_the_protocol() {
        assert_eq!(
            OPEN.to_packet(),
            r#"0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#
        );
    }

    #[test]
    fn on_a_websocket_there_is_nothing_to_upgrade_to() {
        let open = Open { upgrades: &[], ping_interval: Duration::from_micros(1_999), ..OPEN };
        assert_eq!(
            open.to_packet(),
            r#"0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":[],"pingInterval":1,"pingTimeout":20000,"maxPayload":1000000}"#
        );
    }

    #[test]
    fn a_duration_without_end_is_still_a_number() {
        let open = Open { ping_timeout: Duration::MAX, ..OPEN };
        let packet = open.to_packet();
        assert!(packet.contains("\"pingTimeout\":18446744073709551615,"), "{packet}");
    }
}
