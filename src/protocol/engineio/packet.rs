//! Engine.IO packets: a type digit with data, or binary data.

use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use bytestring::ByteString;

use super::EngineDecodeError;

/// A packet that a client or the server sends.
///
/// Data that was decoded from text shares the buffer of the whole payload, and thus keeps the
/// payload in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EnginePacket {
    /// `0`: the handshake response of the server. The data is JSON, see
    /// [`Open`](super::open::Open).
    Open(ByteString),
    /// `1`: closes the transport.
    Close,
    /// `2`: the server's heartbeat, or `2probe` of a client that upgrades.
    Ping(ByteString),
    /// `3`: the answer to a ping, with the same data.
    Pong(ByteString),
    /// `4`: a text message of the layer above.
    Message(ByteString),
    /// `5`: the client has received `3probe` and switches to the websocket.
    Upgrade,
    /// `6`: no operation. Ends a pending poll during an upgrade.
    Noop,
    /// A binary message of the layer above: a binary frame on a websocket, or `b` and base64 in
    /// text.
    Binary(Bytes),
}

impl EnginePacket {
    /// Decodes a text frame of a websocket, or one element of a polling payload: a type digit and
    /// data, or `b` and base64. Websocket clients with the option `forceBase64` send `b` and
    /// base64, too. Text data is not copied.
    ///
    /// As in Node, base64 may be without padding, may use the URL-safe alphabet, and may contain
    /// line breaks. Other invalid characters are an error, although Node skips them.
    ///
    /// # Errors
    /// [`EngineDecodeError::Empty`], [`EngineDecodeError::UnknownType`] and
    /// [`EngineDecodeError::Base64`].
    pub(crate) fn decode(text: ByteString) -> Result<Self, EngineDecodeError> {
        let mut rest = text.chars();
        let kind = rest.next().ok_or(EngineDecodeError::Empty)?;
        let data = || text.slice_ref(rest.as_str());
        match kind {
            '0' => Ok(Self::Open(data())),
            // engine.io-parser 5.2 accepts data after any type, and engine.io ignores the data of
            // the types 1, 5 and 6: `1x` closes like `1`.
            '1' => Ok(Self::Close),
            '2' => Ok(Self::Ping(data())),
            '3' => Ok(Self::Pong(data())),
            '4' => Ok(Self::Message(data())),
            '5' => Ok(Self::Upgrade),
            '6' => Ok(Self::Noop),
            'b' => {
                decode_base64(rest.as_str()).map(|data| Self::Binary(data.into())).map_err(EngineDecodeError::Base64)
            }
            found => Err(EngineDecodeError::UnknownType { found }),
        }
    }

    pub(crate) fn data_len(&self) -> usize {
        match self {
            Self::Open(data) | Self::Ping(data) | Self::Pong(data) | Self::Message(data) => data.len(),
            Self::Binary(data) => data.len(),
            Self::Close | Self::Upgrade | Self::Noop => 0,
        }
    }

    /// Appends the packet as one element of a polling payload: the inverse of
    /// [`EnginePacket::decode`].
    #[cfg(any(test, fuzzing))]
    pub(crate) fn encode_polled(&self, out: &mut Vec<u8>) {
        let (kind, data): (u8, &[u8]) = match self {
            Self::Open(data) => (b'0', data.as_bytes()),
            Self::Close => (b'1', b""),
            Self::Ping(data) => (b'2', data.as_bytes()),
            Self::Pong(data) => (b'3', data.as_bytes()),
            Self::Message(data) => (b'4', data.as_bytes()),
            Self::Upgrade => (b'5', b""),
            Self::Noop => (b'6', b""),
            Self::Binary(data) => return encode_binary(data, out),
        };
        out.push(kind);
        out.extend_from_slice(data);
    }
}

/// The standard alphabet. Padding is optional, and trailing bits may have any value.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

fn decode_base64(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
    let is_plain = |byte: u8| byte != b'-' && byte != b'_' && !byte.is_ascii_whitespace();
    if text.bytes().all(is_plain) {
        return LENIENT.decode(text);
    }
    // Removes line breaks: socket.io-client-java encodes in lines of 76 characters (MIME, RFC
    // 2045), each with a line feed.
    let bytes = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
    let standard = bytes.map(|byte| match byte {
        b'-' => b'+',
        b'_' => b'/',
        byte => byte,
    });
    LENIENT.decode(standard.collect::<Vec<u8>>())
}

/// Appends binary data as `b` and base64.
pub(in crate::protocol) fn encode_binary(data: &[u8], out: &mut Vec<u8>) {
    out.push(b'b');
    out.extend_from_slice(BASE64_STANDARD.encode(data).as_bytes());
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &'static str) -> Result<EnginePacket, EngineDecodeError> {
        EnginePacket::decode(ByteString::from_static(text))
    }

    #[test]
    fn each_digit_is_a_packet() {
        assert_eq!(text("0{}"), Ok(EnginePacket::Open("{}".into())));
        assert_eq!(text("1"), Ok(EnginePacket::Close));
        assert_eq!(text("2"), Ok(EnginePacket::Ping("".into())));
        assert_eq!(text("2probe"), Ok(EnginePacket::Ping("probe".into())));
        assert_eq!(text("3probe"), Ok(EnginePacket::Pong("probe".into())));
        assert_eq!(text("42[\"a\"]"), Ok(EnginePacket::Message("2[\"a\"]".into())));
        assert_eq!(text("5"), Ok(EnginePacket::Upgrade));
        assert_eq!(text("6"), Ok(EnginePacket::Noop));
    }

    #[test]
    fn data_behind_close_upgrade_and_noop_is_ignored() {
        assert_eq!(text("1bye"), Ok(EnginePacket::Close));
        assert_eq!(text("5x"), Ok(EnginePacket::Upgrade));
        assert_eq!(text("6é"), Ok(EnginePacket::Noop));
    }

    #[test]
    fn an_empty_text_is_no_packet() {
        assert_eq!(text(""), Err(EngineDecodeError::Empty));
    }

    #[test]
    fn other_characters_are_unknown_types() {
        assert_eq!(text("7"), Err(EngineDecodeError::UnknownType { found: '7' }));
        assert_eq!(text("é"), Err(EngineDecodeError::UnknownType { found: 'é' }));
        assert_eq!(text("😀4"), Err(EngineDecodeError::UnknownType { found: '😀' }));
    }

    #[test]
    fn base64_is_binary() {
        assert_eq!(text("bAQID/w=="), Ok(EnginePacket::Binary(Bytes::from_static(&[1, 2, 3, 255]))));
        assert_eq!(text("b"), Ok(EnginePacket::Binary(Bytes::new())));
        // Node accepts missing and excess padding, trailing bits, and the other alphabet.
        for (lenient, bytes) in [("bAQI", &[1, 2][..]), ("bAQI=", &[1, 2]), ("bAQJ=", &[1, 2]), ("b-_8=", &[251, 255])]
        {
            assert_eq!(text(lenient), Ok(EnginePacket::Binary(Bytes::from_static(bytes))), "{lenient}");
        }
        // socket.io-client-java ends every line with a line feed, even a short line.
        for lines in ["bAQID/w==\n", "bAQI\nD/w==\n", "bAQI\r\nD/w==\r\n", "b AQ\tID/w=="] {
            assert_eq!(text(lines), Ok(EnginePacket::Binary(Bytes::from_static(&[1, 2, 3, 255]))), "{lines:?}");
        }
    }

    #[test]
    fn bad_base64_is_an_error() {
        // In this order: only padding, truncated, an invalid character, not ASCII, and twice text
        // after the padding.
        for bad in ["b=", "bA", "bAQ!ID", "bé", "bAQ==ID", "bAQ==\nID"] {
            let decoded = text(bad);
            assert!(matches!(decoded, Err(EngineDecodeError::Base64(_))), "{bad}: {decoded:?}");
        }
    }

    #[test]
    fn message_data_is_not_copied() {
        let whole = ByteString::from("4hello".to_owned());
        let start = whole.as_ptr();
        let Ok(EnginePacket::Message(data)) = EnginePacket::decode(whole) else {
            panic!("not a message");
        };
        assert_eq!(data.as_ptr(), start.wrapping_add(1));
    }

    pub(in crate::protocol::engineio) fn any_packet() -> impl Strategy<Value = EnginePacket> {
        let data = "[^\u{1e}]*".prop_map(ByteString::from);
        prop_oneof![
            data.clone().prop_map(EnginePacket::Open),
            Just(EnginePacket::Close),
            data.clone().prop_map(EnginePacket::Ping),
            data.clone().prop_map(EnginePacket::Pong),
            data.prop_map(EnginePacket::Message),
            Just(EnginePacket::Upgrade),
            Just(EnginePacket::Noop),
            prop::collection::vec(any::<u8>(), 0..64).prop_map(|data| EnginePacket::Binary(data.into())),
        ]
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_the_same(packet in any_packet()) {
            let mut out = Vec::new();
            packet.encode_polled(&mut out);
            let text = ByteString::try_from(out).expect("utf-8");
            prop_assert_eq!(EnginePacket::decode(text), Ok(packet));
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = EnginePacket::decode(text.clone().into());
            let _ = EnginePacket::decode(format!("b{text}").into());
        }
    }
}
