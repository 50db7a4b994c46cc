//! The telephone book: every arrow between actors is a type here, and every type says who sends it and why.
//!
//! ```text
//! transport ──SessionCommand──▶ session ──HubCommand (one batch a turn)───────────▶ hub
//! handles   ──Request─────────▶ session, server sender                              │
//!                               session ◀──SessionCommand── fanout ◀──FanoutCommand─┘  one channel from hub to worker
//! ```
//!
//! Mailboxes are bounded by what each message's own protocol allows (credit, one poll, one POST), said at each type.

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
