//! `stentor serve` that ends between a commit and the reveal of its event.

use serde_json::Value;

use super::{Scratch, answer, join};
use crate::support::{Client, Process, Transport, stentor};

fn start(scratch: &Scratch, crash: Option<&str>) -> Process {
    let mut command = stentor(&["serve", "--workers", "2", "--recovery-clients", "all", "--data-dir"]);
    command.arg(scratch.path());
    if let Some(point) = crash {
        command.env("STENTOR_QUEUE_CRASH", point);
    }
    Process::run(&mut command)
}

/// A connected client in the room `a`, with its private id.
fn recoverable(process: &Process) -> (Client, String) {
    let mut client = process.open(Transport::Websocket);
    let reply = client.connect("");
    join(&mut client);
    (client, reply["pid"].as_str().expect("a pid").to_owned())
}

/// Offset token at the end of an event.
fn token(event: &str) -> String {
    let args: Vec<Value> = serde_json::from_str(event.strip_prefix("42").expect("an event")).unwrap();
    args.last().and_then(Value::as_str).expect("a token").to_owned()
}

const PUBLISH: &str = r#"425["publish",{"room":"a","durable":true,"dedup_id":"1"},"order"]"#;

/// Publishes until a crash at this point, and resumes with the next process. Returns the events
/// that the client missed, and whether a retry is a duplicate.
fn crash_at(point: &str) -> (Vec<String>, bool) {
    let scratch = Scratch::new();
    let (pid, offset) = {
        let process = start(&scratch, Some(point));
        let (mut client, pid) = recoverable(&process);
        // The client has received an event, whose offset it resumes from.
        client.send(r#"424["publish","a","before"]"#);
        let offset = token(&client.recv_text());
        client.recv_text();
        client.send(PUBLISH);
        client.expect_end();
        (pid, offset)
    };
    let process = start(&scratch, None);
    let mut client = process.open(Transport::Websocket);
    let reply = client.connect_with("", &format!(r#"{{"pid":"{pid}","offset":"{offset}"}}"#));
    assert_eq!(reply["pid"].as_str(), Some(&*pid), "the session is resumed");
    // A live event comes after those that were missed.
    client.send(r#"42["publish","a","after"]"#);
    let mut events = std::iter::from_fn(|| Some(client.recv_text()));
    let missed = events.by_ref().take_while(|event| !event.starts_with(r#"42["after""#)).collect();
    client.send(PUBLISH);
    let ack = std::iter::from_fn(|| Some(client.recv_text())).find(|packet| packet.starts_with("435[")).unwrap();
    (missed, answer(&ack, 5)["duplicate"] == true)
}

#[test]
fn an_event_committed_before_a_crash_reaches_resumed_members_once() {
    for point in ["after_commit", "before_reveal"] {
        let (missed, is_duplicate) = crash_at(point);
        assert_eq!(missed.len(), 1, "{point}: {missed:?}");
        assert!(missed[0].starts_with(r#"42["order",""#), "{point}: {missed:?}");
        assert!(is_duplicate, "{point}");
    }
    let (missed, is_duplicate) = crash_at("before_commit");
    assert!(missed.is_empty() && !is_duplicate, "{missed:?}");
}

#[test]
fn a_revealed_event_is_not_revealed_again_after_a_kill() {
    let scratch = Scratch::new();
    let (pid, offset) = {
        let process = start(&scratch, None);
        let (mut client, pid) = recoverable(&process);
        client.send(PUBLISH);
        let offset = token(&client.recv_text());
        answer(&client.recv_text(), 5);
        // Killed before the queue is notified, or after: the journal knows of the event.
        (pid, offset)
    };
    let process = start(&scratch, None);
    let mut client = process.open(Transport::Websocket);
    let reply = client.connect_with("", &format!(r#"{{"pid":"{pid}","offset":"{offset}"}}"#));
    assert_eq!(reply["pid"].as_str(), Some(&*pid), "the session is resumed");
    client.send(r#"42["publish","a","after"]"#);
    assert!(client.recv_text().starts_with(r#"42["after""#));
}
