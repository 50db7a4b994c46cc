//! Durable events: publishing, and what a restart and a crash leave.

mod bad_input;
mod crash;
mod failing;
mod order;
mod publishing;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use stentor::{Queue, Recovery};

use crate::support::product::vocabulary::{self, Access, Policy};
use crate::support::{API_KEY, Client, Hub, Transport};

/// A folder of its own, removed when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let nth = MADE.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("stentor-it-queue-{}-{nth}", std::process::id())))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A hub with the events of `stentor serve` in `/`.
fn hub(queue: Queue, recovery: Recovery) -> Hub {
    Hub::start(
        |builder| builder.queue(queue).recovery(recovery),
        |io| drop(vocabulary::install(io.of("/"), Policy::open(Access::Open, 1_024))),
    )
}

/// A client in the room `a`.
fn member(hub: &Hub, transport: Transport) -> Client {
    let mut client = hub.join(transport);
    join(&mut client);
    client
}

fn join(client: &mut Client) {
    client.send(r#"421["join","a"]"#);
    assert!(client.recv_text().starts_with(r#"431[{"room":"a""#));
}

/// The content of the ack with this id.
#[track_caller]
fn answer(packet: &str, id: u32) -> Value {
    let json = packet.strip_prefix(&format!("43{id}[")).and_then(|rest| rest.strip_suffix(']'));
    serde_json::from_str(json.unwrap_or_else(|| panic!("expected the ack {id}, got {packet}"))).expect("JSON")
}

/// Publishes over HTTP; gives status and body.
fn post(hub: &Hub, body: &Value) -> (u16, Value) {
    let key = format!("Bearer {API_KEY}");
    let headers = [("Content-Type", "application/json"), ("Authorization", &*key)];
    let response = hub.http().request("POST", "/api/v1/publish", &headers, body.to_string().as_bytes());
    (response.head.status, serde_json::from_str(&response.body).expect("JSON"))
}

fn durable(event: &str, dedup_id: Option<&str>) -> Value {
    json!({"room": "a", "event": event, "durable": true, "dedup_id": dedup_id})
}
