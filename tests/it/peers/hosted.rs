//! Misbehaving clients inside a host application, whose connections the hub does not own: what the
//! hub notices, and when.

use std::pin::pin;
use std::time::Duration;

use stentor::{Event, Limits};

use crate::support::websocket::CLOSE;
use crate::support::{
    Client, Frame, Host, Http, Hub, Manners, Told, Transport, ends, eventually, frame, mount, pour, report,
};

/// A hub whose `flood` emits 8 MB at the pace of its client and reports when the client stops
/// reading; `pour` emits as much at the pace of the hub; `speak` reports that it ran.
fn hub(change: impl FnOnce(&mut Limits)) -> (Hub, Told) {
    let (tell, told) = report();
    let hub = Hub::limited(change, |io| {
        ends(io, &tell);
        let jammed = tell.clone();
        io.of("/").on("flood", move |socket, _: Event<()>| {
            let jammed = jammed.clone();
            async move {
                let kilobytes = "x".repeat(8 << 10);
                for _ in 0..1_000 {
                    let mut emitted = pin!(socket.emit("flood", &kilobytes));
                    match tokio::time::timeout(Duration::from_millis(500), &mut emitted).await {
                        Ok(emitted) => emitted?,
                        Err(_) => {
                            jammed.say("jammed");
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
        io.of("/").on("put out", |socket, _: Event<()>| async move {
            socket.disconnect(true);
            Ok(())
        });
        let heard = tell.clone();
        io.of("/").on("speak", move |_, _: Event<()>| {
            heard.say("heard");
            async { Ok(()) }
        });
    });
    (hub, told)
}

/// A client of the host that reads nothing from now on.
fn jammed(hub: &Hub, event: &str) -> Client {
    let mut client = Client::open_narrow(hub.host.address);
    client.connect("");
    client.send(&format!(r#"42["{event}"]"#));
    client
}

#[test]
fn a_client_that_stops_reading_ends_at_its_pong_deadline() {
    let (hub, told) = hub(|limits| {
        limits.ping_interval = Duration::from_secs(2);
        limits.ping_timeout = Duration::from_secs(2);
        // More than the kernel buffers by itself; half of it blocks the handler.
        limits.outbox_bytes_max = 1 << 20;
    });
    let mut others = Transport::ALL.map(|transport| hub.join(transport));
    let mut client = jammed(&hub, "flood");
    assert_eq!(told.next(), "jammed");
    client.send(r#"42["speak"]"#);
    assert_eq!(told.next(), "heard");
    let mut reasons = Vec::new();
    eventually("the jammed one is ended", || {
        others.iter_mut().for_each(Client::echoes);
        reasons = told.rest();
        !reasons.is_empty()
    });
    assert_eq!(reasons, ["ping timeout"]);
    for mut other in others {
        other.echoes();
        other.send("1");
        assert_eq!(told.next(), "transport close");
    }
    // Its connection belongs to the host and ends when the client reads again; the session is gone
    // by then.
    client.websocket().closed();
    hub.is_unharmed();
}

#[test]
fn a_client_that_resumes_reading_gets_everything() {
    let (hub, told) = hub(|limits| limits.outbox_bytes_max = 1 << 20);
    let mut client = jammed(&hub, "flood");
    assert_eq!(told.next(), "jammed");
    for _ in 0..1_000 {
        let event = client.recv_text();
        assert!(event.len() == r#"42["flood",""]"#.len() + (8 << 10), "{} bytes", event.len());
    }
    client.echoes();
}

#[test]
fn a_client_that_stops_reading_ends_when_its_outbox_is_full() {
    let (hub, told) = hub(|limits| limits.outbox_bytes_max = 256 << 10);
    let mut other = hub.join(Transport::Pump);
    let mut client = jammed(&hub, "pour");
    assert_eq!(told.next(), "transport error");
    other.echoes();
    other.send("1");
    assert_eq!(told.next(), "transport close");
    client.websocket().closed();
    hub.is_unharmed();
}

/// A client of a host whose poll waits.
fn parked(host: &Host) -> Http {
    let mut client = Client::open(host.address, Transport::Polling);
    client.connect("");
    let target = client.polls();
    let (mut gets, _posts) = client.connections();
    gets.park(&target);
    gets
}

#[test]
fn a_poll_aborted_by_rst_ends_its_session() {
    let (hub, told) = hub(|_| {});
    parked(&hub.host).reset();
    assert_eq!(told.next(), "transport error");
    hub.is_unharmed();
}

#[test]
fn a_poll_aborted_by_fin_ends_immediately_without_half_closed() {
    let (hub, told) = hub(|_| {});
    let host = Host::start(Manners { half_closed: false, ..Manners::default() }, mount(&hub.io));
    parked(&host).finish();
    assert_eq!(told.next(), "transport error");
    hub.is_unharmed();
}

#[test]
fn a_poll_aborted_by_fin_ends_at_the_pong_deadline_by_default() {
    let (hub, told) = hub(|limits| {
        limits.ping_interval = Duration::from_millis(300);
        limits.ping_timeout = Duration::from_millis(300);
    });
    parked(&hub.host).finish();
    // The hub believes that the poll delivered the ping; nothing answers it.
    assert_eq!(told.next(), "ping timeout");
    hub.is_unharmed();
}

#[test]
fn a_websocket_ends_with_its_close_whatever_the_hosts_client_timeouts() {
    let (hub, told) = hub(|limits| limits.close_linger = Duration::from_secs(3_600));
    for half_closed in [true, false] {
        let patient = Manners { linger: Duration::from_secs(3_600), half_closed, ..Manners::default() };
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
            assert_eq!(leaving.websocket().closed(), (Some(1_000), Frame::Fin));
            assert_eq!(told.next(), "transport close");

            let mut put_out = open();
            put_out.send(r#"42["put out"]"#);
            while !matches!(put_out.websocket().recv(), Frame::Whole(CLOSE, _)) {}
            put_out.websocket().write(&close);
            assert_eq!(put_out.websocket().closed(), (None, Frame::Fin));
            assert_eq!(told.next(), "server namespace disconnect");
        }
    }
    hub.is_unharmed();
}

#[test]
fn an_oversized_post_is_refused_while_its_client_still_writes() {
    let (hub, _told) = hub(|_| {});
    // Default of actix-web.
    let host = Host::start(Manners { linger: Duration::from_secs(1), ..Manners::default() }, mount(&hub.io));
    let mut client = Client::open(host.address, Transport::Polling);
    client.connect("");
    let mut http = Http::connect(host.address);
    http.begin("POST", &client.polls(), &[], Some(100 << 20));
    let mut rest = http.writer();
    let pouring = std::thread::spawn(move || pour(|bytes| rest.try_write(bytes), &[b'4'; 1 << 16], 100 << 20));
    assert_eq!(http.head().status, 413);
    assert!(pouring.join().is_ok());
    client.echoes();
    client.send("1");
    hub.is_unharmed();
}
