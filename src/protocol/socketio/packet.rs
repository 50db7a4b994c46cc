//! A Socket.IO packet and the arguments it carries.
//!
//! Refuses to parse arguments: they are validated once, as JSON, and from then on are text.

use std::borrow::Cow;

use bytes::Bytes;
use bytestring::ByteString;
use serde::de::Error as _;
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::json::{check_nesting, well_formed};
use crate::ids::NamespacePath;

/// Where an argument starts and ends, in bytes from the start of the arguments' text.
pub(super) type Span = (u32, u32);

/// Those of nearly every packet need no memory of their own.
pub(super) type Spans = SmallVec<[Span; 2]>;

/// The arguments of an event or an ack: JSON passed through as text, never parsed and printed again, plus the binary
/// attachments that its placeholders stand for.
///
/// Cloning is cheap for the text and the attachments, which are shared; the spans (8 bytes an argument) are copied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Args {
    /// The arguments and what stands between them, without brackets and without the event's name.
    text: ByteString,
    /// One for each argument, ascending, within `text`. Each is one JSON value without whitespace around it.
    spans: Spans,
    /// All attachments of the packet; a placeholder's `num` is an index into them.
    attachments: Vec<Bytes>,
}

impl Args {
    /// Arguments without attachments; `spans` must be as the field says.
    pub(super) fn new(text: ByteString, spans: Spans) -> Self {
        Self { text, spans, attachments: Vec::new() }
    }

    /// Arguments made of raw JSON texts, one each, joined by commas.
    ///
    /// The caller promises that each text is one valid JSON value; nothing checks it, and what is wrong here is wrong
    /// on the wire. Text beyond 4 GiB is not addressable: `get` does not find the arguments there.
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

    /// Reads the text of a JSON array; each element is one argument. Numbers, the order of keys and lone surrogates stay as they
    /// are written.
    ///
    /// Fails if the text is not an array, or nests deeper than 127, as the packets of clients do.
    pub fn parse(json: &str) -> Result<Self, serde_json::Error> {
        check_nesting(json).map_err(serde_json::Error::custom)?;
        let elements: Vec<&RawValue> = serde_json::from_str(json)?;
        Ok(Self::from_elements(elements.into_iter().map(|element| element.get().to_owned())))
    }

    /// The same arguments with these attachments. The placeholders among the arguments must be in range of them.
    pub fn with_attachments(mut self, attachments: Vec<Bytes>) -> Self {
        self.attachments = attachments;
        self
    }

    /// Number of arguments.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is no argument.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The raw JSON text of one argument, counted from zero.
    pub fn get(&self, index: usize) -> Option<&str> {
        self.spans.get(index).map(|span| self.slice(*span))
    }

    /// The raw JSON texts of all arguments, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> + '_ {
        self.spans.iter().map(|span| self.slice(*span))
    }

    /// The arguments joined by commas as they stood on the wire, without brackets and without the event's name:
    /// `1,{"a":2}`. Whitespace between them is kept, and none stands around them.
    pub fn json(&self) -> &str {
        &self.text
    }

    /// All attachments of the packet, also those that no placeholder names.
    pub fn attachments(&self) -> &[Bytes] {
        &self.attachments
    }

    /// The arguments without the first `n`, sharing text and attachments with these.
    ///
    /// The attachments stay complete, since the remaining placeholders count from the first of them.
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

    /// The same arguments with U+FFFD in the place of lone surrogates, as Rust's strings need it.
    pub(crate) fn well_formed(self) -> Self {
        // Of the same length, so the spans still hold.
        match well_formed(&self.text) {
            Cow::Borrowed(_) => self,
            Cow::Owned(text) => Self { text: text.into(), ..self },
        }
    }

    /// The same arguments in memory of their own. Those of a packet share its memory, and with it that of everything that
    /// was read together with it, which may be a thousand times as much.
    pub(crate) fn detached(&self) -> Self {
        let attachments = self.attachments.iter().map(|attachment| Bytes::copy_from_slice(attachment)).collect();
        Self::new(String::from(self.json()).into(), self.spans.clone()).with_attachments(attachments)
    }

    /// Bytes of memory that detached arguments take: many small ones cost more than their text.
    pub(crate) fn memory_len(&self) -> usize {
        self.byte_len() + self.spans.len() * size_of::<Span>() + self.attachments.len() * size_of::<Bytes>()
    }

    /// The first `n` arguments, sharing text and attachments with these.
    pub(crate) fn first(&self, n: usize) -> Self {
        let spans = Spans::from(self.spans.get(..n).unwrap_or(&self.spans));
        let end = spans.last().map_or(0, |last| last.1);
        let text = self.text.slice_ref(self.text.get(..end as usize).unwrap_or_default());
        Self::new(text, spans).with_attachments(self.attachments.clone())
    }

    /// What the arguments weigh: bytes of JSON and of attachments.
    pub fn byte_len(&self) -> usize {
        let attachments: usize = self.attachments.iter().map(Bytes::len).sum();
        self.text.len() + attachments
    }

    fn slice(&self, (start, end): Span) -> &str {
        self.text.get(start as usize..end as usize).unwrap_or_default()
    }
}

/// A span of a text that fits into 4 GiB; the decoder refuses a longer one before it counts positions in it.
pub(super) fn span(start: usize, end: usize) -> Span {
    let position = |at| u32::try_from(at).unwrap_or(u32::MAX);
    (position(start), position(end))
}

/// A packet as it is meant, with its attachments in place: there is no "binary event" beside the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Packet {
    /// `0`: a client asks for a namespace, or a server lets it in.
    Connect {
        namespace: NamespacePath,
        /// The raw JSON text of an object, if there is one: what the client authenticates with.
        auth: Option<ByteString>,
    },
    /// `1`: leaves a namespace, not the session.
    Disconnect { namespace: NamespacePath },
    /// `2`, or `5` with attachments: an event.
    Event {
        /// In which namespace.
        namespace: NamespacePath,
        /// The event's name, unescaped; never a reserved one. A number has become its decimal text.
        name: ByteString,
        /// What the peer wants its ack to be called, if it wants one.
        ack: Option<u64>,
        /// The arguments after the name.
        args: Args,
    },
    /// `3`, or `6` with attachments: the answer to an event.
    Ack {
        /// In which namespace.
        namespace: NamespacePath,
        /// The id that came with the event. Whether anybody waits for it is not known here.
        id: u64,
        args: Args,
    },
    /// `4`: a server refuses a namespace. Illegal from a client, which is for the session to say.
    ConnectError {
        namespace: NamespacePath,
        /// The raw JSON text of an object or a string.
        data: ByteString,
    },
}

#[cfg(test)]
impl Packet {
    /// The namespace the packet belongs to; every packet belongs to one.
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
    fn skipping_all_and_more_leaves_nothing() {
        let all = args(&["1", "2"]);
        assert_eq!(all.skip(2), Args::default());
        assert_eq!(all.skip(usize::MAX), Args::default());
    }
}
