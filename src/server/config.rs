//! The configuration of `stentor serve`: flags, or `STENTOR_*` in the environment; flags win.

use std::net::IpAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{Builder, Recovery, Server};
use crate::limits::Limits;

/// Whether events are kept for clients that come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RecoveryMode {
    /// Nothing is kept.
    Off,
    /// Kept in memory, gone with the process.
    Memory,
}

/// What `stentor serve` can be told. Durations are written like `25s`, `500ms` or `2m`.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Address to listen on.
    #[arg(long, env = "STENTOR_HOST", default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// Port to listen on; 0 takes a free one and tells which.
    #[arg(long, env = "STENTOR_PORT", default_value_t = 3000)]
    pub port: u16,
    /// Worker threads; one per core if not given.
    #[arg(long, env = "STENTOR_WORKERS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Path that clients connect to.
    #[arg(long, env = "STENTOR_PATH", default_value = "/socket.io", value_parser = path)]
    pub path: String,
    /// Between the server's pings.
    #[arg(long, env = "STENTOR_PING_INTERVAL", default_value = "25s", value_parser = duration)]
    pub ping_interval: Duration,
    /// From a ping to its pong, before the connection counts as dead.
    #[arg(long, env = "STENTOR_PING_TIMEOUT", default_value = "20s", value_parser = duration)]
    pub ping_timeout: Duration,
    /// Largest message a client may send, in bytes.
    #[arg(long, env = "STENTOR_MAX_PAYLOAD", default_value_t = 1_000_000, value_parser = payload)]
    pub max_payload: usize,
    /// Whether events are kept for clients that come back.
    #[arg(long, env = "STENTOR_RECOVERY", value_enum, default_value_t = RecoveryMode::Off)]
    pub recovery: RecoveryMode,
    /// What is logged: error, warn, info, debug, trace, or a filter such as `stentor=debug`.
    #[arg(long, env = "STENTOR_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
}

impl Config {
    /// The server that this configuration describes.
    pub fn builder(&self) -> Builder {
        let limits = Limits {
            ping_interval: self.ping_interval,
            ping_timeout: self.ping_timeout,
            payload_bytes_max: self.max_payload,
            poll_bytes_max: self.max_payload,
            ..Limits::default()
        };
        let recovery = match self.recovery {
            RecoveryMode::Off => Recovery::off(),
            RecoveryMode::Memory => Recovery::memory(),
        };
        Server::builder().path(&self.path).recovery(recovery).limits(limits)
    }
}

fn duration(value: &str) -> Result<Duration, String> {
    match humantime::parse_duration(value) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(format!("{value:?}: expected a duration such as \"25s\"")),
    }
}

fn path(value: &str) -> Result<String, String> {
    let trimmed = value.strip_suffix('/').unwrap_or(value);
    if trimmed.len() > 1 && trimmed.starts_with('/') && !trimmed.contains(['?', '#', '{', '}']) {
        Ok(trimmed.to_owned())
    } else {
        Err(format!("{value:?}: expected a path such as \"/socket.io\""))
    }
}

fn payload(value: &str) -> Result<usize, String> {
    const RANGE: std::ops::RangeInclusive<usize> = 1_000..=100_000_000;
    match value.parse() {
        Ok(bytes) if RANGE.contains(&bytes) => Ok(bytes),
        _ => Err(format!("{value:?}: expected a number of bytes from {} to {}", RANGE.start(), RANGE.end())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_values_are_told_with_what_was_expected() {
        assert_eq!(duration("25").unwrap_err(), "\"25\": expected a duration such as \"25s\"");
        assert_eq!(duration("0s").unwrap_err(), "\"0s\": expected a duration such as \"25s\"");
        assert_eq!(duration("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(path("socket.io").unwrap_err(), "\"socket.io\": expected a path such as \"/socket.io\"");
        assert_eq!(path("/io/"), Ok("/io".into()));
        assert!(payload("12").is_err());
        assert_eq!(payload("1000000"), Ok(1_000_000));
    }
}
