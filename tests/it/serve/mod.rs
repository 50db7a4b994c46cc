//! Tests of `stentor serve`: its HTTP resources and the binary.

mod addresses;
mod api;
mod api_clients;
mod api_keys;
mod binary;
mod data_dir;
mod hooks;
mod journal_tool;
mod listeners;
mod log_lines;
mod metrics;
mod origins;
mod page;
mod process;
mod protocol;
mod queue_folder;
mod queue_http;
mod queue_tool;
mod rate;
mod reload;
mod slow;
mod status;
mod subscribers;
mod tls;
mod tokens;
mod vocabulary;
