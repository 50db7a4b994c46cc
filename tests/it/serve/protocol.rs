//! HTTP semantics: HEAD, upgrades to other protocols, the Host header.

use crate::support::product::demo;
use crate::support::{Http, Hub, Process, Transport, Websocket};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";
const H2C: [(&str, &str); 3] = [
    ("Connection", "Upgrade, HTTP2-Settings"),
    ("Upgrade", "h2c"),
    ("HTTP2-Settings", "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA"),
];

#[test]
fn head_is_answered_where_get_is_without_a_body() {
    let hub = Hub::with_http(|_| demo::page);
    let key = [("Authorization", "Bearer 0123456789abcdef")];
    for target in ["/healthz", "/readyz", "/api/v1/rooms", "/api/v1/rooms/none", "/", "/client/index.js", "/nothing"] {
        let get = hub.http().request("GET", target, &key, b"");
        let mut http = hub.http();
        http.write_head("HEAD", target, &key, None);
        let head = http.head();
        assert_eq!(head.status, get.head.status, "{target}");
        for name in ["content-type", "content-length", "etag", "cache-control"] {
            assert_eq!(head.header(name), get.head.header(name), "{target} {name}");
        }
        assert_eq!(http.get("/healthz").status_and_body(), (200, "ok"), "no byte of a body came before: {target}");
    }
    let mut http = hub.http();
    http.write_head("HEAD", "/metrics", &[], None);
    assert_eq!(http.head().status, 200);
    assert_eq!(http.get("/healthz").status_and_body(), (200, "ok"));
}

#[test]
fn an_upgrade_to_another_protocol_is_ignored_and_the_connection_closed() {
    let hub = Hub::plain();
    for address in [hub.address, hub.host.address] {
        let open = Http::connect(address).request("GET", POLLING, &H2C, b"");
        assert_eq!((open.head.status, open.head.header("connection")), (200, Some("close")), "{open:?}");
        assert!(open.body.starts_with("0{"), "{open:?}");
        let sid = open.body.split('"').nth(3).unwrap();
        let target = format!("{POLLING}&sid={sid}");
        let posted = Http::connect(address).request("POST", &target, &H2C, b"40");
        assert_eq!((posted.status_and_body(), posted.head.header("connection")), ((200, "ok"), Some("close")));
        let polled = Http::connect(address).request("GET", &target, &H2C, b"");
        assert!(polled.head.status == 200 && polled.body.starts_with("40{"), "{polled:?}");
        let mut http = Http::connect(address);
        http.write_head("GET", &target, &H2C, None);
        assert_eq!(Http::connect(address).post(&target, "40").status_and_body(), (200, "ok"));
        assert_eq!(http.head().header("connection"), Some("close"));
    }
    let health = hub.http().request("GET", "/healthz", &H2C, b"");
    assert_eq!((health.status_and_body(), health.head.header("connection")), ((200, "ok"), Some("close")));
}

#[test]
fn a_host_that_is_not_allowed_is_refused_on_every_path() {
    let hub = Hub::start(|builder| builder.allowed_hosts(["hub.example"]), |_| {});
    let asked = |host: &str, target: &str| {
        let mut http = hub.http();
        http.write(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        http.response()
    };
    for target in ["/", "/healthz", "/metrics", "/api/v1/rooms", POLLING] {
        let refused = asked("evil.example", target);
        assert_eq!(refused.head.status, 421, "{target}: {refused:?}");
        assert_eq!(refused.head.header("content-type"), Some("application/json"));
        let error: serde_json::Value = serde_json::from_str(&refused.body).unwrap();
        assert_eq!(error["error"]["code"], "host_not_allowed");
        assert!(error["error"]["message"].as_str().unwrap().contains("allowed_hosts"));
        for host in ["hub.example", "HUB.example:8443", "localhost:3000", "127.0.0.1"] {
            assert_ne!(asked(host, target).head.status, 421, "{host} {target}");
        }
    }
    let websocket = |host: &str| {
        let mut http = hub.http();
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        http.write(format!("GET {WEBSOCKET} HTTP/1.1\r\nHost: {host}\r\n{upgrade}\r\n").as_bytes());
        http.head().status
    };
    assert_eq!((websocket("evil.example"), websocket("hub.example")), (421, 101));
}

#[test]
fn foreign_origins_are_refused_where_origins_are_checked() {
    let hub = Hub::start(|builder| builder.guard_origins(), |_| {});
    for address in [hub.address, hub.host.address] {
        let ask = |origin| Websocket::try_upgrade(Http::connect(address), WEBSOCKET, &[("Origin", origin)]);
        assert!(ask("http://localhost").is_ok());
        let refused = String::from_utf8(ask("http://evil.example").unwrap_err()).unwrap();
        assert!(refused.contains("Origin not allowed; add it to cors_origins"), "{refused}");
    }
    hub.join(Transport::Websocket).expect_echo();
}

#[test]
fn apps_with_an_origin_of_their_own_pass_when_listed() {
    let process = Process::start(&["--cors-origins", "capacitor://localhost,tauri://localhost,file://"]);
    for (origin, is_admitted) in
        [("capacitor://localhost", true), ("tauri://localhost", true), ("file://", true), ("null", false)]
    {
        let asked = Websocket::try_upgrade(process.http(), WEBSOCKET, &[("Origin", origin)]);
        assert_eq!(asked.is_ok(), is_admitted, "{origin}");
    }
}
