//! The messages between actors, each with its sender and its bound.
//!
//! ```text
//! transport ──SessionCommand──▶ session ──HubCommand (one batch per turn)───▶ hub
//! handles   ──Request─────────▶ session, server sender                        │
//!                               session ◀─SessionCommand─ fanout ◀─FanoutCommand
//! ```
//!
//! The fanout is the only channel from the hub to a worker.
//!
//! Mailboxes are bounded: for each type of message, a protocol (credit, one poll, one POST) limits
//! the number of messages in flight. The type documents its protocol.

pub(crate) mod abort;
pub(crate) mod answer;
pub(crate) mod attachment;
pub(crate) mod event;
pub(crate) mod extensions;
pub(crate) mod fanout;
pub(crate) mod handshake;
pub(crate) mod hub;
pub(crate) mod room_change;
pub(crate) mod room_filter;
pub(crate) mod session;
pub(crate) mod sink;
pub(crate) mod socket;
pub(crate) mod subscribers;
