//! Internal access for benchmarks: what they measure, and clients without sockets.
//!
//! Exists with the feature `bench-internals` alone, which is no part of the API: it holds for the benches of its own version.
//! Nothing is measured here, nothing here is used by the hub, and nothing does what the hub itself does another way.

pub mod codec;
pub mod journal;
pub mod line;
pub mod queue;
pub mod rooms;
