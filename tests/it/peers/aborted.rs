//! Connections that end in the middle of a request, a handshake, a frame or an upgrade.

use crate::support::{Client, Hub, Reports, Transport, Websocket, frame, report_channel, report_disconnects};

fn hub() -> (Hub, Reports) {
    let (reporter, reports) = report_channel();
    (Hub::start(|builder| builder, |io| report_disconnects(io, &reporter)), reports)
}

#[test]
fn a_poll_aborted_by_fin_ends_its_session() {
    let (hub, reports) = hub();
    let client = hub.join(Transport::Polling);
    let target = client.poll_target();
    let (mut gets, _posts) = client.connections();
    gets.start_poll(&target);
    gets.send_fin();
    assert_eq!(reports.next(), "transport error");
    hub.expect_healthy();
}

#[test]
fn a_poll_aborted_by_rst_ends_its_session() {
    let (hub, reports) = hub();
    let client = hub.join(Transport::Polling);
    let target = client.poll_target();
    let (mut gets, _posts) = client.connections();
    gets.start_poll(&target);
    gets.reset();
    assert_eq!(reports.next(), "transport error");
    hub.expect_healthy();
}

#[test]
fn a_poll_aborted_on_another_worker_ends_its_session() {
    let (reporter, reports) = report_channel();
    let hub = Hub::on_workers(2, |builder| builder, |io| report_disconnects(io, &reporter));
    for attempt in 0..12 {
        let target = hub.join(Transport::Polling).poll_target();
        // Connections go to the workers in turn; one more now and then makes both workers meet in
        // every way.
        let extra = (attempt % 3 == 0).then(|| hub.http());
        let mut poll = hub.http();
        poll.start_poll(&target);
        if attempt % 2 == 0 {
            poll.send_fin()
        } else {
            poll.reset()
        }
        reports.expect("transport error", attempt);
        drop(extra);
    }
    hub.expect_healthy();
}

#[test]
fn a_connection_that_ends_between_polls_does_not_end_its_session() {
    let (hub, reports) = hub();
    let client = hub.join(Transport::Polling);
    let target = client.poll_target();
    let (mut gets, posts) = client.connections();
    assert_eq!(hub.http().post(&target, r#"421["echo",1]"#).status_and_body(), (200, "ok"));
    assert_eq!(gets.get(&target).status_and_body(), (200, "431[1]"));
    gets.send_fin();
    posts.reset();

    assert_eq!(hub.http().post(&target, r#"422["echo",2]"#).status_and_body(), (200, "ok"));
    assert_eq!(hub.http().get(&target).status_and_body(), (200, "432[2]"));
    assert_eq!(reports.rest(), [""; 0]);
    hub.http().post(&target, "1");
    hub.expect_healthy();
}

#[test]
fn a_truncated_post_ends_its_session() {
    let (hub, reports) = hub();
    for reset in [false, true] {
        let client = hub.join(Transport::Polling);
        let target = client.poll_target();
        let mut http = hub.http();
        http.write_head("POST", &target, &[("Expect", "100-continue")], Some(100));
        assert_eq!(http.head().status, 100);
        http.write(br#"42["echo""#);
        if reset {
            http.reset()
        } else {
            http.send_fin()
        }
        assert_eq!(reports.next(), "transport error");
    }
    hub.expect_healthy();
}

#[test]
fn a_client_that_disconnects_during_its_handshake_leaves_no_session() {
    let (hub, _reports) = hub();
    for part in ["", "GET", "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: hub\r\n"] {
        for reset in [false, true] {
            let mut http = hub.http();
            http.write(part.as_bytes());
            if reset { http.reset() } else { http.send_fin() }
        }
    }
    hub.expect_healthy();
}

#[test]
fn a_websocket_that_ends_in_the_middle_of_a_frame_ends_its_session() {
    let (hub, reports) = hub();
    for (reset, reason) in [(false, "transport close"), (true, "transport error")] {
        for transport in Transport::WEBSOCKETS {
            // A host application does not report how a connection ended.
            let reason = if transport.is_hosted() { "transport close" } else { reason };
            let mut websocket = hub.join(transport).into_websocket();
            let whole = frame(0x81, br#"421["echo","never finished"]"#);
            websocket.write(&whole[..whole.len() / 2]);
            if reset {
                websocket.reset()
            } else {
                websocket.send_fin()
            }
            reports.expect(reason, transport);
        }
    }
    hub.expect_healthy();
}

#[test]
fn a_reset_during_the_upgrade_leaves_the_polling_session_open() {
    let (hub, reports) = hub();
    let mut client = hub.join(Transport::Polling);
    for _ in 0..8 {
        // The connection is reset before the probe is answered.
        let mut candidate = Websocket::open(hub.address, &client.upgrade_target());
        candidate.send("2probe");
        candidate.reset();
        client.expect_echo();
    }
    client.send("1");
    assert_eq!(reports.next(), "transport close");
    hub.expect_healthy();
}

#[test]
fn sessions_of_many_clients_that_disconnect_together_are_all_removed() {
    let (hub, reports) = hub();
    let mut clients: Vec<Client> = Transport::ALL.iter().cycle().take(60).map(|kind| hub.join(*kind)).collect();
    clients.iter_mut().for_each(Client::expect_echo);
    hub.wait_for_sessions(60);
    for (number, client) in clients.into_iter().enumerate() {
        if client.is_polling() {
            let target = client.poll_target();
            let (mut gets, _posts) = client.connections();
            gets.start_poll(&target);
            gets.reset();
        } else if number % 2 == 0 {
            client.into_websocket().reset();
        } else {
            client.into_websocket().send_fin();
        }
    }
    reports.take(60);
    hub.expect_healthy();
}
