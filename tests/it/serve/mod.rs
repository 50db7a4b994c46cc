//! The HTTP beside the hub, and the binary itself.

mod api;
mod binary;
mod journal_tool;
mod metrics;
mod page;
mod process;
mod protocol;
mod rate;
mod slow;
mod status;
mod vocabulary;
