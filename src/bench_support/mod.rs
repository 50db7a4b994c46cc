//! Access to internals for benchmarks, and clients without network sockets.
//!
//! This module exists only with the feature `bench-internals`. It is not part of the public API and
//! may change in any version.

pub mod codec;
pub mod journal;
pub mod line;
pub mod queue;
pub mod queue_writer;
pub mod rooms;
