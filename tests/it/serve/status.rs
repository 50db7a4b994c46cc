//! `/healthz` and `/readyz`.

use stentor::NotAccepting;

use crate::support::{Hub, Transport};

#[test]
fn a_hub_below_its_limits_is_healthy_and_ready() {
    let hub = Hub::plain();
    let mut http = hub.http();
    assert_eq!(http.get("/healthz").status_and_body(), (200, "ok"));
    assert_eq!(http.get("/readyz").status_and_body(), (200, "ok"));
}

#[test]
fn health_and_metrics_are_read_only() {
    let hub = Hub::plain();
    for target in ["/healthz", "/readyz", "/metrics"] {
        let response = hub.http().request("POST", target, &[], b"");
        assert_eq!((response.head.status, response.head.header("allow")), (405, Some("GET, HEAD")), "{target}");
    }
}

#[test]
fn a_full_hub_is_healthy_but_not_ready_until_a_client_leaves() {
    let hub = Hub::limited(|limits| limits.sessions.max = 1, |_| {});
    let mut http = hub.http();
    let mut client = hub.join(Transport::Websocket);
    assert_eq!(http.get("/healthz").status_and_body(), (200, "ok"));
    assert_eq!(http.get("/readyz").status_and_body(), (503, "server has as many sessions as sessions_max allows"));
    assert_eq!(hub.io.accepting(), Err(NotAccepting::Full));

    client.send("1");
    hub.wait_for_sessions(0);
    assert_eq!(http.get("/readyz").status_and_body(), (200, "ok"));
}

#[test]
fn a_closing_hub_is_not_ready_and_refuses_handshakes_with_503() {
    let hub = Hub::plain();
    let mut http = hub.http();
    actix::System::new().block_on(hub.io.close());
    assert_eq!(hub.io.accepting(), Err(NotAccepting::Closing));
    assert_eq!(http.get("/healthz").status_and_body(), (200, "ok"));
    assert_eq!(http.get("/readyz").status_and_body(), (503, "server is closing"));
    let handshake = http.get("/socket.io/?EIO=4&transport=polling");
    assert_eq!(handshake.status_and_body(), (503, r#"{"code":4,"message":"Server is closing"}"#));
}
