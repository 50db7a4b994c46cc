//! The wire: what the bytes of Engine.IO v4 and Socket.IO v5 mean, and nothing about what to do with them.
//!
//! Pure functions over bytes and text. Everything a peer can send is a packet or an error value, never a panic; nothing
//! in here knows time, randomness, sessions or sockets.

pub(crate) mod draft;
pub(crate) mod encoded;
pub(crate) mod engineio;
pub(crate) mod label;
pub(crate) mod reason;
pub(crate) mod socketio;
