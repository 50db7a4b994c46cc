//! The wire format: encoding and decoding of Engine.IO v4 and Socket.IO v5.
//!
//! Pure functions over bytes and text. Any input from a peer decodes to a packet or an error, and
//! never causes a panic.

pub(crate) mod draft;
pub(crate) mod encoded;
pub(crate) mod engineio;
pub(crate) mod label;
pub(crate) mod reason;
pub(crate) mod socketio;
