//! A log record as one line of JSON: time, level, target, message and fields.
//!
//! The text of a record is `<subject> <verb> key=value key="value"`. A value that is not quoted
//! ends where the next key begins.

use std::borrow::Cow;
use std::collections::BTreeMap;

use log::Level;
use serde::Serialize;

#[derive(Serialize)]
struct Line<'a> {
    time: &'a str,
    level: &'static str,
    target: &'a str,
    message: &'a str,
    /// Values are texts, so that a field has the same type in every line.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    fields: BTreeMap<&'a str, Cow<'a, str>>,
}

/// Returns the line without its end. It contains no control character.
pub(crate) fn line(time: &str, level: Level, target: &str, text: &str) -> String {
    let (message, fields) = parse(text);
    let level = match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    // Serialization cannot fail, since keys and values are texts.
    let json = serde_json::to_string(&Line { time, level, target, message, fields }).unwrap_or_default();
    if json.contains(breaks_lines) { escape(&json) } else { json }
}

/// Returns whether a program that reads lines may take this character for the end of a line. JSON
/// itself has no such characters below a space, and they occur in texts only.
fn breaks_lines(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

fn escape(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if breaks_lines(c) {
            escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Splits a text into its message and fields. If a key occurs several times, the first one counts,
/// since text of a peer is usually at the end.
fn parse(text: &str) -> (&str, BTreeMap<&str, Cow<'_, str>>) {
    let mut fields = BTreeMap::new();
    let Some((start, mut key_end)) = next_key(text, 0) else { return (text, fields) };
    let message = text[..start].trim_end();
    let mut key_start = start;
    loop {
        let key = &text[key_start..key_end];
        let value_start = key_end + 1;
        let quoted_end = quoted_end(text, value_start);
        let next = next_key(text, quoted_end.unwrap_or(value_start));
        let value = text[value_start..next.map_or(text.len(), |(start, _)| start)].trim_end();
        let is_quoted = quoted_end.is_some_and(|end| end == value_start + value.len());
        let value = if is_quoted { unquoted(value) } else { Cow::Borrowed(value) };
        fields.entry(key).or_insert(value);
        let Some(found) = next else { return (message, fields) };
        (key_start, key_end) = found;
    }
}

/// Finds the next `key=` at the start of a word. Returns the start and the end of the key.
fn next_key(text: &str, from: usize) -> Option<(usize, usize)> {
    let is_key = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.".contains(byte);
    let mut at = from;
    while at < text.len() {
        let is_word = at == 0 || text.as_bytes()[at - 1] == b' ';
        let length = text.as_bytes()[at..].iter().take_while(|byte| is_key(byte)).count();
        if is_word && length > 0 && text.as_bytes().get(at + length) == Some(&b'=') {
            return Some((at, at + length));
        }
        at += text[at..].find(' ').map_or(text.len(), |space| space + 1);
    }
    None
}

/// Position after the closing quote of a quoted text that begins here.
fn quoted_end(text: &str, start: usize) -> Option<usize> {
    let rest = text.get(start..)?.strip_prefix('"')?;
    let mut is_escaped = false;
    let end = rest.find(|c| {
        let ends = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        ends
    })?;
    Some(start + 1 + end + 1)
}

/// Text in quotes as Rust's `Debug` and TOML write it, without quotes and escape sequences.
fn unquoted(quoted: &str) -> Cow<'_, str> {
    let inner = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(quoted);
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match rest.next() {
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some('0') => text.push('\0'),
            Some('u') => {
                let digits = rest.as_str();
                let (hex, length) = match digits.strip_prefix('{').and_then(|digits| digits.split_once('}')) {
                    Some((hex, _)) => (hex, hex.len() + 2),
                    None => (digits.get(..4).unwrap_or_default(), 4),
                };
                let code = u32::from_str_radix(hex, 16).ok().and_then(char::from_u32);
                text.push(code.unwrap_or(char::REPLACEMENT_CHARACTER));
                rest = digits.get(length..).unwrap_or_default().chars();
            }
            Some(other) => text.push(other),
            None => text.push('\\'),
        }
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(text: &str) -> (String, Value) {
        let line = line("2026-11-29T18:00:00.000Z", Level::Warn, "stentor::transport", text);
        assert!(!line.contains(breaks_lines), "{line}");
        let mut value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&value["level"], &value["target"]), (&json!("warn"), &json!("stentor::transport")));
        let fields = value["fields"].take();
        (value["message"].as_str().unwrap().to_owned(), fields)
    }

    #[test]
    fn texts_are_split_into_message_and_fields() {
        for (text, message, fields) in [
            ("server is ready", "server is ready", json!(null)),
            ("session closed sid=ab… sent=3", "session closed", json!({"sid": "ab…", "sent": "3"})),
            ("refused reason=\"Not found\" skipped=0", "refused", json!({"reason": "Not found", "skipped": "0"})),
            ("failed error=no file (os error 2) at=3", "failed", json!({"error": "no file (os error 2)", "at": "3"})),
            ("a x=\"b=1 c=\\\"2\\\"\" y=", "a", json!({"x": "b=1 c=\"2\"", "y": ""})),
            ("a x=[\"b\", \"c\"] y=1", "a", json!({"x": "[\"b\", \"c\"]", "y": "1"})),
            ("a x=\"b\" and more y=1", "a", json!({"x": "\"b\" and more", "y": "1"})),
            ("a x=\"open y=1", "a", json!({"x": "\"open", "y": "1"})),
            ("x=1", "", json!({"x": "1"})),
            ("a level=1 level=2", "a", json!({"level": "1"})),
            ("a b=c=d", "a", json!({"b": "c=d"})),
            ("grün x=ü ü=1", "grün", json!({"x": "ü ü=1"})),
            ("", "", json!(null)),
        ] {
            assert_eq!(read(text), (message.to_owned(), fields), "{text}");
        }
    }

    #[test]
    fn no_text_breaks_the_line_or_the_json() {
        let nasty = "evil\r\n{\"level\":\"error\"}\u{1b}[31m\u{7f}\u{85}\u{2028}\"\\";
        let (message, fields) = read(&format!("refused origin={nasty:?} path={nasty}"));
        assert_eq!((message.as_str(), &fields["origin"]), ("refused", &json!(nasty)));
        assert_eq!(fields["path"], json!(nasty));
        let (message, _) = read(nasty);
        assert_eq!(message, nasty);
        for text in ["a x=\"\\", "a x=\"\\u\"", "a x=\"\\u{110000}\"", "a x=\"\\u{\"", "a x=\"\\u12\"", "a x=\"\\uü\""]
        {
            read(text);
        }
    }
}
