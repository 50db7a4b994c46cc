//! Extensions and subprotocols that clients offer for a websocket: no extension is accepted, and
//! the first subprotocol is.

use crate::support::{Client, Frame, Http, Hub, Transport, Websocket, frame};

const TARGET: &str = "/socket.io/?EIO=4&transport=websocket";

fn hub() -> Hub {
    Hub::limited(|limits| limits.http.handshake_bytes_max = 128 << 10, |_| {})
}

/// A websocket whose upgrade also had these headers. Opening it checks that the response accepts no
/// extension.
fn open(hub: &Hub, headers: &[(&str, &str)]) -> Websocket {
    Websocket::try_upgrade(hub.http(), TARGET, headers)
        .unwrap_or_else(|refused| panic!("{}", String::from_utf8_lossy(&refused)))
}

#[test]
fn an_offered_compression_is_declined() {
    let hub = hub();
    for offer in [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_no_context_takeover; client_max_window_bits=15, permessage-deflate",
    ] {
        let mut websocket = open(&hub, &[("Sec-WebSocket-Extensions", offer)]);
        assert!(websocket.text().starts_with("0{"), "{offer}");
        websocket.send("40");
        assert!(websocket.text().starts_with("40{"), "{offer}");
    }
}

#[test]
fn a_compressed_frame_closes_with_1002_though_compression_was_offered() {
    let hub = hub();
    let mut websocket = open(&hub, &[("Sec-WebSocket-Extensions", "permessage-deflate")]);
    assert!(websocket.text().starts_with("0{"));
    // "40", deflated as RFC 7692 specifies.
    websocket.write(&frame(0xc1, b"\x32\x31\x00\x00"));
    assert_eq!(websocket.read_to_end().0, Some(1002));
    hub.expect_healthy();
}

#[test]
fn malicious_offers_have_no_effect() {
    let hub = hub();
    let offers = [
        String::new(),
        ",".repeat(20_000),
        " ".repeat(20_000),
        format!("a{}b", "; ".repeat(10_000)),
        format!("permessage-deflate; client_max_window_bits=\"{}", "\\".repeat(20_000)),
        format!("permessage-deflate; {}", "a=\"b\\\"c\"; ".repeat(2_000)),
        format!("x{}", " ".repeat(20_000) + "\tx"),
        "permessage-deflate; client_max_window_bits=99999999999999999999".into(),
        "\u{e9}\u{fffd}".into(),
        "=;,\"".into(),
    ];
    for name in ["Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"] {
        for offer in &offers {
            // Sent twice, because a header may be repeated; "x" sends the header even for an empty
            // offer.
            let mut websocket = open(&hub, &[(name, offer), (name, "x")]);
            assert!(websocket.text().starts_with("0{"), "{name}: {offer:.40}");
            websocket.send("1");
        }
    }
    hub.expect_healthy();
}

#[test]
fn the_first_offered_subprotocol_is_selected() {
    let hub = hub();
    for address in [hub.address, hub.host.address] {
        for (offers, expected) in [
            (&["soap"][..], Some("soap")),
            (&["soap, wamp"], Some("soap")),
            (&["soap,wamp"], Some("soap")),
            (&["soap", "wamp"], Some("soap")),
            (&["\tsoap , wamp"], Some("soap")),
            (&["v1.json-x!#$%&'*+^_`|~"], Some("v1.json-x!#$%&'*+^_`|~")),
            (&[], None),
            // This is no list of tokens: the server selects none, and the client decides whether it
            // continues.
            (&[","], None),
            (&["so ap"], None),
            (&["(soap)"], None),
        ] {
            let mut http = Http::connect(address);
            let mut headers = vec![
                ("Connection", "Upgrade"),
                ("Upgrade", "websocket"),
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ];
            headers.extend(offers.iter().map(|offer| ("Sec-WebSocket-Protocol", *offer)));
            http.write_head("GET", TARGET, &headers, None);
            let head = http.head();
            assert_eq!((head.status, head.header("sec-websocket-protocol")), (101, expected), "{offers:?}: {head:?}");
            assert!(matches!(Websocket::from_http(http).recv(), Frame::Whole(0x81, open) if open.starts_with(b"0{")));
        }
    }
}

#[test]
fn the_candidate_of_an_upgrade_gets_its_subprotocol() {
    let hub = hub();
    for transport in [Transport::Upgraded, Transport::PumpUpgraded] {
        let address = if transport.is_hosted() { hub.host.address } else { hub.address };
        let client = Client::open(address, Transport::Polling);
        let headers = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Protocol", "wamp, soap"),
        ];
        let mut http = Http::connect(address);
        http.write_head("GET", &client.upgrade_target(), &headers, None);
        let head = http.head();
        assert_eq!((head.status, head.header("sec-websocket-protocol")), (101, Some("wamp")), "{head:?}");
    }
}
