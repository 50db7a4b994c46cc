//! JSON that is passed through as text: validation, positions of array elements, nesting depth, and
//! tokens.
//!
//! serde_json validates the text without recursion and without building values. The same pass finds
//! the positions of the elements.

use std::borrow::Cow;

use serde::Deserializer;
use serde::de::{SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::packet::{Spans, span};
use super::{DecodeError, NESTING_MAX};

/// Elements of an array, as positions in the array's text.
#[derive(Debug, Default)]
pub(super) struct Elements<'t> {
    /// Raw text of the first element. `None` for [`Head::None`] and for an empty array.
    pub(super) head: Option<&'t str>,
    /// Text of the remaining elements, with the separators between them.
    pub(super) rest: &'t str,
    /// Positions of the remaining elements within `rest`.
    pub(super) spans: Spans,
}

/// Selection of the array elements that are arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// All elements, as in the data of an ack.
    None,
    /// All elements except the first, which is the name of an event.
    Name,
}

/// Validates the text of an array and finds its elements in one pass.
pub(super) fn elements(text: &str, head: Head) -> Result<Elements<'_>, DecodeError> {
    let mut json = serde_json::Deserializer::from_str(text);
    let elements = json.deserialize_seq(ElementsVisitor { text, head });
    elements.and_then(|elements| json.end().map(|()| elements)).map_err(invalid)
}

/// Validates the text of a single value. Returns the text without trailing whitespace.
pub(super) fn value(text: &str) -> Result<&str, DecodeError> {
    serde_json::from_str::<&RawValue>(text).map(RawValue::get).map_err(invalid)
}

/// Decodes a JSON string. Lone surrogates become U+FFFD. Returns `None` if the text is not a
/// string.
pub(super) fn unescape(text: &str) -> Option<String> {
    serde_json::from_str(&well_formed(text)).ok()
}

/// Replaces the escape of each lone surrogate (such as `\ud800`) by an escape of U+FFFD, which has
/// the same length. JavaScript strings can contain lone surrogates, for example after a cut within
/// an emoji. Rust strings cannot, so callers that read a client's JSON into Rust values need this
/// function. JSON that is passed through keeps its lone surrogates.
pub(crate) fn well_formed(text: &str) -> Cow<'_, str> {
    let mut replaced = Cow::Borrowed(text);
    let mut at = 0;
    while let Some(backslash) = text.get(at..).and_then(|rest| rest.find('\\')) {
        at += backslash;
        at += match escaped_unit(text, at) {
            // Other escapes have two bytes.
            None => 2,
            Some(0xd800..=0xdbff) if matches!(escaped_unit(text, at + 6), Some(0xdc00..=0xdfff)) => 12,
            Some(0xd800..=0xdfff) => {
                replaced.to_mut().replace_range(at + 2..at + 6, "fffd");
                6
            }
            Some(_) => 6,
        };
    }
    replaced
}

/// UTF-16 code unit of the escape `\uXXXX` at position `at`. `None` if there is no such escape.
fn escaped_unit(text: &str, at: usize) -> Option<u16> {
    let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
    u16::from_str_radix(digits, 16).ok()
}

/// Returns an error if the text nests deeper than [`NESTING_MAX`]. The check runs before
/// validation, so that deep nesting costs no memory. For invalid JSON the result is arbitrary,
/// since validation rejects the text.
pub(crate) fn check_nesting(text: &str) -> Result<(), DecodeError> {
    // Text with few brackets cannot nest deeply and is accepted without tokenizing, since counting
    // bytes is many times faster. Setting bit 0x20 maps `[` and `{`, and no other byte, to `{`.
    if text.bytes().filter(|byte| byte | 0x20 == b'{').count() <= NESTING_MAX {
        return Ok(());
    }
    let mut depth = 0usize;
    for token in tokens(text) {
        match token {
            Token::OpenArray | Token::OpenObject => depth += 1,
            Token::Close => depth = depth.saturating_sub(1),
            Token::Comma | Token::Colon | Token::String(_) | Token::Scalar(_) => {}
        }
        if depth > NESTING_MAX {
            return Err(DecodeError::TooDeep);
        }
    }
    Ok(())
}

fn invalid(error: serde_json::Error) -> DecodeError {
    // The message of serde_json contains the syntax error and its position, but no input. It would
    // quote input only for a value of the wrong type, which the callers exclude.
    DecodeError::InvalidJson { reason: error.to_string() }
}

struct ElementsVisitor<'t> {
    /// The parsed text. Elements are slices of this text, so their positions follow from their
    /// addresses.
    text: &'t str,
    head: Head,
}

impl<'t> Visitor<'t> for ElementsVisitor<'t> {
    type Value = Elements<'t>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut elements = Elements::default();
        if self.head == Head::Name {
            elements.head = array.next_element::<&RawValue>()?.map(RawValue::get);
        }
        let Some(first) = array.next_element::<&RawValue>()? else {
            return Ok(elements);
        };
        let base = offset_in(self.text, first.get());
        let mut end = first.get().len();
        elements.spans.push(span(0, end));
        while let Some(next) = array.next_element::<&RawValue>()? {
            let start = offset_in(self.text, next.get()) - base;
            end = start + next.get().len();
            elements.spans.push(span(start, end));
        }
        elements.rest = self.text.get(base..base + end).unwrap_or_default();
        Ok(elements)
    }
}

/// Position of `part` in `text`. `part` must be a slice of `text`.
fn offset_in(text: &str, part: &str) -> usize {
    part.as_ptr().addr() - text.as_ptr().addr()
}

/// A token of JSON text. Whitespace is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'t> {
    OpenArray,
    OpenObject,
    Close,
    Comma,
    Colon,
    /// A string with quotes and escapes.
    String(&'t str),
    /// A number, `true`, `false` or `null`.
    Scalar(&'t str),
}

/// Tokens of a JSON text, which may be the elements of an array without brackets. For invalid JSON,
/// the tokens are arbitrary, but their number is finite.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = Token<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r']);
        let first = rest.bytes().next()?;
        let length = match first {
            b'[' | b'{' | b']' | b'}' | b',' | b':' => 1,
            b'"' => string_len(rest),
            _ => scalar_len(rest),
        };
        // The split is always at a character boundary, since a token ends next to an ASCII byte or
        // at the end of the text.
        let (token, behind) = rest.split_at_checked(length)?;
        rest = behind;
        Some(match first {
            b'[' => Token::OpenArray,
            b'{' => Token::OpenObject,
            b']' | b'}' => Token::Close,
            b',' => Token::Comma,
            b':' => Token::Colon,
            b'"' => Token::String(token),
            _ => Token::Scalar(token),
        })
    })
}

/// Length of the string at the start of `text`, including both quotes.
fn string_len(text: &str) -> usize {
    let mut escaped = true; // skips the opening quote
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of the number, `true`, `false` or `null` at the start of `text`.
fn scalar_len(text: &str) -> usize {
    let ends = |byte: u8| b" \t\n\r[]{},:\"".contains(&byte);
    text.bytes().position(ends).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_at_their_positions() {
        let found = elements("[ \"a\" , 1,\n {\"é\":[2 ]} ] ", Head::Name).expect("an array");
        assert_eq!(found.head, Some("\"a\""));
        assert_eq!(found.rest, "1,\n {\"é\":[2 ]}");
        assert_eq!(found.spans[..], [(0, 1), (4, 15)]);

        let found = elements("[7,8]", Head::None).expect("an array");
        assert_eq!((found.head, found.rest), (None, "7,8"));
        assert_eq!(found.spans[..], [(0, 1), (2, 3)]);

        let found = elements("[]", Head::Name).expect("an array");
        assert_eq!((found.head, found.rest), (None, ""));
    }

    #[test]
    fn invalid_json_is_rejected() {
        for bad in [
            "[",
            "[1",
            "[1,]",
            "[1 2]",
            "[1]]",
            "[1]x",
            "[01]",
            "[\"a]",
            "[\"\n\"]",
            "[\"\\x\"]",
            "[nul]",
            "[{\"a\"}]",
            "[{\"a\":1,}]",
            "[{a:1}]",
            "[+1]",
            "[.5]",
            "['a']",
        ] {
            let found = elements(bad, Head::None);
            assert!(matches!(found, Err(DecodeError::InvalidJson { .. })), "{bad}: {found:?}");
        }
    }

    #[test]
    fn lone_surrogates_pass_as_text() {
        // JSON.stringify writes lone surrogates, and JSON.parse reads them.
        let found = elements(r#"["\ud800"]"#, Head::None).expect("an array");
        assert_eq!(found.rest, r#""\ud800""#);
    }

    #[test]
    fn a_lone_surrogate_is_read_as_one_replacement_character() {
        for (text, expected) in [
            (r#""\ud800""#, "\u{fffd}"),
            (r#""a\uDC00b""#, "a\u{fffd}b"),
            (r#""\ud83d\ude00\ud83d""#, "😀\u{fffd}"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}😀"),
            (r#""\ude00\ud83d""#, "\u{fffd}\u{fffd}"),
            (r#""\\ud800\u00e9""#, "\\ud800é"),
            (r#""\ud800\\udc00""#, "\u{fffd}\\udc00"),
            (r#""\ud800é\n""#, "\u{fffd}é\n"),
        ] {
            assert_eq!(unescape(text).as_deref(), Some(expected), "{text}");
            assert_eq!(well_formed(text).len(), text.len(), "{text}");
        }
        for passed in ["", "\\", "\\u", "\\ud8", "\\ud80é", r#"{"a":"\n\u0041"}"#] {
            assert!(matches!(well_formed(passed), Cow::Borrowed(text) if text == passed), "{passed}");
        }
    }

    #[test]
    fn a_million_brackets_do_not_overflow_the_stack() {
        let open = "[".repeat(1_000_000);
        let deep = format!("{open}{}", "]".repeat(1_000_000));
        assert_eq!(check_nesting(&deep), Err(DecodeError::TooDeep));
        // serde_json skips values without recursion, so the stack would suffice even without the
        // check.
        assert!(elements(&deep, Head::None).is_ok());
        assert!(matches!(elements(&open, Head::None), Err(DecodeError::InvalidJson { .. })));
        assert!(value(&deep).is_ok());
    }

    #[test]
    fn nesting_is_bounded_where_serde_json_bounds_it() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let parses = |text: &str| serde_json::from_str::<serde_json::Value>(text).is_ok();
        assert_eq!(check_nesting(&nested(NESTING_MAX)), Ok(()));
        assert!(parses(&nested(NESTING_MAX)));
        assert_eq!(check_nesting(&nested(NESTING_MAX + 1)), Err(DecodeError::TooDeep));
        assert!(!parses(&nested(NESTING_MAX + 1)));
    }

    #[test]
    fn many_brackets_side_by_side_are_not_deep() {
        let flat = format!("[{}0]", "[],{},\"[[\\\"[\",".repeat(1000));
        assert_eq!(check_nesting(&flat), Ok(()));
        assert!(value(&flat).is_ok());
    }

    #[test]
    fn tokens_are_distinguished() {
        let found: Vec<_> = tokens(r#" {"a\\\"," : -1.5e3, "" :[true]}"#).collect();
        assert_eq!(
            found,
            [
                Token::OpenObject,
                Token::String(r#""a\\\",""#),
                Token::Colon,
                Token::Scalar("-1.5e3"),
                Token::Comma,
                Token::String("\"\""),
                Token::Colon,
                Token::OpenArray,
                Token::Scalar("true"),
                Token::Close,
                Token::Close,
            ]
        );
    }
}
