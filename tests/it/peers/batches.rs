//! Many small packets at once, as a client sends what it buffered while offline. The hub handles
//! them in slices, so that other sessions of the worker are served in between. Only the number of
//! bytes is limited, which clients know from `maxPayload`.

use std::sync::Arc;

use stentor::Event;
use tokio::sync::Semaphore;

use crate::support::{Hub, Packet, Transport, eventually, on_every_transport, report_channel};

/// Number of echoes that fit into a POST of 1 000 000 bytes.
const MANY: usize = 60_000;

fn echo(number: usize) -> String {
    format!(r#"42{number}["echo"]"#)
}

#[test]
fn a_post_of_sixty_thousand_packets_is_handled_in_slices() {
    let hub = Hub::plain();
    let mut other = hub.join(Transport::Websocket);
    let client = hub.join(Transport::Polling);
    let target = client.poll_target();
    let (mut gets, mut posts) = client.connections();
    gets.start_poll(&target);
    let body = (0..MANY).map(echo).collect::<Vec<_>>().join("\x1e");
    posts.write_head("POST", &target, &[("Content-Type", "text/plain;charset=UTF-8")], Some(body.len()));
    posts.write(body.as_bytes());
    let (mut received, mut batches) = (0, 0);
    while received < MANY {
        let batch = if batches == 0 { gets.response() } else { gets.get(&target) };
        for packet in batch.body.split('\x1e').filter(|packet| !["2", "6"].contains(packet)) {
            assert_eq!(packet, format!("43{received}[]"));
            received += 1;
        }
        batches += 1;
        other.expect_echo();
    }
    // Handled in one turn, all replies would have been in the first batch.
    assert!(batches > 1, "all acks came in one batch");
    assert_eq!(posts.response().status_and_body(), (200, "ok"));
}

#[test]
fn sixty_thousand_packets_in_one_write_are_handled_in_order() {
    let hub = Hub::plain();
    for transport in Transport::WEBSOCKETS {
        let mut client = hub.join(transport);
        client.send_all(&(0..MANY).map(|number| Packet::Text(echo(number))).collect::<Vec<_>>());
        for number in 0..MANY {
            client.expect(&format!("43{number}[]"));
        }
        client.expect_echo();
    }
}

#[test]
fn packets_sent_together_wait_for_hanging_handlers_and_none_is_lost() {
    const EVENTS: usize = 2_000;
    let (reporter, reports) = report_channel();
    let gate = Arc::new(Semaphore::new(0));
    let hub = Hub::start(
        |builder| builder,
        |io| {
            let gate = gate.clone();
            io.of("/").on("wait", move |_, event: Event<usize>| {
                let (gate, reporter) = (gate.clone(), reporter.clone());
                async move {
                    reporter.report("begun");
                    gate.acquire().await.expect("open").forget();
                    event.ack.send(event.data)?;
                    Ok(())
                }
            });
        },
    );
    on_every_transport(|transport| {
        let client = hub.join(transport);
        let events: Vec<_> = (0..EVENTS).map(|n| Packet::Text(format!(r#"42{n}["wait",{n}]"#))).collect();
        let sender = std::thread::spawn(move || {
            let mut client = client;
            client.send_all(&events);
            client
        });
        let limit = stentor::Limits::default().handlers.pending_max;
        assert_eq!(reports.take(limit).len(), limit);
        gate.add_permits(EVENTS);
        let mut client = sender.join().unwrap();
        let mut answered: Vec<String> = (0..EVENTS).map(|_| client.recv_text()).collect();
        let mut expected: Vec<String> = (0..EVENTS).map(|n| format!("43{n}[{n}]")).collect();
        answered.sort();
        expected.sort();
        assert!(answered == expected, "{transport:?}: {} of {EVENTS}", answered.len());
        reports.take(EVENTS - limit);
        eventually("every permit is used", || gate.available_permits() == 0);
        client.send("1");
    });
    hub.expect_healthy();
}
