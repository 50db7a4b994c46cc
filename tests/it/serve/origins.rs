//! Web pages of other origins at `stentor serve`.

use crate::support::{Process, Websocket};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

/// Checks whether pages of these origins may connect over both transports. The server's own origin
/// is `http://localhost`, as the Host of the requests says.
#[track_caller]
fn expect(process: &Process, origins: &[(&str, bool)]) {
    for (origin, expected) in origins {
        let polled = process.http().request("GET", POLLING, &[("Origin", origin)], b"").head;
        let polls = polled.header("access-control-allow-origin") == Some(origin);
        let connects = Websocket::try_upgrade(process.http(), WEBSOCKET, &[("Origin", origin)]).is_ok();
        assert_eq!((polls, connects), (*expected, *expected), "{origin}");
    }
}

#[test]
fn on_loopback_pages_of_this_machine_may_connect() {
    let pages = [
        ("http://localhost:5173", true),
        ("https://localhost:8443", true),
        ("http://127.0.0.1:8000", true),
        ("http://[::1]:8000", true),
        ("http://app.localhost:5173", true),
        ("http://evil.example", false),
        ("http://localhost.evil.example:5173", false),
        ("http://127.0.0.1.evil.example", false),
        ("null", false),
    ];
    expect(&Process::start(&[]), &pages);
}

#[test]
fn a_server_that_strangers_reach_admits_no_pages_of_their_machines() {
    for flags in [["--trusted-proxies", "192.0.2.1"], ["--allowed-hosts", "hub.example"]] {
        expect(&Process::start(&flags), &[("http://127.0.0.1:5173", false), ("http://evil.example", false)]);
    }
}

#[test]
fn listed_origins_may_be_patterns_or_null() {
    let process = Process::start(&["--cors-origins", "https://*.example.org,https://app-*.example.net:*,null"]);
    let pages = [
        ("https://a.example.org", true),
        ("https://app-1.example.net:8443", true),
        ("null", true),
        ("https://example.org", false),
        ("https://a.b.example.org", false),
        ("http://a.example.org", false),
        ("https://a.example.org.evil.example", false),
        ("http://127.0.0.1:5173", false),
    ];
    expect(&process, &pages);
    process.expect_log("websocket refused reason=\"Origin not allowed; add it to cors_origins");
}
