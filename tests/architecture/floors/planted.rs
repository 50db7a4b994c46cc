//! Planted violations of each rule, and files that comply with all.

use super::super::reader;
use super::Finding;
use super::{check, crate_names};
use crate::FILE_LINES_MAX;

fn sentences(path: &str, source: &str) -> Vec<String> {
    let crates = crate_names("[dependencies]\nleft-over = \"1\"\n[dependencies.in-section]\nversion = \"1\"\n");
    check(path, source, &reader::parse(source), &crates).iter().map(Finding::sentence).collect()
}

#[test]
fn planted_violations_of_every_rule_are_found() {
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
        ("protocol/socketio/text.rs", "//! X.\nuse base64::Engine;", &["only protocol/engineio/, ids.rs, bin/stentor/signature.rs, bin/stentor/subscriber_bodies.rs, bin/stentor/hooks/request.rs names base64"]),
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
        ("state/rooms.rs", "//! X.\nfn f() -> u8 { rand::random() }", &["rand::", "randomness"]),
        ("state/rooms.rs", "//! X.\nfn f() { log::warn!(\"x\"); }", &["log::", "logging"]),
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
fn compliant_files_are_not_reported() {
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
