//! CORS headers on polling responses, and their absence without CORS settings.

use std::time::Duration;

use stentor::{BuildError, Cors, CorsError, Server};

use crate::support::{Head, Hub, Transport, Websocket};

const HANDSHAKE: &str = "/socket.io/?EIO=4&transport=polling";
const PAGE: &str = "https://page.example";
const OTHER: &str = "https://other.example";

fn hub(cors: Cors) -> Hub {
    Hub::start(|builder| builder.cors(cors), |_| {})
}

/// The CORS headers of a response, sorted.
fn cors_headers(head: &Head) -> Vec<(&str, &str)> {
    let speaks = |name: &str| name.starts_with("access-control-") || name == "vary";
    let mut said: Vec<_> =
        head.headers.iter().filter(|(name, _)| speaks(name)).map(|(name, value)| (&**name, &**value)).collect();
    said.sort_unstable();
    said
}

fn head_of(hub: &Hub, method: &str, target: &str, headers: &[(&str, &str)]) -> Head {
    hub.http().request(method, target, headers, b"").head
}

#[test]
fn without_cors_settings_no_cors_header_is_sent() {
    let hub = Hub::plain();
    for method in ["GET", "POST", "OPTIONS"] {
        let head = head_of(&hub, method, HANDSHAKE, &[("Origin", PAGE), ("Access-Control-Request-Method", "POST")]);
        assert_eq!(cors_headers(&head), [], "{method}: {head:?}");
    }
}

#[test]
fn only_a_listed_origin_is_allowed() {
    let hub = hub(Cors::origins([PAGE, "http://localhost:5173"]));
    for origin in [PAGE, "http://localhost:5173"] {
        let head = head_of(&hub, "GET", HANDSHAKE, &[("Origin", origin)]);
        assert_eq!(cors_headers(&head), [("access-control-allow-origin", origin), ("vary", "Origin")]);
    }
    for origin in [OTHER, "https://page.example.evil", "http://page.example", "https://page.example:8443", "null"] {
        let head = head_of(&hub, "GET", HANDSHAKE, &[("Origin", origin)]);
        assert_eq!((head.status, cors_headers(&head)), (200, vec![("vary", "Origin")]), "{origin}");
    }
    let head = head_of(&hub, "GET", HANDSHAKE, &[]);
    assert_eq!((head.status, cors_headers(&head)), (200, vec![("vary", "Origin")]), "without an origin");
}

#[test]
fn any_origin_is_answered_with_a_star() {
    let hub = hub(Cors::any_origin());
    for headers in [&[("Origin", PAGE)][..], &[("Origin", "null")], &[]] {
        assert_eq!(
            cors_headers(&head_of(&hub, "GET", HANDSHAKE, headers)),
            [("access-control-allow-origin", "*")],
            "{headers:?}"
        );
    }
}

#[test]
fn a_predicate_allows_origins() {
    let hub = hub(Cors::matching(|origin| origin.ends_with(".example")).credentials());
    let head = head_of(&hub, "GET", HANDSHAKE, &[("Origin", OTHER)]);
    let expected =
        [("access-control-allow-credentials", "true"), ("access-control-allow-origin", OTHER), ("vary", "Origin")];
    assert_eq!(cors_headers(&head), expected);
    let head = head_of(&hub, "GET", HANDSHAKE, &[("Origin", "https://page.test")]);
    assert_eq!(cors_headers(&head), [("vary", "Origin")]);
}

#[test]
fn a_preflight_is_answered_204_with_allowed_methods_and_headers() {
    let hub = hub(Cors::origins([PAGE]).credentials().max_age(Duration::from_secs(600)));
    let asks = [("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "x-token,x-other")];
    // An unknown session is no error: a preflight carries no credentials and asks about the path
    // only.
    for target in [HANDSHAKE, "/socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA", "/socket.io"] {
        let response = hub.http().request("OPTIONS", target, &[asks[0], asks[1], ("Origin", PAGE)], b"");
        assert_eq!(response.status_and_body(), (204, ""), "{target}");
        let expected = [
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-headers", "x-token,x-other"),
            ("access-control-allow-methods", "GET,POST"),
            ("access-control-allow-origin", PAGE),
            ("access-control-max-age", "600"),
            ("vary", "Access-Control-Request-Headers"),
            ("vary", "Origin"),
        ];
        assert_eq!(cors_headers(&response.head), expected, "{target}");
    }
    let head = head_of(&hub, "OPTIONS", HANDSHAKE, &[asks[0], asks[1], ("Origin", OTHER)]);
    assert_eq!((head.status, cors_headers(&head)), (400, vec![("vary", "Origin")]));
}

#[test]
fn a_preflight_lists_the_configured_methods_and_headers() {
    let hub = hub(Cors::any_origin().methods(["GET"]).allowed_headers(["X-Token", "Authorization"]));
    let asks =
        [("Origin", PAGE), ("Access-Control-Request-Method", "GET"), ("Access-Control-Request-Headers", "x-more")];
    let head = head_of(&hub, "OPTIONS", HANDSHAKE, &asks);
    let expected = [
        ("access-control-allow-headers", "X-Token,Authorization"),
        ("access-control-allow-methods", "GET"),
        ("access-control-allow-origin", "*"),
    ];
    assert_eq!((head.status, cors_headers(&head)), (204, expected.to_vec()));
}

#[test]
fn error_responses_carry_cors_headers_too() {
    let hub = Hub::start(
        |builder| {
            let limits = stentor::Limits::with(|limits| limits.transport.payload_bytes_max = 100);
            builder.cors(Cors::origins([PAGE])).limits(limits)
        },
        |_| {},
    );
    let expected = vec![("access-control-allow-origin", PAGE), ("vary", "Origin")];
    let client = hub.join(Transport::Polling);
    for (method, target, body, status) in [
        ("GET", "/socket.io/?EIO=4&transport=nope", &b""[..], 400),
        ("POST", &client.poll_target(), &[b'4'; 101], 413),
        ("POST", &client.poll_target(), b"41", 200),
        ("GET", &client.poll_target(), b"", 200),
        ("POST", &client.poll_target(), b"1", 200),
        ("GET", &client.poll_target(), b"", 400),
    ] {
        // A packet has to be pending, or the poll waits.
        if (method, status) == ("GET", 200) {
            hub.http().post(target, "40/nope,");
        }
        let response = hub.http().request(method, target, &[("Origin", PAGE)], body);
        assert_eq!(
            (response.head.status, cors_headers(&response.head)),
            (status, expected.clone()),
            "{method} {response:?}"
        );
    }
}

#[test]
fn a_waiting_poll_carries_cors_headers() {
    let hub = hub(Cors::origins([PAGE]));
    let target = hub.join(Transport::Polling).poll_target();
    let mut http = hub.http();
    http.write_head("GET", &target, &[("Origin", PAGE)], None);
    assert_eq!(hub.http().post(&target, "40").status_and_body().0, 200);
    let head = http.head();
    assert_eq!(cors_headers(&head), [("access-control-allow-origin", PAGE), ("vary", "Origin")]);
}

#[test]
fn websockets_of_any_origin_are_accepted_unless_origins_are_checked() {
    let target = "/socket.io/?EIO=4&transport=websocket";
    let open = |hub: &Hub, origin| Websocket::try_upgrade(hub.http(), target, &[("Origin", origin)]);
    let unguarded = hub(Cors::origins([PAGE]));
    assert!(open(&unguarded, OTHER).is_ok());

    let guarded = hub(Cors::origins([PAGE]).guard_websockets());
    assert!(open(&guarded, PAGE).is_ok());
    assert!(open(&guarded, "").is_ok(), "no browser, no origin");
    let refused = String::from_utf8(open(&guarded, OTHER).unwrap_err()).unwrap();
    assert!(refused.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{refused}");
    assert!(refused.contains("\r\n\r\nOrigin not allowed; add it to cors_origins"), "{refused}");
}

#[test]
fn invalid_cors_settings_are_refused_by_the_builder() {
    actix::System::new().block_on(async {
        let build = |cors| Server::builder().cors(cors).build().map(drop);
        let refused = build(Cors::any_origin().credentials());
        assert!(matches!(refused, Err(BuildError::Cors(CorsError::AnyWithCredentials))), "{refused:?}");
        let refused = build(Cors::origins(["*"]));
        assert!(matches!(refused, Err(BuildError::Cors(CorsError::Origin(_)))), "{refused:?}");
    });
}
