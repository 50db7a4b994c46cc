//! The table of settings. Flags, environment variables, the file, `explain` and `default` are
//! derived from the table.

use std::net::IpAddr;
use std::time::Duration;

use actix_web::http::header::HeaderName;
use stentor::{Cookie, Cors, DefaultAccess, Limits, NamespacePath, Parser, RecoveryClients, SameSite, Server};

use super::super::hooks::{self, Hook};
use super::super::http::{ApiKey, is_api_key};
use super::super::logging::LogFormat;
use super::listen::ListenAddress;
use super::value::{Field, Form, Named, SHORTEST, Value};
use super::{Config, Storage, SubscriberAccess};

pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) group: &'static Group,
    /// Path of the field in [`Config`], with a dot at the end: `"port."` or
    /// `"limits.recovery.window."`.
    path: &'static str,
    /// Description of the setting. Empty for a limit of the library, since the library has its
    /// description.
    description: &'static str,
    pub(super) form: Form,
    /// True if the value is masked in every output.
    pub(super) is_secret: bool,
    pub(super) put: fn(&mut Config, Value) -> bool,
    value: fn(&Config) -> Value,
    /// Compares the values of two configurations, also of secrets.
    pub(super) differs: fn(&Config, &Config) -> bool,
    /// Copies the value from one configuration to another.
    pub(super) copy: fn(&mut Config, &Config),
}

/// Settings under one heading of `--help` and of the file.
pub(super) struct Group {
    pub(super) heading: &'static str,
    /// True for settings in the section `[tuning]` of the file.
    pub(super) is_tuning: bool,
}

impl Key {
    pub(super) fn show(&self, config: &Config) -> Value {
        match ((self.value)(config), self.form) {
            (Value::Number(bytes), Form::Bytes { .. }) => Value::Bytes(bytes),
            (value, _) => value,
        }
    }

    /// Description in whole sentences. The description of a limit is the first paragraph of its
    /// documentation.
    pub(super) fn description(&self) -> String {
        let path = self.path.trim_end_matches('.').strip_prefix("limits.");
        let limit = path.and_then(|path| Limits::DESCRIPTIONS.iter().find(|(known, _)| *known == path));
        let Some((_, text)) = limit else { return self.description.to_owned() };
        let paragraph = text.lines().map(str::trim).take_while(|line| !line.is_empty());
        paragraph.collect::<Vec<_>>().join(" ").replace('`', "")
    }

    /// Name of the flag without leading dashes, such as `ping-interval`.
    pub(super) fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// Name of the environment variable, such as `STENTOR_PING_INTERVAL`.
    pub(super) fn variable(&self) -> String {
        format!("STENTOR_{}", self.name.to_ascii_uppercase())
    }
}

pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Returns the error text for an unknown key, with the most similar key if there is one.
pub(super) fn unknown(name: &str) -> String {
    let hint = match nearest(name) {
        Some(known) => format!("did you mean {known:?}?"),
        None => "`stentor config explain` lists all keys".to_owned(),
    };
    format!("unknown key {name:?}; {hint}")
}

fn nearest(name: &str) -> Option<&'static str> {
    let name = name.replace('-', "_").to_ascii_lowercase();
    let near = KEYS.iter().map(|key| (strsim::jaro_winkler(&name, key.name), key.name));
    near.filter(|(similarity, _)| *similarity > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

const fn group(heading: &'static str) -> Group {
    Group { heading, is_tuning: false }
}

const fn tuning(heading: &'static str) -> Group {
    Group { heading, is_tuning: true }
}

/// The only group that the short help, `-h`, contains.
pub(super) static BASICS: Group = group("Basics");
static ACCESS: Group = group("HTTP API and access");
static TOKENS: Group = group("Tokens of clients");
static HOOKS: Group = group("Hooks");
static CAPACITY: Group = group("Capacity");
static TIMES: Group = group("Connections");
static QUEUE: Group = group("Queue");
static T_API: Group = tuning("Tuning: HTTP API");
static T_MEMORY: Group = tuning("Tuning: memory of all clients");
static T_CLIENT: Group = tuning("Tuning: one client");
static T_HTTP: Group = tuning("Tuning: HTTP");
static T_TRANSPORT: Group = tuning("Tuning: transports");
static T_HUB: Group = tuning("Tuning: handlers and hub");
static T_RECOVERY: Group = tuning("Tuning: recovery and journal");
static T_QUEUE: Group = tuning("Tuning: queue");

const BYTES_MAX: u64 = 1 << 40;

const fn number(unit: &'static str, least: u64, most: u64) -> Form {
    Form::Number { or_unset: false, unit, least, most }
}

const fn count(unit: &'static str) -> Form {
    number(unit, 1, u32::MAX as u64)
}

const fn unset_or_count(unit: &'static str) -> Form {
    Form::Number { or_unset: true, unit, least: 1, most: u32::MAX as u64 }
}

const fn bytes(least: u64) -> Form {
    Form::Bytes { or_unset: false, least, most: BYTES_MAX }
}

const fn unset_or_bytes(least: u64, most: u64) -> Form {
    Form::Bytes { or_unset: true, least, most }
}

const fn duration(least: Duration) -> Form {
    Form::Duration { least, most: Limits::DURATION_MAX }
}

const DURATION: Form = duration(SHORTEST);

/// Form of ages of what the queue stores.
const AGE: Form = Form::Duration { least: Duration::from_secs(1), most: Limits::AGE_MAX };

/// Form of ping intervals. With shorter intervals, pings alone could keep a server busy.
const PING: Form = duration(Duration::from_millis(100));

const MIB: u64 = 1 << 20;

/// Upper bound of the time limit of hooks. Connection middleware has 20 s in total.
const HOOK_MAX: Duration = Duration::from_secs(15);

/// Upper bound of the limit on a request head. actix-http refuses larger heads in any case.
const HEAD_BYTES_MAX: u64 = 128 << 10;

const NETWORKS: &str = "a list of addresses or networks such as \"127.0.0.1\" or \"10.0.0.0/8\"";

const PROXIES: &str = "a list of addresses or networks such as \"127.0.0.1\" or \"10.0.0.0/8\", or \"unix\"";

macro_rules! keys {
    ($($group:ident $name:ident $($secret:ident)? = $($field:ident).+, $form:expr $(, $description:expr)?;)*) => {
        &[$(Key {
            name: stringify!($name),
            group: &$group,
            path: concat!($(stringify!($field), "."),+),
            description: concat!($($description)?),
            form: $form,
            is_secret: keys!(@secret $($secret)?),
            put: |config, value| config.$($field).+.put(value),
            value: |config| config.$($field).+.show(),
            differs: |a, b| a.$($field).+ != b.$($field).+,
            copy: |to, from| to.$($field).+.clone_from(&from.$($field).+),
        },)*]
    };
    (@secret secret) => { true };
    (@secret) => { false };
}

/// Settings at the top level of the file, followed by those of its section `[tuning]`.
#[rustfmt::skip]
pub(super) const KEYS: &[Key] = keys! {
    BASICS host = host, Form::Text { expected: "an address such as \"127.0.0.1\" or \"::\"", check: |text| text.parse::<IpAddr>().is_ok() },
        "Address to listen on: \"127.0.0.1\" serves this machine alone, \"0.0.0.0\" or \"::\" serves all networks.";
    BASICS port = port, number("", 0, 65_535),
        "Port to listen on; 0 takes a free port, which is printed at start.";
    BASICS listen = listen, Form::List { expected: LISTEN_LIST, check: is_listen_address },
        "Addresses to listen on, in place of host and port. \"[::]\" serves IPv4 too, unless the option v6only follows. The option tls encrypts connections. A name is resolved at start. A path after unix: is a unix socket, which its owner and group may use, unless the option mode follows. \"systemd\" takes the sockets that systemd passes, \"systemd:NAME\" only the sockets of a name.";
    BASICS internal_listen = internal_listen, Form::Text { expected: "an address such as \"127.0.0.1:9090\" or \"unix:/run/stentor/api.sock\"", check: is_listen_address },
        "Address of /api/, /metrics, /healthz and /readyz alone. If set, the other addresses do not have /api/ and /metrics.";
    BASICS tls_certificate_file = tls_certificate_file, Form::Text { expected: "a PEM file", check: |text| !text.is_empty() },
        "PEM file with the certificate of the server and the certificates of its issuers, for addresses with the option tls, or for host and port if listen is not set. The file is read again when it changes.";
    BASICS tls_key_file = tls_key_file, Form::Text { expected: "a PEM file", check: |text| !text.is_empty() },
        "PEM file with the private key of tls_certificate_file. The file is read again when it changes.";
    BASICS workers = workers, number("threads", 1, 1_024),
        "Number of threads that serve connections; one per core if not set.";
    BASICS path = path, Form::Text { expected: "a path such as \"/socket.io\"", check: is_path },
        "Path of the URL that clients connect to.";
    BASICS namespaces = namespaces, Form::List { expected: "a list of namespaces such as \"/chat\"", check: is_namespace },
        "Namespaces served in addition to \"/\", with the same events.";
    BASICS recovery = recovery, Form::Text { expected: "\"off\", \"memory\" or \"disk\"", check: is_name_of::<Storage> },
        "Storage of events for clients that reconnect: \"disk\" keeps them across restarts, \"memory\" until the process ends, \"off\" stores none.";
    BASICS data_dir = data_dir, Form::Text { expected: "a folder", check: |text| !text.is_empty() },
        "Folder of what the server keeps on disk: the journal of recovery = \"disk\" in its subfolder journal, the queue in queue. It is created if it does not exist. Only one server at a time may use it.";
    BASICS recovery_window = limits.recovery.window, DURATION;
    BASICS recovery_clients = recovery_clients, Form::Text { expected: "\"auto\", \"all\" or \"ask\"", check: is_name_of::<RecoveryClients> },
        "Clients that can recover, and get an offset as the last argument of events: \"auto\", browsers and Node (recognised by their headers) and clients that ask with auth: {recovery: true} or ?recovery=1; \"all\", every client that does not decline with false or 0; \"ask\", only clients that ask.";
    BASICS queue = queue, Form::Text { expected: "\"off\", \"memory\" or \"disk\"", check: is_name_of::<Storage> },
        "Storage of durable events, which are kept until their subscribers acknowledge them: \"disk\" keeps them across restarts and power failures, \"memory\" until the process ends, \"off\" refuses durable events. If not set, \"disk\" where recovery is \"disk\", otherwise \"off\".";
    BASICS subscribers = subscribers, Form::Text { expected: "\"off\", \"open\", \"signed\" or \"token\"", check: is_name_of::<SubscriberAccess> },
        "Clients that can be subscribers of the queue: \"open\", every client under any name; \"signed\", clients that have a signature of their name by subscriber_key; \"token\", users of tokens, under the id of the user, or the id, a slash and the name of a device; \"off\", none. If not set, \"signed\" with subscriber_key, \"token\" where clients have tokens, otherwise \"open\" on a loopback address without trusted_proxies and allowed_hosts, and \"off\" elsewhere.";
    BASICS parser = parser, Form::Text { expected: "\"json\" or \"msgpack\"", check: is_name_of::<Parser> },
        "Encoding of packets for all clients: \"json\", or \"msgpack\" for clients with socket.io-msgpack-parser, which the demo page does not have.";
    BASICS log_level = log_level, Form::Text { expected: "error, warn, info, debug, trace, off, or a filter such as \"stentor=debug\"", check: is_log_filter },
        "Level of the log lines on stderr. Warnings and errors of other crates, such as actix_http, are limited to one a second for each place in their code.";
    BASICS log_format = log_format, Form::Text { expected: "\"text\", \"json\" or \"auto\"", check: is_name_of::<LogFormat> },
        "Form of the log lines: \"text\"; \"json\", one object a line; \"auto\", text on a terminal and JSON otherwise.";

    ACCESS api_key secret = api_key, Form::Text { expected: "16 characters or more, without spaces", check: is_api_key },
        "Key of the HTTP API /api/v1/, sent as \"Authorization: Bearer …\"; the API is off if not set. Other users of this machine can read command lines: prefer the environment or the file.";
    ACCESS api_keys secret = api_keys, Form::List { expected: "a list of keys with their scopes such as \"publish+read:<key>\", each key of 16 characters or more, without spaces and commas", check: |text| ApiKey::read(text).is_some() },
        "Further keys of the HTTP API, each with its scopes before a colon: publish; read, for lists; subscribe, for the work of a subscriber; admin, for everything. Several are joined by +, as in \"publish+read:…\".";
    ACCESS anonymous = anonymous, Form::Switch,
        "Permission for clients without a token to connect. If not set, true on a loopback address without trusted_proxies and allowed_hosts if no tokens or hooks are configured, otherwise false. A server that other machines reach needs this setting, a key of tokens, or hooks.";
    ACCESS join_default = join_default, Form::Text { expected: "\"deny\", \"member\" or \"any\"", check: is_name_of::<DefaultAccess> },
        "Access by which clients join rooms, list their members and read their stored events, if their tokens do not name the room: \"deny\", none; \"member\", only if they are in the room already; \"any\", every client. If not set, \"any\" where anonymous is true by default, otherwise \"deny\".";
    ACCESS publish_default = publish_default, Form::Text { expected: "\"deny\", \"member\" or \"any\"", check: is_name_of::<DefaultAccess> },
        "Access by which clients publish to rooms that their tokens do not name: \"deny\", none; \"member\", to rooms that they are in; \"any\", every client. The default is that of join_default.";
    ACCESS user_rooms = user_rooms, Form::Switch,
        "Rooms user:ID belong to the user ID: the server joins them for each connection of the user, and nobody else can join them.";
    ACCESS subscriber_key secret = subscriber_key, Form::Text { expected: "16 characters or more, without spaces", check: is_api_key },
        "Key that signs the names of subscribers; 'stentor queue sign NAME' prints a signature. Other users of this machine can read command lines: prefer the environment or the file.";
    ACCESS cors_origins = cors_origins, Form::List { expected: "a list of origins such as \"https://example.org\", without paths, of patterns such as \"https://*.example.org\" or \"http://localhost:*\", \"null\" or \"*\"", check: is_origin },
        "Origins of other sites whose pages may connect. In a pattern, * stands for characters of one label of the host, or for any port. \"null\" is the origin of sandboxed pages and local files, which any site can open; \"*\" is any origin. Pages of the server's own host may always connect. If not set, a server on a loopback address without trusted_proxies and allowed_hosts also accepts pages of this machine, such as http://localhost:5173.";
    ACCESS cors_credentials = cors_credentials, Form::Switch,
        "Permission for pages of cors_origins to send cookies; not with \"*\" or \"null\".";
    ACCESS origins_guard = origins_guard, Form::Switch,
        "Websockets are refused if their origin is neither the server's own host nor in cors_origins. Clients that are not browsers send no origin and are accepted.";
    ACCESS allowed_hosts = allowed_hosts, Form::List { expected: "a list of names or addresses without ports such as \"hub.example.org\", or \"*\"", check: |text| Server::builder().allowed_hosts([text]).check().is_ok() },
        "Host names that requests may have, in addition to localhost, 127.0.0.0/8 and [::1]; \"*\" is any host. If not set, a server on a loopback address accepts no others, and a server on other addresses accepts all. Behind a proxy, set the public name.";
    ACCESS trusted_proxies = trusted_proxies, Form::List { expected: PROXIES, check: |text| Server::builder().trusted_proxies([text]).check().is_ok() },
        "Proxies in front of the server whose X-Forwarded-For, X-Forwarded-Host and Forwarded headers are trusted; \"unix\" is a proxy on a unix socket of listen.";
    ACCESS allowed_addresses = allowed_addresses, Form::List { expected: NETWORKS, check: |text| Server::builder().allowed_addresses([text]).check().is_ok() },
        "Addresses and networks from which clients may connect, and no others; all addresses if not set. trusted_proxies may always connect, and their clients are checked by their own addresses.";
    ACCESS denied_addresses = denied_addresses, Form::List { expected: NETWORKS, check: |text| Server::builder().denied_addresses([text]).check().is_ok() },
        "Addresses and networks from which clients may not connect, even if allowed_addresses has them.";
    ACCESS cookie = cookie, Form::Text { expected: "the name of a cookie, such as \"io\"", check: |text| Server::builder().cookie(Cookie::default().name(text)).check().is_ok() },
        "Name of a cookie with the session id, for load balancers that route by it; no cookie if not set.";
    ACCESS cookie_secure = cookie_secure, Form::Switch,
        "Secure attribute of the cookie: browsers send it over encrypted connections only.";
    ACCESS cookie_same_site = cookie_same_site, Form::Text { expected: "\"strict\", \"lax\" or \"none\"", check: is_name_of::<SameSite> },
        "SameSite attribute of the cookie; \"none\" requires cookie_secure.";

    TOKENS token_hmac_key secret = tokens.hmac_key, Form::Text { expected: "32 characters or more, without spaces", check: is_token_key },
        "Secret that signs the tokens (JWT, HS256 to HS512) by which clients connect; its characters are the key. Tokens are sent as auth: {token} or as \"Authorization: Bearer …\".";
    TOKENS token_hmac_key_previous secret = tokens.hmac_key_previous, Form::Text { expected: "32 characters or more, without spaces", check: is_token_key },
        "Secret whose tokens are accepted too, for the time of a change of token_hmac_key.";
    TOKENS token_public_key_file = tokens.public_key_file, Form::Text { expected: "a file", check: |text| !text.is_empty() },
        "File with the public key (PEM) of tokens that another service signs: RSA for RS256 to PS512, EC P-256 or P-384 for ES256 or ES384, Ed25519 for EdDSA.";
    TOKENS token_jwks_url = tokens.jwks_url, Form::Text { expected: "a URL such as \"https://example.org/.well-known/jwks.json\"", check: is_http_url },
        "URL at which an identity provider publishes its keys; needs token_audience. The keys are fetched once an hour, and when a token names an unknown key.";
    TOKENS token_issuer = tokens.issuer, Form::Text { expected: "a text such as \"https://example.org/\"", check: |text| !text.is_empty() },
        "Issuer that tokens must have (claim iss); any if not set.";
    TOKENS token_audience = tokens.audience, Form::Text { expected: "a text such as \"https://hub.example.org\"", check: |text| !text.is_empty() },
        "Audience that tokens must have (claim aud). If not set, tokens with an audience are refused, since they are meant for another server.";
    TOKENS token_user_claim = tokens.user_claim, Form::Text { expected: "the name of a claim, such as \"sub\"", check: |text| !text.is_empty() },
        "Claim with the id of the user; a dot leads into an object.";
    TOKENS token_claims = tokens.claims, Form::Text { expected: "the name of a claim, such as \"stentor\" or \"https://example.org/stentor\"", check: |text| !text.is_empty() },
        "Claim with the permissions; a dot leads into an object.";
    TOKENS token_leeway = tokens.leeway, Form::Duration { least: Duration::ZERO, most: Duration::from_secs(300) },
        "Difference between the clocks of the issuer and of this server up to which tokens are valid before their start and after their expiry.";

    HOOKS hooks_url = hooks.url, Form::Text { expected: "a URL such as \"http://127.0.0.1:8000/hooks\", without user and query", check: |text| hooks::read_url(text).is_some() },
        "URL of the back end that is asked about what clients do, as POST <hooks_url>/connect, /join, /publish and /event; no hooks if not set.";
    HOOKS hooks_key secret = hooks.key, Form::Text { expected: "16 characters or more, without spaces", check: is_api_key },
        "Key that signs the requests of hooks, in the header Stentor-Signature. Other users of this machine can read command lines: prefer the environment or the file.";
    HOOKS hooks = hooks.names, Form::List { expected: "a list of \"connect\", \"join\", \"publish\" and \"event\"", check: |text| Hook::named(text).is_some() },
        "Hooks that are asked: \"connect\", who a client is and if it may connect; \"join\" and \"publish\", if a client may do this; \"event\", any event that is not one of this server.";
    HOOKS hooks_headers = hooks.headers, Form::List { expected: "a list of names of headers such as \"cookie\"", check: is_header },
        "Headers of a client's first request that the connect hook receives.";
    HOOKS hooks_timeout = hooks.timeout, Form::Duration { least: SHORTEST, most: HOOK_MAX },
        "Time limit for an answer of the back end. Without an answer, a connect is closed so that the client tries again, and other events are answered by the error unavailable.";
    HOOKS hooks_pending_max = hooks.pending_max, count("requests"),
        "Maximum number of hooks that are under way; further ones count as not answered.";
    HOOKS hooks_connect_always = hooks.connect_always, Form::Switch,
        "The connect hook is asked also about clients with a valid token.";

    CAPACITY sessions_max = limits.sessions.max, count("connections");
    CAPACITY sessions_per_address_max = limits.sessions.per_address_max, unset_or_count("connections");
    CAPACITY address_connects_per_second = limits.rates.address_connects_per_second, unset_or_count("connects");
    CAPACITY events_per_second = limits.rates.events_per_second, unset_or_count("events");
    CAPACITY bytes_per_second = limits.rates.bytes_per_second, unset_or_bytes(1_000, u32::MAX as u64);
    CAPACITY max_payload = max_payload, Form::Bytes { or_unset: false, least: 1_000, most: 100_000_000 },
        "Bytes of the largest message that a client may send, and of the response to a poll.";
    CAPACITY memory_max = limits.memory.bytes_max, unset_or_bytes(16 * MIB, BYTES_MAX);

    TIMES ping_interval = limits.sessions.ping_interval, PING;
    TIMES ping_timeout = limits.sessions.ping_timeout, PING;
    TIMES drain = drain, duration(Duration::ZERO),
        "Time over which sessions are closed after a signal to stop, in waves, so that clients do not all reconnect at the same moment. A second signal stops the server immediately.";

    QUEUE queue_bytes_max = limits.queue.bytes_max, bytes(MIB);
    QUEUE queue_event_bytes_max = limits.queue.event_bytes_max, Form::Bytes { or_unset: false, least: 1_000, most: 100_000_000 };
    QUEUE retention = limits.queue.retention, Form::Rules;
    QUEUE subscribers_max = limits.queue.subscribers_max, count("subscribers");
    QUEUE subscriber_expiry = limits.queue.subscriber_expiry, AGE;
    QUEUE dedup_window = limits.queue.dedup_window, AGE;
    QUEUE ack_wait = limits.queue.ack_wait, DURATION;
    QUEUE back_off = limits.queue.back_off, Form::List { expected: "a list of durations such as \"5s\", up to \"12days\"", check: |text| DURATION.read(text).is_some() };
    QUEUE max_deliver = limits.queue.max_deliver, count("attempts");

    T_API api_body_bytes_max = api.body_bytes_max, bytes(1_000),
        "Bytes of the largest request body of the HTTP API.";
    T_API publish_batch_max = api.batch_max, count("events"),
        "Maximum number of events in one request to the HTTP API.";
    T_API publish_rooms_max = api.rooms_max, count("rooms"),
        "Maximum number of rooms in one publish, over HTTP or of a client, excepted rooms included.";
    T_API page_entries_max = api.page_entries_max, count("entries"),
        "Maximum number of rooms, sockets, subscribers or dead letters in one response of the HTTP API; further ones are on the next page.";

    T_MEMORY outboxes_bytes_max = limits.memory.outboxes_bytes_max, unset_or_bytes(MIB, BYTES_MAX);
    T_MEMORY incoming_bytes_max = limits.memory.incoming_bytes_max, unset_or_bytes(MIB, BYTES_MAX);
    T_MEMORY rooms_bytes_max = limits.memory.rooms_bytes_max, unset_or_bytes(MIB, BYTES_MAX);

    T_CLIENT address_events_per_second = limits.rates.address_events_per_second, unset_or_count("events");
    T_CLIENT address_bytes_per_second = limits.rates.address_bytes_per_second, unset_or_bytes(1_000, u32::MAX as u64);
    T_CLIENT rate_addresses_max = limits.rates.addresses_max, count("addresses");
    T_CLIENT namespaces_per_session_max = limits.sessions.namespaces_max, count("namespaces");
    T_CLIENT rooms_per_socket_max = limits.sockets.rooms_max, count("rooms");
    T_CLIENT room_bytes_per_socket_max = limits.sockets.room_bytes_max, bytes(256);
    T_CLIENT auth_bytes_max = limits.sockets.auth_bytes_max, bytes(256);
    T_CLIENT outbox_bytes_max = limits.sessions.outbox_bytes_max, bytes(1_000);
    T_CLIENT connect_timeout = limits.sessions.connect_timeout, DURATION;
    T_CLIENT stall_timeout = limits.sessions.stall_timeout, DURATION;
    T_CLIENT packets_per_turn = limits.sessions.packets_per_turn, count("packets");

    T_HTTP backlog = limits.http.backlog, count("connections");
    T_HTTP http_connections_max = limits.http.connections_max, count("connections");
    T_HTTP http_reserve = limits.http.reserve, number("connections", 0, 65_535);
    T_HTTP http_keep_alive = limits.http.keep_alive, duration(Duration::from_secs(1));
    T_HTTP request_head_timeout = limits.http.head_timeout, DURATION;
    T_HTTP body_timeout = limits.http.body_timeout, DURATION;
    T_HTTP response_timeout = limits.http.response_timeout, DURATION;
    T_HTTP handshake_bytes_max = limits.http.handshake_bytes_max, Form::Bytes { or_unset: false, least: 1 << 10, most: HEAD_BYTES_MAX };

    T_TRANSPORT upgrade_timeout = limits.transport.upgrade_timeout, DURATION;
    T_TRANSPORT message_timeout = limits.transport.message_timeout, DURATION;
    T_TRANSPORT attachments_timeout = limits.transport.attachments_timeout, DURATION;
    T_TRANSPORT close_linger = limits.transport.close_linger, DURATION;
    T_TRANSPORT fragments_max = limits.transport.fragments_max, count("fragments");
    T_TRANSPORT send_buffer_bytes = limits.transport.send_buffer_bytes, Form::Bytes { or_unset: false, least: 4_096, most: 1 << 30 };

    T_HUB handlers_pending_max = limits.handlers.pending_max, count("events");
    T_HUB held_events_max = limits.handlers.held_events_max, count("events");
    T_HUB held_bytes_max = limits.handlers.held_bytes_max, bytes(1_000);
    T_HUB credit_commands = limits.hub.credit_commands, count("commands");
    T_HUB credit_bytes = limits.hub.credit_bytes, bytes(1_000);
    T_HUB credit_waiting_max = limits.hub.credit_waiting_max, count("commands");
    T_HUB credit_timeout = limits.hub.credit_timeout, DURATION;
    T_HUB hub_answer_timeout = limits.hub.answer_timeout, DURATION;
    T_HUB worker_bytes_max = limits.hub.worker_bytes_max, bytes(1_000);
    T_HUB mailbox_batches = limits.hub.mailbox_batches, count("batches");

    T_RECOVERY recovery_sessions_max = limits.recovery.sessions_max, count("sessions");
    T_RECOVERY recovery_bytes_max = limits.recovery.bytes_max, bytes(1_000);
    T_RECOVERY recovery_session_bytes_max = limits.recovery.session_bytes_max, bytes(1_000);
    T_RECOVERY recovery_left_rooms_max = limits.recovery.left_rooms_max, count("rooms");
    T_RECOVERY replay_bytes = limits.recovery.replay_bytes, bytes(1_000);
    T_RECOVERY replay_records_per_turn = limits.recovery.replay_records_per_turn, count("records");
    T_RECOVERY journal_records_max = limits.journal.records_max, count("records");
    T_RECOVERY journal_bytes_max = limits.journal.bytes_max, bytes(1_000);
    T_RECOVERY journal_segments_max = limits.journal.segments_max, number("files", 2, u32::MAX as u64);
    T_RECOVERY journal_segment_bytes = limits.journal.segment_bytes, bytes(MIB);
    T_RECOVERY journal_sender_bytes_max = limits.journal.sender_bytes_max, unset_or_bytes(MIB, BYTES_MAX);
    T_RECOVERY stop_timeout = limits.journal.stop_timeout, DURATION;

    T_QUEUE queue_high_water_percent = limits.queue.high_water_percent, number("percent", 1, 100);
    T_QUEUE queue_batch_max = limits.queue.batch_max, number("changes", 1, 65_536);
    T_QUEUE queue_batch_bytes_max = limits.queue.batch_bytes_max, Form::Bytes { or_unset: false, least: 1_000, most: 1 << 30 };
    T_QUEUE queue_waiting_max = limits.queue.waiting_max, number("changes", 1, 1 << 20);
    T_QUEUE queue_waiting_bytes_max = limits.queue.waiting_bytes_max, bytes(2 * MIB);
    T_QUEUE subscriptions_per_subscriber_max = limits.queue.subscriptions_per_subscriber_max, count("rooms");
    T_QUEUE in_flight_max = limits.queue.in_flight_max, number("events", 1, 4_096);
    T_QUEUE in_flight_bytes_max = limits.queue.in_flight_bytes_max, Form::Bytes { or_unset: false, least: 1_000, most: 1 << 30 };
    T_QUEUE nak_delay_max = limits.queue.nak_delay_max, DURATION;
    T_QUEUE dead_letters_max = limits.queue.dead_letters_max, count("dead letters");
    T_QUEUE tombstone_expiry = limits.queue.tombstone_expiry, AGE;
    T_QUEUE dedup_ids_max = limits.queue.dedup_ids_max, count("ids");
    T_QUEUE gaps_per_room_max = limits.queue.gaps_per_room_max, count("events");
    T_QUEUE pull_wait_max = limits.queue.pull_wait_max, DURATION;
};

const LISTEN_LIST: &str = "a list of addresses such as \"0.0.0.0:80\", \"[::]:443 tls\", \"hub.example.org:8080\", \
                           \"unix:/run/stentor/hub.sock mode=0660\" or \"systemd\"";

fn is_listen_address(text: &str) -> bool {
    ListenAddress::parse(text).is_some()
}

fn is_path(text: &str) -> bool {
    let path = text.strip_suffix('/').unwrap_or(text);
    path.len() > 1 && path.starts_with('/') && !path.ends_with('/') && !path.contains(['?', '#', '{', '}', ' '])
}

fn is_namespace(text: &str) -> bool {
    NamespacePath::parse(text).is_ok()
}

fn is_token_key(text: &str) -> bool {
    text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Checks the start of the text only; the library checks the URL.
fn is_http_url(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

fn is_header(text: &str) -> bool {
    HeaderName::from_bytes(text.as_bytes()).is_ok()
}

fn is_origin(text: &str) -> bool {
    text == "*" || Server::builder().cors(Cors::origins([text])).check().is_ok()
}

fn is_name_of<T: Named>(text: &str) -> bool {
    T::named(text).is_some()
}

/// Accepts `level` and `target=level`, separated by commas.
fn is_log_filter(text: &str) -> bool {
    !text.is_empty()
        && text.split(',').all(|part| {
            let level = part.split_once('=').map_or(part, |(_, level)| level);
            level.trim().parse::<log::LevelFilter>().is_ok()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_accepted_by_its_key() {
        let defaults = Config::default();
        for key in KEYS {
            let value = key.show(&defaults);
            if value == Value::None {
                continue;
            }
            let mut config = Config::default();
            let read = match &value {
                Value::List(items) => key.form.read_list(items.iter().map(String::as_str)),
                other => key.form.read(other.to_string().trim_matches('"')),
            };
            assert_eq!(read.as_ref(), Some(&value), "{}", key.name);
            assert!((key.put)(&mut config, value.clone()), "{}", key.name);
            assert_eq!(key.show(&config), value, "{}", key.name);
        }
    }

    /// Values at the bounds of a form, which are accepted, and values beyond the bounds, which are
    /// refused.
    fn around(form: Form) -> (Vec<String>, Vec<String>) {
        let integers = |or_unset: bool, least: u64, most: u64| {
            let zero = or_unset.then(|| "0".to_owned());
            let below = least.checked_sub(1).filter(|value| *value > 0 || !or_unset);
            let accepted = [least.to_string(), most.to_string()].into_iter().chain(zero);
            let refused = below.into_iter().chain([most + 1, u64::MAX]).map(|value| value.to_string());
            (accepted.collect(), refused.collect())
        };
        match form {
            Form::Duration { least, most } => {
                let nanos = |time: Duration| format!("{}ns", time.as_nanos());
                let shorter = least.checked_sub(Duration::from_nanos(1));
                let refused = shorter.into_iter().chain([most + Duration::from_nanos(1)]).map(nanos);
                (vec![nanos(least), nanos(most)], refused.collect())
            }
            Form::Number { or_unset, least, most, .. } | Form::Bytes { or_unset, least, most } => {
                integers(or_unset, least, most)
            }
            Form::Switch | Form::Text { .. } | Form::List { .. } | Form::Rules => (Vec::new(), Vec::new()),
        }
    }

    #[test]
    fn values_at_a_bound_are_accepted_and_values_beyond_are_refused() {
        for key in KEYS {
            let (accepted, refused) = around(key.form);
            for text in accepted {
                let value = key.form.read(&text).unwrap_or_else(|| panic!("{} = {text}", key.name));
                assert!((key.put)(&mut Config::default(), value), "{} = {text}", key.name);
            }
            for text in refused {
                assert_eq!(key.form.read(&text), None, "{} = {text}", key.name);
            }
            if let Form::Duration { least, most } = key.form {
                let most = match most {
                    Limits::AGE_MAX => "\"10years\"".to_owned(),
                    Limits::DURATION_MAX => "\"12days\"".to_owned(),
                    most => Value::Duration(most).to_string(),
                };
                let least = Value::Duration(least).to_string();
                assert!(key.form.to_string().contains(&format!("from {least} to {most}")), "{}", key.form);
            }
            if let Form::Bytes { least, .. } = key.form {
                assert!(least > 0, "{}: a size of nothing", key.name);
            }
        }
    }

    #[test]
    fn a_server_is_built_with_the_least_and_the_most_of_every_setting() {
        // No accepted value may end the process at start, by a capacity that cannot be allocated or
        // a sum that overflows.
        actix::System::new().block_on(async {
            for key in KEYS {
                for text in around(key.form).0 {
                    let mut config = Config { recovery: Storage::Memory, ..Config::default() };
                    let value = key.form.read(&text).expect("an accepted value");
                    assert!((key.put)(&mut config, value), "{} = {text}", key.name);
                    let built = config.builder().build();
                    let io = built.unwrap_or_else(|error| panic!("{} = {text}: {error}", key.name));
                    io.close().await;
                }
            }
        });
    }

    #[test]
    fn origins_are_read_leniently_and_hosts_without_ports() {
        let reads = |name: &str, text: &str| find(name).and_then(|key| key.form.read(text)).is_some();
        for origin in [
            "https://a.example/",
            "https://A.example",
            "HTTPS://a.example:443",
            "http://a.example:80/",
            "*",
            "null",
            "https://*.a.example",
            "http://localhost:*",
        ] {
            assert!(reads("cors_origins", origin), "{origin}");
        }
        for origin in ["a.example", "https://a.example/app", "https://a.example:port", "https://*", "https://a.*"] {
            assert!(!reads("cors_origins", origin), "{origin}");
        }
        for host in ["a.example", "A.EXAMPLE.", "[::1]", "10.0.0.1"] {
            assert!(reads("allowed_hosts", host), "{host}");
        }
        for host in ["a.example:443", "https://a.example", "a.example/"] {
            assert!(!reads("allowed_hosts", host), "{host}");
        }
    }

    #[test]
    fn durations_are_bounded_and_only_two_may_be_zero() {
        for key in KEYS.iter().filter(|key| matches!(key.form, Form::Duration { .. })) {
            assert_eq!(key.form.read("0s").is_some(), ["drain", "token_leeway"].contains(&key.name), "{}", key.name);
            if matches!(key.form, Form::Duration { most, .. } if most < Limits::DURATION_MAX) {
                continue;
            }
            assert!(key.form.read("12days").is_some(), "{}", key.name);
            let is_age = matches!(key.form, Form::Duration { most: Limits::AGE_MAX, .. });
            for longer in ["12days 1ns", "1year", "10years 1ns", "500000000000years", "18446744073709551615s"] {
                if is_age && key.form.read(longer).is_some() {
                    assert!(["12days 1ns", "1year"].contains(&longer), "{} {longer}", key.name);
                    continue;
                }
                assert_eq!(key.form.read(longer), None, "{} {longer}", key.name);
            }
        }
        let expected = "a duration such as \"25s\", from \"0s\" to \"12days\"";
        assert_eq!(find("drain").map(|key| key.form.to_string()).as_deref(), Some(expected));
    }

    #[test]
    fn tuning_settings_follow_the_others() {
        assert!(KEYS.is_sorted_by_key(|key| key.group.is_tuning));
        assert_eq!(KEYS.iter().filter(|key| !key.group.is_tuning).count(), 70);
    }

    #[test]
    fn names_are_unique_and_a_near_miss_finds_its_name() {
        for (at, key) in KEYS.iter().enumerate() {
            assert!(KEYS[..at].iter().all(|other| other.name != key.name), "{}", key.name);
        }
        assert_eq!(nearest("ping_intervall"), Some("ping_interval"));
        assert_eq!(nearest("pingInterval"), Some("ping_interval"));
        assert_eq!(nearest("zzz"), None);
    }
}
