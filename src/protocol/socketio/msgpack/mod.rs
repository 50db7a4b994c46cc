//! Socket.IO packets as msgpack maps: what `socket.io-msgpack-parser` 3.0.2 (with notepack.io 2.2.0) writes and reads.
//!
//! One packet is one binary message, `{type, data, nsp[, id]}`; binary data stands inline. Inside the hub arguments stay
//! JSON text and attachments, so this is a translation at the edge, in both directions. Refuses to be a msgpack library:
//! it knows what JavaScript's values become, and no further extension.
//!
//! What msgpack can say and JSON cannot becomes what `JSON.stringify` makes of it:
//!
//! | msgpack | arguments |
//! |---|---|
//! | NaN, infinities | `null` |
//! | undefined (fixext 1 of type 0) | `null`, and nothing as the value of a key |
//! | a date (fixext 8 of type 0) | its ISO 8601 text, `null` if JavaScript has no such date |
//! | binary, also as an ArrayBuffer (ext of type 0) | a placeholder and an attachment |
//! | any other extension | `[type, binary]`, as notepack.io reads it |
//! | integers | their digits, all of them; JavaScript reads the nearest double, in JSON as well |
//! | a key that is an integer | its digits; any other key that is no string is an error |
//! | a lone surrogate, as the three bytes that UTF-8 would have for it | U+FFFD |
//! | any other string that is not UTF-8 | an error: clients do not write it |
//! | a map with the key `_placeholder` | an error of that packet alone: in the arguments it would stand for an attachment |
//! | binary in the credentials of a CONNECT | an error: they have no attachments |
//!
//! In the other direction JSON numbers become integers where they are written as such and fit into 64 bits, else
//! doubles; a lone surrogate becomes U+FFFD. Objects that look like placeholders are placeholders, as with the JSON parser;
//! but an attachment is written once, and a further placeholder for it becomes nil.

mod read;
mod write;

pub(super) use read::connect_path;
pub(crate) use read::decode;
pub(crate) use write::{Values, put_array, put_map, put_str, put_unsigned};

/// Most attachments of a packet. There is no such limit on this wire; ours keeps two bytes of a peer from becoming a
/// placeholder's thirty without bound.
pub(crate) const ATTACHMENTS_MAX: usize = 1_024;

#[cfg(test)]
mod tests;
