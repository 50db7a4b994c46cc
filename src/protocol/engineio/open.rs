//! The response to a handshake: the `open` packet with the session id and the server's parameters.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// The first packet of a session. Clients rely on exactly these keys in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Open<'a> {
    /// Session id. It is a secret: anyone who knows it can send and receive as this client.
    pub sid: &'a str,
    /// Transports to which the client may upgrade: `["websocket"]` over polling, empty over
    /// websocket.
    pub upgrades: &'a [&'a str],
    /// Time from the handshake, and from each pong, to the next ping. Sent in milliseconds.
    #[serde(serialize_with = "milliseconds")]
    pub ping_interval: Duration,
    /// Time limit for a pong. If a client receives no ping for the sum of ping interval and ping
    /// timeout, it closes the connection. Sent in milliseconds.
    #[serde(serialize_with = "milliseconds")]
    pub ping_timeout: Duration,
    /// Maximum size of a POST body in bytes. Clients split their polling payloads accordingly, and
    /// ignore the value on a websocket.
    pub max_payload: usize,
}

impl Open<'_> {
    /// The packet as text: `0` and the JSON.
    pub(crate) fn to_packet(self) -> String {
        // Serializing strings and integers to memory cannot fail.
        let json = serde_json::to_string(&self).unwrap_or_default();
        format!("0{json}")
    }
}

fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    // A u64 is large enough for every timer, and every JSON parser accepts it.
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
    fn keys_have_the_order_of_the_protocol() {
        assert_eq!(
            OPEN.to_packet(),
            r#"0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#
        );
    }

    #[test]
    fn a_websocket_session_has_no_upgrades() {
        let open = Open { upgrades: &[], ping_interval: Duration::from_micros(1_999), ..OPEN };
        assert_eq!(
            open.to_packet(),
            r#"0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":[],"pingInterval":1,"pingTimeout":20000,"maxPayload":1000000}"#
        );
    }

    #[test]
    fn the_longest_duration_is_still_a_number() {
        let open = Open { ping_timeout: Duration::MAX, ..OPEN };
        let packet = open.to_packet();
        assert!(packet.contains("\"pingTimeout\":18446744073709551615,"), "{packet}");
    }
}
