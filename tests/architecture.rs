//! The structure of the code base as tests: floors, imports, crates, names, and language.
//!
//! The top folder of a file below `src/` is its floor, and imports only point down. Within one
//! crate the compiler does not enforce that. A name counts as a crate if `Cargo.toml` or `HOUSE`
//! lists it.
//!
//! A failure names file and line, the finding, the rule, and the remedy. If the rule itself is
//! wrong, change the table here and the one in docs/architecture.md in one commit.

mod architecture {
    mod circles;
    mod documents;
    mod files;
    mod floors;
    mod reader;
    mod texts;
}

/// A floor: a folder, or a file of that name, directly below `src/`.
struct Row {
    floor: u8,
    name: &'static str,
    /// Floors that it may import: lower ones, except that ids, limits and protocol import each
    /// other.
    imports: &'static [&'static str],
    /// Crates that it may name besides `EVERYWHERE`; `a::b` allows only that path of the crate.
    crates: &'static [&'static str],
}

/// Crates that every floor may name.
const EVERYWHERE: &[&str] = &["std", "core", "alloc", "thiserror", "bytes", "bytestring", "smallvec", "slab"];

/// Folder of the binary. The compiler restricts it to the public API, so its imports are not
/// checked.
const BINARY: &str = "bin";

#[rustfmt::skip]
const HOUSE: &[Row] = &[
    Row { floor: 0, name: "ids",       imports: &["protocol", "limits"],
          crates: &["serde", "serde_json", "base64"] },
    Row { floor: 0, name: "folder",    imports: &[],
          crates: &[] },
    Row { floor: 0, name: "pattern",   imports: &[],
          crates: &[] },
    Row { floor: 0, name: "live",      imports: &[],
          crates: &[] },
    Row { floor: 0, name: "limits",    imports: &["protocol", "ids", "pattern"],
          crates: &["serde", "serde_json"] },
    Row { floor: 0, name: "protocol",  imports: &["ids", "limits"],
          crates: &["serde", "serde_json", "base64", "rmp"] },
    Row { floor: 1, name: "state",     imports: &["protocol", "ids", "limits"],                        // not journal
          crates: &["serde", "serde_json"] },
    Row { floor: 1, name: "journal",   imports: &["protocol", "ids", "limits", "folder"],              // not state
          crates: &["serde", "serde_json", "log", "crc32fast"] },
    Row { floor: 1, name: "metrics",   imports: &["protocol", "ids", "limits"],                        // not state, journal
          crates: &[] },
    Row { floor: 1, name: "queue",     imports: &["protocol", "ids", "limits", "folder"],              // not state, journal
          crates: &["log", "crc32fast", "rusqlite", "serde", "serde_json"] },
    Row { floor: 2, name: "recovery",  imports: &["protocol", "ids", "limits", "journal"],             // not state, metrics
          crates: &["serde", "serde_json"] },
    Row { floor: 3, name: "messages",  imports: &["protocol", "ids", "limits", "state", "journal", "queue", "recovery"],
          crates: &["actix", "tokio::sync", "futures_core", "serde", "serde_json", "log", "form_urlencoded"] },
    Row { floor: 4, name: "api",       imports: &["protocol", "ids", "limits", "state", "journal", "queue", "recovery", "messages"],
          crates: &["actix", "tokio::sync", "futures_core", "serde", "serde_json", "log"] },
    Row { floor: 5, name: "worker",    imports: &["protocol", "ids", "limits", "state", "journal", "recovery", "metrics", "messages", "api"],
          crates: &["actix", "tokio", "log", "futures_core", "serde_json", "local_waker"] },
    Row { floor: 5, name: "access",    imports: &["ids", "pattern", "messages", "api"],                  // not worker
          crates: &["log", "serde", "serde_json", "tokio", "jsonwebtoken", "reqwest"] },
    Row { floor: 6, name: "hub",       imports: &["protocol", "ids", "limits", "state", "journal", "queue", "recovery", "metrics", "messages"], // not api, worker
          crates: &["actix", "tokio", "log", "futures_core", "serde_json", "fastrand"] },
    Row { floor: 6, name: "session",   imports: &["protocol", "ids", "limits", "state", "journal", "queue", "recovery", "metrics", "messages", "api", "worker", "live"],
          crates: &["actix", "tokio", "log", "futures_core", "serde_json", "dashmap", "getrandom"] },
    Row { floor: 6, name: "subscribers", imports: &["protocol", "ids", "limits", "queue", "metrics", "messages"],            // not hub, session
          crates: &["actix", "tokio", "log", "serde", "serde_json"] },
    Row { floor: 7, name: "transport", imports: &["protocol", "ids", "limits", "state", "journal", "recovery", "metrics", "messages", "api", "worker",
                                                  "session", "live"],                                  // not hub
          crates: &["actix", "tokio", "log", "futures_core", "serde", "serde_json", "actix_web", "actix_http",
                    "actix_service", "actix_codec", "socket2", "actix_web_actors", "form_urlencoded", "ipnet", "local_waker",
                    "tokio_rustls"] },
    Row { floor: 8, name: "server",    imports: &["protocol", "ids", "limits", "state", "journal", "queue", "recovery", "metrics", "messages", "api", "worker",
                                                  "hub", "session", "subscribers", "transport", "live"],
          crates: &["actix", "tokio", "log", "futures_core", "serde", "serde_json", "actix_web", "actix_http",
                    "actix_service", "actix_codec", "socket2", "getrandom", "prometheus_client", "local_waker", "rustix",
                    "tokio_rustls"] },
    Row { floor: 9, name: "lib",       imports: &["protocol", "ids", "limits", "state", "journal", "recovery", "metrics", "messages", "api", "worker", "access",
                                                  "hub", "session", "transport", "server"],            // declares, re-exports
          crates: &[] },
    Row { floor: 9, name: "fuzzing",   imports: &["protocol", "transport"],                            // properties of decoders
          crates: &["actix_web::http", "serde_json"] },
    Row { floor: 9, name: "bench_support",  imports: &["protocol", "ids", "limits", "state", "journal", "recovery", "messages", "worker", "session",
                                                  "transport", "server", "queue"],                     // internal access for benches
          crates: &["actix", "actix_http", "futures_core", "local_waker"] },
    Row { floor: 9, name: BINARY,      imports: &[],                                                   // a crate of its own
          crates: &[] },
];

/// Crates that only some files may name: crate, paths, reason.
#[rustfmt::skip]
const ONLY_IN: &[(&str, &[&str], &str)] = &[
    ("base64",           &["protocol/engineio/", "ids.rs", "bin/stentor/signature.rs", "bin/stentor/subscriber_bodies.rs", "bin/stentor/hooks/request.rs"], "only polling payloads, ids, signatures and attachments in JSON are base64"),
    ("dashmap",          &["session/directory.rs"],     "the directory of sessions is the one shared map"),
    ("getrandom",        &["session/", "server/"],      "randomness is drawn where sessions and servers start, and passed inward"),
    ("ipnet",            &["transport/networks.rs"],    "networks of addresses are parsed in one file"),
    ("tokio_rustls",     &["server/tls.rs", "server/port.rs", "transport/encryption.rs", "transport/network_stream.rs"], "connections are encrypted below HTTP and websockets"),
    ("jsonwebtoken",     &["access/jwt/", "bin/stentor/token_tool.rs"], "tokens are verified in one folder, and signed by one command"),
    ("rmp",              &["protocol/socketio/msgpack/"], "only the msgpack parser uses it"),
    ("rusqlite",         &["queue/sqlite.rs", "queue/sqlite/"], "one store of the queue is SQLite"),
    ("actix_web_actors", &["transport/websocket/pump.rs"], "it is deprecated upstream, so one file depends on it"),
    ("prometheus_client", &["server/metrics.rs"],       "counters are plain atomics; only their text format is that of Prometheus"),
    ("hmac",             &["bin/stentor/signature.rs", "bin/stentor/hooks/signature.rs"], "only names of subscribers and requests of hooks are signed"),
    ("sha2",             &["bin/stentor/signature.rs", "bin/stentor/hooks/signature.rs", "bin/stentor/http/keys.rs"], "names of subscribers and requests of hooks are signed, and keys of the API are compared by their digests"),
    ("toml",             &["bin/stentor/config/"],      "only the configuration file is TOML"),
    ("rustix",           &["bin/stentor/process.rs", "server/start.rs"], "limits of the process are read in one place, and priorities of threads are set in one"),
    ("env_logger",       &["bin/"],                     "the application chooses its logger"),
];

/// Paths of pure code: time, randomness and input arrive as arguments.
const PURE: &[&str] = &["ids.rs", "ids/", "limits.rs", "limits/", "pattern.rs", "protocol/", "state/", "recovery/"];

/// Tokens that pure code may not contain.
#[rustfmt::skip]
const IMPURE_TOKENS: &[&[&str]] = &[
    &["SystemTime"], &["UNIX_EPOCH"], &["Instant", "::", "now"], &[".", "elapsed", "("],    // clocks
    &["rand", "::"], &["getrandom"],                                                        // randomness
    &["log", "::"], &["println", "!"], &["eprintln", "!"], &["print", "!"], &["eprint", "!"], &["dbg", "!"],
    &["async"], &[".", "await"], &["actix"], &["tokio"],
];

/// Paths that pure code may not contain, also inside `use std::{…}`.
const IMPURE_PATHS: &[&str] = &["std::thread", "std::net", "std::fs", "std::process", "std::env"];

/// Files that may use locks, and the guarded state. All other state has one actor as its owner.
#[rustfmt::skip]
const LOCKED: &[(&str, &str)] = &[
    ("access/jwt/jwks.rs", "keys of a URL, replaced as a whole by one fetch"),
    ("live.rs",            "settings that a reload replaces as a whole, cloned out"),
    ("bin/stentor/live.rs", "settings that a reload replaces as a whole, cloned out"),
    ("bin/stentor/reload.rs", "the configuration in force, during one reload after the other"),
    ("api/registry.rs",    "handlers, registered during set-up and read once per CONNECT"),
    ("bin/stentor/hooks/mod.rs", "the circuit breaker, for a few comparisons"),
    ("messages/extensions.rs", "extensions of a socket by type, cloned out"),
    ("messages/socket.rs", "data of a socket, written and read as a whole"),
    ("metrics/mod.rs",     "the list of workers, locked when one starts and by a scrape"),
    ("queue/memory.rs",    "the store in memory, written by the committer and read by readers of other threads"),
    ("queue/memory/read.rs", "the same store, read"),
    ("queue/wake_queue.rs", "values that one thread passes to an actor, taken as a whole"),
];
const LOCKS: &[&str] = &["Mutex", "RwLock"];

/// Words with a plainer alternative. Names are split into their words.
const WORDS: &[&str] = &[
    "whoever",
    "whence",
    "be it",
    "put out",
    "in vain",
    "anew",
    "owed",
    "somebody",
    "is told",
    "are told",
    "lets in",
    "twin",
    "complain",
    "put to sleep",
    "mute",
    "deaf",
    "goes on",
];

/// Words that open a clause instead of a sentence or a noun phrase.
const OPENERS: &[&str] = &["What", "Whether", "Which", "Who", "Whose", "Whence"];

/// Maximum number of columns of comments, and of prose in README.md and docs/.
const TEXT_COLUMNS_MAX: usize = 100;

/// Maximum numbers of lines of pages.
const PAGE_LINES_MAX: &[(&str, usize)] = &[("README.md", 110), ("docs/architecture.md", 150)];

/// Page with the table of floors, and with the invariants and their tests.
const ARCHITECTURE_PAGE: &str = "docs/architecture.md";

const TEST_NAME_LENGTH_MAX: usize = 70;

/// Folders without circular imports among their files.
const WITHOUT_CIRCLES: &[&str] = &["journal/", "messages/", "api/"];

/// Names that say nothing about the content of a module.
const NAMELESS: &[&str] = &["util", "utils", "common", "helper", "helpers", "types"];

/// Maximum number of lines of a file, without its tests.
const FILE_LINES_MAX: usize = 600;

/// Keywords of items that lib.rs may not contain.
const LIB_ITEMS: &[&str] =
    &["fn", "struct", "enum", "trait", "impl", "static", "const", "type", "macro_rules", "union"];
