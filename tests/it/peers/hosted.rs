//! Bad company inside a host application, whose sockets are not the hub's: what is noticed there, and when.

use std::pin::pin;
use std::time::Duration;

use stentor::{Event, Limits};

use crate::support::{Client, Host, Http, Hub, Manners, Told, Transport, ends, eventually, mount, report};

/// A hub whose `flood` emits 8 MB at its client's pace, and says so when the client takes no more; whose `pour` emits as much
/// at the hub's pace; whose `speak` says that it was heard.
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
                socket.everybody().to(socket.id().to_string()).emit("flood", &kilobytes).await?;
            }
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

/// A client of the host that reads nothing from here on.
fn jammed(hub: &Hub, event: &str) -> Client {
    let mut client = Client::open_narrow(hub.host.address);
    client.connect("");
    client.send(&format!(r#"42["{event}"]"#));
    client
}

#[test]
fn a_client_that_stops_reading_is_heard_and_ends_at_its_pong_deadline_while_others_are_served() {
    let (hub, told) = hub(|limits| {
        limits.ping_interval = Duration::from_secs(2);
        limits.ping_timeout = Duration::from_secs(2);
        // More than the kernel takes on its own account; half of it holds the handler up.
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
    // Its connection is the host's, and ends when the client reads on: the session no longer knows of it.
    client.websocket().closed();
    hub.is_unharmed();
}

#[test]
fn a_client_that_reads_on_gets_everything() {
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

/// A client of a host, whose poll waits.
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
fn a_poll_aborted_by_fin_ends_its_session_at_once_where_the_host_takes_no_half_closed_connections() {
    let (hub, told) = hub(|_| {});
    let host = Host::start(Manners { half_closed: false, ..Manners::default() }, mount(&hub.io));
    parked(&host).finish();
    assert_eq!(told.next(), "transport error");
    hub.is_unharmed();
}

#[test]
fn a_poll_aborted_by_fin_ends_its_session_at_the_pong_deadline_where_the_host_has_defaults() {
    let (hub, told) = hub(|limits| {
        limits.ping_interval = Duration::from_millis(300);
        limits.ping_timeout = Duration::from_millis(300);
    });
    parked(&hub.host).finish();
    // The poll took the ping, as far as the hub can see; nobody answered it.
    assert_eq!(told.next(), "ping timeout");
    hub.is_unharmed();
}
