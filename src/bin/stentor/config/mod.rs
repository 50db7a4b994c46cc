//! The configuration of `stentor serve`: a file, then `STENTOR_*` in the environment, then flags; the last one counts.
//!
//! Here stands what a configuration is, and the server that it describes. `keys` is the table of settings, `load` puts
//! the three sources together, `text` explains.

mod keys;
mod load;
mod text;
mod value;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use stentor::{Builder, Cookie, Cors, Limits, Parser, Recovery, RecoveryClients, SameSite, Server};

use self::load::RECORD_BYTES;
use super::http::ApiLimits;
use super::secret::Secret;

pub(crate) use self::load::{Effective, flags, load};
pub(crate) use self::text::{default_file, explain};

/// Whether events are kept for clients that come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecoveryMode {
    /// Nothing is kept.
    Off,
    /// Kept in memory, gone with the process.
    Memory,
    /// Kept in files, which outlive the process.
    Disk,
}

/// What `stentor serve` can be told. `stentor config explain <key>` says what each setting means.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Address to listen on.
    pub(crate) host: IpAddr,
    /// Port to listen on; 0 takes a free one.
    pub(crate) port: u16,
    /// Worker threads; `None` is one per core.
    pub(crate) workers: Option<u16>,
    /// Path that clients connect to.
    pub(crate) path: String,
    /// Namespaces served beside `/`.
    pub(crate) namespaces: Vec<String>,
    /// Whether events are kept.
    pub(crate) recovery: RecoveryMode,
    /// Folder of what is kept on disk.
    pub(crate) data_dir: PathBuf,
    /// Which clients are recoverable.
    pub(crate) recovery_clients: RecoveryClients,
    /// How packets travel.
    pub(crate) parser: Parser,
    /// What is logged.
    pub(crate) log_level: String,
    /// Key of the HTTP API; without one nobody may use it.
    pub(crate) api_key: Option<Secret>,
    /// Origins whose pages may connect; `*` is any.
    pub(crate) cors_origins: Vec<String>,
    /// Whether websockets of pages of other sites are refused.
    pub(crate) origins_guard: bool,
    /// Hosts that requests may name; `*` is any. Empty: it depends on the address.
    pub(crate) allowed_hosts: Vec<String>,
    /// Whether those pages may send cookies.
    pub(crate) cors_credentials: bool,
    /// Addresses and networks of proxies that are believed about clients.
    pub(crate) trusted_proxies: Vec<String>,
    /// Name of a cookie with the session's id, if one is to be set.
    pub(crate) cookie: Option<String>,
    /// Whether the cookie is for encrypted connections alone.
    pub(crate) cookie_secure: bool,
    /// The SameSite attribute of the cookie.
    pub(crate) cookie_same_site: SameSite,
    /// How long to take for closing connections at the end.
    pub(crate) drain: Duration,
    /// Largest message in either direction of a request, in bytes.
    pub(crate) max_payload: usize,
    pub(crate) api: ApiLimits,
    /// The other bounds.
    pub(crate) limits: Limits,
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
            cookie_same_site: SameSite::Lax,
            drain: Duration::from_secs(1),
            max_payload: limits.transport.payload_bytes_max,
            api: ApiLimits::default(),
            limits,
        }
    }
}

impl Config {
    /// The server that this configuration describes.
    pub(crate) fn builder(&self) -> Builder {
        let mut limits = self.limits.clone();
        limits.transport.payload_bytes_max = self.max_payload;
        limits.transport.poll_bytes_max = self.max_payload;
        // Clients publish themselves here: one session must not turn the journal under all others.
        limits.journal.sender_bytes_max.get_or_insert_with(|| self.journal_share());
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
            let cookie = Cookie::default().name(name).same_site(self.cookie_same_site);
            builder = builder.cookie(if self.cookie_secure { cookie.secure() } else { cookie });
        }
        if !self.cors_origins.is_empty() {
            let any = self.cors_origins.iter().any(|origin| origin == "*");
            let cors = if any { Cors::any_origin() } else { Cors::origins(self.cors_origins.clone()) };
            builder = builder.cors(if self.cors_credentials { cors.credentials() } else { cors });
        }
        builder
    }

    /// An eighth of what the journal holds, in bytes; at least 1 MiB and the largest event, which must not make its sender wait.
    fn journal_share(&self) -> usize {
        let limits = &self.limits;
        let held = match self.recovery {
            // The server gives a journal in memory an eighth of its memory at most.
            RecoveryMode::Memory => {
                limits.memory.bytes_max.map_or(usize::MAX, |memory| memory / 8).min(limits.journal.bytes_max)
            }
            _ => limits.journal.segments_max.saturating_sub(1).saturating_mul(limits.journal.segment_bytes),
        };
        (held / 8).max(1 << 20).max(self.max_payload + RECORD_BYTES)
    }
}
