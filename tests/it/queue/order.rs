//! The order of one sender whose handlers emit durable and other events without awaiting them.

use stentor::{Event, Queue, Recovery, Server};

use super::member;
use crate::support::product::vocabulary::{self, Access, Policy};
use crate::support::{Hub, Transport};

/// Events of one round, in the order in which the handler emits them.
const ROUND: [&str; 8] = ["durable", "durable", "own", "plain", "durable", "volatile", "own", "durable"];

/// A hub whose `mixed` emits the events of a round, each with its number, without awaiting any of
/// them before all were emitted.
fn hub(recovery: Recovery) -> Hub {
    Hub::start(
        |builder| builder.queue(Queue::memory()).recovery(recovery),
        |io: &Server| {
            vocabulary::install(io.of("/"), Policy::open(Access::Open, 1_024)).on(
                "mixed",
                |socket, event: Event<u32>| async move {
                    let round = event.data;
                    let mut emits: Vec<std::pin::Pin<Box<dyn Future<Output = ()>>>> = Vec::new();
                    for (nth, kind) in ROUND.into_iter().enumerate() {
                        let (socket, all, data) = (socket.clone(), socket.all().to("a"), (round, nth));
                        emits.push(Box::pin(async move {
                            match kind {
                                "durable" => all.durable().emit("e", data).await.expect("stored"),
                                "plain" => all.emit("e", data).await.expect("emitted"),
                                "volatile" => all.volatile().emit("e", data).await.expect("emitted"),
                                _ => socket.emit("e", data).await.expect("emitted"),
                            }
                        }));
                    }
                    futures_all(emits).await;
                    event.ack.send(())?;
                    Ok(())
                },
            );
        },
    )
}

/// Polls all futures in their order until they are ready.
async fn futures_all(mut all: Vec<std::pin::Pin<Box<dyn Future<Output = ()>>>>) {
    std::future::poll_fn(|cx| {
        all.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[test]
fn everything_that_a_sender_emits_arrives_in_order() {
    for recovery in [Recovery::off(), Recovery::memory()] {
        let hub = hub(recovery);
        let mut client = member(&hub, Transport::Websocket);
        for round in 0..30 {
            client.send(&format!(r#"429["mixed",{round}]"#));
            for nth in 0..ROUND.len() {
                let packet = client.recv_text();
                assert!(packet.starts_with(&format!(r#"42["e",{round},{nth}"#)), "round {round} event {nth}: {packet}");
            }
            client.expect("439[]");
        }
    }
}

#[test]
fn a_client_that_ends_after_a_publish_has_published() {
    let hub = hub(Recovery::off());
    let mut other = member(&hub, Transport::Websocket);
    let mut client = member(&hub, Transport::Websocket);
    client.send(r#"42["publish",{"room":"a","durable":true},"last"]"#);
    client.send("41");
    other.expect(r#"42["last"]"#);
    client.send("1");
    hub.wait_for_sessions(1);
    other.expect_echo();
}
