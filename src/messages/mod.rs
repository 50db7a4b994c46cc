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
//! Mailboxes are bounded by the protocol of each message (credit, one poll, one POST), which its
//! type documents.

pub(crate) mod abort;
pub(crate) mod answer;
pub(crate) mod event;
pub(crate) mod extensions;
pub(crate) mod fanout;
pub(crate) mod handshake;
pub(crate) mod hub;
pub(crate) mod room_change;
pub(crate) mod session;
pub(crate) mod sink;
pub(crate) mod socket;
