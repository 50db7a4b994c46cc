//! Websockets. Two ways to a session: a raw socket that the session owns, and (inside a host application) a pump.

mod close;
pub(crate) mod frames;
mod inbound;
mod negotiation;
pub(crate) mod pump;
pub(crate) mod raw;
