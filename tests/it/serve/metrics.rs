//! `/metrics` after known traffic.

use std::collections::HashMap;

use stentor::{Args, Event, Limits};

use crate::support::{Client, Hub, Transport, eventually};

/// Lines with a value, by name and labels.
fn scrape(hub: &Hub) -> HashMap<String, f64> {
    let response = hub.http().get("/metrics");
    assert_eq!(response.head.status, 200, "{response:?}");
    assert_eq!(response.head.header("content-type"), Some(stentor::METRICS_CONTENT_TYPE), "{response:?}");
    assert!(response.body.ends_with("# EOF\n"), "{response:?}");
    let lines = response.body.lines().filter(|line| !line.starts_with('#'));
    let values = lines.map(|line| line.rsplit_once(' ').expect("a name and a value"));
    values.map(|(name, value)| (name.to_owned(), value.parse().expect("a number"))).collect()
}

/// Checks that a scrape finally has these values: a worker may count a packet a moment after the
/// client received it.
#[track_caller]
fn expect_metrics(hub: &Hub, expected: &[(&str, f64)]) {
    let wrong = || {
        let scraped = scrape(hub);
        let got = expected.iter().map(|(name, value)| (*name, scraped.get(*name).copied(), *value));
        got.filter(|(_, got, value)| *got != Some(*value)).collect::<Vec<_>>()
    };
    eventually(&format!("expected metrics, got instead (name, got, expected) {:?}", wrong()), || wrong().is_empty());
}

/// A hub whose clients join the room `r` and emit to it.
fn hub() -> Hub {
    Hub::on_workers(
        2,
        |builder| {
            builder.queue(stentor::Queue::memory()).limits(Limits::with(|limits| {
                limits.sessions.outbox_bytes_max = 100_000;
                limits.sessions.max = 1_000;
                limits.http.connections_max = 100;
                limits.queue.bytes_max = 5_000_000;
            }))
        },
        |io| {
            io.of("/")
                .on("join", |socket, event: Event<String>| async move {
                    socket.join(&event.data).await?;
                    event.ack.send("joined")?;
                    Ok(())
                })
                .on("say", |socket, event: Event<Args>| async move {
                    socket.all().to("r").emit_confirmed("said", event.data).await?;
                    Ok(())
                })
                .on("fail", |_, _: Event<Args>| async move { Err(std::fmt::Error.into()) });
        },
    )
}

fn in_room(hub: &Hub, transport: Transport) -> Client {
    let mut client = hub.join(transport);
    client.send(r#"421["join","r"]"#);
    client.expect(r#"431["joined"]"#);
    client
}

#[test]
fn a_scrape_counts_every_packet() {
    let hub = hub();
    let mut polling = in_room(&hub, Transport::Polling);
    let mut websocket = in_room(&hub, Transport::Websocket);
    let mut upgraded = in_room(&hub, Transport::Upgraded);
    websocket.send(r#"42["say",1,2]"#);
    for client in [&mut polling, &mut websocket, &mut upgraded] {
        client.expect(r#"42["said",1,2]"#);
    }
    websocket.send(r#"42["fail"]"#);
    websocket.expect_echo();

    expect_metrics(
        &hub,
        &[
            (r#"stentor_connections{transport="polling"}"#, 1.0),
            (r#"stentor_connections{transport="websocket"}"#, 2.0),
            (r#"stentor_sessions_opened_total{transport="polling"}"#, 2.0),
            (r#"stentor_sessions_opened_total{transport="websocket"}"#, 1.0),
            ("stentor_upgrades_total", 1.0),
            ("stentor_sockets", 3.0),
            ("stentor_rooms", 1.0),
            // Three each of CONNECT and `join`, then `say`, `fail` and `echo`.
            ("stentor_received_packets_total", 9.0),
            // Socket.IO data begins after the Engine.IO type.
            ("stentor_received_bytes_total", (3 * (1 + 14) + 13 + 9 + 19) as f64),
            ("stentor_received_events_total", 6.0),
            // Three each of open packet, CONNECT reply and ack, the event three times, the echo.
            ("stentor_sent_packets_total", 13.0),
            ("stentor_deliveries_total", 3.0),
            ("stentor_hub_events_total", 1.0),
            ("stentor_hub_queue_commands", 0.0),
            ("stentor_handler_seconds_count", 6.0),
            (r#"stentor_handlers_failed_total{how="error"}"#, 1.0),
            (r#"stentor_handlers_failed_total{how="panic"}"#, 0.0),
            (r#"stentor_dropped_events_total{reason="outbox_full"}"#, 0.0),
            ("stentor_credit_waits_total", 0.0),
            (concat!("stentor_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
            ("stentor_sessions_max", 1_000.0),
            ("stentor_http_connections_max", 100.0),
            ("stentor_queue_bytes_max", 5e6),
        ],
    );
    let scraped = scrape(&hub);
    assert_eq!(scraped["stentor_flush_packets_sum"], 13.0);
    assert_eq!(scraped[r#"stentor_flush_packets_bucket{le="+Inf"}"#], scraped["stentor_flush_packets_count"]);
    assert!(scraped["stentor_hub_commands_total"] >= 10.0, "{scraped:?}");
}

#[test]
fn closes_are_counted_by_reason_and_gauges_return_to_zero() {
    let hub = hub();
    in_room(&hub, Transport::Polling).send("1");
    in_room(&hub, Transport::Upgraded).send("1");
    in_room(&hub, Transport::Websocket).send("nonsense");
    hub.wait_for_sessions(0);
    expect_metrics(
        &hub,
        &[
            (r#"stentor_sessions_closed_total{reason="transport close"}"#, 2.0),
            (r#"stentor_sessions_closed_total{reason="parse error"}"#, 1.0),
            (r#"stentor_sessions_closed_total{reason="ping timeout"}"#, 0.0),
            (r#"stentor_connections{transport="polling"}"#, 0.0),
            (r#"stentor_connections{transport="websocket"}"#, 0.0),
            ("stentor_sockets", 0.0),
            ("stentor_rooms", 0.0),
        ],
    );
}

#[test]
fn refused_requests_are_counted_by_code() {
    let hub = hub();
    let mut http = hub.http();
    for _ in 0..3 {
        http.get("/socket.io/?EIO=3&transport=polling");
    }
    http.get("/socket.io/?EIO=4&transport=polling&sid=nope");
    expect_metrics(
        &hub,
        &[
            (r#"stentor_requests_refused_total{code="5",reason="unsupported_version"}"#, 3.0),
            (r#"stentor_requests_refused_total{code="1",reason="unknown_session"}"#, 1.0),
            (r#"stentor_requests_refused_total{code="0",reason="unknown_transport"}"#, 0.0),
        ],
    );
}

#[test]
fn messages_over_the_limit_are_counted_by_transport() {
    let hub = hub();
    let polling = hub.join(Transport::Polling);
    assert_eq!(hub.http().post(&polling.poll_target(), vec![b'4'; 1_000_001]).head.status, 413);
    for transport in Transport::WEBSOCKETS {
        let mut client = hub.join(transport);
        client.send(&"4".repeat(1_000_001));
        client.expect_end();
    }
    expect_metrics(
        &hub,
        &[
            (r#"stentor_oversized_messages_total{transport="polling"}"#, 1.0),
            (r#"stentor_oversized_messages_total{transport="websocket"}"#, 4.0),
        ],
    );
}

#[test]
fn events_lost_to_a_slow_watcher_are_counted() {
    let hub = hub();
    let mut narrow = hub.join_with_small_buffer();
    narrow.send(r#"421["join","r"]"#);
    narrow.expect(r#"431["joined"]"#);
    let mut publisher = hub.join(Transport::Websocket);
    let text = "x".repeat(60_000);
    eventually("the session with a small buffer ends", || {
        publisher.send(&format!(r#"42["say","{text}"]"#));
        publisher.expect_echo();
        hub.io.sessions() == 1
    });
    expect_metrics(&hub, &[(r#"stentor_sessions_closed_total{reason="transport error"}"#, 1.0)]);
    // The event for which no room was left, and those that waited.
    assert!(hub.metric(r#"stentor_dropped_events_total{reason="outbox_full"}"#) >= 1);
}

#[test]
fn metrics_of_the_process_have_their_standard_names() {
    let scraped = scrape(&Hub::plain());
    for name in [
        "process_cpu_seconds_total",
        "process_start_time_seconds",
        "process_virtual_memory_bytes",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
    ] {
        assert!(scraped.get(name).is_some_and(|value| *value > 0.0), "{name}: {scraped:?}");
    }
    assert!(scraped["process_open_fds"] <= scraped["process_max_fds"], "{scraped:?}");
}
