//! Misbehaving clients inside a host application, whose connections the hub does not own: what the
//! hub notices, and when.

use std::pin::pin;
use std::time::Duration;

use stentor::{Event, Limits};

use crate::support::websocket::CLOSE;
use crate::support::{
    Client, Frame, Host, HostSettings, Http, Hub, Reports, Transport, eventually, frame, mount, report_channel,
    report_disconnects, write_until_blocked,
};

/// A hub whose `flood` emits 8 MB at the pace of its client and reports when the client stops
/// reading; `pour` emits as much at the pace of the hub; `speak` reports that it ran.
fn hub(change: impl FnOnce(&mut Limits)) -> (Hub, Reports) {
    let (reporter, reports) = report_channel();
    let hub = Hub::limited(change, |io| {
        report_disconnects(io, &reporter);
        let stalled = reporter.clone();
        io.of("/").on("flood", move |socket, _: Event<()>| {
            let stalled = stalled.clone();
            async move {
                let kilobytes = "x".repeat(8 << 10);
                for _ in 0..1_000 {
                    let mut emitted = pin!(socket.emit("flood", &kilobytes));
                    match tokio::time::timeout(Duration::from_millis(500), &mut emitted).await {
                        Ok(emitted) => emitted?,
                        Err(_) => {
                            stalled.report("stalled");
                            emitted.await?;
                        }
                    }
                }
                Ok(())
            }
        });
        io.of("/").on("pour", |socket, _: Event<()>| async move {
            let kilobytes = "x".repeat(8 << 10);
            for _ in 0..1_000 {
                socket.all().to(socket.id().to_string()).emit("flood", &kilobytes).await?;
            }
            Ok(())
        });
        io.of("/").on("disconnect me", |socket, _: Event<()>| async move {
            socket.disconnect(true);
            Ok(())
        });
        let received = reporter.clone();
        io.of("/").on("speak", move |_, _: Event<()>| {
            received.report("received");
            async { Ok(()) }
        });
    });
    (hub, reports)
}

/// A client of the host that reads nothing from now on.
fn stalled(hub: &Hub, event: &str) -> Client {
    let mut client = Client::open_with_small_buffer(hub.host.address);
    client.connect("");
    client.send(&format!(r#"42["{event}"]"#));
    client
}

#[test]
fn a_client_that_stops_reading_ends_at_its_pong_deadline() {
    let (hub, reports) = hub(|limits| {
        limits.sessions.ping_interval = Duration::from_secs(2);
        limits.sessions.ping_timeout = Duration::from_secs(2);
        // More than the kernel buffers by itself; half of it blocks the handler.
        limits.sessions.outbox_bytes_max = 1 << 20;
    });
    let mut others = Transport::ALL.map(|transport| hub.join(transport));
    let mut client = stalled(&hub, "flood");
    assert_eq!(reports.next(), "stalled");
    client.send(r#"42["speak"]"#);
    assert_eq!(reports.next(), "received");
    let mut reasons = Vec::new();
    eventually("the stalled session ends", || {
        others.iter_mut().for_each(Client::expect_echo);
        reasons = reports.rest();
        !reasons.is_empty()
    });
    assert_eq!(reasons, ["ping timeout"]);
    for mut other in others {
        other.expect_echo();
        other.send("1");
        assert_eq!(reports.next(), "transport close");
    }
    // Its connection belongs to the host and ends when the client reads again; the session is gone
    // by then.
    client.websocket().read_to_end();
    hub.expect_healthy();
}

#[test]
fn a_client_that_resumes_reading_gets_everything() {
    let (hub, reports) = hub(|limits| limits.sessions.outbox_bytes_max = 1 << 20);
    let mut client = stalled(&hub, "flood");
    assert_eq!(reports.next(), "stalled");
    for _ in 0..1_000 {
        let event = client.recv_text();
        assert!(event.len() == r#"42["flood",""]"#.len() + (8 << 10), "{} bytes", event.len());
    }
    client.expect_echo();
}

#[test]
fn a_client_that_stops_reading_ends_when_its_outbox_is_full() {
    let (hub, reports) = hub(|limits| limits.sessions.outbox_bytes_max = 256 << 10);
    let mut other = hub.join(Transport::Pump);
    let mut client = stalled(&hub, "pour");
    assert_eq!(reports.next(), "transport error");
    other.expect_echo();
    other.send("1");
    assert_eq!(reports.next(), "transport close");
    client.websocket().read_to_end();
    hub.expect_healthy();
}

/// A client of a host whose poll waits.
fn waiting_poll(host: &Host) -> Http {
    let mut client = Client::open(host.address, Transport::Polling);
    client.connect("");
    let target = client.poll_target();
    let (mut gets, _posts) = client.connections();
    gets.start_poll(&target);
    gets
}

#[test]
fn a_poll_aborted_by_rst_ends_its_session() {
    let (hub, reports) = hub(|_| {});
    waiting_poll(&hub.host).reset();
    assert_eq!(reports.next(), "transport error");
    hub.expect_healthy();
}

#[test]
fn a_poll_aborted_by_fin_ends_immediately_without_half_closed() {
    let (hub, reports) = hub(|_| {});
    let host = Host::start(HostSettings { half_closed: false, ..HostSettings::default() }, mount(&hub.io));
    waiting_poll(&host).send_fin();
    assert_eq!(reports.next(), "transport error");
    hub.expect_healthy();
}

#[test]
fn a_poll_aborted_by_fin_ends_at_the_pong_deadline_by_default() {
    let (hub, reports) = hub(|limits| {
        limits.sessions.ping_interval = Duration::from_millis(300);
        limits.sessions.ping_timeout = Duration::from_millis(300);
    });
    waiting_poll(&hub.host).send_fin();
    // The hub believes that the poll delivered the ping; nothing answers it.
    assert_eq!(reports.next(), "ping timeout");
    hub.expect_healthy();
}

#[test]
fn a_websocket_ends_with_its_close_whatever_the_hosts_client_timeouts() {
    let (hub, reports) = hub(|limits| limits.transport.close_linger = Duration::from_secs(3_600));
    for half_closed in [true, false] {
        let patient = HostSettings { linger: Duration::from_secs(3_600), half_closed, ..HostSettings::default() };
        let host = Host::start(patient, mount(&hub.io));
        for transport in [Transport::Pump, Transport::PumpUpgraded] {
            let open = || {
                let mut client = Client::open(host.address, transport);
                client.connect("");
                client
            };
            let close = frame(CLOSE, &1_000_u16.to_be_bytes());

            let mut leaving = open();
            leaving.websocket().write(&close);
            assert_eq!(leaving.websocket().read_to_end(), (Some(1_000), Frame::Fin));
            assert_eq!(reports.next(), "transport close");

            let mut disconnected = open();
            disconnected.send(r#"42["disconnect me"]"#);
            while !matches!(disconnected.websocket().recv(), Frame::Whole(CLOSE, _)) {}
            disconnected.websocket().write(&close);
            assert_eq!(disconnected.websocket().read_to_end(), (None, Frame::Fin));
            assert_eq!(reports.next(), "server namespace disconnect");
        }
    }
    hub.expect_healthy();
}

#[test]
fn an_oversized_post_is_refused_while_its_client_still_writes() {
    let (hub, _reports) = hub(|_| {});
    // Default of actix-web.
    let host = Host::start(HostSettings { linger: Duration::from_secs(1), ..HostSettings::default() }, mount(&hub.io));
    let mut client = Client::open(host.address, Transport::Polling);
    client.connect("");
    let mut http = Http::connect(host.address);
    http.write_head("POST", &client.poll_target(), &[], Some(100 << 20));
    let mut rest = http.writer();
    let pouring =
        std::thread::spawn(move || write_until_blocked(|bytes| rest.try_write(bytes), &[b'4'; 1 << 16], 100 << 20));
    assert_eq!(http.head().status, 413);
    assert!(pouring.join().is_ok());
    client.expect_echo();
    client.send("1");
    hub.expect_healthy();
}
