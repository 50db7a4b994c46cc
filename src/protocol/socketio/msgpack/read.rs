//! Decoding of msgpack packets. Memory is allocated for received data only, never for announced
//! lengths.

use std::borrow::Cow;
use std::fmt::Write;

use bytes::Bytes;
use bytestring::ByteString;
use rmp::Marker;

use super::super::event_name::event_name;
use super::super::packet::{Args, Packet, Spans, span};
use super::super::{DecodeError, NESTING_MAX};
use super::ATTACHMENTS_MAX;
use crate::ids::NamespacePath;

/// Decodes one packet. Attachments share the message's buffer, and text is copied.
///
/// Checks what the reference parser checks: type, namespace, type of the data, and id. Also checks
/// the event name, the nesting depth, and that an ack has an id, as the text parser does.
///
/// # Errors
/// Any [`DecodeError`]. A message in another packet format is also an error.
pub(crate) fn decode(message: &Bytes) -> Result<Packet, DecodeError> {
    let mut reader = Reader { message, at: 0 };
    let envelope = Envelope::read(&mut reader)?;
    if reader.at < message.len() {
        return Err(reader.invalid("trailing bytes after the packet"));
    }
    let namespace = envelope.namespace.ok_or_else(|| wrong("nsp", "a string"))?;
    let namespace = NamespacePath::parse(&namespace).map_err(DecodeError::IllegalNamespace)?;
    let transcript =
        JsonWriter { reader: Reader { message, at: envelope.data_at }, json: String::new(), attachments: Vec::new() };
    match envelope.kind {
        Some(0) => Ok(Packet::Connect { namespace, auth: transcript.connect()? }),
        // The data of a DISCONNECT is ignored.
        Some(1) => Ok(Packet::Disconnect { namespace }),
        Some(2) => {
            let (name, args) = transcript.event()?;
            Ok(Packet::Event { namespace, name, ack: envelope.id, args })
        }
        Some(3) => {
            let id = envelope.id.ok_or(DecodeError::MissingAckId)?;
            Ok(Packet::Ack { namespace, id, args: transcript.ack()? })
        }
        Some(4) => Ok(Packet::ConnectError { namespace, data: transcript.connect_error()? }),
        _ => Err(wrong("type", "an integer from 0 to 4")),
    }
}

/// Namespace path of a CONNECT, unchecked. `None` for other packets.
pub(in crate::protocol::socketio) fn connect_path(message: &Bytes) -> Option<Cow<'_, str>> {
    let envelope = Envelope::read(&mut Reader { message, at: 0 }).ok()?;
    envelope.namespace.filter(|_| envelope.kind == Some(0))
}

/// The fields of a packet. The last of duplicate keys counts, and unknown keys are skipped.
#[derive(Debug, Default)]
struct Envelope<'m> {
    kind: Option<u64>,
    /// Namespace path as received, perhaps invalid.
    namespace: Option<Cow<'m, str>>,
    id: Option<u64>,
    /// Position of the data, or the length of the message if there is no data.
    data_at: usize,
}

impl<'m> Envelope<'m> {
    fn read(reader: &mut Reader<'m>) -> Result<Self, DecodeError> {
        let Item::Map(pairs) = reader.next()? else {
            return Err(wrong("packet", "a msgpack map"));
        };
        let mut envelope = Self { data_at: reader.message.len(), ..Self::default() };
        for _ in 0..pairs {
            match reader.next()? {
                Item::Str(b"type") => envelope.kind = reader.next()?.unsigned(),
                Item::Str(b"nsp") => {
                    let Item::Str(path) = reader.next()? else { return Err(wrong("nsp", "a string")) };
                    envelope.namespace = Some(reader.utf8(path)?);
                }
                Item::Str(b"id") => {
                    envelope.id = match reader.next()? {
                        Item::Undefined => None,
                        item => Some(item.unsigned().ok_or_else(|| wrong("id", "a non-negative integer"))?),
                    }
                }
                Item::Str(b"data") => {
                    envelope.data_at = reader.at;
                    reader.skip()?;
                }
                Item::Str(_) => reader.skip()?,
                _ => return Err(reader.invalid("a packet key that is not a string")),
            }
        }
        Ok(envelope)
    }
}

fn wrong(field: &'static str, expected: &'static str) -> DecodeError {
    DecodeError::WrongField { field, expected }
}

struct JsonWriter<'m> {
    reader: Reader<'m>,
    json: String,
    attachments: Vec<Bytes>,
}

impl JsonWriter<'_> {
    fn connect(mut self) -> Result<Option<ByteString>, DecodeError> {
        match self.reader.data()? {
            Item::Undefined => Ok(None),
            item @ Item::Map(_) => self.whole(item).map(Some),
            _ => Err(DecodeError::WrongAuth),
        }
    }

    fn connect_error(mut self) -> Result<ByteString, DecodeError> {
        match self.reader.data()? {
            item @ (Item::Map(_) | Item::Str(_)) => self.whole(item),
            _ => Err(wrong("data of connect_error", "a map or a string")),
        }
    }

    fn whole(mut self, item: Item<'_>) -> Result<ByteString, DecodeError> {
        self.value(item, 1)?;
        if !self.attachments.is_empty() {
            return Err(DecodeError::WrongAuth);
        }
        Ok(self.json.into())
    }

    fn event(mut self) -> Result<(ByteString, Args), DecodeError> {
        const EXPECTED: &str = "an array that begins with the event's name";
        let count = match self.reader.data()? {
            Item::Array(count @ 1..) => count,
            Item::Array(0) | Item::Undefined => return Err(DecodeError::IllegalEventName),
            _ => return Err(wrong("data of event", EXPECTED)),
        };
        let name = self.reader.next()?;
        self.value(name, 2)?;
        let name_bytes = self.json.len();
        let (json, args) = self.arguments(count - 1)?;
        Ok((event_name(&json, &json[..name_bytes])?, args))
    }

    fn ack(mut self) -> Result<Args, DecodeError> {
        match self.reader.data()? {
            Item::Array(count) => self.arguments(count).map(|(_, args)| args),
            Item::Undefined => Ok(Args::default()),
            _ => Err(wrong("data of ack", "an array")),
        }
    }

    /// Converts the next `count` values to arguments. Returns the JSON text of all values converted
    /// so far (with the name, if this is an event), and the arguments.
    fn arguments(mut self, count: u32) -> Result<(ByteString, Args), DecodeError> {
        let start = self.json.len();
        let mut spans = Spans::new();
        for _ in 0..count {
            if !spans.is_empty() {
                self.json.push(',');
            }
            let from = self.json.len();
            let item = self.reader.next()?;
            self.value(item, 2)?;
            spans.push(span(from - start, self.json.len() - start));
        }
        if u32::try_from(self.json.len()).is_err() {
            return Err(DecodeError::TooLong { bytes: self.json.len() });
        }
        let json = ByteString::from(self.json);
        let text = json.slice_ref(&json[start..]);
        Ok((json, Args::new(text, spans).with_attachments(self.attachments)))
    }

    /// Converts one value that begins with `item`. If the value becomes a JSON container, `depth`
    /// is the nesting depth of that container.
    fn value(&mut self, item: Item<'_>, depth: usize) -> Result<(), DecodeError> {
        let levels = match item {
            Item::Array(_) | Item::Map(_) | Item::Bin(_) => 1,
            Item::Extension(..) => 2,
            _ => 0,
        };
        if depth + levels > NESTING_MAX + 1 {
            return Err(DecodeError::TooDeep);
        }
        match item {
            Item::Nil | Item::Undefined => self.json.push_str("null"),
            Item::Bool(true) => self.json.push_str("true"),
            Item::Bool(false) => self.json.push_str("false"),
            Item::Unsigned(value) => self.print(value),
            Item::Negative(value) => self.print(value),
            Item::Float(value) if value.is_finite() => self.json += &serde_json::Value::from(value).to_string(),
            Item::Float(_) => self.json.push_str("null"),
            Item::Str(bytes) => {
                let text = self.reader.utf8(bytes)?;
                push_string(&mut self.json, &text);
            }
            Item::Bin(bytes) => self.binary(bytes)?,
            Item::Date(milliseconds) => match iso8601(milliseconds) {
                Some(text) => push_string(&mut self.json, &text),
                None => self.json.push_str("null"),
            },
            Item::Extension(kind, bytes) => {
                self.json.push('[');
                self.print(kind);
                self.json.push(',');
                self.binary(bytes)?;
                self.json.push(']');
            }
            Item::Array(count) => {
                self.json.push('[');
                for nth in 0..count {
                    if nth > 0 {
                        self.json.push(',');
                    }
                    let item = self.reader.next()?;
                    self.value(item, depth + 1)?;
                }
                self.json.push(']');
            }
            Item::Map(pairs) => self.object(pairs, depth)?,
        }
        Ok(())
    }

    fn object(&mut self, pairs: u32, depth: usize) -> Result<(), DecodeError> {
        self.json.push('{');
        let mut is_first = true;
        for _ in 0..pairs {
            let key: Cow<'_, str> = match self.reader.next()? {
                // The key is rejected, because the map would become a placeholder. With a few bytes
                // for each such map, a peer could repeat an attachment any number of times.
                Item::Str(b"_placeholder") => return Err(DecodeError::IllegalPlaceholder { attachments: 0 }),
                Item::Str(bytes) => self.reader.utf8(bytes)?,
                Item::Unsigned(value) => value.to_string().into(),
                Item::Negative(value) => value.to_string().into(),
                _ => return Err(self.reader.invalid("a key that is neither a string nor an integer")),
            };
            let item = self.reader.next()?;
            if matches!(item, Item::Undefined) {
                continue;
            }
            if !is_first {
                self.json.push(',');
            }
            is_first = false;
            push_string(&mut self.json, &key);
            self.json.push(':');
            self.value(item, depth + 1)?;
        }
        self.json.push('}');
        Ok(())
    }

    fn binary(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let num = self.attachments.len();
        if num == ATTACHMENTS_MAX {
            return Err(DecodeError::TooManyAttachments { count: num + 1, limit: ATTACHMENTS_MAX });
        }
        self.attachments.push(self.reader.message.slice_ref(bytes));
        self.json.push_str(r#"{"_placeholder":true,"num":"#);
        self.print(num);
        self.json.push('}');
        Ok(())
    }

    fn print(&mut self, integer: impl std::fmt::Display) {
        // Writing into a string cannot fail.
        let _ = write!(self.json, "{integer}");
    }
}

fn push_string(json: &mut String, text: &str) {
    json.push('"');
    if text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        json.push_str(text);
    } else {
        for char in text.chars() {
            match char {
                '"' | '\\' => json.extend(['\\', char]),
                '\0'..='\x1f' => {
                    let _ = write!(json, "\\u{:04x}", u32::from(char));
                }
                _ => json.push(char),
            }
        }
    }
    json.push('"');
}

/// Formats a date in milliseconds since 1970 like JavaScript's `toJSON`. Returns `None` beyond the
/// range of JavaScript's dates.
fn iso8601(milliseconds: i64) -> Option<String> {
    const DAY: i64 = 86_400_000;
    const LAST: i64 = 100_000_000 * DAY;
    if !(-LAST..=LAST).contains(&milliseconds) {
        return None;
    }
    // Converts days to a date in a calendar whose years begin in March, so that a leap day is the
    // last day of a year. The calendar repeats every 400 years.
    let days = milliseconds.div_euclid(DAY) + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = 400 * era + year_of_era + i64::from(month <= 2);
    let rest = milliseconds.rem_euclid(DAY);
    let (hours, minutes, seconds) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60);
    let year = if (0..=9999).contains(&year) { format!("{year:04}") } else { format!("{year:+07}") };
    Some(format!("{year}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{:03}Z", rest % 1_000))
}

/// A msgpack item: a complete scalar, or the header of a container.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Item<'m> {
    Nil,
    Undefined,
    Bool(bool),
    Unsigned(u64),
    Negative(i64),
    Float(f64),
    /// A string that may be invalid UTF-8.
    Str(&'m [u8]),
    Bin(&'m [u8]),
    Date(i64),
    Extension(i8, &'m [u8]),
    /// Header of an array, with the number of its elements.
    Array(u32),
    /// Header of a map, with the number of its pairs.
    Map(u32),
}

impl Item<'_> {
    /// Value of the item if it is a non-negative integer. A double such as 2.0 counts as an
    /// integer, as in JavaScript.
    fn unsigned(self) -> Option<u64> {
        match self {
            Item::Unsigned(value) => Some(value),
            Item::Float(value) if value.fract() == 0.0 && (0.0..9e15).contains(&value) => Some(value as u64),
            _ => None,
        }
    }

    /// Number of direct child items, which follow the header of a container.
    fn children(self) -> u64 {
        match self {
            Item::Array(count) => count.into(),
            Item::Map(pairs) => 2 * u64::from(pairs),
            _ => 0,
        }
    }
}

impl<'m> From<i64> for Item<'m> {
    fn from(value: i64) -> Self {
        u64::try_from(value).map_or(Self::Negative(value), Self::Unsigned)
    }
}

struct Reader<'m> {
    message: &'m Bytes,
    at: usize,
}

impl<'m> Reader<'m> {
    /// Reads the first item of a packet's data. Returns `Undefined` if there is no data.
    fn data(&mut self) -> Result<Item<'m>, DecodeError> {
        if self.at == self.message.len() { Ok(Item::Undefined) } else { self.next() }
    }

    fn next(&mut self) -> Result<Item<'m>, DecodeError> {
        Ok(match Marker::from_u8(self.byte()?) {
            Marker::Reserved => return Err(self.invalid("the marker that msgpack reserves")),
            Marker::Null => Item::Nil,
            Marker::False => Item::Bool(false),
            Marker::True => Item::Bool(true),
            Marker::FixPos(value) => Item::Unsigned(value.into()),
            Marker::U8 => Item::Unsigned(self.number(1)?),
            Marker::U16 => Item::Unsigned(self.number(2)?),
            Marker::U32 => Item::Unsigned(self.number(4)?),
            Marker::U64 => Item::Unsigned(self.number(8)?),
            Marker::FixNeg(value) => i64::from(value).into(),
            Marker::I8 => i64::from(i8::from_be_bytes(self.array()?)).into(),
            Marker::I16 => i64::from(i16::from_be_bytes(self.array()?)).into(),
            Marker::I32 => i64::from(i32::from_be_bytes(self.array()?)).into(),
            Marker::I64 => i64::from_be_bytes(self.array()?).into(),
            Marker::F32 => Item::Float(f32::from_be_bytes(self.array()?).into()),
            Marker::F64 => Item::Float(f64::from_be_bytes(self.array()?)),
            Marker::FixStr(bytes) => Item::Str(self.take(bytes.into())?),
            Marker::Str8 => Item::Str(self.sized(1)?),
            Marker::Str16 => Item::Str(self.sized(2)?),
            Marker::Str32 => Item::Str(self.sized(4)?),
            Marker::Bin8 => Item::Bin(self.sized(1)?),
            Marker::Bin16 => Item::Bin(self.sized(2)?),
            Marker::Bin32 => Item::Bin(self.sized(4)?),
            Marker::FixArray(count) => Item::Array(count.into()),
            Marker::Array16 => Item::Array(self.number(2)? as u32),
            Marker::Array32 => Item::Array(self.number(4)? as u32),
            Marker::FixMap(pairs) => Item::Map(pairs.into()),
            Marker::Map16 => Item::Map(self.number(2)? as u32),
            Marker::Map32 => Item::Map(self.number(4)? as u32),
            Marker::FixExt1 => self.fixed_extension(1)?,
            Marker::FixExt2 => self.fixed_extension(2)?,
            Marker::FixExt4 => self.fixed_extension(4)?,
            Marker::FixExt8 => self.fixed_extension(8)?,
            Marker::FixExt16 => self.fixed_extension(16)?,
            Marker::Ext8 => self.extension(1)?,
            Marker::Ext16 => self.extension(2)?,
            Marker::Ext32 => self.extension(4)?,
        })
    }

    fn fixed_extension(&mut self, bytes: usize) -> Result<Item<'m>, DecodeError> {
        let kind = self.byte()? as i8;
        Ok(match (self.take(bytes)?, kind) {
            ([_], 0) => Item::Undefined,
            (&[a, b, c, d, e, f, g, h], 0) => Item::Date(i64::from_be_bytes([a, b, c, d, e, f, g, h])),
            (data, kind) => Item::Extension(kind, data),
        })
    }

    fn extension(&mut self, width: usize) -> Result<Item<'m>, DecodeError> {
        let bytes = self.number(width)? as usize;
        let kind = self.byte()? as i8;
        let data = self.take(bytes)?;
        Ok(if kind == 0 { Item::Bin(data) } else { Item::Extension(kind, data) })
    }

    /// Skips one value of any depth.
    fn skip(&mut self) -> Result<(), DecodeError> {
        // `left` cannot overflow: a header of five bytes announces at most 2^33 items, so the
        // message ends first.
        let mut left = 1_u64;
        while left > 0 {
            left = left - 1 + self.next()?.children();
        }
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        self.array().map(|[byte]: [u8; 1]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.message[self.at..].first_chunk().ok_or_else(|| self.invalid("an end"))?;
        self.at += N;
        Ok(*bytes)
    }

    fn take(&mut self, bytes: usize) -> Result<&'m [u8], DecodeError> {
        let message: &'m [u8] = self.message;
        let (taken, _) = message[self.at..].split_at_checked(bytes).ok_or_else(|| self.invalid("an end"))?;
        self.at += bytes;
        Ok(taken)
    }

    /// Reads a length of `width` bytes and the bytes after it.
    fn sized(&mut self, width: usize) -> Result<&'m [u8], DecodeError> {
        let bytes = self.number(width)?;
        self.take(bytes as usize)
    }

    fn number(&mut self, width: usize) -> Result<u64, DecodeError> {
        Ok(self.take(width)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// Decodes text. As in JSON, lone surrogates become U+FFFD.
    fn utf8<'b>(&self, bytes: &'b [u8]) -> Result<Cow<'b, str>, DecodeError> {
        if let Ok(text) = std::str::from_utf8(bytes) {
            return Ok(text.into());
        }
        let mut replaced = bytes.to_vec();
        let mut at = 0;
        while at + 3 <= replaced.len() {
            if matches!(replaced[at..at + 3], [0xed, 0xa0..=0xbf, 0x80..=0xbf]) {
                replaced[at..at + 3].copy_from_slice("\u{fffd}".as_bytes());
                at += 2;
            }
            at += 1;
        }
        String::from_utf8(replaced).map(Cow::Owned).map_err(|_| self.invalid("a string that is not UTF-8"))
    }

    fn invalid(&self, found: &'static str) -> DecodeError {
        DecodeError::InvalidMsgpack { at: self.at, found }
    }
}
