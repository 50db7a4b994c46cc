//! Addresses that may connect to `stentor serve`, and the rate of their handshakes.

use std::num::NonZeroU32;

use crate::support::{Hub, Process, Websocket};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

#[test]
fn connections_of_addresses_that_are_not_allowed_are_closed() {
    for flags in [["--denied-addresses", "127.0.0.0/8"], ["--allowed-addresses", "192.0.2.0/24,2001:db8::/32"]] {
        let process = Process::start(&flags);
        let mut http = process.http();
        // The server may have closed the connection before this.
        let _ = http.try_write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(http.rest(), b"");
        process.expect_log("connection closed, its address is not allowed address=127.0.0.1:");
    }
}

#[test]
fn clients_of_a_trusted_proxy_are_checked_by_their_own_address() {
    let process = Process::start(&["--trusted-proxies", "127.0.0.1", "--denied-addresses", "192.0.2.7,127.0.0.1"]);
    for target in ["/", "/api/v1/rooms", POLLING] {
        let status = |client| process.http().request("GET", target, &[("X-Forwarded-For", client)], b"").head.status;
        assert_eq!(status("192.0.2.7"), 403, "{target}");
    }
    process.expect_log("request refused, its client's address is not allowed address=192.0.2.7 skipped=");
    let denied = Websocket::try_upgrade(process.http(), WEBSOCKET, &[("X-Forwarded-For", "192.0.2.7")]);
    let denied = String::from_utf8(denied.unwrap_err()).unwrap();
    assert!(denied.contains("Address not allowed"), "{denied}");
    let other = process.http().request("GET", POLLING, &[("X-Forwarded-For", "192.0.2.8")], b"");
    assert_eq!((other.head.status, process.http().get("/healthz").head.status), (200, 200));
}

#[test]
fn in_a_host_application_denied_clients_get_403() {
    let hub = Hub::start(|builder| builder.denied_addresses(["127.0.0.1"]), |_| {});
    let response = crate::support::Http::connect(hub.host.address).get(POLLING);
    assert_eq!(response.status_and_body(), (403, r#"{"code":4,"message":"Address not allowed"}"#));
}

#[test]
fn handshakes_beyond_the_rate_of_an_address_get_429() {
    let hub = Hub::limited(|limits| limits.rates.address_connects_per_second = NonZeroU32::new(1), |_| {});
    let mut http = hub.http();
    for _ in 0..20 {
        http.write_head("GET", POLLING, &[], None);
    }
    let responses: Vec<_> = (0..20).map(|_| http.response()).collect();
    let refused = responses.iter().find(|response| response.head.status != 200).expect("a refused handshake");
    assert_eq!(refused.status_and_body(), (429, r#"{"code":4,"message":"Too many connects from this address"}"#));
    assert!(responses[..2].iter().all(|response| response.head.status == 200), "a burst is admitted");
    let session = hub.http().get("/healthz");
    assert_eq!(session.head.status, 200, "only handshakes are limited");
}
