//! Acks in both directions: one per event, in order; unexpected acks are ignored.

use std::time::Duration;

use stentor::{AckError, Event, Recovery};

use crate::support::{Client, Hub, Reports, on_every_transport, report_channel};

/// A hub whose `ask` emits to its client with an ack and reports the answer.
fn asking_hub(timeout: Duration) -> (Hub, Reports) {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(
        |builder| builder,
        |io| {
            io.of("/").on("ask", move |socket, event: Event<u32>| {
                let reporter = reporter.clone();
                async move {
                    let answer = socket.timeout(timeout).emit_with_ack::<String, _>("question", event.data).await;
                    reporter.report(match answer {
                        Ok(answer) => format!("{}: {answer}", event.data),
                        Err(AckError::Timeout) => format!("{}: no answer", event.data),
                        Err(error) => format!("{}: {error}", event.data),
                    });
                    Ok(())
                }
            });
        },
    );
    (hub, reports)
}

/// The ack id of the next packet, which must be `question` with this number.
fn question(client: &mut Client, number: u32) -> u64 {
    let text = client.recv_text();
    let id = text.strip_prefix("42").and_then(|rest| rest.strip_suffix(&format!(r#"["question",{number}]"#)));
    id.and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("not question {number}: {text}"))
}

#[test]
fn an_event_with_an_ack_id_is_answered_under_that_id() {
    let hub = Hub::plain();
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        for (event, ack) in [
            (r#"420["echo",1,"two",[3]]"#, r#"430[1,"two",[3]]"#),
            (r#"4212["echo"]"#, "4312[]"),
            (r#"42/,7["echo",null]"#, "437[null]"),
            (r#"4218446744073709551615["echo",{}]"#, "4318446744073709551615[{}]"),
            (r#"42007["echo"]"#, "437[]"),
        ] {
            client.send(event);
            client.expect(ack);
        }
    });
}

#[test]
fn arguments_pass_through_as_they_were_written() {
    let hub = Hub::plain();
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        let args = r#"12345678901234567890123456789,1.0000000000000000001e400,-0,"\u00e4\ud83d\ude00ä\/",{"b":1,"a":{"b":2},"a":3}"#;
        client.send(&format!(r#"421["echo",{args}]"#));
        client.expect(&format!("431[{args}]"));
    });
}

#[test]
fn an_event_without_an_ack_id_is_not_answered() {
    let hub = Hub::plain();
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send(r#"42["echo",1]"#);
        client.expect_echo();
    });
}

#[test]
fn an_event_without_handler_is_not_answered() {
    let hub = Hub::plain();
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send(r#"421["no such event",1]"#);
        client.send(r#"422[7,"the name is a number"]"#);
        client.expect_echo();
    });
}

#[test]
fn acks_of_one_client_come_in_the_order_of_its_events() {
    let hub = Hub::plain();
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        for id in 0..200 {
            client.send(&format!(r#"42{id}["echo",{id}]"#));
        }
        for id in 0..200 {
            client.expect(&format!("43{id}[{id}]"));
        }
    });
}

#[test]
fn an_ack_follows_the_events_that_its_handler_emitted_before() {
    let order = |recovery: Recovery| {
        Hub::start(
            |builder| builder.recovery(recovery),
            |io| {
                let server = io.clone();
                io.of("/").on("order", move |socket, event: Event<()>| {
                    let io = server.clone();
                    async move {
                        io.emit("first", ()).await?;
                        socket.emit("second", ()).await?;
                        socket.all().to(socket.id().to_string()).emit("third", ()).await?;
                        event.ack.send(())?;
                        Ok(())
                    }
                });
            },
        )
    };
    for recovery in [Recovery::off(), Recovery::memory()] {
        let hub = order(recovery);
        on_every_transport(|transport| {
            let mut client = hub.join(transport);
            for _ in 0..20 {
                client.send(r#"421["order"]"#);
                for name in ["first", "second", "third"] {
                    let event = client.recv_text();
                    assert!(event.starts_with(&format!(r#"42["{name}""#)), "expected {name}, got {event}");
                }
                client.expect("431[]");
            }
            client.send("1");
            hub.wait_for_sessions(0);
        });
    }
}

#[test]
fn a_client_answers_a_question_of_a_handler() {
    let (hub, reports) = asking_hub(Duration::from_secs(20));
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send(r#"42["ask",1]"#);
        let id = question(&mut client, 1);
        client.send(&format!(r#"43{id}["yes","and more"]"#));
        assert_eq!(reports.next(), "1: yes");
    });
}

#[test]
fn answers_match_their_questions_in_any_order() {
    let (hub, reports) = asking_hub(Duration::from_secs(20));
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send(r#"42["ask",1]"#);
        let one = question(&mut client, 1);
        client.send(r#"42["ask",2]"#);
        let two = question(&mut client, 2);
        assert_ne!(one, two);
        client.send(&format!(r#"43{two}["second"]"#));
        assert_eq!(reports.next(), "2: second");
        client.send(&format!(r#"43{one}["first"]"#));
        assert_eq!(reports.next(), "1: first");
    });
}

#[test]
fn unknown_and_repeated_answers_are_ignored() {
    let (hub, reports) = asking_hub(Duration::from_secs(20));
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        for unknown in ["430[]", "433[\"x\"]", "4318446744073709551615[1]"] {
            client.send(unknown);
        }
        client.send(r#"42["ask",1]"#);
        let id = question(&mut client, 1);
        for answer in ["first", "second"] {
            client.send(&format!(r#"43{id}["{answer}"]"#));
        }
        client.send(&format!(r#"43{}["to nobody"]"#, id + 1));
        client.expect_echo();
        assert_eq!(reports.next(), "1: first");
        assert_eq!(reports.rest(), [""; 0]);
    });
}

#[test]
fn an_ack_after_the_timeout_is_ignored() {
    let (hub, reports) = asking_hub(Duration::from_millis(50));
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send(r#"42["ask",1]"#);
        let id = question(&mut client, 1);
        assert_eq!(reports.next(), "1: no answer");
        client.send(&format!(r#"43{id}["too late"]"#));
        client.expect_echo();
        assert_eq!(reports.rest(), [""; 0]);
    });
}

#[test]
fn an_answer_of_another_type_is_an_error_of_the_handler_only() {
    let (hub, reports) = asking_hub(Duration::from_secs(20));
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        for answer in ["[7]", "[]"] {
            client.send(r#"42["ask",1]"#);
            let id = question(&mut client, 1);
            client.send(&format!("43{id}{answer}"));
            let received = reports.next();
            assert!(received.starts_with("1: acknowledgement is not of the expected type"), "{answer}: {received}");
        }
        client.expect_echo();
    });
}

#[test]
fn a_pending_answer_ends_when_the_client_disconnects() {
    let (hub, reports) = asking_hub(Duration::from_secs(600));
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send(r#"42["ask",1]"#);
        question(&mut client, 1);
        client.send("1");
        assert_eq!(reports.next(), "1: client has disconnected before it acknowledged");
    });
}

#[test]
fn a_pending_answer_ends_when_the_client_leaves_the_namespace() {
    let (hub, reports) = asking_hub(Duration::from_secs(600));
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send(r#"42["ask",1]"#);
        question(&mut client, 1);
        client.send("41");
        assert_eq!(reports.next(), "1: client has disconnected before it acknowledged");
    });
}
