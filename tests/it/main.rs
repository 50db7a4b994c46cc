//! Tests of the whole hub over real sockets: literal bytes of a client, and the bytes that it
//! receives.
//!
//! All modules form one binary, because every binary links actix. `support` holds hubs and clients;
//! the other modules hold tests.

#![cfg(feature = "serve")]
// A panic is the report of a test, so tests may unwrap. Clippy exempts only functions marked
// `#[test]`.
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
mod ports;
mod queue;
mod queue_subscribers;
mod serve;
mod socketio;
mod support;
mod upgrade;
