//! The configuration of `stentor serve`: a file, then `STENTOR_*` in the environment, then flags; the last one counts.
//!
//! Here stands what a configuration is, and the server that it describes. `keys` is the table of settings, `load` puts
//! the three sources together, `text` explains.

mod keys;
mod load;
mod text;
mod value;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use super::{Builder, Recovery, Server};
use crate::api::recovery_clients::RecoveryClients;
use crate::limits::Limits;
use crate::protocol::socketio::Parser;
use crate::transport::cookie::{Cookie, SameSite};
use crate::transport::cors::Cors;

pub use self::load::{ConfigError, Effective, Problem, flags, load};
pub use self::text::{default_file, explain};

/// Whether events are kept for clients that come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecoveryMode {
    /// Nothing is kept.
    Off,
    /// Kept in memory, gone with the process.
    Memory,
    /// Kept in files, which outlive the process.
    Disk,
}

impl RecoveryMode {
    fn parse(text: &str) -> Option<Self> {
        [Self::Off, Self::Memory, Self::Disk].into_iter().find(|mode| mode.as_str() == text)
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }
}

/// A text that nobody may read off a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether it is this text. Takes the same time wherever the two differ; their lengths may show.
    pub fn matches(&self, guess: &str) -> bool {
        subtle::ConstantTimeEq::ct_eq(self.0.as_bytes(), guess.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("********")
    }
}

/// What `stentor serve` can be told. `stentor config explain <key>` says what each setting means.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Address to listen on.
    pub host: IpAddr,
    /// Port to listen on; 0 takes a free one.
    pub port: u16,
    /// Worker threads; `None` is one per core.
    pub workers: Option<u16>,
    /// Path that clients connect to.
    pub path: String,
    /// Namespaces served beside `/`.
    pub namespaces: Vec<String>,
    /// Whether events are kept.
    pub recovery: RecoveryMode,
    /// Folder of what is kept on disk.
    pub data_dir: PathBuf,
    /// Which clients are recoverable.
    pub recovery_clients: RecoveryClients,
    /// How packets travel.
    pub parser: Parser,
    /// What is logged.
    pub log_level: String,
    /// Key of the HTTP API; without one nobody may use it.
    pub api_key: Option<Secret>,
    /// Origins whose pages may connect; `*` is any.
    pub cors_origins: Vec<String>,
    /// Whether websockets of pages of other sites are refused.
    pub origins_guard: bool,
    /// Hosts that requests may name; `*` is any. Empty: it depends on the address.
    pub allowed_hosts: Vec<String>,
    /// Whether those pages may send cookies.
    pub cors_credentials: bool,
    /// Addresses and networks of proxies that are believed about clients.
    pub trusted_proxies: Vec<String>,
    /// Name of a cookie with the session's id, if one is to be set.
    pub cookie: Option<String>,
    /// Whether the cookie is for encrypted connections alone.
    pub cookie_secure: bool,
    /// `strict`, `lax` or `none`.
    pub cookie_same_site: String,
    /// How long to take for closing connections at the end.
    pub drain: Duration,
    /// Largest message in either direction of a request, in bytes.
    pub max_payload: usize,
    /// The other bounds.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            host: Ipv4Addr::LOCALHOST.into(),
            port: 3000,
            workers: None,
            path: "/socket.io".into(),
            namespaces: Vec::new(),
            recovery: RecoveryMode::Disk,
            data_dir: "stentor-data".into(),
            recovery_clients: RecoveryClients::Auto,
            parser: Parser::Json,
            log_level: "info".into(),
            api_key: None,
            cors_origins: Vec::new(),
            origins_guard: true,
            allowed_hosts: Vec::new(),
            cors_credentials: false,
            trusted_proxies: Vec::new(),
            cookie: None,
            cookie_secure: false,
            cookie_same_site: "lax".into(),
            drain: Duration::from_secs(1),
            max_payload: limits.payload_bytes_max,
            limits,
        }
    }
}

impl Config {
    /// The server that this configuration describes.
    pub fn builder(&self) -> Builder {
        let mut limits =
            Limits { payload_bytes_max: self.max_payload, poll_bytes_max: self.max_payload, ..self.limits.clone() };
        // Clients publish themselves here: one of them must not turn the journal under all others.
        limits.journal_sender_bytes_max.get_or_insert_with(|| self.journal_share());
        let recovery = match self.recovery {
            RecoveryMode::Off => Recovery::off(),
            RecoveryMode::Memory => Recovery::memory(),
            RecoveryMode::Disk => Recovery::disk(&self.data_dir),
        };
        let recovery = recovery.clients(self.recovery_clients);
        let builder = Server::builder().path(&self.path).recovery(recovery).parser(self.parser).limits(limits);
        let mut builder = builder.trusted_proxies(self.trusted_proxies.clone());
        if self.origins_guard {
            builder = builder.guard_origins();
        }
        if !self.allowed_hosts.is_empty() {
            builder = builder.allowed_hosts(self.allowed_hosts.clone());
        }
        if let Some(name) = &self.cookie {
            let same_site = keys::same_site(&self.cookie_same_site).unwrap_or(SameSite::Lax);
            let cookie = Cookie::default().name(name).same_site(same_site);
            builder = builder.cookie(if self.cookie_secure { cookie.secure() } else { cookie });
        }
        if !self.cors_origins.is_empty() {
            let any = self.cors_origins.iter().any(|origin| origin == "*");
            let cors = if any { Cors::any_origin() } else { Cors::origins(self.cors_origins.clone()) };
            builder = builder.cors(if self.cors_credentials { cors.credentials() } else { cors });
        }
        builder
    }

    /// An eighth of what the journal holds, in bytes; 1 MiB at least, so that one event of the largest size never spends it.
    fn journal_share(&self) -> usize {
        let held = match self.recovery {
            RecoveryMode::Memory => self.limits.journal_bytes_max,
            _ => self.limits.journal_segments_max.saturating_sub(1).saturating_mul(self.limits.journal_segment_bytes),
        };
        (held / 8).max(1 << 20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_compared_whole_and_not_printed() {
        let secret = Secret::new("0123456789abcdef");
        assert!(secret.matches("0123456789abcdef"));
        for guess in ["", "0123456789abcde", "0123456789abcdeF", "0123456789abcdef0"] {
            assert!(!secret.matches(guess), "{guess:?}");
        }
        assert_eq!(format!("{secret:?}"), "********");
    }
}
