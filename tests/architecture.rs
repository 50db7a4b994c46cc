//! Keeps the floors of the house true: walks `src/` and reads every file through `syn`.
//!
//! The folder of a file is its floor, and imports only point down. In one crate nothing else enforces that, so this test
//! does, in seconds. A name is taken for a crate when `Cargo.toml` or the table below says that it is one.
//!
//! When it fails, the sentence says which file and line, what was found, which rule that breaks, and what to do instead.
//! When the rule is what is wrong, change the table here and the table in ARCHITECTURE.md in one commit.

mod architecture {
    mod circles;
    mod files;
    mod floors;
    mod reader;
    mod texts;
}

/// One row of the house: a folder (or a file of that name) directly under `src/`.
struct Row {
    floor: u8,
    name: &'static str,
    /// The other rows it may import. Always lower ones, except on floor 0, whose three rows may import each other.
    imports: &'static [&'static str],
    /// The crates it may name besides `EVERYWHERE`; `a::b` allows that path of the crate and nothing beside it.
    crates: &'static [&'static str],
}

/// Crates that every floor may name.
const EVERYWHERE: &[&str] = &["std", "core", "alloc", "thiserror", "bytes", "bytestring", "smallvec", "slab"];

/// The binary's folder. The compiler holds it to the public API of the library, so no floor is checked there.
const BINARY: &str = "bin";

#[rustfmt::skip]
const HOUSE: &[Row] = &[
    Row { floor: 0, name: "ids",       imports: &["protocol", "limits"],
          crates: &["serde", "serde_json", "base64"] },
    Row { floor: 0, name: "limits",    imports: &["protocol", "ids"],
          crates: &["serde", "serde_json"] },
    Row { floor: 0, name: "protocol",  imports: &["ids", "limits"],
          crates: &["serde", "serde_json", "base64", "rmp"] },
    Row { floor: 1, name: "state",     imports: &["protocol", "ids", "limits"],                        // not journal
          crates: &["serde", "serde_json"] },
    Row { floor: 1, name: "journal",   imports: &["protocol", "ids", "limits"],                        // not state
          crates: &["serde", "serde_json", "log", "crc32fast"] },
    Row { floor: 1, name: "metrics",   imports: &["protocol", "ids", "limits"],                        // not state, journal
          crates: &[] },
    Row { floor: 2, name: "recovery",  imports: &["protocol", "ids", "limits", "journal"],             // not state, metrics
          crates: &["serde", "serde_json"] },
    Row { floor: 3, name: "messages",  imports: &["protocol", "ids", "limits", "state", "journal", "recovery"],
          crates: &["actix", "tokio::sync", "futures_core", "serde", "serde_json", "log", "form_urlencoded"] },
    Row { floor: 4, name: "api",       imports: &["protocol", "ids", "limits", "state", "journal", "recovery", "messages"],
          crates: &["actix", "tokio::sync", "futures_core", "serde", "serde_json", "log"] },
    Row { floor: 5, name: "worker",    imports: &["protocol", "ids", "limits", "state", "journal", "recovery", "metrics", "messages", "api"],
          crates: &["actix", "tokio", "log", "futures_core", "serde_json", "local_waker"] },
    Row { floor: 6, name: "hub",       imports: &["protocol", "ids", "limits", "state", "journal", "recovery", "metrics", "messages"], // not api, worker
          crates: &["actix", "tokio", "log", "futures_core", "serde_json", "fastrand"] },
    Row { floor: 6, name: "session",   imports: &["protocol", "ids", "limits", "state", "journal", "recovery", "metrics", "messages", "api", "worker"],
          crates: &["actix", "tokio", "log", "futures_core", "serde_json", "dashmap", "getrandom"] },
    Row { floor: 7, name: "transport", imports: &["protocol", "ids", "limits", "state", "journal", "recovery", "metrics", "messages", "api", "worker",
                                                  "session"],                                          // not hub
          crates: &["actix", "tokio", "log", "futures_core", "serde", "serde_json", "actix_web", "actix_http",
                    "actix_service", "actix_codec", "socket2", "actix_web_actors", "form_urlencoded", "ipnet", "local_waker"] },
    Row { floor: 8, name: "server",    imports: &["protocol", "ids", "limits", "state", "journal", "recovery", "metrics", "messages", "api", "worker",
                                                  "hub", "session", "transport"],
          crates: &["actix", "tokio", "log", "futures_core", "serde", "serde_json", "actix_web", "actix_http",
                    "actix_service", "actix_codec", "socket2", "getrandom", "prometheus_client", "local_waker"] },
    Row { floor: 9, name: "lib",       imports: &["protocol", "ids", "limits", "state", "journal", "recovery", "metrics", "messages", "api", "worker",
                                                  "hub", "session", "transport", "server"],            // declares, re-exports
          crates: &[] },
    Row { floor: 9, name: "fuzzing",   imports: &["protocol", "transport"],                            // properties of decoders
          crates: &["actix_web::http", "serde_json"] },
    Row { floor: 9, name: "bench_support",  imports: &["protocol", "ids", "limits", "state", "journal", "recovery", "messages", "worker", "session",
                                                  "transport", "server"],                              // internal access for benches
          crates: &["actix", "actix_http", "futures_core", "local_waker"] },
    Row { floor: 9, name: BINARY,      imports: &[],                                                   // a crate of its own
          crates: &[] },
];

/// Crates that only a part of the house may name: the crate, where, why.
#[rustfmt::skip]
const ONLY_IN: &[(&str, &[&str], &str)] = &[
    ("base64",           &["protocol/engineio/", "ids.rs"], "only polling payloads and ids are base64"),
    ("dashmap",          &["session/directory.rs"],     "the directory of sessions is the one shared map"),
    ("getrandom",        &["session/", "server/"],      "randomness is drawn where sessions and servers are born, and passed inward"),
    ("ipnet",            &["transport/proxies.rs"],     "networks are those of trusted proxies"),
    ("rmp",              &["protocol/socketio/msgpack/"], "one format is msgpack"),
    ("actix_web_actors", &["transport/websocket/pump.rs"], "it is deprecated upstream, so one file depends on it"),
    ("prometheus_client", &["server/metrics.rs"],       "counters are plain atomics; only their text is Prometheus'"),
    ("toml",             &["bin/stentor/config/"],      "a configuration file is the one thing that is TOML"),
    ("rustix",           &["bin/stentor/process.rs"],   "limits of the process are asked for in one place"),
    ("env_logger",       &["bin/"],                     "a library does not choose where its log goes"),
];

/// What is values and functions only, by the beginning of its path: time, randomness and input arrive as arguments.
const PURE: &[&str] = &["ids.rs", "ids/", "limits.rs", "protocol/", "state/", "recovery/"];

/// What pure code may not say, as tokens.
#[rustfmt::skip]
const IMPURE_TOKENS: &[&[&str]] = &[
    &["SystemTime"], &["UNIX_EPOCH"], &["Instant", "::", "now"], &[".", "elapsed", "("],    // clocks
    &["rand", "::"], &["getrandom"],                                                        // randomness
    &["log", "::"], &["println", "!"], &["eprintln", "!"], &["print", "!"], &["eprint", "!"], &["dbg", "!"],
    &["async"], &[".", "await"], &["actix"], &["tokio"],
];

/// What pure code may not say, as paths (also inside `use std::{…}`).
const IMPURE_PATHS: &[&str] = &["std::thread", "std::net", "std::fs", "std::process", "std::env"];

/// One actor owns a piece of state, so nothing needs a lock, but for these: the file, and what its lock guards.
#[rustfmt::skip]
const LOCKED: &[(&str, &str)] = &[
    ("api/registry.rs",    "handlers, registered while a program sets itself up and read once per CONNECT"),
    ("messages/extensions.rs", "what the application keeps with a socket by type, cloned out"),
    ("messages/socket.rs", "what the application keeps with a socket, written and read whole"),
    ("metrics/mod.rs",     "the list of workers, taken when one starts and by a scrape"),
];
const LOCKS: &[&str] = &["Mutex", "RwLock"];

/// Words that have a plainer one. A name counts as its words.
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

/// Folders whose files do not import each other in a circle, but for the circle named beside them. A file that leaves the circle
/// leaves the table.
#[rustfmt::skip]
const WITHOUT_CIRCLES: &[(&str, &[&str])] = &[
    ("journal/",  &[]),
    ("messages/", &["fanout.rs", "hub.rs", "request.rs", "session.rs", "socket.rs"]),
    ("api/",      &["ack.rs", "broadcast.rs", "core.rs", "event.rs", "handler.rs", "namespace.rs", "registry.rs", "socket.rs",
                    "socket_emitter.rs"]),
];

/// Names that say nothing about what is inside.
const NAMELESS: &[&str] = &["util", "utils", "common", "helper", "helpers", "types"];

/// Lines a file may have, its tests not counted.
const FILE_LINES_MAX: usize = 600;

/// Keywords of items that lib.rs does not hold.
const LIB_ITEMS: &[&str] =
    &["fn", "struct", "enum", "trait", "impl", "static", "const", "type", "macro_rules", "union"];
