//! Requests and emits of handlers while their clients leave.

use stentor::{Event, Server};

use crate::support::{Hub, Reporter, on_every_transport, report_channel};

/// Sends every kind of request to the hub after a client has left.
fn with_questions(io: &Server, reporter: &Reporter) {
    let reporter = reporter.clone();
    io.of("/").on_disconnect(move |socket, _| {
        let reporter = reporter.clone();
        async move {
            let namespace = socket.namespace();
            let fetched = namespace.fetch_sockets().await.map(|_| ());
            let rooms = namespace.rooms().await.map(|_| ());
            let emitted = namespace.to("hall").emit_confirmed("left", ()).await.map(|_| ());
            let answers = namespace.to("nobody").emit_with_ack::<(), _>("who", ()).await.map(|_| ());
            reporter.report(format!("{fetched:?} {rooms:?} {emitted:?} {answers:?}"));
            Ok(())
        }
    });
    io.of("/").on("ask", |socket, _: Event<()>| async move {
        socket.namespace().fetch_sockets().await?;
        Ok(())
    });
}

#[test]
fn requests_in_on_disconnect_are_answered_while_many_clients_leave() {
    // Regression: requests in flight failed when a session ended, so some of forty clients that
    // left together got no answer.
    let (reporter, reports) = report_channel();
    let hub = Hub::start(|builder| builder, |io| with_questions(io, &reporter));
    on_every_transport(|transport| {
        let mut clients: Vec<_> = (0..40).map(|_| hub.join(transport)).collect();
        for client in &mut clients {
            client.send("41");
        }
        for client in &mut clients {
            client.send("1");
        }
        for received in reports.take(40) {
            assert_eq!(received, "Ok(()) Ok(()) Ok(()) Ok(())");
        }
        hub.wait_for_sessions(0);
    });
    hub.expect_healthy();
}
