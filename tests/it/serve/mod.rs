//! The HTTP beside the hub, and the binary itself.

mod metrics;
mod page;
mod status;
