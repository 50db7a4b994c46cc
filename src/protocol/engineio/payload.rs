//! Polling payloads: packets joined by a record separator. The transport limits the size of a
//! payload.

use bytestring::ByteString;

use super::packet::encode_binary;
use super::{EngineDecodeError, EnginePacket};

/// Separator between two packets of a payload (ASCII "record separator").
pub(crate) const SEPARATOR: u8 = 0x1e;

/// Iterator over the packets of a POST body. Packets are decoded on demand. The iteration ends
/// after the first error.
///
/// The errors are those of [`EnginePacket::decode`]. An empty body or element results in
/// [`EngineDecodeError::Empty`].
#[derive(Debug)]
pub(crate) struct PayloadReader {
    /// Undecoded rest of the body. `None` after the last element.
    rest: Option<ByteString>,
}

impl PayloadReader {
    pub(crate) fn new(body: ByteString) -> Self {
        Self { rest: Some(body) }
    }
}

impl Iterator for PayloadReader {
    type Item = Result<EnginePacket, EngineDecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        let (element, behind) = match rest.split_once(char::from(SEPARATOR)) {
            Some((element, behind)) => (rest.slice_ref(element), Some(rest.slice_ref(behind))),
            None => (rest, None),
        };
        let packet = EnginePacket::decode(element);
        self.rest = behind.filter(|_| packet.is_ok());
        Some(packet)
    }
}

#[derive(Debug, Default)]
pub(crate) struct PayloadWriter {
    /// The body so far. It is empty only if no packet was added, since a packet has at least one
    /// byte.
    body: Vec<u8>,
}

impl PayloadWriter {
    /// Creates a payload without packets. An empty payload must not be sent, since clients treat an
    /// empty body as an error.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a packet that is already encoded as text, with its type digit. An empty text adds
    /// nothing.
    ///
    /// The text must not contain a [`SEPARATOR`]. JSON never contains this byte.
    pub(crate) fn push_raw(&mut self, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        self.separate();
        self.body.extend_from_slice(text);
    }

    pub(crate) fn push_binary(&mut self, data: &[u8]) {
        self.separate();
        encode_binary(data, &mut self.body);
    }

    pub(crate) fn len(&self) -> usize {
        self.body.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.body
    }

    fn separate(&mut self) {
        if !self.body.is_empty() {
            self.body.push(SEPARATOR);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::packet::tests::any_packet;
    use super::*;

    fn decode(body: &'static str) -> Result<Vec<EnginePacket>, EngineDecodeError> {
        PayloadReader::new(ByteString::from_static(body)).collect()
    }

    #[test]
    fn packets_are_split_at_the_separator() {
        assert_eq!(
            decode("4hello\u{1e}2\u{1e}bAQID"),
            Ok(vec![
                EnginePacket::Message("hello".into()),
                EnginePacket::Ping("".into()),
                EnginePacket::Binary(Bytes::from_static(&[1, 2, 3])),
            ])
        );
    }

    #[test]
    fn an_empty_body_or_element_is_an_error() {
        for body in ["", "\u{1e}", "4a\u{1e}", "\u{1e}4a", "4a\u{1e}\u{1e}4b"] {
            let decoded = decode(body);
            assert_eq!(decoded, Err(EngineDecodeError::Empty), "{body:?}");
        }
    }

    #[test]
    fn packets_before_the_first_error_are_decoded() {
        let read: Vec<_> = PayloadReader::new(ByteString::from_static("4a\u{1e}9\u{1e}4b")).collect();
        assert_eq!(read, [Ok(EnginePacket::Message("a".into())), Err(EngineDecodeError::UnknownType { found: '9' })]);
        assert_eq!(decode("4a\u{1e}9\u{1e}b="), Err(EngineDecodeError::UnknownType { found: '9' }));
    }

    #[test]
    fn the_writer_joins_text_and_binary() {
        let mut writer = PayloadWriter::new();
        assert!(writer.is_empty());
        writer.push_raw(b"42[\"a\"]");
        writer.push_raw(b"");
        writer.push_binary(&[1, 2, 3]);
        writer.push_raw(b"6");
        assert_eq!(writer.len(), 15);
        assert_eq!(writer.finish(), b"42[\"a\"]\x1ebAQID\x1e6");
    }

    proptest! {
        #[test]
        fn encoded_packets_decode_to_the_same(packets in prop::collection::vec(any_packet(), 1..8)) {
            let mut writer = PayloadWriter::new();
            for packet in &packets {
                match packet {
                    EnginePacket::Binary(data) => writer.push_binary(data),
                    text => {
                        let mut out = Vec::new();
                        text.encode_polled(&mut out);
                        writer.push_raw(&out);
                    }
                }
            }
            let body = ByteString::try_from(writer.finish()).expect("utf-8");
            prop_assert_eq!(PayloadReader::new(body).collect::<Result<Vec<_>, _>>(), Ok(packets));
        }

        #[test]
        fn arbitrary_bodies_never_panic(body in "[0-7b=AQ\u{1e}\u{e9}]*") {
            PayloadReader::new(body.into()).for_each(drop);
        }
    }
}
