//! The HTTP beside the hub, and the binary itself.

mod api;
mod binary;
mod metrics;
mod page;
mod rate;
mod status;
mod vocabulary;
