//! A disk that accepts no more bytes: durable publishes fail, live events continue.

use std::process::Command;

use serde_json::{Value, json};

use super::{Scratch, answer, join};
use crate::support::{Process, Transport, eventually};

/// Bytes that a file of the process may have.
const FILE_BYTES: u64 = 1 << 20;

/// A process whose files cannot grow beyond a limit. The signal of the limit is ignored, so that
/// writes fail.
fn start(scratch: &Scratch) -> Process {
    let mut command = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -S -f {}; exec \"$0\" \"$@\"", FILE_BYTES / 512);
    command.args(["-c", &script, env!("CARGO_BIN_EXE_stentor"), "serve", "--recovery", "off", "--queue", "disk"]);
    command.arg("--data-dir").arg(scratch.path());
    Process::run(&mut command)
}

#[test]
fn a_full_disk_fails_durable_publishes_until_it_has_room() {
    let scratch = Scratch::new();
    let process = start(&scratch);
    let mut client = process.open(Transport::Websocket);
    client.connect("");
    join(&mut client);
    let text = "x".repeat(200_000);
    let mut publish = |id: u32| {
        client.send(&format!(r#"425["publish",{{"room":"a","durable":true,"dedup_id":"{id}"}},"e","{text}"]"#));
        loop {
            let packet = client.recv_text();
            if packet.starts_with("435[") {
                break answer(&packet, 5);
            }
        }
    };
    let code = |answer: &Value| answer["error"]["code"].as_str().unwrap_or("stored").to_owned();
    let failed = (0..40).find(|id| code(&publish(*id)) != "stored").expect("the disk is full");
    assert!(failed > 0);
    eventually("later publishes are unavailable", || code(&publish(1_000)) == "unavailable");
    let ready = process.http().get("/readyz");
    assert_eq!(
        ready.status_and_body(),
        (200, "ok, but the queue has failed: durable publishes are refused; see the log")
    );
    assert_eq!(process.metric("stentor_queue_available"), 0);
    assert!(process.metric("stentor_queue_failures_total") >= 1);
    process.expect_log("queue failed, durable events are refused until it is opened again error=");
    let mut other = process.open(Transport::Websocket);
    other.connect("");
    join(&mut other);
    other.send(r#"421["publish","a","live"]"#);
    other.expect(r#"42["live"]"#);
    let mut phone = process.open(Transport::Websocket);
    phone.connect_with("", r#"{"subscriber":"phone"}"#);
    phone.send(r#"426["join","b",{"durable":true}]"#);
    let joined = loop {
        let packet = phone.recv_text();
        if packet.starts_with("436[") {
            break answer(&packet, 6);
        }
    };
    // A store that was opened again in this moment may have room for it.
    let is_stored = joined["durable"] == json!(true);
    assert!(is_stored || joined["error"]["code"] == "unavailable", "it is not attached yet: {joined}");
    process.lift_file_limit();
    eventually("the queue works again", || code(&publish(2_000)) == "stored");
    assert_eq!(process.metric("stentor_queue_available"), 1);
    assert_eq!(publish(0)["duplicate"], json!(true), "what was stored before is there");
    eventually("ready", || process.http().get("/readyz").status_and_body() == (200, "ok"));
}
