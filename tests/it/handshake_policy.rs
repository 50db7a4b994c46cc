//! The handshake policy: admission by the application, sessions per client address, cookies, and
//! the client's address behind proxies.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use stentor::{BuildError, Builder, Cookie, CookieError, Handshake, Limits, SameSite, Server};
use tokio::sync::oneshot;

use crate::support::{Client, Http, Hub, Reports, Transport, Websocket, eventually, report_channel};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

/// Addresses of the hub's own port and of a host application; both have one policy.
fn addresses(hub: &Hub) -> [SocketAddr; 2] {
    [hub.address, hub.host.address]
}

/// The response to an upgrade, complete if the upgrade is refused.
fn upgrade(address: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Result<Websocket, String> {
    Websocket::try_upgrade(Http::connect(address), target, headers)
        .map_err(|refused| String::from_utf8(refused).unwrap())
}

/// Upgrades; gives the cookie that the response sets, and the websocket.
fn open_websocket(address: SocketAddr, target: &str) -> (Option<String>, Websocket) {
    let mut http = Http::connect(address);
    let headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    http.write_head("GET", target, &headers, None);
    let head = http.head();
    assert_eq!(head.status, 101, "{head:?}");
    (head.header("set-cookie").map(str::to_owned), Websocket::from_http(http))
}

/// The session id in an open packet.
fn sid(open: &str) -> &str {
    open.split('"').nth(3).expect("an open packet")
}

#[test]
fn no_cookie_is_set_by_default() {
    let hub = Hub::plain();
    for address in addresses(&hub) {
        assert_eq!(Http::connect(address).get(POLLING).head.header("set-cookie"), None);
        assert_eq!(open_websocket(address, WEBSOCKET).0, None);
    }
}

#[test]
fn only_handshakes_set_the_cookie_on_either_transport() {
    let hub = Hub::start(|builder| builder.cookie(Cookie::default()), |_| {});
    let expected = |sid: &str| format!("io={sid}; Path=/; HttpOnly; SameSite=Lax");
    for address in addresses(&hub) {
        let response = Http::connect(address).get(POLLING);
        assert_eq!(response.head.header("set-cookie"), Some(&*expected(sid(&response.body))));
        let (cookie, mut websocket) = open_websocket(address, WEBSOCKET);
        assert_eq!(cookie, Some(expected(sid(&websocket.text()))));
    }

    let client = hub.join(Transport::Polling);
    assert_eq!(hub.http().post(&client.poll_target(), "40/nope,").head.header("set-cookie"), None);
    assert_eq!(hub.http().get(&client.poll_target()).head.header("set-cookie"), None);
    assert_eq!(hub.http().get("/socket.io/?transport=polling").head.header("set-cookie"), None);
    assert_eq!(open_websocket(hub.address, &client.upgrade_target()).0, None);
}

#[test]
fn invalid_cookie_or_proxy_settings_are_refused_by_the_builder() {
    actix::System::new().block_on(async {
        let refused = Server::builder().cookie(Cookie::default().same_site(SameSite::None)).build().map(drop);
        assert!(matches!(refused, Err(BuildError::Cookie(CookieError::Insecure))), "{refused:?}");
        let refused = Server::builder().trusted_proxies(["10.0.0.0/8", "10.0.0.0/33"]).build().map(drop);
        assert!(matches!(&refused, Err(BuildError::Proxy(wrong)) if wrong == "10.0.0.0/33"), "{refused:?}");
    });
}

/// Admits handshakes whose header `x-let` allows it, and refuses others with the header's value as
/// message.
async fn by_header(handshake: Handshake) -> Result<(), String> {
    // A value that is not `Send` is held across an await.
    let said = Rc::new(handshake.header("x-let").unwrap_or("").to_owned());
    tokio::task::yield_now().await;
    if *said == "in" { Ok(()) } else { Err(said.to_string()) }
}

#[test]
fn the_application_admits_or_refuses_with_its_own_message() {
    let hub = Hub::start(|builder| builder.allow_request(by_header), |_| {});
    for address in addresses(&hub) {
        let get = |word: &str| Http::connect(address).request("GET", POLLING, &[("x-let", word)], b"");
        assert_eq!(get("in").head.status, 200);
        assert_eq!(get("too \"early\"").status_and_body(), (403, r#"{"code":4,"message":"too \"early\""}"#));
        assert_eq!(get("").status_and_body(), (403, r#"{"code":4,"message":"Forbidden"}"#));

        assert!(upgrade(address, WEBSOCKET, &[("x-let", "in")]).is_ok());
        // engine.io refuses every upgrade with 400; the message gives the reason.
        for (word, message) in [("too early", "too early"), ("", "Forbidden")] {
            let refused = upgrade(address, WEBSOCKET, &[("x-let", word)]).unwrap_err();
            assert!(refused.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{refused}");
            assert!(refused.ends_with(&format!("\r\n\r\n{message}")), "{refused}");
        }
    }
}

#[test]
fn only_valid_handshakes_reach_the_application() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let allow = move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Ok(()) }
    };
    let hub = Hub::start(|builder| builder.allow_request(allow), |_| {});
    for target in ["/socket.io/?EIO=4", "/socket.io/?EIO=3&transport=polling", "/socket.io/?EIO=4&transport=websocket"]
    {
        assert_eq!(hub.http().get(target).head.status, 400, "{target}");
    }
    assert_eq!(hub.http().post(POLLING, "").head.status, 400);
    assert_eq!(asked.load(Ordering::Relaxed), 0);

    let mut client = hub.join(Transport::Polling).upgrade();
    client.expect_echo();
    assert_eq!(asked.load(Ordering::Relaxed), 1, "once, however many requests a session has");
}

#[test]
fn the_application_sees_all_headers_including_those_not_kept() {
    let (reporter, reports) = report_channel();
    let allow = move |handshake: Handshake| {
        reporter.report(format!(
            "{:?} {}",
            handshake.query_value("token"),
            handshake.header("cookie").map_or(0, str::len)
        ));
        async { Ok(()) }
    };
    let hub = Hub::start(|builder| builder.allow_request(allow), |_| {});
    let cookie = "c".repeat(5_000);
    hub.http().request("GET", &format!("{POLLING}&token=a%2Bb"), &[("cookie", &cookie)], b"");
    assert_eq!(reports.next(), r#"Some("a+b") 5000"#);
}

#[test]
fn a_handshake_that_the_application_does_not_decide_in_time_is_refused() {
    let limits = Limits::with(|limits| limits.handlers.allow_request_timeout = Duration::from_millis(50));
    let hub = Hub::start(|builder| builder.limits(limits).allow_request(|_| std::future::pending()), |_| {});
    assert_eq!(hub.http().get(POLLING).status_and_body(), (503, r#"{"code":4,"message":"Not decided in time"}"#));
    let refused = upgrade(hub.address, WEBSOCKET, &[]).unwrap_err();
    assert!(refused.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{refused}");
}

#[test]
fn a_panic_in_admission_ends_only_its_own_connection() {
    let limits = Limits::with(|limits| limits.sessions.max = 1);
    let allow = |handshake: Handshake| async move {
        assert!(handshake.query_value("bang").is_none(), "a panic that a test wants");
        Ok(())
    };
    let hub = Hub::start(|builder| builder.limits(limits).allow_request(allow), |_| {});
    for (target, headers) in [(POLLING, ""), (WEBSOCKET, "Connection: Upgrade\r\nUpgrade: websocket\r\n")] {
        let mut http = hub.http();
        http.write(format!("GET {target}&bang HTTP/1.1\r\nHost: hub\r\n{headers}\r\n").as_bytes());
        assert_eq!(http.rest(), b"", "{target}");
    }
    // The permit of the only session was released.
    hub.join(Transport::Polling).expect_echo();
}

/// Trusts a proxy at 127.0.0.1.
fn proxied(builder: Builder) -> Builder {
    builder.trusted_proxies(["127.0.0.0/8"])
}

/// A hub that reports address and origin of each client.
fn reporting_hub(build: impl FnOnce(Builder) -> Builder) -> (Hub, Reports) {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(build, |io| {
        io.of("/").on_connection(move |socket| {
            let handshake = socket.handshake();
            let address = handshake.address().map(|address| address.to_string()).unwrap_or_default();
            reporter.report(format!("{address} {}", if handshake.is_secure() { "https" } else { "http" }));
            async { Ok(()) }
        });
    });
    (hub, reports)
}

/// Connects to `/` over a websocket whose handshake has these headers.
fn join(address: SocketAddr, headers: &[(&str, &str)]) -> Websocket {
    let mut websocket = upgrade(address, WEBSOCKET, headers).unwrap();
    assert!(websocket.text().starts_with("0{"));
    websocket.send("40");
    assert!(websocket.text().starts_with("40{"));
    websocket
}

#[test]
fn forwarded_headers_of_a_trusted_proxy_give_the_client_address() {
    let (hub, reports) = reporting_hub(proxied);
    for (headers, known) in [
        (&[][..], "127.0.0.1 http"),
        (&[("X-Forwarded-For", "1.1.1.1, 203.0.113.9"), ("X-Forwarded-Proto", "https")], "203.0.113.9 https"),
        (&[("X-Forwarded-For", "203.0.113.9, 127.0.0.2")], "203.0.113.9 http"),
        (&[("Forwarded", r#"for="[2001:db8::1]:4711";proto=https"#)], "2001:db8::1 https"),
    ] {
        for address in addresses(&hub) {
            join(address, headers);
            assert_eq!(reports.next(), known, "{headers:?}");
        }
    }
}

#[test]
fn forwarded_headers_are_ignored_by_default() {
    let (hub, reports) = reporting_hub(|builder| builder);
    for address in addresses(&hub) {
        join(address, &[("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-Proto", "https")]);
        assert_eq!(reports.next(), "127.0.0.1 http");
        join(address, &[("Forwarded", "for=203.0.113.9;proto=https")]);
        assert_eq!(reports.next(), "127.0.0.1 http");
    }
}

#[test]
fn a_handshake_has_its_url_and_time_of_arrival() {
    let (reporter, reports) = report_channel();
    let before = SystemTime::now();
    let hub = Hub::start(
        |builder| builder,
        |io| {
            io.of("/").on_connection(move |socket| {
                let handshake = socket.handshake();
                let in_time = before <= handshake.received_at() && handshake.received_at() <= SystemTime::now();
                reporter.report(format!("{} {:?} {in_time}", handshake.url(), handshake.query_value("EIO")));
                async { Ok(()) }
            });
        },
    );
    hub.join(Transport::Polling);
    assert_eq!(reports.next(), format!(r#"{POLLING} Some("4") true"#));
}

fn two_per_address() -> Hub {
    let limits = Limits::with(|limits| limits.sessions.per_address_max = Some(2));
    Hub::start(|builder| proxied(builder).limits(limits), |_| {})
}

#[test]
fn sessions_of_one_address_are_limited() {
    let hub = two_per_address();
    let from = |address| [("X-Forwarded-For", address)];
    let refused = (429, r#"{"code":4,"message":"Too many sessions from this address"}"#);
    let mut first = upgrade(hub.address, WEBSOCKET, &from("203.0.113.9")).unwrap();
    let _second = hub.http().request("GET", POLLING, &from("203.0.113.9"), b"");
    assert_eq!(hub.http().request("GET", POLLING, &from("203.0.113.9"), b"").status_and_body(), refused);
    let answer = upgrade(hub.address, WEBSOCKET, &from("203.0.113.9")).unwrap_err();
    assert!(answer.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nToo many sessions from this address"), "{answer}");
    assert!(upgrade(hub.address, WEBSOCKET, &from("203.0.113.10")).is_ok(), "other sockets are not affected");

    first.send("1");
    first.read_to_end();
    eventually("its permit is released", || {
        hub.http().request("GET", POLLING, &from("203.0.113.9"), b"").head.status == 200
    });
    assert_eq!(hub.http().request("GET", POLLING, &from("203.0.113.9"), b"").status_and_body(), refused);
}

#[test]
fn an_ipv6_address_counts_as_its_network() {
    let hub = two_per_address();
    let status = |address| hub.http().request("GET", POLLING, &[("X-Forwarded-For", address)], b"").head.status;
    let came = ["2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::3", "2001:db8:0:1::1"].map(status);
    assert_eq!(came, [200, 200, 429, 200]);
}

#[test]
fn upgrades_and_refused_handshakes_do_not_count_as_sessions() {
    let hub = two_per_address();
    assert_eq!(hub.http().get("/socket.io/?EIO=3&transport=polling").head.status, 400);
    let mut clients: Vec<Client> = (0..2).map(|_| hub.join(Transport::Upgraded)).collect();
    for _ in 0..3 {
        assert_eq!(hub.http().get(POLLING).head.status, 429);
    }
    for client in &mut clients {
        client.expect_echo();
        client.send("1");
    }
    hub.wait_for_sessions(0);
}

#[test]
fn handshakes_that_wait_for_the_application_count_as_sessions() {
    let (decide, decided) = oneshot::channel::<()>();
    let (decided, (reporter, reports)) = (Mutex::new(Some(decided)), report_channel());
    let allow = move |_| {
        let decided = decided.lock().unwrap().take();
        reporter.report("asked");
        async move {
            if let Some(decided) = decided {
                let _ = decided.await;
            }
            Ok(())
        }
    };
    let limits = Limits::with(|limits| limits.sessions.per_address_max = Some(1));
    let hub = Hub::start(|builder| builder.limits(limits).allow_request(allow), |_| {});
    let mut waits = hub.http();
    waits.write_head("GET", POLLING, &[], None);
    assert_eq!(reports.next(), "asked");
    assert_eq!(hub.http().get(POLLING).head.status, 429);
    decide.send(()).unwrap();
    assert_eq!(waits.response().head.status, 200);
    assert_eq!(reports.rest(), [""; 0], "the refused handshake did not reach the application");
}
