//! Sans-IO state machines of sessions, outboxes, rooms and budgets.
//!
//! **Invariant**: these modules use no clock, randomness, logging, async code or actix. Callers
//! pass the time as `now`.

pub(crate) mod acks;
pub(crate) mod budget;
pub(crate) mod credit;
pub(crate) mod heartbeat;
pub(crate) mod inbox;
pub(crate) mod lazy_queue;
pub(crate) mod memberships;
pub(crate) mod outbox;
pub(crate) mod rate;
pub(crate) mod rooms;
pub(crate) mod schedule;
pub(crate) mod session;
pub(crate) mod shares;
pub(crate) mod sockets;
pub(crate) mod upgrade;
