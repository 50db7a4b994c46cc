//! Keeps the floors of the house true: walks `src/` and reads every file through `syn`.
//!
//! The folder of a file is its floor, and imports only point down. In one crate nothing else enforces that, so this test
//! does, in seconds. A name is taken for a crate when `Cargo.toml` or the table below says that it is one.
//!
//! When it fails, the sentence says which file and line, what was found, which rule that breaks, and what to do instead.
//! When the rule is what is wrong, change the table here and the table in ARCHITECTURE.md in one commit.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use reader::{Reference, Source, Target};

#[path = "architecture/reader.rs"]
mod reader;

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
    Row { floor: 1, name: "queue",     imports: &["protocol", "ids", "limits"],                        // not state, journal
          crates: &["log", "crc32fast", "rusqlite"] },
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
                                                  "transport", "server", "queue"],                     // internal access for benches
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
    ("rusqlite",         &["queue/sqlite.rs", "queue/sqlite/"], "one store is SQLite"),
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
    ("queue/memory.rs",    "the state in memory, written by the committer and read by readers of other threads"),
    ("queue/memory/read.rs", "the same state, read"),
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

/// One broken rule, in words.
struct Finding {
    path: String,
    line: usize,
    found: String,
    rule: String,
    instead: String,
}

impl Finding {
    fn sentence(&self) -> String {
        let Self { path, line, found, rule, instead } = self;
        format!("src/{path}:{line}: found {found}. Rule: {rule}. Instead: {instead}.")
    }
}

/// One file under check, with what the rules ask about it.
struct File<'a> {
    path: &'a str,
    row: &'static Row,
    source: &'a Source,
    paths: Vec<Reference>,
    findings: Vec<Finding>,
}

/// Checks one file given as text. `path` is relative to `src/`, `crates` are the names that mean a crate.
fn check(path: &str, text: &str, source: &Source, crates: &BTreeSet<String>) -> Vec<Finding> {
    let Some(row) = row_of(path) else {
        let known: Vec<_> = HOUSE.iter().map(|row| row.name).collect();
        return vec![Finding {
            path: path.to_owned(),
            line: 1,
            found: format!("a file outside of every floor (known: {})", known.join(", ")),
            rule: "the top folder of a file is its floor".to_owned(),
            instead: "move it into the folder whose floor it belongs to, or give its folder a row in the table"
                .to_owned(),
        }];
    };
    let paths = reader::paths(source, &module_of(path), crates);
    let mut file = File { path, row, source, paths, findings: Vec::new() };
    file.check_header(text);
    file.check_length(text.lines().count().saturating_sub(source.test_lines));
    file.check_names();
    file.check_paths();
    file.check_tokens();
    file.findings
}

/// The row that a path relative to `src/` belongs to.
fn row_of(path: &str) -> Option<&'static Row> {
    let top = path.split('/').next().unwrap_or_default();
    let name = top.strip_suffix(".rs").unwrap_or(top);
    let is_root_file = name == "lib";
    HOUSE.iter().find(|row| row.name == name && (!is_root_file || path == top))
}

/// The module that a file is: `state/outbox.rs` is `["state", "outbox"]`, `state/mod.rs` is `["state"]`, `lib.rs` is `[]`.
fn module_of(path: &str) -> Vec<String> {
    let mut module: Vec<String> = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|name| name == "mod") || path == "lib.rs" {
        module.pop();
    }
    module
}

impl File<'_> {
    fn find(&mut self, line: usize, found: impl Into<String>, rule: impl Into<String>, instead: impl Into<String>) {
        let finding = Finding {
            path: self.path.to_owned(),
            line,
            found: found.into(),
            rule: rule.into(),
            instead: instead.into(),
        };
        self.findings.push(finding);
    }

    fn check_header(&mut self, source: &str) {
        if !source.starts_with("//!") {
            self.find(
                1,
                format!("a first line that is `{}`", source.lines().next().unwrap_or_default()),
                "every file starts with a `//!` paragraph",
                "say in one which format, machine, actor, store or handle the file is, and what it refuses to do",
            );
        }
    }

    fn check_length(&mut self, lines: usize) {
        if lines > FILE_LINES_MAX {
            self.find(
                FILE_LINES_MAX,
                format!("{lines} lines outside of tests"),
                format!("a file has at most {FILE_LINES_MAX} lines, its tests not counted"),
                "split it where it has two reasons to change",
            );
        }
    }

    fn check_names(&mut self) {
        let mut named: Vec<(usize, String)> =
            self.path.trim_end_matches(".rs").split('/').map(|part| (1, part.to_owned())).collect();
        for pair in self.source.tokens.windows(2) {
            if pair[0].text == "mod" && pair[1].is_word() {
                named.push((pair[1].line, pair[1].text.clone()));
            }
        }
        for (line, name) in named {
            if NAMELESS.contains(&name.as_str()) {
                self.find(
                    line,
                    format!("a module named `{name}`"),
                    format!("no module is named {}", NAMELESS.join(", ")),
                    "name it after the one idea in it; what fits nowhere has not been understood yet",
                );
            }
        }
    }

    fn check_paths(&mut self) {
        for path in std::mem::take(&mut self.paths) {
            match &path.target {
                Target::Inside(module) => self.check_import(&path, module),
                Target::Outside(segments) => self.check_crate(&path, segments),
            }
            let impure = IMPURE_PATHS
                .iter()
                .find(|impure| path.written == **impure || path.written.starts_with(&format!("{impure}::")));
            if let Some(impure) = impure
                && self.is_pure()
            {
                self.find_impure(path.line, impure);
            }
        }
    }

    /// Imports point down.
    fn check_import(&mut self, path: &Reference, module: &[String]) {
        let Row { floor, name, imports, .. } = *self.row;
        let found = format!("`{}`", path.written);
        let top = module.first().map(String::as_str).unwrap_or_default();
        if matches!(name, "lib" | BINARY) || top == name || imports.contains(&top) {
            return;
        }
        let Some(other) = HOUSE.iter().find(|row| row.name == top && !matches!(top, "lib" | BINARY)) else {
            return self.find(
                path.line,
                format!("{found}, which is a name of the crate root (floor 9), on floor {floor} ({name})"),
                "imports only point down",
                "import it from the folder that defines it; lib.rs re-exports for users only",
            );
        };
        let (rule, instead) = if other.floor > floor {
            (
                "imports only point down",
                "move what both need to a lower floor, or turn the call into a message in messages/ or a value handed in",
            )
        } else if other.floor == floor {
            (
                "siblings on one floor do not import each other",
                "let the floor above connect the two, or move the shared part down",
            )
        } else {
            (
                "a floor imports only what its row of the table names",
                "send a message, or let a floor that may import it hand the value in",
            )
        };
        self.find(
            path.line,
            format!("{found}, which is floor {} ({top}), on floor {floor} ({name})", other.floor),
            rule,
            instead,
        );
    }

    /// The crates column.
    fn check_crate(&mut self, path: &Reference, segments: &[String]) {
        let crate_name = segments[0].as_str();
        let Row { floor, name, crates, .. } = *self.row;
        if EVERYWHERE.contains(&crate_name) {
            return;
        }
        let found = format!("`{}`", path.written);
        if let Some((_, places, why)) = ONLY_IN.iter().find(|(only, ..)| *only == crate_name)
            && !places.iter().any(|place| self.path.starts_with(place))
        {
            let place = places.join(", ");
            return self.find(
                path.line,
                found,
                format!("only {place} names {crate_name}, because {why}"),
                format!("do it in {place} and hand the result in"),
            );
        }
        let allowed = name == BINARY
            || crates.iter().any(|allowed| {
                let allowed: Vec<_> = allowed.split("::").collect();
                segments.len() >= allowed.len() && segments.iter().zip(&allowed).all(|(a, b)| a == b)
            });
        if !allowed {
            self.find(
                path.line,
                found,
                format!("floor {floor} ({name}) names no crate but {}", [EVERYWHERE, crates].concat().join(", ")),
                "do it on the floor that may, and pass a value inward",
            );
        }
    }

    fn check_tokens(&mut self) {
        let tokens = &self.source.tokens;
        for (at, token) in tokens.iter().enumerate() {
            let (line, word) = (token.line, &token.text);
            let is_path_start = at == 0 || tokens[at - 1].text != "::";
            if word == "do_send" {
                self.find(
                    line,
                    "`do_send`",
                    "nothing calls do_send: it ignores the mailbox capacity and drops silently when the mailbox is closed",
                    "use `try_send` and handle `Full` and `Closed` right there, or `send` with a deadline",
                );
            }
            if LOCKS.contains(&word.as_str()) && !LOCKED.iter().any(|(path, _)| *path == self.path) {
                self.find(
                    line,
                    format!("`{word}`"),
                    format!(
                        "no lock around application state (no {}, but for {})",
                        LOCKS.join(", "),
                        LOCKED.iter().map(|(path, guards)| format!("{path}: {guards}")).collect::<Vec<_>>().join("; ")
                    ),
                    "let one actor own the state, and send it a message",
                );
            }
            if self.row.name == "lib" && LIB_ITEMS.contains(&word.as_str()) && is_path_start {
                self.find(
                    line,
                    format!("`{word}` in lib.rs"),
                    "lib.rs only declares modules and re-exports names",
                    "define it on its floor, and re-export it here",
                );
            }
            if self.is_pure() {
                let impure = IMPURE_TOKENS.iter().find(|wanted| {
                    let rest = &tokens[at..];
                    rest.len() >= wanted.len() && rest.iter().zip(wanted.iter()).all(|(a, b)| a.text == *b)
                });
                if let Some(tokens) = impure
                    && is_path_start_or_type(tokens, is_path_start)
                {
                    self.find_impure(line, &tokens.concat());
                }
            }
        }
    }

    fn is_pure(&self) -> bool {
        PURE.iter().any(|start| self.path.starts_with(start))
    }

    fn find_impure(&mut self, line: usize, found: &str) {
        let Row { floor, name, .. } = *self.row;
        self.find(
            line,
            format!("`{found}` on floor {floor} ({name})"),
            format!("{} know no clock, no randomness, no logging, no async, no threads, no actix", PURE.join(", ")),
            "take `now: Instant` or the value as an argument, return an effect, and let the actor above act on it",
        );
    }
}

/// Keywords of items that lib.rs does not hold.
const LIB_ITEMS: &[&str] =
    &["fn", "struct", "enum", "trait", "impl", "static", "const", "type", "macro_rules", "union"];

/// `x::log::y` is no logging and `x::rand::y` no randomness; `time::SystemTime` is a clock wherever it comes from.
fn is_path_start_or_type(tokens: &[&str], is_path_start: bool) -> bool {
    is_path_start || tokens[0].starts_with(char::is_uppercase)
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files under a folder of the repository, as their path relative to it; what tools install is left out.
fn files_in(folder: &str) -> Vec<String> {
    fn walk(folder: &Path, start: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if !path.is_dir() {
                let relative = path.strip_prefix(start).expect("the walk stays in its folder");
                found.push(relative.to_string_lossy().replace('\\', "/"));
            } else if !["node_modules", ".venv", "target", "__pycache__"].iter().any(|name| path.ends_with(name)) {
                walk(&path, start, found);
            }
        }
    }
    let start = root().join(folder);
    let mut found = Vec::new();
    walk(&start, &start, &mut found);
    found.sort();
    found
}

/// All Rust files under `src/`, as their path relative to it and their text.
fn texts() -> Vec<(String, String)> {
    let read =
        |path: &String| fs::read_to_string(root().join("src").join(path)).expect("a source file is readable UTF-8");
    let files = files_in("src").into_iter().filter(|path| path.ends_with(".rs"));
    files.map(|path| (path.clone(), read(&path))).collect()
}

/// Modules that some file declares as `#[cfg(test)] mod name;`: only tests use them.
fn test_only(files: &[(String, String, Source)]) -> BTreeSet<String> {
    let declared = |(path, _, source): &(String, String, Source)| {
        let folder = module_of(path);
        source
            .test_modules
            .iter()
            .map(|name| [&folder[..], std::slice::from_ref(name)].concat().join("/"))
            .collect::<Vec<_>>()
    };
    files.iter().flat_map(declared).collect()
}

/// All files that are compiled into the program.
fn production_sources() -> Vec<(String, String, Source)> {
    let read = |(path, text): (String, String)| {
        let source = reader::parse(&text);
        (path, text, source)
    };
    let mut files: Vec<_> = texts().into_iter().map(read).collect();
    let tests = test_only(&files);
    files.retain(|(path, ..)| {
        let module = module_of(path).join("/");
        !tests.iter().any(|test| module == *test || module.starts_with(&format!("{test}/")))
    });
    files
}

/// The names that mean a crate: those in the table and those in `Cargo.toml`.
fn crate_names(manifest: &str) -> BTreeSet<String> {
    let in_table =
        HOUSE.iter().flat_map(|row| row.crates).map(|path| path.split("::").next().unwrap_or_default().to_owned());
    let only = ONLY_IN.iter().map(|(name, ..)| (*name).to_owned());
    let mut names: BTreeSet<String> = in_table
        .chain(only)
        .chain(["rand", "proptest"].iter().chain(EVERYWHERE).map(|name| (*name).to_owned()))
        .collect();
    let mut in_dependencies = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            in_dependencies = section.ends_with("dependencies");
            if let Some((_, name)) = section.split_once("dependencies.") {
                names.insert(name.replace('-', "_"));
            }
        } else if in_dependencies && !line.starts_with('#') {
            let name: String = line.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect();
            if !name.is_empty() {
                names.insert(name.replace('-', "_"));
            }
        }
    }
    names
}

fn crates() -> BTreeSet<String> {
    crate_names(&fs::read_to_string(root().join("Cargo.toml")).unwrap_or_default())
}

#[test]
fn every_file_keeps_the_rules_of_its_floor() {
    let crates = crates();
    let sentences: Vec<String> = production_sources()
        .iter()
        .flat_map(|(path, text, source)| check(path, text, source, &crates))
        .map(|finding| finding.sentence())
        .collect();
    assert!(sentences.is_empty(), "{} broken rules:\n\n{}\n", sentences.len(), sentences.join("\n\n"));
}

#[test]
fn every_floor_exists() {
    let files = files_in("src");
    let missing: Vec<String> = HOUSE
        .iter()
        .filter(|row| !files.iter().any(|path| row_of(path).is_some_and(|found| found.name == row.name)))
        .map(|row| format!("src/{} (floor {})", row.name, row.floor))
        .collect();
    assert!(missing.is_empty(), "floors without a file: {}", missing.join(", "));
}

#[test]
fn the_table_itself_only_points_down() {
    for row in HOUSE {
        for name in row.imports {
            let other = HOUSE.iter().find(|other| other.name == *name).expect("the table names rows that exist");
            assert!(other.floor < row.floor || row.floor == 0, "{} on floor {} imports {name}", row.name, row.floor);
        }
    }
}

fn sentences(path: &str, source: &str) -> Vec<String> {
    let crates = crate_names("[dependencies]\nleft-over = \"1\"\n[dependencies.in-section]\nversion = \"1\"\n");
    check(path, source, &reader::parse(source), &crates).iter().map(Finding::sentence).collect()
}

#[test]
fn a_planted_violation_of_each_kind_is_caught() {
    let long = format!("//! Long.\n{}", "const A: u8 = 0;\n".repeat(FILE_LINES_MAX));
    #[rustfmt::skip]
    let planted: &[(&str, &str, &[&str])] = &[
        // (a) imports
        ("state/outbox.rs", "//! X.\nuse crate::hub::Hub;", &["src/state/outbox.rs:2", "crate::hub::Hub", "floor 6 (hub)", "floor 1 (state)", "only point down", "messages/"]),
        ("state/outbox.rs", "//! X.\nuse crate::{ids::SocketId, session::{self, Session}};", &["crate::session", "only point down"]),
        ("state/outbox.rs", "//! X.\nfn f() {\n    crate::worker::flush();\n}", &["outbox.rs:3", "crate::worker::flush"]),
        ("state/outbox.rs", "//! X.\nuse super::super::api::Socket;", &["super::super::api::Socket", "floor 4 (api)"]),
        ("state/mod.rs", "//! X.\nuse super::messages::HubCommand;", &["super::messages::HubCommand", "floor 3"]),
        ("state/mod.rs", "//! X.\nmod inner {\n    use super::super::messages::HubCommand;\n}", &["mod.rs:3", "floor 3"]),
        ("state/mod.rs", "//! X.\nuse super::*;", &["super::*", "crate root", "only point down"]),
        ("state/mod.rs", "//! X.\nuse crate::Server;", &["crate::Server", "crate root", "lib.rs re-exports"]),
        ("protocol/mod.rs", "//! X.\nuse crate::state::Rooms;", &["only point down"]),
        ("state/mod.rs", "//! X.\nuse crate::journal::Journal;", &["siblings on one floor"]),
        ("journal/mod.rs", "//! X.\nuse crate::state::Rooms;", &["siblings on one floor"]),
        ("hub/mod.rs", "//! X.\nuse crate::session::Session;", &["siblings on one floor"]),
        ("session/mod.rs", "//! X.\nuse crate::hub::Hub;", &["siblings on one floor"]),
        ("hub/mod.rs", "//! X.\nuse crate::api::Socket;", &["only what its row"]),
        ("hub/mod.rs", "//! X.\nuse crate::worker::Port;", &["only what its row"]),
        ("hub/mod.rs", "//! X.\nuse crate::transport::x;", &["only point down"]),
        ("transport/polling.rs", "//! X.\nuse crate::hub::Hub;", &["only what its row"]),
        ("messages/mod.rs", "//! X.\npub struct A(crate::api::Socket);", &["floor 4 (api)", "only point down"]),
        ("lib.rs", "//! X.\npub mod api;\npub fn start() {}", &["lib.rs:3", "`fn`", "declares modules and re-exports"]),
        ("tools/mod.rs", "//! X.", &["outside of every floor"]),
        // (b) crates
        ("protocol/mod.rs", "//! X.\nuse dashmap::DashMap;", &["dashmap", "only session/directory.rs names dashmap"]),
        ("protocol/socketio/text.rs", "//! X.\nuse base64::Engine;", &["only protocol/engineio/, ids.rs names base64"]),
        ("ids.rs", "//! X.\nfn f() { getrandom::fill(&mut [0]); }", &["only session/, server/ names getrandom"]),
        ("state/mod.rs", "//! X.\nuse left_over::A;", &["left_over::A", "names no crate but"]),
        ("state/mod.rs", "//! X.\nextern crate in_section;", &["in_section", "names no crate but"]),
        ("state/mod.rs", "//! X.\nfn f() -> ::left_over::A {}", &["left_over::A", "names no crate but"]),
        ("journal/mod.rs", "//! X.\nuse actix::Actor;", &["actix::Actor", "floor 1 (journal)"]),
        ("messages/mod.rs", "//! X.\nuse tokio::{sync::oneshot, time::Instant};", &["tokio::time::Instant", "tokio::sync"]),
        ("api/socket.rs", "//! X.\nasync fn f() { tokio::spawn(g()); }", &["tokio::spawn", "floor 4 (api)"]),
        ("api/socket.rs", "//! X.\nuse tokio::*;", &["tokio::*"]),
        ("worker/hub_sender.rs", "//! X.\nuse actix_web::web;", &["actix_web::web", "floor 5 (worker)"]),
        ("session/mod.rs", "//! X.\nuse dashmap::DashMap;", &["only session/directory.rs names dashmap"]),
        ("hub/mod.rs", "//! X.\nuse getrandom::fill;", &["only session/, server/ names getrandom"]),
        ("transport/polling.rs", "//! X.\nuse actix_web_actors::ws;", &["only transport/websocket/pump.rs names actix_web_actors"]),
        ("transport/polling.rs", "//! X.\nuse left_over::A;", &["left_over::A", "floor 7"]),
        ("server/mod.rs", "//! X.\nfn f() { env_logger::init(); }", &["only bin/ names env_logger"]),
        ("bin/stentor/main.rs", "//! X.\nuse dashmap::DashMap;", &["only session/directory.rs names dashmap"]),
        ("bin/stentor/http/mod.rs", "//! X.\nuse toml::de::DeTable;", &["only bin/stentor/config/ names toml"]),
        ("api/socket.rs", "//! X.\nuse crate::bin::X;", &["crate::bin", "only point down"]),
        // (c) purity
        ("state/heartbeat.rs", "//! X.\nuse std::time::SystemTime;", &["SystemTime", "no clock"]),
        ("recovery/mod.rs", "//! X.\nuse std::time::SystemTime;", &["SystemTime", "no clock"]),
        ("state/heartbeat.rs", "//! X.\nfn f() { let _ = Instant::now(); }", &["Instant::now", "now: Instant"]),
        ("state/heartbeat.rs", "//! X.\nfn f() { let _ = std::time::Instant::now(); }", &["Instant::now"]),
        ("state/heartbeat.rs", "//! X.\nfn f(a: Instant) { a.elapsed(); }", &[".elapsed("]),
        ("state/rooms.rs", "//! X.\nfn f() -> u8 { rand::random() }", &["rand::", "no randomness"]),
        ("state/rooms.rs", "//! X.\nfn f() { log::warn!(\"x\"); }", &["log::", "no logging"]),
        ("limits.rs", "//! X.\nfn f() { println!(\"x\"); }", &["println!"]),
        ("limits.rs", "//! X.\nfn f() { eprintln!(\"x\"); }", &["eprintln!"]),
        ("ids.rs", "//! X.\nasync fn f() {}", &["async"]),
        ("ids.rs", "//! X.\nfn f() { async move {}; }", &["async"]),
        ("ids.rs", "//! X.\nfn f() { g().await; }", &[".await"]),
        ("state/acks.rs", "//! X.\nimpl actix::Actor for A {}", &["`actix` on floor 1"]),
        ("state/acks.rs", "//! X.\nuse tokio::sync::oneshot;", &["`tokio` on floor 1"]),
        ("state/acks.rs", "//! X.\nuse std::{collections::HashMap, thread};", &["std::thread"]),
        ("protocol/mod.rs", "//! X.\nuse std::net::TcpStream;", &["std::net"]),
        ("protocol/mod.rs", "//! X.\nfn f() { std::fs::read(\"x\"); }", &["std::fs"]),
        // (d) locks
        ("hub/mod.rs", "//! X.\nuse std::sync::Mutex;", &["Mutex", "no lock around application state"]),
        ("session/mod.rs", "//! X.\nuse std::sync::{Arc, RwLock};", &["RwLock"]),
        ("api/mod.rs", "//! X.\nstruct A(tokio::sync::Mutex<u8>);", &["Mutex"]),
        ("state/mod.rs", "//! X.\nstruct A(std::sync::Mutex<u8>);", &["Mutex"]),
        ("worker/mod.rs", "//! X.\nstruct A(std::sync::Mutex<u8>);", &["Mutex"]),
        ("metrics/cells.rs", "//! X.\nstruct A(std::sync::Mutex<u8>);", &["Mutex"]),
        ("journal/file.rs", "//! X.\nstruct A(std::sync::Mutex<u8>);", &["Mutex"]),
        ("server/rate.rs", "//! X.\nstruct A(std::sync::Mutex<u8>);", &["Mutex", "api/registry.rs"]),
        // (e) do_send
        ("server/mod.rs", "//! X.\nfn f() { hub.do_send(A); }", &["do_send", "mailbox capacity", "try_send"]),
        // (f) names
        ("session/utils.rs", "//! X.", &["a module named `utils`"]),
        ("session/helpers/mod.rs", "//! X.", &["a module named `helpers`"]),
        ("session/mod.rs", "//! X.\nmod common {}", &["mod.rs:2", "a module named `common`"]),
        ("api/types.rs", "//! X.", &["a module named `types`"]),
        // (g) length
        ("api/socket.rs", &long, &["601 lines", "at most 600"]),
        // (h) header
        ("api/socket.rs", "use std::fmt;", &["use std::fmt;", "starts with a `//!` paragraph"]),
        ("api/socket.rs", "", &["starts with a `//!` paragraph"]),
    ];
    for (path, source, expected) in planted {
        let found = sentences(path, source);
        assert!(
            found.iter().any(|sentence| expected.iter().all(|words| sentence.contains(words))),
            "{path}: no sentence says {expected:?} about\n{source:.200}\nsentences: {found:#?}"
        );
    }
}

#[test]
fn what_the_rules_allow_is_not_reported() {
    let tests = format!("//! X.\n#[cfg(test)]\nmod tests {{\n{}}}\n", "    const A: u8 = 0;\n".repeat(FILE_LINES_MAX));
    #[rustfmt::skip]
    let fine: &[(&str, &str)] = &[
        ("state/outbox.rs", "//! X.\nuse crate::{ids::{SocketId, RoomName}, limits, protocol::engineio::Packet};\nuse super::acks::Acks;"),
        ("state/outbox.rs", "//! Uses crate::hub::Hub.\n// crate::hub::Hub and tokio::spawn\n/* a /* nested */ crate::hub */\nconst A: &str = \"crate::hub::Hub \\\" log::x\";"),
        ("state/outbox.rs", "//! X.\nconst A: &str = r#\"crate::hub::Hub \" .await\"#; const B: &[u8] = b\"tokio::x\"; const C: char = '\"'; const D: u8 = b'\\'';"),
        ("state/outbox.rs", "//! X.\nfn f<'a>(now: Instant, a: &'a str) -> Duration { now.duration_since(now) }"),
        ("state/outbox.rs", "//! X.\n#[cfg(test)]\nmod tests {\n    use proptest::prelude::*;\n    use crate::hub::Hub;\n    fn f() { Instant::now(); }\n}"),
        ("state/outbox.rs", "//! X.\n#[cfg(test)]\nuse crate::{hub::Hub, session};\n#[cfg(test)]\n#[allow(dead_code)]\nfn f() { tokio::spawn(g()); }\nfn g() {}"),
        ("state/outbox.rs", "//! X.\npub(crate) struct A;\npub(in crate::state) struct B { pub(super) log: u8 }\nfn f(b: &B) -> u8 { b.log }"),
        ("state/mod.rs", "//! X.\nmod acks;\npub(crate) use acks::Acks;\nuse self::acks::Ack;\nmod inner {\n    use super::super::ids::SocketId;\n    use super::Acks;\n}\nuse super::ids::RoomName;"),
        ("state/r.rs", "//! X.\nfn f() -> u8 { let operand = 1; let log = 2; let r#type = 3; operand + log }"),
        ("state/rooms.rs", "//! X.\nfn f<'a>(a: &'a [u8]) -> impl Iterator<Item = u8> + use<'a> { let b = [1]; a.iter().map(|a| { *a }) }\nfn g() -> impl Sized + use<> {}"),
        ("journal/memory.rs", "//! X.\nuse crate::ids::Offset;\nfn f() { log::warn!(\"journal full\"); }"),
        ("hub/mod.rs", "//! X.\nuse crate::{journal::{self, Journal}, messages::HubCommand, state::Rooms};\nuse actix::prelude::*;"),
        ("messages/mod.rs", "//! X.\nuse tokio::sync::oneshot;\nuse crate::journal::Record;"),
        ("api/ack.rs", "//! X.\nuse tokio::sync::oneshot;\nuse serde::de::DeserializeOwned;"),
        ("session/directory.rs", "//! X.\nuse dashmap::DashMap;\nfn f() { getrandom::fill(&mut [0]); }"),
        ("transport/websocket/pump.rs", "//! X.\nuse actix_web_actors::ws;\nuse crate::session::Session;"),
        ("messages/socket.rs", "//! X.\nuse std::sync::Mutex;"),
        ("server/mod.rs", "//! X.\nuse crate::{hub::Hub, transport::routes};\nuse actix_service::Service;"),
        ("lib.rs", "//! X.\n#![deny(missing_docs)]\npub mod api;\nmod hub;\npub use crate::api::Socket;"),
        ("bin/stentor/main.rs", "//! X.\nmod config;\nuse clap::Parser;\nuse stentor::Server;\nfn main() { env_logger::init(); }"),
        ("bin/stentor/http/mod.rs", "//! X.\nuse super::replies::ErrorBody;\nuse crate::secret::Secret;\nuse serde_json::Value;"),
        ("api/socket.rs", &tests),
    ];
    for (path, source) in fine {
        let found = sentences(path, source);
        assert!(found.is_empty(), "{path}: reported about\n{source:.400}\n{found:#?}");
    }
}

#[test]
fn a_file_declared_for_tests_only_is_left_alone() {
    let files = [
        ("session/mod.rs", "//! X.\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\npub(crate) mod fakes;\nmod close;"),
        ("lib.rs", "//! X.\n#[cfg(test)]\nmod testing;"),
    ];
    let files = files.map(|(path, text)| (path.to_owned(), text.to_owned(), reader::parse(text)));
    let found: Vec<String> = test_only(&files).into_iter().collect();
    assert_eq!(found, ["session/fakes", "session/tests", "testing"]);
}

/// The circles among the files of a folder, each as its files.
fn circles(folder: &str, files: &[(String, String, Source)], crates: &BTreeSet<String>) -> Vec<Vec<String>> {
    let files: Vec<_> = files.iter().filter(|(path, ..)| path.starts_with(folder)).collect();
    let paths: Vec<_> = files.iter().map(|(path, _, source)| reader::paths(source, &module_of(path), crates)).collect();
    let modules: Vec<_> = files.iter().map(|(path, ..)| module_of(path)).collect();
    let file_of = |module: &[String]| {
        (0..=module.len()).rev().find_map(|end| modules.iter().position(|known| *known == module[..end]))
    };
    // What a file imports, others may import through it: the path then leads to where that comes from.
    let mut imported: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
    for (module, paths) in modules.iter().zip(&paths) {
        for path in paths {
            if let (Target::Inside(target), Some(name)) = (&path.target, &path.imported_as) {
                imported.insert([&module[..], std::slice::from_ref(name)].concat(), target.clone());
            }
        }
    }
    let follow = |target: &[String]| {
        let mut target = target.to_vec();
        for _ in 0..8 {
            let Some((at, next)) = (1..=target.len()).find_map(|at| Some((at, imported.get(&target[..at])?))) else {
                break;
            };
            target = [next, &target[at..]].concat();
        }
        file_of(&target)
    };
    let mut reached: Vec<BTreeSet<usize>> = Vec::new();
    for (at, paths) in paths.iter().enumerate() {
        let used = paths.iter().filter(|path| !path.is_reexport).filter_map(|path| match &path.target {
            Target::Inside(target) => follow(target),
            Target::Outside(_) => None,
        });
        reached.push(used.filter(|to| *to != at).collect());
    }
    for _ in 0..files.len() {
        for at in 0..files.len() {
            let further: Vec<usize> = reached[at].iter().flat_map(|to| reached[*to].clone()).collect();
            reached[at].extend(further);
        }
    }
    let circle_of = |at: usize| {
        (0..files.len()).filter(|to| reached[at].contains(to) && reached[*to].contains(&at)).collect::<BTreeSet<_>>()
    };
    let circles: BTreeSet<_> = (0..files.len()).map(circle_of).filter(|circle| circle.len() > 1).collect();
    circles.into_iter().map(|circle| circle.into_iter().map(|at| files[at].0.clone()).collect()).collect()
}

#[test]
fn files_of_a_folder_do_not_import_each_other_in_a_circle() {
    let (files, crates) = (production_sources(), crates());
    for (folder, known) in WITHOUT_CIRCLES {
        let known: Vec<String> = known.iter().map(|file| format!("{folder}{file}")).collect();
        let circles = circles(folder, &files, &crates);
        let expected = if known.is_empty() { vec![] } else { vec![known] };
        assert_eq!(circles, expected, "move what the files of a circle share into one file that imports none of them");
    }
}

#[test]
fn a_planted_circle_is_caught() {
    let of = |texts: &[(&str, &str)]| {
        let files: Vec<_> =
            texts.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned(), reader::parse(text))).collect();
        circles("api/", &files, &BTreeSet::new())
    };
    let (a, b) = (("api/a.rs", "use super::b::B;"), ("api/b.rs", "fn f() { crate::api::a::f(); }"));
    assert_eq!(of(&[a, b]), [["api/a.rs", "api/b.rs"]]);
    assert_eq!(of(&[a, b, ("api/mod.rs", "mod a; mod b; pub use a::A;")]), [["api/a.rs", "api/b.rs"]]);
    let through_parent = ("api/b.rs", "use super::A;");
    assert_eq!(of(&[a, through_parent, ("api/mod.rs", "mod a; mod b; pub use a::A;")]), [["api/a.rs", "api/b.rs"]]);
    let parent = ("api/mod.rs", "mod c; use c::C; struct A;");
    assert_eq!(of(&[("api/c.rs", "use super::A;"), parent]), [["api/c.rs", "api/mod.rs"]]);
    assert!(of(&[a, ("api/b.rs", "struct B;"), ("api/mod.rs", "mod a; mod b; pub use a::A;")]).is_empty());
}

#[test]
fn no_doc_comment_is_one_or_two_words() {
    let short = |(path, text): &(String, String)| {
        let comments = reader::doc_comments(text).into_iter();
        let short = comments.filter(|(_, comment)| comment.split_whitespace().count() <= 2);
        short.map(|(line, comment)| format!("src/{path}:{line}:{comment}")).collect::<Vec<_>>()
    };
    let found: Vec<String> = texts().iter().flat_map(short).collect();
    assert!(found.is_empty(), "say what the name does not, or nothing:\n{}", found.join("\n"));
}

/// The words of the list in a text or a name.
fn listed_words(text: &str) -> Vec<&'static str> {
    let letters = text.chars().map(|c| match c {
        '_' | ' ' => ' ',
        c if c.is_alphabetic() => c.to_ascii_lowercase(),
        _ => '.',
    });
    let text = letters.collect::<String>().replace('.', " . ");
    let text = format!(" {} ", text.split_whitespace().collect::<Vec<_>>().join(" "));
    WORDS.iter().copied().filter(|word| text.contains(&format!(" {word} "))).collect()
}

#[test]
fn texts_use_plain_words() {
    let is_text = |path: &&String| [".rs", ".js", ".mjs", ".ts", ".html", ".css"].iter().any(|end| path.ends_with(end));
    let mut found = Vec::new();
    for folder in ["src", "static", "tests"] {
        for path in files_in(folder).iter().filter(is_text) {
            let text = fs::read_to_string(root().join(folder).join(path)).expect("a source file is readable UTF-8");
            let mut report = |at: usize, text: &str| {
                found.extend(listed_words(text).into_iter().map(|word| format!("{folder}/{path}:{at}: {word:?}")));
            };
            report(0, path);
            for (at, line) in text.lines().enumerate() {
                let name = line.trim_start().trim_start_matches("async ").strip_prefix("fn ");
                let title = ["test(", "it("].iter().find_map(|call| line.trim_start().strip_prefix(call));
                match name.or(title) {
                    _ if folder != "tests" => report(at + 1, line),
                    Some(name) => report(at + 1, name),
                    None => {}
                }
            }
        }
    }
    assert!(found.is_empty(), "words that have a plainer one (WORDS):\n{}", found.join("\n"));
}

#[test]
fn listed_words_are_found_in_texts_and_names() {
    assert_eq!(listed_words("/// Whoever is told of it"), ["whoever", "is told"]);
    assert_eq!(listed_words("fn the_owed_event_is_told_anew()"), ["anew", "owed", "is told"]);
    assert!(listed_words("a mutex, beit, an output; what may be; it").is_empty());
}
