//! Pings of the server and pongs of the client. The tests check the order of events and measure no
//! time.

use std::time::Duration;

use stentor::Event;

use crate::support::{Client, Ended, Hub, Reports, Transport, on_every_transport, report_channel, report_disconnects};

fn hub(interval: u64, timeout: u64) -> (Hub, Reports) {
    let (reporter, reports) = report_channel();
    let hub = Hub::limited(
        |limits| {
            limits.sessions.ping_interval = Duration::from_millis(interval);
            limits.sessions.ping_timeout = Duration::from_millis(timeout);
        },
        |io| report_disconnects(io, &reporter),
    );
    (hub, reports)
}

/// A connected client that does not answer pings by itself.
fn silent(hub: &Hub, transport: Transport) -> Client {
    let mut client = hub.join(transport);
    client.is_silent = true;
    client
}

#[test]
fn the_first_ping_comes_after_one_interval() {
    let (hub, _reports) = hub(1_500, 20_000);
    on_every_transport(|transport| {
        let mut client = silent(&hub, transport);
        client.expect_echo();
        client.expect("2");
    });
}

#[test]
fn without_a_pong_the_session_ends() {
    let (hub, reports) = hub(300, 200);
    on_every_transport(|transport| {
        let mut client = silent(&hub, transport);
        client.expect("2");
        assert_eq!(reports.next(), "ping timeout");
        let ended = client.expect_end();
        // The hub cannot reset a socket of a host application.
        let reset = if transport.is_hosted() { Ended::Fin } else { Ended::Reset };
        assert!(matches!(ended, Ended::ClosePacket | Ended::UnknownSession) || ended == reset, "{ended:?}");
    });
    hub.wait_for_sessions(0);
}

#[test]
fn a_poll_that_waits_at_a_ping_timeout_gets_a_close_packet() {
    let (hub, reports) = hub(300, 2_000);
    let client = silent(&hub, Transport::Polling);
    let target = client.poll_target();
    let (mut gets, _posts) = client.connections();
    assert_eq!(gets.get(&target).status_and_body(), (200, "2"));
    assert_eq!(gets.get(&target).status_and_body(), (200, "1"));
    assert_eq!(reports.next(), "ping timeout");
}

#[test]
fn a_pong_keeps_the_session_open_and_the_next_ping_follows() {
    let (hub, reports) = hub(100, 5_000);
    on_every_transport(|transport| {
        let mut client = silent(&hub, transport);
        for _ in 0..5 {
            client.expect("2");
            client.send("3");
        }
        client.is_silent = false;
        client.expect_echo();
        assert_eq!(reports.rest(), [""; 0]);
        client.send("1");
        assert_eq!(reports.next(), "transport close");
    });
}

#[test]
fn the_pong_deadline_is_suspended_while_a_session_does_not_read() {
    let hub = Hub::limited(
        |limits| {
            limits.sessions.ping_interval = Duration::from_millis(100);
            limits.sessions.ping_timeout = Duration::from_millis(200);
            limits.handlers.pending_max = 1;
            limits.handlers.held_events_max = 1;
        },
        |io| {
            io.of("/").on("wait", |_, event: Event<u32>| async move {
                tokio::time::sleep(Duration::from_millis(500)).await;
                event.ack.send(event.data)?;
                Ok(())
            });
        },
    );
    let mut client = hub.join(Transport::Websocket);
    for n in 0..3 {
        client.send(&format!(r#"42{n}["wait",{n}]"#));
    }
    for n in 0..3 {
        client.expect(&format!("43{n}[{n}]"));
    }
    client.expect_echo();
}

#[test]
fn other_packets_do_not_replace_a_pong() {
    let (hub, reports) = hub(200, 500);
    let mut client = silent(&hub, Transport::Websocket);
    client.expect("2");
    // Packets are sent until the session ends all the same.
    while client.websocket().try_write(&crate::support::frame(0x81, br#"42["news"]"#)).is_ok() {
        std::thread::yield_now();
    }
    assert_eq!(reports.next(), "ping timeout");
}

#[test]
fn a_ping_outstanding_at_an_upgrade_still_times_out() {
    // Regression: socket.io once dropped the deadline at an upgrade, and the session of a dead
    // client never ended.
    let (hub, reports) = hub(300, 1_000);
    let mut client = silent(&hub, Transport::Polling);
    client.expect("2");
    let mut client = client.upgrade();
    assert_eq!(reports.next(), "ping timeout");
    assert_eq!(client.expect_end(), Ended::Reset);
    hub.wait_for_sessions(0);
}

#[test]
fn a_ping_received_over_polling_may_be_answered_over_the_websocket() {
    let (hub, reports) = hub(300, 2_000);
    let mut client = silent(&hub, Transport::Polling);
    client.expect("2");
    let mut client = client.upgrade();
    client.send("3");
    client.expect("2");
    client.send("3");
    client.expect("2");
    assert_eq!(reports.rest(), [""; 0]);
}

#[test]
fn unsolicited_pongs_do_not_delay_the_ping() {
    let (hub, _reports) = hub(500, 20_000);
    let mut client = silent(&hub, Transport::Websocket);
    let (sent, stop) = std::sync::mpsc::channel::<()>();
    let mut writer = client.websocket().writer();
    let flood = std::thread::spawn(move || {
        while stop.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            writer.write(&crate::support::frame(0x81, b"3"));
            std::thread::yield_now();
        }
    });
    client.expect("2");
    drop(sent);
    flood.join().unwrap();
}
