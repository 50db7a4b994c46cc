//! Socket.IO packets as msgpack maps, compatible with `socket.io-msgpack-parser` 3.0.2 (notepack.io
//! 2.2.0).
//!
//! A packet is one binary message, `{type, data, nsp[, id]}`, which contains binary data inline.
//! Inside the hub, arguments are JSON text and attachments. This module converts in both
//! directions.
//!
//! Values that JSON lacks are converted as `JSON.stringify` does:
//!
//! | msgpack | arguments |
//! |---|---|
//! | NaN, infinities | `null` |
//! | undefined (fixext 1 of type 0) | `null`; omitted as the value of a key |
//! | a date (fixext 8 of type 0) | its ISO 8601 text; `null` beyond the range of JavaScript's dates |
//! | binary, also as an ArrayBuffer (ext of type 0) | a placeholder and an attachment |
//! | any other extension | `[type, binary]`, as notepack.io reads it |
//! | integers | all digits; a JavaScript receiver rounds to the nearest double, as in JSON |
//! | an integer as key | its digits; other keys that are not strings are an error |
//! | a lone surrogate, encoded in three bytes | U+FFFD |
//! | other invalid UTF-8 | an error, since no client writes it |
//! | a map with the key `_placeholder` | an error, since the map would become a placeholder |
//! | binary in the credentials of a CONNECT | an error, since credentials cannot have attachments |
//!
//! In the other direction, JSON numbers that are written as integers and fit into 64 bits become
//! integers, except -0. Other numbers become doubles. A lone surrogate becomes U+FFFD. As with the
//! JSON parser, an object in the form of a placeholder is a placeholder. An attachment replaces its
//! first placeholder. Further placeholders for the same attachment become nil.

mod read;
mod write;

pub(super) use read::connect_path;
pub(crate) use read::decode;
pub(crate) use write::{Values, put_array, put_map, put_str, put_unsigned};

/// Maximum number of attachments of a packet. The format has no such limit. This limit bounds
/// memory, since two bytes of a message can become a placeholder of thirty bytes.
pub(crate) const ATTACHMENTS_MAX: usize = 1_024;

#[cfg(test)]
mod tests;
