//! Websockets: a raw socket that the session owns, and a pump inside a host application.

mod close;
pub(crate) mod frame_reader;
mod inbound;
mod negotiation;
pub(crate) mod pump;
pub(crate) mod raw;
