//! Restarts of a server with a queue on disk.

use super::*;

/// A folder under the system's temporary one, removed with the value.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("stentor-subscribers-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn hub(&self) -> Hub {
        Hub::start(|builder| builder.queue(Queue::disk(&self.0)), register)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_restart_with_a_backlog_and_absent_subscribers_loses_nothing() {
    let folder = Folder::new("backlog");
    let hub = folder.hub();
    subscriber(&hub, "absent", &["a"]);
    subscriber(&hub, "phone", &["a"]);
    let mut phone = Attached::open(&hub, Transport::Websocket, "phone");
    publish(&hub, "a", 1);
    publish(&hub, "a", 2);
    let first = phone.recv_data(1);
    phone.recv_data(2);
    phone.ack(&first);
    wait_for_pending(&subscriber(&hub, "phone", &[]), 1);
    drop(hub);

    let hub = folder.hub();
    publish(&hub, "a", 3);
    let mut phone = Attached::open(&hub, Transport::Websocket, "phone");
    assert_eq!(phone.attached, json!({"status": "resumed", "pending": 2, "gaps": []}));
    let received = [phone.recv(), phone.recv()].map(|event| (event.data, event.redelivered));
    assert_eq!(received, [(2, true), (3, false)]);
    publish(&hub, "a", 4);
    assert!(!phone.recv_data(4).redelivered);
    let mut absent = Attached::open(&hub, Transport::Websocket, "absent");
    for data in 1..=4 {
        let event = absent.recv_data(data);
        assert!(!event.redelivered, "it was never attached: {event:?}");
        absent.ack(&event);
    }
    wait_for_pending(&subscriber(&hub, "absent", &[]), 0);
}

#[test]
fn a_purged_event_becomes_a_gap_until_a_later_one_is_acknowledged() {
    let folder = Folder::new("gaps");
    let hub = folder.hub();
    let api = subscriber(&hub, "phone", &["a"]);
    let purged = publish(&hub, "a", 1).offset;
    run(api.purge(&purged)).unwrap();
    for _ in 0..2 {
        let phone = Attached::open(&hub, Transport::Websocket, "phone");
        let expected = json!([{"from": purged.to_string(), "to": purged.to_string(), "reason": "purged"}]);
        assert_eq!((&phone.attached["status"], &phone.attached["gaps"]), (&json!("partial"), &expected));
        phone.leave();
        crate::support::eventually("it is away", || !run(api.info()).unwrap().is_attached);
    }
    let mut phone = Attached::open(&hub, Transport::Websocket, "phone");
    publish(&hub, "a", 2);
    let event = phone.recv_data(2);
    phone.ack(&event);
    crate::support::eventually("the gap is confirmed", || run(api.info()).unwrap().gaps.is_empty());
    // A gap that arises while it is attached.
    publish(&hub, "a", 3);
    let event = phone.recv_data(3);
    run(api.purge(&offset(&event))).unwrap();
    let gap = notice(&mut phone.client, "stentor:gap");
    assert_eq!((&gap["from"], &gap["reason"]), (&json!(event.offset), &json!("purged")));
    phone.ack(&event);
    publish(&hub, "a", 4);
    phone.recv_data(4);
    assert_eq!(run(api.info()).unwrap().gaps.len(), 1, "an event sent before the report confirms nothing");
    drop(hub);
    let hub = folder.hub();
    assert_eq!(Attached::open(&hub, Transport::Websocket, "phone").attached["status"], "partial");
}
