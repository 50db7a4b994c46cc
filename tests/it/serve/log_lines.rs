//! Lines of the log of `stentor serve`: refused clients, and lines of JSON.

use serde_json::Value;

use crate::support::{Process, Transport, Websocket};

const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

#[test]
fn refused_clients_are_warnings_with_their_reason() {
    let process = Process::start(&["--log-level", "warn"]);
    process.http().get("/socket.io/?EIO=3&transport=polling");
    process
        .expect_log("handshake refused reason=\"Unsupported protocol version\" detail=\"EIO=3: this server requires");
    process.http().get("/socket.io/?EIO=4&transport=carrier-pigeon");
    process.expect_log("handshake refused reason=\"Transport unknown\"");
    let mut client = process.open(Transport::Websocket);
    client.send("40/nowhere,");
    assert!(client.recv_text().starts_with("44/nowhere,"));
    process.expect_log("namespace=\"/nowhere\" reason=\"Invalid namespace\" skipped=0");
}

#[test]
fn json_lines_are_objects_whatever_clients_send() {
    let process = Process::start(&["--log-level", "debug", "--log-format", "json"]);
    let origin = "http://evil.example/\\\" level=error {\"a\":\u{85}1}";
    for _ in 0..3 {
        let mut http = process.http();
        http.write(b"G\x1b[31m\r\n\r\n");
        http.rest();
        assert!(Websocket::try_upgrade(process.http(), WEBSOCKET, &[("Origin", origin)]).is_err());
    }
    process.join(Transport::Polling).expect_echo();
    process.expect_log("websocket refused");
    let log = process.stop();
    assert!(log.lines().count() > 3, "{log}");
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let is_text = |key: &str| line[key].is_string();
        assert!(["time", "level", "target", "message"].into_iter().all(is_text), "{line}");
        assert!(line["level"] != "error", "{line}");
    }
    let stopped = log.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
    let stopped = stopped.expect("a line");
    assert_eq!((&stopped["message"], &stopped["level"]), (&"server stopped".into(), &"info".into()));
    assert!(stopped["fields"]["took"].is_string(), "{stopped}");
}

#[test]
fn json_holds_for_the_error_that_ends_the_process() {
    let taken = Process::start(&[]);
    let port = taken.address.port().to_string();
    let mut command = crate::support::stentor(&["serve", "--log-format", "json", "--recovery", "off", "--port", &port]);
    let output = command.output().unwrap();
    assert!(!output.status.success());
    let log = String::from_utf8(output.stderr).unwrap();
    let last: Value = serde_json::from_str(log.lines().last().expect("a line")).unwrap();
    assert_eq!((&last["level"], &last["message"]), (&"error".into(), &"stentor failed".into()), "{log}");
    assert!(last["fields"]["error"].as_str().is_some_and(|error| error.contains("cannot listen on")), "{log}");
}
