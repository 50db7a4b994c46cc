//! Socket.IO packets and their arguments. The arguments are JSON that is validated once and then
//! passed through as text.

use std::borrow::Cow;

use bytes::Bytes;
use bytestring::ByteString;
use serde::de::Error as _;
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::json::{check_nesting, well_formed};
use crate::ids::NamespacePath;

/// Start and end of an argument, in bytes from the start of the arguments' text.
pub(super) type Span = (u32, u32);

/// Two spans are stored inline, which suffices for nearly every packet.
pub(super) type Spans = SmallVec<[Span; 2]>;

/// Arguments of an event or ack: JSON text, and the binary attachments to which its placeholders
/// refer. The JSON is passed through without being reformatted.
///
/// Cloning is cheap, since clones share the bytes of text and attachments.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Args {
    /// The arguments with their separators, without brackets and without the event's name.
    text: ByteString,
    /// Positions of the arguments in `text`, ascending. Each span is one JSON value without
    /// surrounding whitespace.
    spans: Spans,
    /// All attachments of the packet. A placeholder's `num` is an index into this list.
    attachments: Vec<Bytes>,
}

impl Args {
    pub(super) fn new(text: ByteString, spans: Spans) -> Self {
        Self { text, spans, attachments: Vec::new() }
    }

    /// Creates arguments from raw JSON texts.
    ///
    /// Each text must be one valid JSON value. This is not checked, and invalid JSON is sent
    /// unchanged. `get` returns an empty text for arguments beyond the first 4 GiB of text.
    pub fn from_elements<I: IntoIterator<Item = String>>(elements: I) -> Self {
        let mut text = String::new();
        let mut spans = Spans::new();
        for element in elements {
            if !spans.is_empty() {
                text.push(',');
            }
            let start = text.len();
            text.push_str(&element);
            spans.push(span(start, text.len()));
        }
        Self::new(text.into(), spans)
    }

    /// Parses the text of a JSON array. Each element becomes an argument. The spelling of numbers,
    /// the order of keys and lone surrogates are kept.
    ///
    /// Fails if the text is not an array, or nests deeper than 127 levels.
    pub fn parse(json: &str) -> Result<Self, serde_json::Error> {
        check_nesting(json).map_err(serde_json::Error::custom)?;
        let elements: Vec<&RawValue> = serde_json::from_str(json)?;
        Ok(Self::from_elements(elements.into_iter().map(|element| element.get().to_owned())))
    }

    /// Sets the attachments. The `num` of each placeholder in the arguments must be an index into
    /// `attachments`.
    pub fn with_attachments(mut self, attachments: Vec<Bytes>) -> Self {
        self.attachments = attachments;
        self
    }

    /// Number of arguments.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Returns whether there are no arguments.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Raw JSON text of the argument at `index`.
    pub fn get(&self, index: usize) -> Option<&str> {
        self.spans.get(index).map(|span| self.slice(*span))
    }

    /// Raw JSON texts of all arguments, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> + '_ {
        self.spans.iter().map(|span| self.slice(*span))
    }

    /// JSON text of all arguments, such as `1,{"a":2}`. The text has the commas and whitespace
    /// between the arguments as received, but no brackets and no event name.
    pub fn json(&self) -> &str {
        &self.text
    }

    /// All attachments of the packet, including those without a placeholder.
    pub fn attachments(&self) -> &[Bytes] {
        &self.attachments
    }

    /// The arguments after the first `n`. The text and the attachments are shared, not copied.
    ///
    /// All attachments are kept, since placeholders are indices into the complete list.
    pub fn skip(&self, n: usize) -> Self {
        let kept = self.spans.get(n..).unwrap_or_default();
        let base = kept.first().map_or(0, |first| first.0);
        let text = if kept.is_empty() {
            ByteString::new()
        } else {
            self.text.slice_ref(self.text.get(base as usize..).unwrap_or_default())
        };
        let spans = kept.iter().map(|(start, end)| (start - base, end - base)).collect();
        Self::new(text, spans).with_attachments(self.attachments.clone())
    }

    /// Replaces lone surrogates by U+FFFD, since Rust strings cannot contain them.
    pub(crate) fn well_formed(self) -> Self {
        // The replacement has the same length, so the spans stay valid.
        match well_formed(&self.text) {
            Cow::Borrowed(_) => self,
            Cow::Owned(text) => Self { text: text.into(), ..self },
        }
    }

    /// Copies the arguments into buffers of their own. Decoded arguments keep their whole read
    /// buffer in memory, which may be a thousand times as large.
    pub(crate) fn detached(&self) -> Self {
        let attachments = self.attachments.iter().map(|attachment| Bytes::copy_from_slice(attachment)).collect();
        Self::new(String::from(self.json()).into(), self.spans.clone()).with_attachments(attachments)
    }

    /// Memory of detached arguments in bytes, including the spans of the arguments and the handles
    /// of the attachments.
    pub(crate) fn memory_len(&self) -> usize {
        self.byte_len() + self.spans.len() * size_of::<Span>() + self.attachments.len() * size_of::<Bytes>()
    }

    /// The first `n` arguments. The text and the attachments are shared, not copied.
    pub(crate) fn first(&self, n: usize) -> Self {
        let spans = Spans::from(self.spans.get(..n).unwrap_or(&self.spans));
        let end = spans.last().map_or(0, |last| last.1);
        let text = self.text.slice_ref(self.text.get(..end as usize).unwrap_or_default());
        Self::new(text, spans).with_attachments(self.attachments.clone())
    }

    /// Total bytes of JSON and attachments.
    pub fn byte_len(&self) -> usize {
        let attachments: usize = self.attachments.iter().map(Bytes::len).sum();
        self.text.len() + attachments
    }

    fn slice(&self, (start, end): Span) -> &str {
        self.text.get(start as usize..end as usize).unwrap_or_default()
    }
}

/// Creates a span. Positions beyond 4 GiB become `u32::MAX`. The decoder has already rejected
/// longer text.
pub(super) fn span(start: usize, end: usize) -> Span {
    let position = |at| u32::try_from(at).unwrap_or(u32::MAX);
    (position(start), position(end))
}

/// A decoded packet with its attachments. Events with and without attachments are the same variant,
/// and so are acks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Packet {
    /// `0`: a client's request to connect to a namespace, or the server's acceptance.
    Connect {
        namespace: NamespacePath,
        /// Credentials of the client: the raw JSON text of an object. `None` if the client sent
        /// none.
        auth: Option<ByteString>,
    },
    /// `1`: disconnects a socket from its namespace. The session continues.
    Disconnect { namespace: NamespacePath },
    /// `2`, or `5` with attachments: an event.
    Event {
        namespace: NamespacePath,
        /// Name of the event, unescaped and not reserved. A number is converted to its decimal
        /// text.
        name: ByteString,
        /// Ack id, if the sender requests an ack.
        ack: Option<u64>,
        args: Args,
    },
    /// `3`, or `6` with attachments: the ack of an event.
    Ack { namespace: NamespacePath, id: u64, args: Args },
    /// `4`: the server refuses the connection to a namespace. If a client sends this packet, the
    /// session drops it.
    ConnectError {
        namespace: NamespacePath,
        /// The raw JSON text of an object or a string.
        data: ByteString,
    },
}

#[cfg(test)]
impl Packet {
    pub(crate) fn namespace(&self) -> &NamespacePath {
        match self {
            Self::Connect { namespace, .. }
            | Self::Disconnect { namespace }
            | Self::Event { namespace, .. }
            | Self::Ack { namespace, .. }
            | Self::ConnectError { namespace, .. } => namespace,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(elements: &[&str]) -> Args {
        Args::from_elements(elements.iter().map(|element| (*element).to_owned()))
    }

    #[test]
    fn elements_are_joined_by_commas() {
        let args = args(&["1", r#"{"a":2}"#, "\"é,\""]);
        assert_eq!(args.json(), "1,{\"a\":2},\"é,\"");
        assert_eq!(args.len(), 3);
        assert_eq!(args.get(1), Some(r#"{"a":2}"#));
        assert_eq!(args.get(3), None);
        assert_eq!(args.iter().collect::<Vec<_>>(), ["1", "{\"a\":2}", "\"é,\""]);
    }

    #[test]
    fn an_array_is_parsed_as_it_is_written_and_not_too_deep() {
        let parsed = Args::parse(r#" [1.50, {"z":1,"a":2} ,"\ud800"]"#).unwrap();
        assert_eq!(parsed.json(), r#"1.50,{"z":1,"a":2},"\ud800""#);
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Args::parse(&nested(127)).is_ok());
        for wrong in ["{}", "7", "[1", "", nested(128).as_str()] {
            assert!(Args::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_elements_are_no_text() {
        assert_eq!(args(&[]), Args::default());
        assert!(args(&[]).is_empty());
        assert_eq!(args(&[]).json(), "");
    }

    #[test]
    fn skip_shares_the_text_and_keeps_the_attachments() {
        let all = args(&["1", "[2]", "3"]).with_attachments(vec![Bytes::from_static(b"xy")]);
        let rest = all.skip(1);
        assert_eq!(rest.json(), "[2],3");
        assert_eq!(rest.iter().collect::<Vec<_>>(), ["[2]", "3"]);
        assert_eq!(rest.attachments(), all.attachments());
        assert_eq!(rest.json().as_ptr(), all.json()[2..].as_ptr());
        assert_eq!(rest.byte_len(), 7);
        assert_eq!(all.skip(0), all);
    }

    #[test]
    fn skipping_all_arguments_or_more_leaves_none() {
        let all = args(&["1", "2"]);
        assert_eq!(all.skip(2), Args::default());
        assert_eq!(all.skip(usize::MAX), Args::default());
    }
}
