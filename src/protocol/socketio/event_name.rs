//! Decoding of an event's name, which is the first element of its data.

use bytestring::ByteString;

use super::{DecodeError, json};

/// Event names that are reserved by the Socket.IO client, the Socket.IO server, or Node's event
/// emitter.
pub(crate) const RESERVED_EVENTS: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// Decodes the name of an event from its JSON `raw`, which must be a slice of `text`. A name
/// without escapes is not copied.
pub(super) fn event_name(text: &ByteString, raw: &str) -> Result<ByteString, DecodeError> {
    if raw.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return numeric_name(text, raw);
    }
    let inner = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')).ok_or(DecodeError::IllegalEventName)?;
    let name = if inner.contains('\\') {
        ByteString::from(json::unescape(raw).ok_or(DecodeError::IllegalEventName)?)
    } else {
        text.slice_ref(inner)
    };
    match RESERVED_EVENTS.into_iter().find(|reserved| name == *reserved) {
        Some(name) => Err(DecodeError::ReservedEventName { name }),
        None => Ok(name),
    }
}

/// Decodes a name that is a number. JavaScript uses the number as a property name, so `1`, `1.0`
/// and `10e-1` are the same event. The name is the text that JavaScript prints, but never has an
/// exponent, which JavaScript prints for magnitudes of at least 1e21 and for those below 1e-6.
fn numeric_name(text: &ByteString, raw: &str) -> Result<ByteString, DecodeError> {
    const SAFE: u64 = 1 << 53;
    // Integers up to 2^53, which a double represents exactly, are printed as they are, except for
    // -0.
    if raw != "-0" && raw.parse().is_ok_and(|value: i64| value.unsigned_abs() <= SAFE) {
        return Ok(text.slice_ref(raw));
    }
    match raw.parse::<f64>() {
        // Adding zero turns -0 into 0.
        Ok(value) if value.is_finite() => Ok((value + 0.0).to_string().into()),
        _ => Err(DecodeError::IllegalEventName),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(raw: &'static str) -> Result<ByteString, DecodeError> {
        event_name(&ByteString::from_static(raw), raw)
    }

    #[test]
    fn a_string_is_unescaped() {
        assert_eq!(name(r#""chat message""#), Ok("chat message".into()));
        assert_eq!(name(r#""a\"\u00e9\ud83d\ude00""#), Ok("a\"é😀".into()));
        assert_eq!(name("\"\""), Ok("".into()));
        assert_eq!(name(r#""a\ud83d""#), Ok("a\u{fffd}".into()));
    }

    #[test]
    fn a_name_without_escapes_is_not_copied() {
        let text = ByteString::from("\"hello\"".to_owned());
        let found = event_name(&text, &text).expect("a name");
        assert_eq!(found.as_ptr(), text.as_ptr().wrapping_add(1));
    }

    #[test]
    fn reserved_names_are_illegal_also_in_escapes() {
        for name in RESERVED_EVENTS {
            let raw = ByteString::from(format!("\"{name}\""));
            assert_eq!(event_name(&raw, &raw), Err(DecodeError::ReservedEventName { name }));
        }
        let reserved = Err(DecodeError::ReservedEventName { name: "connect" });
        assert_eq!(name(r#""\u0063onnect""#), reserved);
        assert_eq!(name(r#""Connect""#), Ok("Connect".into()));
    }

    #[test]
    fn only_strings_and_numbers_are_names() {
        for raw in ["null", "true", "{}", "[\"a\"]", "1e999", "-1e999"] {
            assert_eq!(name(raw), Err(DecodeError::IllegalEventName), "{raw}");
        }
    }

    #[test]
    fn a_number_becomes_its_decimal_text() {
        for (raw, expected) in [
            ("0", "0"),
            ("-12", "-12"),
            ("1.0", "1"),
            ("10e-1", "1"),
            ("-0", "0"),
            ("-0.0", "0"),
            ("1.5", "1.5"),
            ("1e20", "100000000000000000000"),
            ("9007199254740993", "9007199254740992"),
        ] {
            assert_eq!(name(raw), Ok(expected.into()), "{raw}");
        }
    }
}
