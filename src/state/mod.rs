//! Sans-IO machines: what a session, an outbox, a room table or the hub's pipeline does, without doing any of it.
//!
//! **Invariant**: no clock, no randomness, no logging, no async, no actix. Time arrives as `now`.

pub mod acks;
pub mod credit;
pub mod heartbeat;
pub mod inbox;
pub mod outbox;
pub mod pipeline;
pub mod rooms;
pub mod session;
pub mod upgrade;
