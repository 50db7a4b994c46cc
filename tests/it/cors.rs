//! Pages of other origins: what their browsers are told, over polling; and that nothing is said where nothing was set.

use std::time::Duration;

use stentor::{BuildError, Cors, CorsError, Server};

use crate::support::{Head, Hub, Transport, Websocket};

const HANDSHAKE: &str = "/socket.io/?EIO=4&transport=polling";
const PAGE: &str = "https://page.example";
const OTHER: &str = "https://other.example";

fn hub(cors: Cors) -> Hub {
    Hub::start(|builder| builder.cors(cors), |_| {})
}

/// The headers that speak of origins, sorted.
fn said(head: &Head) -> Vec<(&str, &str)> {
    let speaks = |name: &str| name.starts_with("access-control-") || name == "vary";
    let mut said: Vec<_> =
        head.headers.iter().filter(|(name, _)| speaks(name)).map(|(name, value)| (&**name, &**value)).collect();
    said.sort_unstable();
    said
}

fn asked(hub: &Hub, method: &str, target: &str, headers: &[(&str, &str)]) -> Head {
    hub.http().request(method, target, headers, b"").head
}

#[test]
fn without_cors_no_header_speaks_of_origins() {
    let hub = Hub::plain();
    for method in ["GET", "POST", "OPTIONS"] {
        let head = asked(&hub, method, HANDSHAKE, &[("Origin", PAGE), ("Access-Control-Request-Method", "POST")]);
        assert_eq!(said(&head), [], "{method}: {head:?}");
    }
}

#[test]
fn a_named_origin_reads_its_own_name_and_others_nothing() {
    let hub = hub(Cors::origins([PAGE, "http://localhost:5173"]));
    for origin in [PAGE, "http://localhost:5173"] {
        let head = asked(&hub, "GET", HANDSHAKE, &[("Origin", origin)]);
        assert_eq!(said(&head), [("access-control-allow-origin", origin), ("vary", "Origin")]);
    }
    for origin in [OTHER, "https://page.example.evil", "http://page.example", "https://page.example:8443", "null"] {
        let head = asked(&hub, "GET", HANDSHAKE, &[("Origin", origin)]);
        assert_eq!((head.status, said(&head)), (200, vec![("vary", "Origin")]), "{origin}");
    }
    let head = asked(&hub, "GET", HANDSHAKE, &[]);
    assert_eq!((head.status, said(&head)), (200, vec![("vary", "Origin")]), "without an origin");
}

#[test]
fn any_origin_is_a_star_for_everybody() {
    let hub = hub(Cors::any_origin());
    for headers in [&[("Origin", PAGE)][..], &[("Origin", "null")], &[]] {
        assert_eq!(
            said(&asked(&hub, "GET", HANDSHAKE, headers)),
            [("access-control-allow-origin", "*")],
            "{headers:?}"
        );
    }
}

#[test]
fn a_predicate_chooses_origins() {
    let hub = hub(Cors::matching(|origin| origin.ends_with(".example")).credentials());
    let head = asked(&hub, "GET", HANDSHAKE, &[("Origin", OTHER)]);
    let expected =
        [("access-control-allow-credentials", "true"), ("access-control-allow-origin", OTHER), ("vary", "Origin")];
    assert_eq!(said(&head), expected);
    let head = asked(&hub, "GET", HANDSHAKE, &[("Origin", "https://page.test")]);
    assert_eq!(said(&head), [("vary", "Origin")]);
}

#[test]
fn a_preflight_is_answered_204_with_what_the_page_may_do() {
    let hub = hub(Cors::origins([PAGE]).credentials().max_age(Duration::from_secs(600)));
    let asks = [("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "x-token,x-other")];
    // Also for a session that is not known: a preflight bears no credentials, and asks about the path.
    for target in [HANDSHAKE, "/socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA", "/socket.io"] {
        let response = hub.http().request("OPTIONS", target, &[asks[0], asks[1], ("Origin", PAGE)], b"");
        assert_eq!(response.told(), (204, ""), "{target}");
        let expected = [
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-headers", "x-token,x-other"),
            ("access-control-allow-methods", "GET,POST"),
            ("access-control-allow-origin", PAGE),
            ("access-control-max-age", "600"),
            ("vary", "Access-Control-Request-Headers"),
            ("vary", "Origin"),
        ];
        assert_eq!(said(&response.head), expected, "{target}");
    }
    let head = asked(&hub, "OPTIONS", HANDSHAKE, &[asks[0], asks[1], ("Origin", OTHER)]);
    assert_eq!((head.status, said(&head)), (400, vec![("vary", "Origin")]));
}

#[test]
fn a_preflight_tells_the_methods_and_headers_that_were_set() {
    let hub = hub(Cors::any_origin().methods(["GET"]).allowed_headers(["X-Token", "Authorization"]));
    let asks =
        [("Origin", PAGE), ("Access-Control-Request-Method", "GET"), ("Access-Control-Request-Headers", "x-more")];
    let head = asked(&hub, "OPTIONS", HANDSHAKE, &asks);
    let expected = [
        ("access-control-allow-headers", "X-Token,Authorization"),
        ("access-control-allow-methods", "GET"),
        ("access-control-allow-origin", "*"),
    ];
    assert_eq!((head.status, said(&head)), (204, expected.to_vec()));
}

#[test]
fn refusals_tell_it_too_or_the_page_could_not_read_them() {
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
        ("POST", &client.polls(), &[b'4'; 101], 413),
        ("POST", &client.polls(), b"41", 200),
        ("GET", &client.polls(), b"", 200),
        ("POST", &client.polls(), b"1", 200),
        ("GET", &client.polls(), b"", 400),
    ] {
        // Something must wait for the poll, or the poll would.
        if (method, status) == ("GET", 200) {
            hub.http().post(target, "40/nope,");
        }
        let response = hub.http().request(method, target, &[("Origin", PAGE)], body);
        assert_eq!((response.head.status, said(&response.head)), (status, expected.clone()), "{method} {response:?}");
    }
}

#[test]
fn a_poll_that_waits_tells_it_as_well() {
    let hub = hub(Cors::origins([PAGE]));
    let target = hub.join(Transport::Polling).polls();
    let mut http = hub.http();
    http.begin("GET", &target, &[("Origin", PAGE)], None);
    assert_eq!(hub.http().post(&target, "40").told().0, 200);
    let head = http.head();
    assert_eq!(said(&head), [("access-control-allow-origin", PAGE), ("vary", "Origin")]);
}

#[test]
fn websockets_pass_whatever_their_origin_unless_they_are_guarded() {
    let target = "/socket.io/?EIO=4&transport=websocket";
    let open = |hub: &Hub, origin| Websocket::ask(hub.http(), target, &[("Origin", origin)]);
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
fn what_browsers_would_not_understand_is_no_server() {
    actix::System::new().block_on(async {
        let build = |cors| Server::builder().cors(cors).build().map(drop);
        let refused = build(Cors::any_origin().credentials());
        assert!(matches!(refused, Err(BuildError::Cors(CorsError::AnyWithCredentials))), "{refused:?}");
        let refused = build(Cors::origins(["*"]));
        assert!(matches!(refused, Err(BuildError::Cors(CorsError::Origin(_)))), "{refused:?}");
    });
}
