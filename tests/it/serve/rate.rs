//! Rate limits of one session and of one address.

use std::num::NonZeroU32;
use std::time::Instant;

use stentor::Limits;

use crate::support::product::vocabulary::{self, Access, Policy};
use crate::support::{Client, Hub, Packet, Process, Transport, on_every_transport};

fn hub(change: impl FnOnce(&mut Limits)) -> Hub {
    Hub::limited(change, |io| {
        for namespace in ["/", "/other"] {
            vocabulary::install(io.of(namespace), Policy::open(Access::Open, 1_024));
        }
    })
}

/// This many events per second for a session. All tests share one address, which is practically
/// unlimited.
fn session_limit(per_second: u32) -> Hub {
    hub(|limits| {
        limits.rates.events_per_second = NonZeroU32::new(per_second);
        limits.rates.address_events_per_second = Some(NonZeroU32::MAX);
    })
}

/// Number of events that a limit may have admitted since `begun`.
fn admitted_max(per_second: u32, begun: Instant) -> u32 {
    per_second * (2 + 1 + begun.elapsed().as_secs() as u32)
}

const REFUSAL: &str = r#"{"error":{"code":"rate_limited","message":"more than 1 events per second; slow down"}}"#;

fn echo(namespace: &str, id: u64) -> Packet {
    Packet::Text(format!(r#"42{namespace}{id}["echo",1]"#))
}

/// Emits `echo` this often; gives how many were handled.
fn echoed(client: &mut Client, times: u64) -> u32 {
    client.send_all(&(0..times).map(|id| echo("", id)).collect::<Vec<_>>());
    (0..times).filter(|id| client.recv_text() == format!("43{id}[1]")).count() as u32
}

#[test]
fn events_over_the_limit_are_refused_in_their_ack() {
    let hub = session_limit(1);
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send_all(&(0..10).map(|id| echo("", id)).collect::<Vec<_>>());
        let answers: Vec<_> = (0..10).map(|_| client.recv_text()).collect();
        let refused = (0..10).filter(|id| answers.contains(&format!("43{id}[{REFUSAL}]"))).count();
        let carried_out = (0..10).filter(|id| answers.contains(&format!("43{id}[1]"))).count();
        assert_eq!(refused + carried_out, 10, "{answers:?}");
        assert!(refused >= 1, "{answers:?}");
    });
}

// Regression: `41` and `40` restored a full bucket, which allowed 36 000 events per second at a
// limit of 10.
#[test]
fn reconnecting_to_a_namespace_does_not_refill_the_bucket() {
    let hub = session_limit(100);
    on_every_transport(|transport| {
        let begun = Instant::now();
        let mut client = hub.join(transport);
        let mut carried_out = 0;
        for _ in 0..100 {
            carried_out += echoed(&mut client, 50);
            assert!(carried_out <= admitted_max(100, begun), "{carried_out} after {:?}", begun.elapsed());
            client.send("41");
            client.send("40");
            let answer = client.recv_text();
            if answer.starts_with("44") {
                assert!(answer.starts_with(r#"44{"message":"rate_limited","data":{"code":"rate_limited""#), "{answer}");
                return;
            }
        }
        panic!("no CONNECT was refused");
    });
}

// Regression: the client received a CONNECT_ERROR after the reply. It dropped the socket, the
// server kept it.
#[test]
fn a_second_connect_over_the_limit_keeps_the_first_socket() {
    let hub = session_limit(1);
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        client.send_all(&(0..4).map(|_| Packet::Text("40".into())).collect::<Vec<_>>());
        let ack = Packet::Text(r#"421["echo",1]"#.into());
        client.send_all(&[ack]);
        let mut answers = Vec::new();
        while !answers.last().is_some_and(|answer: &String| answer.starts_with("431")) {
            answers.push(client.recv_text());
        }
        assert!(answers.iter().all(|answer| !answer.starts_with("44")), "{answers:?}");
        assert!(answers[0].starts_with("40{"), "{answers:?}");
    });
}

#[test]
fn namespaces_of_one_session_share_its_limit() {
    let hub = session_limit(1);
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.connect("/other,");
        client.send_all(&(0..20).map(|id| echo(["", "/other,"][id as usize % 2], id)).collect::<Vec<_>>());
        let refused = (0..20).filter(|_| client.recv_text().contains("rate_limited")).count();
        assert!(refused > 10, "{refused}");
        let mut another = hub.join(transport);
        another.send_all(&[echo("", 5)]);
        another.expect("435[1]");
    });
}

#[test]
fn successive_sessions_of_one_address_share_its_limit() {
    let hub = hub(|limits| limits.rates.address_events_per_second = NonZeroU32::new(50));
    let begun = Instant::now();
    let mut carried_out = 0;
    for at in 0..1_000 {
        let mut client = hub.open([Transport::Polling, Transport::Websocket][at % 2]);
        client.send("40");
        let answer = client.recv_text();
        if answer.starts_with("44") {
            assert!(answer.contains("more than 50 events per second from one address"), "{answer}");
            return;
        }
        carried_out += 1 + echoed(&mut client, 5);
        assert!(carried_out <= admitted_max(50, begun), "{carried_out} after {:?}", begun.elapsed());
    }
    panic!("no CONNECT was refused");
}

#[test]
fn events_are_refused_while_the_byte_limit_is_exceeded() {
    let hub = hub(|limits| {
        limits.rates.bytes_per_second = NonZeroU32::new(1_000);
        limits.rates.address_bytes_per_second = Some(NonZeroU32::MAX);
    });
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        let large = "x".repeat(60_000);
        // One large event is admitted whatever the limit; later events wait for it.
        client.send(&format!(r#"421["echo","{large}"]"#));
        client.expect(&format!(r#"431["{large}"]"#));
        client.send(r#"422["echo",1]"#);
        let expected = "more than 1000 bytes per second; slow down";
        assert_eq!(client.recv_text(), format!(r#"432[{{"error":{{"code":"rate_limited","message":"{expected}"}}}}]"#));
    });
}

#[test]
fn bytes_of_attachments_count() {
    let hub = hub(|limits| {
        limits.rates.bytes_per_second = NonZeroU32::new(1_000);
        limits.rates.address_bytes_per_second = Some(NonZeroU32::MAX);
    });
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        let header = Packet::Text(r#"451-1["echo",{"_placeholder":true,"num":0}]"#.into());
        client.send_all(&[header, Packet::Binary(vec![7; 60_000])]);
        assert!(client.recv_text().starts_with("461-1["));
        client.expect_binary(&[7; 60_000]);
        client.send(r#"422["echo",1]"#);
        assert!(client.recv_text().contains("rate_limited"));
    });
}

#[test]
fn a_flood_without_acks_gets_one_error_per_second() {
    let hub = session_limit(1);
    on_every_transport(|transport| {
        let begun = Instant::now();
        let mut client = hub.join(transport);
        let mut flood = vec![Packet::Text(r#"42["echo"]"#.into()); 5];
        flood.push(echo("", 7));
        client.send_all(&flood);
        client.expect(&format!(r#"42["stentor:error",{REFUSAL}]"#));
        let mut notices = 1;
        while client.recv_text() != format!("437[{REFUSAL}]") {
            notices += 1;
        }
        assert!(notices <= 1 + begun.elapsed().as_secs(), "{notices}");
    });
}

#[test]
fn reading_pauses_for_a_client_that_exceeds_its_rate() {
    let mut hub = Process::start(&["--events-per-second", "10", "--address-events-per-second", "100000"]);
    let mut client = hub.join(Transport::Websocket);
    client.send_all(&vec![Packet::Text(r#"42["echo"]"#.into()); 200]);
    hub.expect_log("session pauses reading, too many packets above its rate");
    // Reading continues.
    let answer = (0..10).find_map(|id| {
        client.send(&format!(r#"42{id}["echo",1]"#));
        std::iter::repeat_with(|| client.recv_text()).find(|text| text.starts_with("43"))
    });
    assert!(answer.is_some());
    assert!(hub.metric("stentor_rate_limited_total") > 0);
    drop(client);
    hub.expect_healthy();
}

// Regression: 12 clients that exceeded their number of rooms took two thirds of the CPU from other
// clients.
#[test]
fn a_client_whose_joins_are_refused_is_named_and_reading_pauses() {
    let mut hub = Process::start(&["--rooms-per-socket-max", "3"]);
    let mut client = hub.join(Transport::Websocket);
    let joins: Vec<_> = (0..150).map(|n| Packet::Text(format!(r#"42{n}["join","room {n}"]"#))).collect();
    client.send_all(&joins);
    hub.expect_log("join refused sid=");
    hub.expect_log("session pauses reading, too many joins that are refused");
    let answers: Vec<_> = joins.iter().map(|_| client.recv_text()).collect();
    let refused = answers.iter().filter(|answer| answer.contains(r#""code":"too_many_rooms""#)).count();
    assert_eq!(refused, 147, "{answers:?}");
    assert_eq!(hub.metric("stentor_joins_refused_total"), 147);
    client.expect_echo();
    drop(client);
    hub.expect_healthy();
}
