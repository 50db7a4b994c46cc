//! Configuration of `stentor serve`, from a file, the environment (`STENTOR_*`) and flags.
//!
//! `keys` is the table of settings, `load` merges the sources, `contradictions` checks the settings
//! against each other, `listen` reads addresses, `live` has the settings that can change while the
//! server runs, `retention` reads rules of the queue, and `text` explains settings.

mod access;
mod contradictions;
mod keys;
mod listen;
mod live;
mod load;
mod retention;
mod text;
mod tokens;
mod value;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use stentor::{
    Auth, Builder, Cookie, Cors, DefaultAccess, Limits, Parser, Queue, Recovery, RecoveryClients, SameSite, Server,
};

use self::contradictions::RECORD_BYTES;
use self::tokens::TokenSettings;
use super::data_dir;
use super::hooks::HookSettings;
use super::http::{ApiKey, ApiLimits, ApiSettings, Scopes};
use super::logging::LogFormat;
use super::secret::Secret;
use super::vocabulary::Access;

pub(crate) use self::listen::{ListenAddress, ListenPlace};
pub(crate) use self::load::{ConfigError, Effective, flags, load, some_flags};
pub(crate) use self::text::{default_file, explain};
pub(crate) use self::tokens::TokenSettingError;
pub(crate) use self::value::Named;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Storage {
    Off,
    Memory,
    Disk,
}

/// Clients that may be subscribers of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SubscriberAccess {
    Off,
    /// Every client under any name.
    Open,
    /// Clients with a signature of their name.
    Signed,
    /// Clients with a token, under the name of their user.
    Token,
}

/// Origins of pages that a server on this machine delivers, such as the server of a bundler.
const PAGES_OF_THIS_MACHINE: [&str; 8] = [
    "http://localhost:*",
    "http://*.localhost:*",
    "http://127.0.0.1:*",
    "http://[::1]:*",
    "https://localhost:*",
    "https://*.localhost:*",
    "https://127.0.0.1:*",
    "https://[::1]:*",
];

/// Values of all settings. Their descriptions are in `keys`.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) host: IpAddr,
    pub(crate) port: u16,
    /// Addresses to listen on. If empty, `host` and `port` are used.
    pub(crate) listen: Vec<String>,
    pub(crate) internal_listen: Option<String>,
    pub(crate) tls_certificate_file: Option<PathBuf>,
    pub(crate) tls_key_file: Option<PathBuf>,
    pub(crate) workers: Option<u16>,
    pub(crate) path: String,
    pub(crate) namespaces: Vec<String>,
    pub(crate) recovery: Storage,
    pub(crate) data_dir: PathBuf,
    /// Unset for the default, which [`Config::queue_storage`] has.
    pub(crate) queue: Option<Storage>,
    /// Unset for the default, which [`Config::subscriber_access`] has.
    pub(crate) subscribers: Option<SubscriberAccess>,
    pub(crate) subscriber_key: Option<Secret>,
    /// Unset for the default, which [`Config::admits_anonymous`] has.
    pub(crate) anonymous: Option<bool>,
    /// Unset for the default, which [`Config::access_rules`] has, as `publish_default`.
    pub(crate) join_default: Option<DefaultAccess>,
    pub(crate) publish_default: Option<DefaultAccess>,
    pub(crate) user_rooms: bool,
    pub(crate) recovery_clients: RecoveryClients,
    pub(crate) parser: Parser,
    pub(crate) log_level: String,
    pub(crate) log_format: LogFormat,
    pub(crate) api_key: Option<Secret>,
    pub(crate) api_keys: Vec<ApiKey>,
    pub(crate) tokens: TokenSettings,
    pub(crate) cors_origins: Vec<String>,
    pub(crate) origins_guard: bool,
    pub(crate) allowed_hosts: Vec<String>,
    pub(crate) cors_credentials: bool,
    pub(crate) trusted_proxies: Vec<String>,
    pub(crate) allowed_addresses: Vec<String>,
    pub(crate) denied_addresses: Vec<String>,
    pub(crate) cookie: Option<String>,
    pub(crate) cookie_secure: bool,
    pub(crate) cookie_same_site: SameSite,
    pub(crate) drain: Duration,
    pub(crate) max_payload: usize,
    pub(crate) api: ApiLimits,
    pub(crate) hooks: HookSettings,
    pub(crate) limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            host: Ipv4Addr::LOCALHOST.into(),
            port: 3000,
            listen: Vec::new(),
            internal_listen: None,
            tls_certificate_file: None,
            tls_key_file: None,
            workers: None,
            path: "/socket.io".into(),
            namespaces: Vec::new(),
            recovery: Storage::Disk,
            data_dir: "stentor-data".into(),
            queue: None,
            subscribers: None,
            subscriber_key: None,
            anonymous: None,
            join_default: None,
            publish_default: None,
            user_rooms: true,
            recovery_clients: RecoveryClients::Auto,
            parser: Parser::Json,
            log_level: "info".into(),
            log_format: LogFormat::Text,
            api_key: None,
            api_keys: Vec::new(),
            tokens: TokenSettings::default(),
            cors_origins: Vec::new(),
            origins_guard: true,
            allowed_hosts: Vec::new(),
            cors_credentials: false,
            trusted_proxies: Vec::new(),
            allowed_addresses: Vec::new(),
            denied_addresses: Vec::new(),
            cookie: None,
            cookie_secure: false,
            cookie_same_site: SameSite::Lax,
            drain: Duration::from_secs(1),
            max_payload: limits.transport.payload_bytes_max,
            api: ApiLimits::default(),
            hooks: HookSettings::default(),
            limits,
        }
    }
}

impl Config {
    /// Returns whether the server keeps anything in its data folder.
    pub(crate) fn uses_disk(&self) -> bool {
        self.recovery == Storage::Disk || self.queue_storage() == Storage::Disk
    }

    /// Number of threads that serve connections.
    pub(crate) fn threads(&self) -> usize {
        self.workers.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from)
    }

    /// Returns a builder for the server with this configuration.
    pub(crate) fn builder(&self) -> Builder {
        let mut limits = self.limits.clone();
        limits.transport.payload_bytes_max = self.max_payload;
        limits.transport.poll_bytes_max = self.max_payload;
        limits.queue.event_bytes_max = limits.queue.event_bytes_max.min(self.largest_event());
        // Limit each session's share of the journal. Clients of this binary may emit events, and
        // one session must not displace the events of all others from the journal.
        limits.journal.sender_bytes_max.get_or_insert_with(|| self.journal_share());
        let recovery = match self.recovery {
            Storage::Off => Recovery::off(),
            Storage::Memory => Recovery::memory(),
            Storage::Disk => Recovery::disk(data_dir::journal(&self.data_dir)),
        };
        let recovery = recovery.clients(self.recovery_clients);
        let queue = match self.queue_storage() {
            Storage::Off => Queue::off(),
            Storage::Memory => Queue::memory(),
            Storage::Disk => Queue::disk(data_dir::queue(&self.data_dir)),
        };
        let builder = Server::builder().path(&self.path).recovery(recovery).queue(queue);
        let builder = builder.parser(self.parser).limits(limits);
        let mut builder = builder.trusted_proxies(self.trusted_proxies.clone());
        builder = builder.allowed_addresses(self.allowed_addresses.clone());
        builder = builder.denied_addresses(self.denied_addresses.clone());
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
        match self.cors() {
            Some(cors) => builder.cors(if self.cors_credentials { cors.credentials() } else { cors }),
            None => builder,
        }
    }

    /// Pages of other origins that may connect. On a server for this machine alone, the default is
    /// the pages of this machine.
    fn cors(&self) -> Option<Cors> {
        match &self.cors_origins {
            none if none.is_empty() => self.serves_this_machine_only().then(|| Cors::origins(PAGES_OF_THIS_MACHINE)),
            origins if origins.iter().any(|origin| origin == "*") => Some(Cors::any_origin()),
            origins => Some(Cors::origins(origins.clone())),
        }
    }

    /// True if only clients of this machine reach the server. Strangers come through a proxy, to
    /// which two settings point.
    fn serves_this_machine_only(&self) -> bool {
        !self.is_public()
    }

    /// Verification of the tokens of clients. `None` if no key of tokens is set.
    pub(crate) fn auth(&self) -> Result<Option<Auth>, TokenSettingError> {
        self.tokens.auth()
    }

    /// Storage of the queue: on disk where recovery is on disk, unless set.
    pub(crate) fn queue_storage(&self) -> Storage {
        self.queue.unwrap_or(if self.recovery == Storage::Disk { Storage::Disk } else { Storage::Off })
    }

    /// Clients that may be subscribers, and the reason. The default is clients with a signature if
    /// there is a key, else clients with a token if there are tokens, else all clients if only this
    /// machine reaches the server, else none.
    pub(crate) fn subscriber_access(&self) -> (SubscriberAccess, &'static str) {
        match (self.queue_storage(), self.subscribers) {
            (Storage::Off, _) => (SubscriberAccess::Off, "queue is off"),
            (_, Some(access)) => (access, "subscribers is set"),
            (_, None) if self.subscriber_key.is_some() => (SubscriberAccess::Signed, "subscriber_key is set"),
            (_, None) if self.tokens.is_set() => (SubscriberAccess::Token, "clients have tokens"),
            (_, None) => match self.exposure() {
                Some(reason) => (SubscriberAccess::Off, reason),
                None => (SubscriberAccess::Open, "host is a loopback address, without a proxy"),
            },
        }
    }

    /// The rule by which clients may be subscribers.
    pub(crate) fn access(&self) -> Access {
        match (self.subscriber_access().0, &self.subscriber_key) {
            (SubscriberAccess::Open, _) => Access::Open,
            (SubscriberAccess::Token, _) => Access::Token,
            (SubscriberAccess::Signed, Some(key)) => Access::Signed(key.clone()),
            // A missing key was refused before.
            (SubscriberAccess::Off | SubscriberAccess::Signed, _) => Access::Off,
        }
    }

    /// Settings of the HTTP API.
    pub(crate) fn api(&self) -> ApiSettings {
        let key = self.api_key.iter().map(|key| ApiKey::new(Scopes::ALL, key));
        let keys = key.chain(self.api_keys.iter().cloned()).collect();
        ApiSettings { keys, limits: self.api.clone(), rules: self.access_rules() }
    }

    /// Bytes of the largest event that a client may send, over a session or the HTTP API.
    fn largest_event(&self) -> usize {
        self.max_payload.max(self.api.body_bytes_max)
    }

    /// Default of each session's share of the journal, in bytes: an eighth of the journal, but at
    /// least 1 MiB, and at least the largest event, so that its sender need not wait.
    fn journal_share(&self) -> usize {
        let limits = &self.limits;
        let held = match self.recovery {
            // A journal in memory uses at most an eighth of the memory limit.
            Storage::Memory => {
                limits.memory.bytes_max.map_or(usize::MAX, |memory| memory / 8).min(limits.journal.bytes_max)
            }
            _ => limits.journal.segments_max.saturating_sub(1).saturating_mul(limits.journal.segment_bytes),
        };
        (held / 8).max(1 << 20).max(self.max_payload + RECORD_BYTES)
    }
}
