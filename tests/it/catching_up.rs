//! Clients that read too slowly with recovery on: they catch up from the journal at their own pace
//! and get every event once, in order. A session ends only when the journal no longer holds the
//! next event, and its client is notified.

use std::time::Duration;

use serde_json::{Value, json};
use stentor::{Event, Limits, Recovery, Server};

use crate::support::{Client, Ended, Frame, Hub, Reports, Transport, eventually, report_channel, report_disconnects};

/// Bytes of each event.
const BYTES: usize = 2 << 10;

/// A hub with a small outbox that reports how sessions ended. `pour` emits numbered events to all
/// other sockets, `drip` a volatile event, and `room` an event to a room.
fn hub(change: impl FnOnce(&mut Limits)) -> (Hub, Reports) {
    let mut limits = Limits::with(|limits| {
        limits.sessions.outbox_bytes_max = 256 << 10;
        limits.transport.send_buffer_bytes = 16 << 10;
    });
    change(&mut limits);
    let (reporter, reports) = report_channel();
    let hub = Hub::start(
        |builder| builder.recovery(Recovery::memory()).limits(limits),
        |io| {
            report_disconnects(io, &reporter);
            events(io);
        },
    );
    (hub, reports)
}

fn events(io: &Server) {
    for path in ["/", "/other"] {
        io.of(path)
            .on("pour", |socket, event: Event<(u32, u32)>| async move {
                let kilobytes = "x".repeat(BYTES);
                for n in event.data.0..event.data.1 {
                    socket.broadcast().emit("n", (n, &kilobytes)).await?;
                }
                event.ack.send(())?;
                Ok(())
            })
            .on("drip", |socket, event: Event<()>| async move {
                socket.all().volatile().emit("drip", ()).await?;
                socket.volatile().emit("drip", ()).await?;
                event.ack.send(())?;
                Ok(())
            })
            .on("join", |socket, event: Event<String>| async move {
                socket.join(&event.data).await?;
                event.ack.send(())?;
                Ok(())
            })
            .on("leave", |socket, event: Event<String>| async move {
                socket.leave(&event.data).await?;
                event.ack.send(())?;
                Ok(())
            })
            .on("room", |socket, event: Event<(String, Value)>| async move {
                socket.all().to(&event.data.0).emit("in", event.data.1).await?;
                event.ack.send(())?;
                Ok(())
            })
            .on("ask", |socket, event: Event<()>| async move {
                let answer: u32 = socket.emit_with_ack("question", ()).await?;
                event.ack.send(answer)?;
                Ok(())
            });
    }
}

/// Makes `client` emit these events to all other sockets.
fn emit_events(client: &mut Client, from: u32, to: u32) {
    client.send(&format!(r#"421["pour",{from},{to}]"#));
    client.expect("431[]");
}

#[track_caller]
fn assert_event(event: &str, n: u32) -> u32 {
    assert!(event.starts_with(&format!(r#"42["n",{n},"#)), "expected {n}, got {}", &event[..40.min(event.len())]);
    n
}

/// Offset at the end of an event.
fn token(event: &str) -> String {
    let token = event.strip_suffix(r#""]"#).and_then(|event| event.rsplit_once('"')).map(|(_, token)| token);
    token.unwrap_or_else(|| panic!("no offset: {event:.60}")).to_owned()
}

/// Reconnects with the credentials of an earlier session.
fn resume(hub: &Hub, transport: Transport, pid: &Value, offset: &str) -> (Client, Value) {
    let mut client = hub.open(transport);
    let reply = client.connect_with("", &json!({ "pid": pid, "offset": offset }).to_string());
    (client, reply)
}

#[test]
fn a_slow_reader_catches_up_and_gets_every_event_once_in_order() {
    let (hub, reports) = hub(|_| {});
    let mut late = hub.join_with_small_buffer();
    let mut other = hub.join(Transport::Websocket);
    emit_events(&mut other, 0, 1_000);
    assert_eq!(hub.metric("stentor_catching_up_sockets"), 1);
    for n in 0..600 {
        assert_event(&late.recv_text(), n);
    }
    // More events are emitted while it reads.
    emit_events(&mut other, 1_000, 1_100);
    for n in 600..1_100 {
        assert_event(&late.recv_text(), n);
    }
    eventually("it has caught up", || hub.metric("stentor_catching_up_sockets") == 0);
    emit_events(&mut other, 1_100, 1_101);
    assert_event(&late.recv_text(), 1_100);
    late.expect_echo();
    assert_eq!(reports.rest(), [""; 0]);
}

#[test]
fn a_slow_polling_client_catches_up() {
    let (hub, reports) = hub(|limits| limits.transport.poll_bytes_max = 32 << 10);
    let mut late = hub.join(Transport::Polling);
    let mut other = hub.join(Transport::Websocket);
    emit_events(&mut other, 0, 1_000);
    assert_eq!(hub.metric("stentor_catching_up_sockets"), 1);
    for n in 0..1_000 {
        assert_event(&late.recv_text(), n);
    }
    late.expect_echo();
    assert_eq!(reports.rest(), [""; 0]);
}

#[test]
fn an_upgrade_while_catching_up_loses_no_event() {
    let (hub, reports) = hub(|limits| limits.transport.poll_bytes_max = 32 << 10);
    let mut late = hub.join(Transport::Polling);
    let mut other = hub.join(Transport::Websocket);
    emit_events(&mut other, 0, 1_000);
    for n in 0..100 {
        assert_event(&late.recv_text(), n);
    }
    let mut late = late.upgrade();
    emit_events(&mut other, 1_000, 1_010);
    for n in 100..1_010 {
        assert_event(&late.recv_text(), n);
    }
    late.expect_echo();
    assert_eq!(reports.rest(), [""; 0]);
}

#[test]
fn a_client_catching_up_gets_no_volatile_events_and_early_acks() {
    let (hub, _) = hub(|_| {});
    let mut late = hub.join_with_small_buffer();
    let mut other = hub.join(Transport::Websocket);
    emit_events(&mut other, 0, 500);
    other.send(r#"421["drip"]"#);
    other.expect_echo_after(|text| text.starts_with(r#"42["drip""#) || text == "431[]");
    late.send(r#"421["drip"]"#);
    late.send(r#"422["echo",7]"#);
    let (mut next, mut answers) = (0, 0);
    while next < 500 || answers < 2 {
        match late.recv_text() {
            answer if answer == "431[]" || answer == "432[7]" => answers += 1,
            event => next = assert_event(&event, next) + 1,
        }
    }
    late.expect_echo();
}

#[test]
fn a_client_behind_the_journal_is_disconnected_and_not_recovered() {
    let (hub, reports) = hub(|limits| {
        limits.journal.records_max = 300;
        limits.transport.close_linger = Duration::from_secs(60);
    });
    let mut late = Client::open_with_small_buffer(hub.address);
    let pid = late.connect("")["pid"].clone();
    let mut other = hub.join(Transport::Websocket);
    emit_events(&mut other, 0, 1_000);
    // The events in its outbox arrive; then it reads a part of the journal that is deleted.
    let mut last = String::new();
    let mut next = 0;
    loop {
        match late.websocket().recv() {
            Frame::Whole(0x81, event) => {
                last = String::from_utf8(event).unwrap();
                next = assert_event(&last, next) + 1;
            }
            Frame::Whole(0x88, close) => {
                assert_eq!(close, [&1008_u16.to_be_bytes()[..], b"outbox full"].concat());
                break;
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!((1..1_000).contains(&next), "{next}");
    assert_eq!(reports.next(), "transport error");
    let (mut fresh, reply) = resume(&hub, Transport::Websocket, &pid, &token(&last));
    assert_ne!(reply["pid"], pid);
    assert_eq!(hub.metric(r#"stentor_recoveries_total{verdict="trimmed"}"#), 1);
    fresh.expect_echo();
}

#[test]
fn a_client_that_resumes_far_behind_catches_up_and_then_reads_live() {
    for transport in Transport::ALL {
        let (hub, reports) = hub(|limits| limits.recovery.replay_bytes = 8 << 10);
        let mut away = hub.open(transport);
        let pid = away.connect("")["pid"].clone();
        let mut other = hub.join(Transport::Websocket);
        emit_events(&mut other, 0, 1);
        let offset = token(&away.recv_text());
        away.send("1");
        assert_eq!(reports.next(), "transport close");
        emit_events(&mut other, 1, 800);
        let (mut back, reply) = resume(&hub, transport, &pid, &offset);
        assert_eq!(reply["pid"], pid);
        for n in 1..500 {
            assert_event(&back.recv_text(), n);
        }
        emit_events(&mut other, 800, 810);
        for n in 500..810 {
            assert_event(&back.recv_text(), n);
        }
        back.expect_echo();
        drop(other);
    }
}

#[test]
fn joins_and_leaves_while_catching_up_apply_from_their_position() {
    let (hub, _) = hub(|_| {});
    let mut late = hub.join_with_small_buffer();
    let mut other = hub.join(Transport::Websocket);
    let reporter = |client: &mut Client, packet: &str| {
        client.send(packet);
        client.expect("431[]");
    };
    reporter(&mut late, r#"421["join","a"]"#);
    reporter(&mut other, r#"421["room","a",1]"#);
    emit_events(&mut other, 0, 500);
    reporter(&mut other, r#"421["room","a",2]"#);
    // The ack arrives immediately, before the events that are not yet read.
    late.send(r#"421["leave","a"]"#);
    late.send(r#"422["join","b"]"#);
    let mut received = Vec::new();
    let mut answers = 0;
    while answers < 2 {
        match late.recv_text() {
            answer if answer == "431[]" || answer == "432[]" => answers += 1,
            event => received.push(event),
        }
    }
    reporter(&mut other, r#"421["room","a","not for it"]"#);
    reporter(&mut other, r#"421["room","b",3]"#);
    while !received.last().is_some_and(|event| event.starts_with(r#"42["in",3"#)) {
        received.push(late.recv_text());
    }
    let rooms: Vec<_> =
        received.iter().filter_map(|event| event.strip_prefix(r#"42["in","#)).map(|event| &event[..1]).collect();
    assert_eq!(rooms, ["1", "2", "3"]);
    assert_eq!(received.len(), 503);
}

#[test]
fn namespaces_of_one_connection_catch_up_independently() {
    let (hub, reports) = hub(|_| {});
    let mut late = Client::open_with_small_buffer(hub.address);
    late.connect("");
    let pid = late.connect("/other,")["pid"].clone();
    let mut other = hub.join(Transport::Websocket);
    other.connect("/other,");
    emit_events(&mut other, 0, 500);
    other.send(r#"42/other,1["pour",0,1]"#);
    let mut answered = false;
    while !answered {
        answered = other.recv_text() == "43/other,1[]";
    }
    // `/other` is not lagging, or only because the connection is full: it loses no event either
    // way.
    let mut received = Vec::new();
    while received.iter().filter(|event: &&String| event.starts_with("42[")).count() < 500
        || !received.iter().any(|event: &String| event.starts_with("42/other,"))
    {
        received.push(late.recv_text());
    }
    let of_other = received.iter().find(|event| event.starts_with("42/other,")).unwrap().clone();
    late.expect_echo();
    late.send("1");
    assert_eq!(reports.next(), "transport close");
    other.send(r#"42/other,2["pour",1,2]"#);
    while other.recv_text() != "43/other,2[]" {}
    let mut back = hub.open(Transport::Websocket);
    let reply = back.connect_with("/other,", &json!({ "pid": pid, "offset": token(&of_other) }).to_string());
    assert_eq!(reply["pid"], pid);
    assert!(back.recv_text().starts_with(r#"42/other,["n",1,"#));
}

#[test]
fn an_event_with_an_ack_reaches_a_client_that_catches_up() {
    let (hub, _) = hub(|_| {});
    let mut late = hub.join_with_small_buffer();
    let mut other = hub.join(Transport::Websocket);
    emit_events(&mut other, 0, 500);
    late.send(r#"421["ask"]"#);
    let mut next = 0;
    let question = loop {
        match late.recv_text() {
            event if event.starts_with(r#"42["n""#) => next = assert_event(&event, next) + 1,
            question => break question,
        }
    };
    let id = question.strip_prefix("42").and_then(|rest| rest.strip_suffix(r#"["question"]"#)).unwrap().to_owned();
    late.send(&format!("43{id}[7]"));
    while next < 500 {
        next = assert_event(&late.recv_text(), next) + 1;
    }
    late.expect("431[7]");
}

#[test]
fn without_recovery_a_client_too_far_behind_is_disconnected() {
    let (hub, reports) = hub(|limits| limits.transport.close_linger = Duration::from_millis(50));
    let mut bare = Client::open_with_small_buffer(hub.address);
    let reply = bare.connect_with("", r#"{"recovery":false}"#);
    assert_eq!(reply.get("pid"), None);
    let mut other = hub.join(Transport::Websocket);
    emit_events(&mut other, 0, 1);
    let event = bare.recv_text();
    assert_eq!(event, format!(r#"42["n",0,"{}"]"#, "x".repeat(BYTES)));
    emit_events(&mut other, 1, 1_000);
    assert_eq!(reports.next(), "transport error");
    assert_eq!(hub.metric("stentor_lags_total"), 0);
    assert!(matches!(
        bare.expect_end_after(|text| text.starts_with(r#"42["n","#)),
        Ended::CloseFrame(Some(1008)) | Ended::Reset
    ));
}
