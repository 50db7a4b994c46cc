//! Socket.IO packets as msgpack maps, compatible with `socket.io-msgpack-parser` 3.0.2 (notepack.io
//! 2.2.0).
//!
//! A packet is one binary message, `{type, data, nsp[, id]}`, which contains binary data inline.
//! Inside the hub, arguments are JSON text and attachments. This module translates in both
//! directions; it supports the values of JavaScript and no other extensions.
//!
//! Values that JSON lacks are converted as `JSON.stringify` does:
//!
//! | msgpack | arguments |
//! |---|---|
//! | NaN, infinities | `null` |
//! | undefined (fixext 1 of type 0) | `null`; omitted as the value of a key |
//! | a date (fixext 8 of type 0) | its ISO 8601 text; `null` if JavaScript has no such date |
//! | binary, also as an ArrayBuffer (ext of type 0) | a placeholder and an attachment |
//! | any other extension | `[type, binary]`, as notepack.io reads it |
//! | integers | all their digits; JavaScript rounds to the nearest double, also in JSON |
//! | an integer as key | its digits; other keys that are not strings are an error |
//! | a lone surrogate, encoded in three bytes | U+FFFD |
//! | other invalid UTF-8 | an error: no client writes it |
//! | a map with the key `_placeholder` | an error of the packet: it would be a placeholder |
//! | binary in the credentials of a CONNECT | an error: they cannot have attachments |
//!
//! In the other direction, JSON numbers become integers if they are written as such and fit into 64
//! bits, and doubles otherwise. A lone surrogate becomes U+FFFD. As with the JSON parser, objects
//! that look like placeholders are placeholders. An attachment is written once; further
//! placeholders for it become nil.

mod read;
mod write;

pub(super) use read::connect_path;
pub(crate) use read::decode;
pub(crate) use write::{Values, put_array, put_map, put_str, put_unsigned};

/// Maximum number of attachments of a packet. The format has no such limit, but two bytes of a
/// message can become a placeholder of thirty bytes.
pub(crate) const ATTACHMENTS_MAX: usize = 1_024;

#[cfg(test)]
mod tests;
