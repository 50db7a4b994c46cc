//! Start and shutdown of a server: errors of the builder, and closing so that clients reconnect.

use std::net::TcpListener;
use std::time::Duration;

use stentor::{BuildError, Server};

use crate::support::{
    Ended, Frame, Hub, Transport, eventually, frame, on_every_transport, report_channel, report_disconnects,
};

/// Calls `Server::close` from outside the hub's thread.
fn close(hub: &Hub) {
    let io = hub.io.clone();
    let system = actix::System::new();
    system.block_on(async move { io.close().await });
}

#[test]
fn closing_ends_every_transport_without_a_disconnect_packet() {
    let (reporter, reports) = report_channel();
    on_every_transport(|transport| {
        let hub = Hub::start(|builder| builder, |io| report_disconnects(io, &reporter));
        let mut client = hub.join(transport);
        client.wait_until_handled();
        close(&hub);
        assert_eq!(hub.io.sessions(), 0);
        let ended = client.expect_end();
        match transport {
            Transport::Polling => assert!(matches!(ended, Ended::ClosePacket | Ended::UnknownSession), "{ended:?}"),
            _ => assert_eq!(ended, Ended::CloseFrame(Some(1001))),
        }
        assert_eq!(reports.next(), "server shutting down");
    });
}

#[test]
fn closing_answers_a_waiting_poll_with_a_close_packet() {
    let hub = Hub::plain();
    let client = hub.join(Transport::Polling);
    let target = client.poll_target();
    let (mut gets, _posts) = client.connections();
    gets.start_poll(&target);
    close(&hub);
    assert_eq!(gets.response().body, "1");
    assert_eq!(hub.io.sessions(), 0);
}

#[test]
fn closing_reaches_sessions_of_every_worker_with_or_without_rooms() {
    let hub = Hub::on_workers(2, |builder| builder, |_| {});
    let mut clients: Vec<_> = (0..16).map(|_| hub.open(Transport::Websocket)).collect();
    hub.wait_for_sessions(16);
    close(&hub);
    assert_eq!(hub.io.sessions(), 0);
    for client in &mut clients {
        assert_eq!(client.expect_end(), Ended::CloseFrame(Some(1001)));
    }
}

#[test]
fn draining_closes_in_waves_and_refuses_new_handshakes_from_the_start() {
    let hub = Hub::on_workers(2, |builder| builder, |_| {});
    let clients: Vec<_> = (0..8).map(|_| hub.join(Transport::Websocket)).collect();
    let io = hub.io.clone();
    let drained = std::thread::spawn(move || {
        // Eight waves, a quarter of a second apart.
        actix::System::new().block_on(async move { io.drain(Duration::from_secs(2)).await });
    });
    eventually("new handshakes are refused", || hub.io.accepting().is_err());
    let refused = hub.http().get("/socket.io/?EIO=4&transport=polling");
    assert_eq!(refused.status_and_body().0, 503, "{refused:?}");
    eventually("the first wave", || hub.io.sessions() < 8);
    assert!(hub.io.sessions() > 0, "all at once");
    drained.join().unwrap();
    assert_eq!(hub.io.sessions(), 0);
    for mut client in clients {
        assert_eq!(client.expect_end(), Ended::CloseFrame(Some(1001)));
    }
}

#[test]
fn closing_does_not_wait_for_a_client_that_reads_nothing() {
    let hub = Hub::plain();
    let _jammed = hub.join(Transport::Websocket);
    close(&hub);
    assert_eq!(hub.io.sessions(), 0);
}

#[test]
fn closing_during_an_upgrade_ends_both_connections() {
    let hub = Hub::plain();
    let mut client = hub.join(Transport::Polling);
    let mut candidate = crate::support::Websocket::open(hub.address, &client.upgrade_target());
    candidate.send("2probe");
    assert_eq!(candidate.text(), "3probe");
    close(&hub);
    let (_, ended) = candidate.read_to_end();
    assert!(matches!(ended, Frame::Fin | Frame::Reset), "{ended:?}");
    client.expect_end();
}

#[test]
fn an_upgrade_during_closing_finds_its_session_closed() {
    // Regression: socket.io-client pauses polling before it upgrades. Its probe was closed first,
    // and it waited 45 s for a poll that it never sent.
    let hub = Hub::limited(|limits| limits.transport.close_linger = Duration::from_secs(3_600), |_| {});
    let client = hub.join(Transport::Polling);
    let mut candidate = client.probe();
    close(&hub);
    candidate.write(&frame(0x89, b"still here?"));
    assert_eq!(candidate.recv(), Frame::Whole(0x8a, b"still here?".into()));
    candidate.send("5");
    let (_, ended) = candidate.read_to_end();
    assert!(matches!(ended, Frame::Fin | Frame::Reset), "{ended:?}");
}

#[test]
fn closing_twice_equals_closing_once() {
    let hub = Hub::plain();
    close(&hub);
    close(&hub);
    assert_eq!(hub.io.sessions(), 0);
}

#[test]
fn a_server_cannot_be_built_outside_an_actix_system() {
    let built = Server::builder().build();
    assert!(matches!(built, Err(BuildError::NoSystem)), "{built:?}");
}

#[test]
fn a_path_must_begin_with_a_slash() {
    actix::System::new().block_on(async {
        for path in ["socket.io", "", "/", "/socket.io//"] {
            let built = Server::builder().path(path).build();
            assert!(matches!(built, Err(BuildError::Path(_))), "{path:?}: {built:?}");
        }
    });
}

#[test]
fn a_port_in_use_is_an_error_that_names_the_address() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    actix::System::new().block_on(async {
        let io = Server::builder().build().unwrap();
        let error = io.bind(address).err().expect("the port is taken");
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse, "{error}");
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    });
}

#[test]
fn two_servers_run_in_one_process() {
    let (one, other) = (Hub::plain(), Hub::plain());
    let (mut here, mut there) = (one.join(Transport::Websocket), other.join(Transport::Websocket));
    here.expect_echo();
    there.expect_echo();
    close(&one);
    assert_eq!(here.expect_end(), Ended::CloseFrame(Some(1001)));
    there.expect_echo();
}
