//! From JSON text and attachments to msgpack, into a buffer that the caller owns.

use bytes::{BufMut, Bytes, BytesMut};

use super::super::binary::walk;
use super::super::json::{self, Token};

/// What stands where the JSON has a container.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// So many elements, or pairs.
    Elements(usize),
    /// A placeholder for this attachment.
    Attachment(usize),
}

/// JSON values, joined by commas, that have been measured: msgpack says how many elements come before it says which.
pub(crate) struct Values<'t> {
    text: &'t str,
    attachments: &'t [Bytes],
    count: usize,
    /// One for each container, in the order in which they open.
    shapes: Vec<Shape>,
}

impl<'t> Values<'t> {
    /// Measures valid JSON. What is wrong in the JSON is wrong on the wire.
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

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Writes them, one after the other. Of several placeholders for one attachment the first becomes it, the others nil:
    /// what leaves is never larger than what was given.
    pub(crate) fn put(&self, buffer: &mut BytesMut) {
        let mut written = vec![false; self.attachments.len()];
        let mut tokens = json::tokens(self.text);
        let mut shapes = self.shapes.iter().copied();
        while let Some(token) = tokens.next() {
            match token {
                Token::OpenArray | Token::OpenObject => match (shapes.next(), token) {
                    (Some(Shape::Attachment(num)), _) => {
                        if std::mem::replace(&mut written[num], true) {
                            buffer.put_u8(NIL);
                        } else {
                            put_bin(buffer, &self.attachments[num]);
                        }
                        shapes = pass_over(&mut tokens, shapes);
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

/// Skips what is left of the container that has just opened.
fn pass_over<'t, S: Iterator>(tokens: &mut impl Iterator<Item = Token<'t>>, mut shapes: S) -> S {
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
        "true" => buffer.put_u8(0xc3),
        "false" => buffer.put_u8(0xc2),
        "null" => buffer.put_u8(NIL),
        // A double alone can be that.
        "-0" => put_double(buffer, -0.0),
        _ => {
            if let Ok(value) = text.parse() {
                put_unsigned(buffer, value);
            } else if let Ok(value) = text.parse() {
                put_negative(buffer, value);
            } else if let Ok(value) = text.parse() {
                // As for JSON.parse, what is too large for a double is infinite.
                put_double(buffer, value);
            } else {
                buffer.put_u8(NIL);
            }
        }
    }
}

const NIL: u8 = 0xc0;

fn put_double(buffer: &mut BytesMut, value: f64) {
    buffer.put_u8(0xcb);
    buffer.put_f64(value);
}

pub(crate) fn put_unsigned(buffer: &mut impl BufMut, value: u64) {
    match value {
        0..=0x7f => buffer.put_u8(value as u8),
        0x80..=0xff => buffer.put_slice(&[0xcc, value as u8]),
        0x100..=0xffff => {
            buffer.put_u8(0xcd);
            buffer.put_u16(value as u16);
        }
        0x1_0000..=0xffff_ffff => {
            buffer.put_u8(0xce);
            buffer.put_u32(value as u32);
        }
        _ => {
            buffer.put_u8(0xcf);
            buffer.put_u64(value);
        }
    }
}

/// Writes an integer below zero.
fn put_negative(buffer: &mut BytesMut, value: i64) {
    if value >= -0x20 {
        buffer.put_i8(value as i8);
    } else if let Ok(value) = i8::try_from(value) {
        buffer.put_u8(0xd0);
        buffer.put_i8(value);
    } else if let Ok(value) = i16::try_from(value) {
        buffer.put_u8(0xd1);
        buffer.put_i16(value);
    } else if let Ok(value) = i32::try_from(value) {
        buffer.put_u8(0xd2);
        buffer.put_i32(value);
    } else {
        buffer.put_u8(0xd3);
        buffer.put_i64(value);
    }
}

/// The markers of one kind of item that has a length: the shortest form holds it itself, the others are followed by it.
struct Markers {
    short: u8,
    /// Lengths below this one are short.
    short_below: usize,
    one_byte: Option<u8>,
    two_bytes: u8,
}

const STR: Markers = Markers { short: 0xa0, short_below: 0x20, one_byte: Some(0xd9), two_bytes: 0xda };
const BIN: Markers = Markers { short: 0, short_below: 0, one_byte: Some(0xc4), two_bytes: 0xc5 };
const ARRAY: Markers = Markers { short: 0x90, short_below: 0x10, one_byte: None, two_bytes: 0xdc };
const MAP: Markers = Markers { short: 0x80, short_below: 0x10, one_byte: None, two_bytes: 0xde };

fn put_length(buffer: &mut impl BufMut, markers: &Markers, length: usize) {
    match (u16::try_from(length), markers.one_byte) {
        (Ok(length), _) if usize::from(length) < markers.short_below => buffer.put_u8(markers.short | length as u8),
        (Ok(length @ ..=0xff), Some(marker)) => buffer.put_slice(&[marker, length as u8]),
        (Ok(length), _) => {
            buffer.put_u8(markers.two_bytes);
            buffer.put_u16(length);
        }
        (Err(_), _) => {
            // In all four kinds the form with four bytes comes next. Nothing of 4 GiB leaves this server.
            buffer.put_u8(markers.two_bytes + 1);
            buffer.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        }
    }
}

pub(crate) fn put_array(buffer: &mut impl BufMut, elements: usize) {
    put_length(buffer, &ARRAY, elements);
}

pub(crate) fn put_map(buffer: &mut impl BufMut, pairs: usize) {
    put_length(buffer, &MAP, pairs);
}

pub(crate) fn put_str(buffer: &mut impl BufMut, text: &str) {
    put_length(buffer, &STR, text.len());
    buffer.put_slice(text.as_bytes());
}

fn put_bin(buffer: &mut BytesMut, bytes: &[u8]) {
    put_length(buffer, &BIN, bytes.len());
    buffer.put_slice(bytes);
}
