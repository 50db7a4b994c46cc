//! Internal access for benchmarks, and clients without sockets.
//!
//! Exists only with the feature `bench-internals`, which is no part of the API: it may change with
//! any version.

pub mod codec;
pub mod journal;
pub mod line;
pub mod queue;
pub mod rooms;
