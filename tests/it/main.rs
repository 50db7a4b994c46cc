//! The hub as a whole, over real sockets: what a client sends, byte for byte, and what it gets back.
//!
//! One binary, since every one links actix. `support` holds the hub and the clients; every other module states facts.

#![cfg(feature = "serve")]
// A test may unwrap: its panic is its report. Clippy sees only functions marked `#[test]` as tests.
#![allow(clippy::unwrap_used)]

mod catching_up;
mod closing;
mod cors;
mod embedding;
mod handshake_policy;
mod handshakes;
mod heartbeat;
mod http;
mod order;
mod peers;
mod serve;
mod socketio;
mod support;
mod upgrade;
