//! Encoding of JSON text and attachments as msgpack.

use bytes::{BufMut, Bytes, BytesMut};
use rmp::encode;

use super::super::binary::walk;
use super::super::json::{self, Token};

#[derive(Debug, Clone, Copy)]
enum Shape {
    /// Number of elements or pairs.
    Elements(usize),
    Attachment(usize),
}

/// JSON values joined by commas, with the length of each container. Msgpack writes the length of a
/// container before its elements.
pub(crate) struct Values<'t> {
    text: &'t str,
    attachments: &'t [Bytes],
    count: usize,
    /// Shapes of all containers, in the order of their opening brackets.
    shapes: Vec<Shape>,
}

impl<'t> Values<'t> {
    /// Counts the elements of each container. The text must be valid JSON. This is not checked, and
    /// invalid JSON leads to an invalid message.
    pub(crate) fn new(text: &'t str, attachments: &'t [Bytes]) -> Self {
        let mut shapes = Vec::new();
        let count = walk(text, |nth, container| {
            if shapes.len() <= nth {
                shapes.resize(nth + 1, Shape::Elements(0));
            }
            shapes[nth] = match container.attachment() {
                Some(num) if num < attachments.len() => Shape::Attachment(num),
                _ => Shape::Elements(container.len()),
            };
        });
        Self { text, attachments, count, shapes }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Writes the values. An attachment replaces its first placeholder. Further placeholders for
    /// the same attachment become nil, so that no attachment is written more than once.
    pub(crate) fn put(&self, buffer: &mut BytesMut) {
        let mut written = vec![false; self.attachments.len()];
        let mut tokens = json::tokens(self.text);
        let mut shapes = self.shapes.iter().copied();
        while let Some(token) = tokens.next() {
            match token {
                Token::OpenArray | Token::OpenObject => match (shapes.next(), token) {
                    (Some(Shape::Attachment(num)), _) => {
                        if std::mem::replace(&mut written[num], true) {
                            put_nil(buffer);
                        } else {
                            put_bin(buffer, &self.attachments[num]);
                        }
                        shapes = skip_container(&mut tokens, shapes);
                    }
                    (Some(Shape::Elements(count)), Token::OpenArray) => put_array(buffer, count),
                    (Some(Shape::Elements(count)), _) => put_map(buffer, count),
                    (None, _) => put_array(buffer, 0),
                },
                Token::String(text) => put_json_string(buffer, text),
                Token::Scalar(text) => put_scalar(buffer, text),
                Token::Close | Token::Comma | Token::Colon => {}
            }
        }
    }
}

/// Skips the tokens up to the end of the container whose opening bracket was read last. Returns the
/// shapes that follow those of the skipped containers.
fn skip_container<'t, S: Iterator>(tokens: &mut impl Iterator<Item = Token<'t>>, mut shapes: S) -> S {
    let mut depth = 1_usize;
    for token in tokens {
        match token {
            Token::OpenArray | Token::OpenObject => {
                depth += 1;
                shapes.next();
            }
            Token::Close => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    shapes
}

fn put_json_string(buffer: &mut BytesMut, text: &str) {
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(inner) if !inner.contains('\\') => put_str(buffer, inner),
        _ => put_str(buffer, &json::unescape(text).unwrap_or_default()),
    }
}

fn put_scalar(buffer: &mut BytesMut, text: &str) {
    match text {
        "true" => put_bool(buffer, true),
        "false" => put_bool(buffer, false),
        "null" => put_nil(buffer),
        // Only a double can represent -0.
        "-0" => put_double(buffer, -0.0),
        _ => {
            if let Ok(value) = text.parse() {
                put_unsigned(buffer, value);
            } else if let Ok(value) = text.parse() {
                let _ = encode::write_sint(&mut buffer.writer(), value);
            } else if let Ok(value) = text.parse() {
                // As in JSON.parse, a number beyond the range of a double is infinite.
                put_double(buffer, value);
            } else {
                put_nil(buffer);
            }
        }
    }
}

// The functions below ignore results, since writing cannot fail: each buffer grows or was measured.

fn put_nil(buffer: &mut BytesMut) {
    let _ = encode::write_nil(&mut buffer.writer());
}

fn put_bool(buffer: &mut BytesMut, value: bool) {
    let _ = encode::write_bool(&mut buffer.writer(), value);
}

fn put_double(buffer: &mut BytesMut, value: f64) {
    let _ = encode::write_f64(&mut buffer.writer(), value);
}

pub(crate) fn put_unsigned(buffer: &mut impl BufMut, value: u64) {
    let _ = encode::write_uint(&mut buffer.writer(), value);
}

pub(crate) fn put_array(buffer: &mut impl BufMut, elements: usize) {
    let _ = encode::write_array_len(&mut buffer.writer(), length(elements));
}

pub(crate) fn put_map(buffer: &mut impl BufMut, pairs: usize) {
    let _ = encode::write_map_len(&mut buffer.writer(), length(pairs));
}

pub(crate) fn put_str(buffer: &mut impl BufMut, text: &str) {
    let _ = encode::write_str(&mut buffer.writer(), text);
}

fn put_bin(buffer: &mut BytesMut, bytes: &[u8]) {
    let _ = encode::write_bin(&mut buffer.writer(), bytes);
}

/// Converts a length. All lengths are below 4 GiB.
fn length(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
