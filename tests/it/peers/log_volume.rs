//! Log lines about misbehaving clients: a client disconnected for not reading is named, and a flood
//! causes only a few lines.

use std::time::Instant;

use crate::support::{Client, Frame, Process, Transport, eventually, frame};

#[test]
fn a_client_that_reads_nothing_is_named_when_disconnected() {
    let mut process = Process::start(&[
        "--log-level",
        "warn",
        "--recovery",
        "memory",
        "--send-buffer-bytes",
        "16384",
        "--ping-interval",
        "400ms",
        "--ping-timeout",
        "2s",
    ]);
    let mut stalled = Client::open_with_small_buffer(process.address);
    stalled.connect("");
    stalled.send(r#"420["join","hall"]"#);
    stalled.recv_text();
    let mut other = process.join(Transport::Websocket);
    let kilobytes = "x".repeat(50_000);
    for _ in 0..100 {
        other.send(&format!(r#"42["publish","hall","ev","{kilobytes}"]"#));
    }
    other.expect_echo();
    // The other client stays connected and answers its pings meanwhile.
    eventually("the stalled client is reset", || {
        other.expect_echo();
        stalled.websocket().was_reset()
    });
    process.expect_log(r#"client reads nothing sid="#);
    other.send("1");
    process.expect_healthy();
}

#[test]
fn a_flood_does_not_fill_the_log() {
    const EVENTS: usize = 20_000;
    let process = Process::start(&["--log-level", "warn"]);
    let begun = Instant::now();
    let events = frame(0x81, br#"42["publish","nobody","ev"]"#).repeat(EVENTS);
    let echo = frame(0x81, br#"421["echo"]"#);
    let mut client = process.join(Transport::Websocket);
    // When the echo is answered, the packets behind it are in flight.
    client.websocket().write(&[events.clone(), echo, events].concat());
    while !matches!(client.websocket().recv(), Frame::Whole(0x81, payload) if payload == b"431[]") {}
    client.into_websocket().reset();
    process.join(Transport::Websocket).expect_echo();
    let log = process.stop();
    let stops = log.lines().filter(|line| line.contains("session pauses reading")).count();
    // At most one line per second on each of two workers.
    let most = 2 * (begun.elapsed().as_secs() as usize + 1);
    assert!((1..=most).contains(&stops), "{stops} lines, at most {most} expected, in\n{log}");
    assert!(!log.contains("handler failed"), "{log}");
}
