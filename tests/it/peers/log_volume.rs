//! What the log says of peers that are bad company: whom the hub put out for reading nothing; and no more than a few lines of one
//! that floods, however long it does.

use std::time::Instant;

use crate::support::{Client, Frame, Process, Transport, eventually, frame};

#[test]
fn a_client_that_takes_nothing_is_named_when_disconnected() {
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
    let mut jammed = Client::open_narrow(process.address);
    jammed.connect("");
    jammed.send(r#"420["join","hall"]"#);
    jammed.recv_text();
    let mut other = process.join(Transport::Websocket);
    let kilobytes = "x".repeat(50_000);
    for _ in 0..100 {
        other.send(&format!(r#"42["publish","hall","ev","{kilobytes}"]"#));
    }
    other.echoes();
    // The other one goes on, and answers its pings meanwhile.
    eventually("the jammed one is reset", || {
        other.echoes();
        jammed.websocket().was_reset()
    });
    process.logs(r#"client reads nothing sid="#);
    other.send("1");
    process.is_unharmed();
}

#[test]
fn a_flood_fills_no_log() {
    const EVENTS: usize = 20_000;
    let process = Process::start(&["--log-level", "warn"]);
    let begun = Instant::now();
    let events = frame(0x81, br#"42["publish","nobody","ev"]"#).repeat(EVENTS);
    let echo = frame(0x81, br#"421["echo"]"#);
    let mut client = process.join(Transport::Websocket);
    // When the echo is answered, those behind it are under way.
    client.websocket().write(&[events.clone(), echo, events].concat());
    while !matches!(client.websocket().recv(), Frame::Whole(0x81, payload) if payload == b"431[]") {}
    client.into_websocket().reset();
    process.join(Transport::Websocket).echoes();
    let log = process.stop();
    let stops = log.lines().filter(|line| line.contains("session pauses reading")).count();
    // Once a second, on each of two workers.
    let most = 2 * (begun.elapsed().as_secs() as usize + 1);
    assert!((1..=most).contains(&stops), "{stops} lines, at most {most} expected, in\n{log}");
    assert!(!log.contains("handler failed"), "{log}");
}
