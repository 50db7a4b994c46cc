//! Tests of commands whose sender waits for credit or has ended.

use super::*;

#[test]
fn a_dropped_credit_window_still_sends_its_disconnects() {
    // Regression: a socket disconnected while its session was out of credit, then the session
    // ended, and the hub kept the socket for ever.
    run(async {
        let rig = Rig::new(Limits::with(|limits| limits.hub.credit_commands = 1)).await;
        let mut credit_window = CreditWindow::new(rig.outbox.clone());
        let now = std::time::Instant::now();
        let socket = SocketId::from_random([1; 15]);
        let packet = || DirectPacket::Sealed(EncodedFrame::text("x").into());
        credit_window
            .submit(now, 1, PendingReply::Nobody, move |from| OrderedCommand::Relay { from, packet: packet() });
        credit_window.push(|| now, packet());
        let slot = rig.outbox.slot;
        credit_window.submit_free(OrderedCommand::Disconnect { slot, socket, forever: false, rooms: None });
        assert_eq!(rig.received().await, ["relay"], "the second packet has no credit, the disconnect waits behind it");
        drop(credit_window);
        assert_eq!(rig.received().await, ["disconnect"]);
    });
}

#[test]
fn emits_of_an_ended_session_still_wait_for_credit() {
    // Regression: when a client disconnected, all its waiting emits were sent immediately. 20
    // clients caused 86 million deliveries.
    run(async {
        let rig = Rig::new(Limits::with(|limits| {
            limits.hub.credit_commands = 1;
            limits.hub.departed_bytes_max = 1_000;
        }))
        .await;
        let mut credit_window = CreditWindow::new(rig.outbox.clone());
        let now = std::time::Instant::now();
        let emit = |credit_window: &mut CreditWindow| {
            let (done, results) = tokio::sync::oneshot::channel();
            let packet = DirectPacket::Sealed(EncodedFrame::text("x").into());
            credit_window.submit(now, 100, PendingReply::Emit(Done::WhenNumbered(done)), |from| {
                OrderedCommand::Relay { from, packet }
            });
            results
        };
        let mut results: Vec<_> = (0..10).map(|_| emit(&mut credit_window)).collect();
        let (done, left) = tokio::sync::oneshot::channel();
        let room = RoomName::parse("a").unwrap();
        credit_window.submit(now, 1, PendingReply::Leave(done), move |from| OrderedCommand::Leave {
            from,
            socket: socket(1).id,
            room,
        });
        credit_window.retire(now);
        assert_eq!(left.await, Ok(Err(NoAnswer::Disconnected)), "a leave does not outlive its session");
        assert_eq!(rig.received().await, ["relay"]);
        assert_eq!(results.pop().unwrap().await, Ok(Err(NoAnswer::Overloaded.into())), "over departed_bytes_max");
        for ticket in 0..9 {
            if credit_window.is_done() {
                break;
            }
            credit_window.on_answer(now, Ticket(ticket), Answer::Emit(Ok(Receipt { offset: None })));
            assert_eq!(results.remove(0).await, Ok(Ok(Receipt { offset: None })));
            assert!(credit_window.is_done() || rig.received().await == ["relay"]);
        }
        assert!(credit_window.is_done());
        assert_eq!(rig.worker.departed_bytes.get(), 0);
    });
}

#[test]
fn an_open_query_is_answered_after_its_session_has_ended() {
    // Regression: queries of a client's handlers failed once the client had disconnected.
    run(async {
        let rig = Rig::new(Limits::default()).await;
        let mut credit_window = CreditWindow::new(rig.outbox.clone());
        let now = std::time::Instant::now();
        let (caller, fetched) = tokio::sync::oneshot::channel();
        crate::worker::server_sender::fetch(&mut credit_window, now, NamespacePath::root(), Target::default(), caller);
        let (caller, listed) = tokio::sync::oneshot::channel();
        crate::worker::server_sender::list(
            &mut credit_window,
            now,
            Listing::InNamespace { namespace: NamespacePath::root(), from: 0 },
            caller,
        );
        credit_window.retire(now);
        credit_window.on_answer(now, Ticket(0), Answer::Fetch(1));
        credit_window.on_sockets(Ticket(0), vec![SocketRef { info: socket(1), link: link() }]);
        assert_eq!(fetched.await.unwrap().unwrap().len(), 1);
        assert!(!credit_window.is_done());
        credit_window.on_timeout(now + Limits::default().hub.answer_timeout);
        assert_eq!(listed.await, Ok(Err(NoAnswer::Unanswered)));
        assert!(credit_window.is_done());
    });
}

type PublishResult = Result<Stored, RequestError<PublishRefusal>>;

fn publish(credit_window: &mut CreditWindow, now: std::time::Instant) -> tokio::sync::oneshot::Receiver<PublishResult> {
    let payload = Payload::of_event("x", "", Vec::new());
    let (namespace, rooms) = (NamespacePath::root(), vec![RoomName::parse("a").unwrap()]);
    let draft = Draft::event(Parser::Json, namespace.clone(), "x", "", Vec::new(), true);
    let publish = Publish { namespace, rooms, payload, origin: Default::default(), dedup: None, expires_at: None };
    let (done, result) = tokio::sync::oneshot::channel();
    let emit = Box::new(DurableEmit { publish: Box::new(publish), draft, exclude: None });
    crate::worker::server_sender::publish(credit_window, now, emit, done);
    result
}

fn unavailable() -> Answer {
    Answer::Publish(Err(PublishRefusal::Unavailable))
}

#[test]
fn everything_of_a_sender_waits_for_its_publishes_but_further_ones() {
    run(async {
        let rig = Rig::new(Limits::default()).await;
        rig.drain_into_log(false);
        let mut credit_window = CreditWindow::new(rig.outbox.clone());
        let now = std::time::Instant::now();
        let packet = |text: &str| DirectPacket::Sealed(EncodedFrame::text(text).into());
        let (slot, socket) = (rig.outbox.slot, socket(1).id);
        let disconnect = || OrderedCommand::Disconnect { slot, socket, forever: false, rooms: None };
        let first = publish(&mut credit_window, now);
        let _second = publish(&mut credit_window, now);
        credit_window.submit_free(disconnect());
        credit_window.push(|| now, packet("own"));
        let _third = publish(&mut credit_window, now);
        assert_eq!(rig.received().await, ["publish", "publish"], "the third is behind other commands");
        credit_window.on_answer(now, Ticket(0), unavailable());
        assert_eq!(first.await, Ok(Err(RequestError::Refused(PublishRefusal::Unavailable))));
        assert!(rig.received().await.is_empty(), "one publish is unanswered");
        credit_window.on_answer(now, Ticket(1), unavailable());
        assert_eq!(rig.received().await, ["disconnect", "relay", "publish"]);
        credit_window.on_answer(now, Ticket(2), Answer::Done);
        credit_window.on_answer(now, Ticket(3), unavailable());
        credit_window.push(|| now, packet("direct"));
        assert_eq!(rig.received().await, ["write direct"]);
    });
}

#[test]
fn a_publish_that_was_given_up_holds_nothing_back() {
    // In an earlier version, a commit that hung kept the client from its acks and disconnects.
    run(async {
        let rig = Rig::new(Limits::default()).await;
        let mut credit_window = CreditWindow::new(rig.outbox.clone());
        let now = std::time::Instant::now();
        let (slot, socket) = (rig.outbox.slot, socket(1).id);
        let late = publish(&mut credit_window, now);
        credit_window.push(|| now, DirectPacket::Sealed(EncodedFrame::text("x").into()));
        credit_window.submit_free(OrderedCommand::Disconnect { slot, socket, forever: false, rooms: None });
        assert_eq!(rig.received().await, ["publish"]);
        credit_window.on_timeout(now + Limits::default().hub.answer_timeout);
        assert_eq!(late.await, Ok(Err(NoAnswer::Unanswered.into())));
        assert_eq!(rig.received().await, ["relay", "disconnect"]);
        let _next = publish(&mut credit_window, now);
        credit_window.on_answer(now, Ticket(0), unavailable());
        credit_window.push(|| now, DirectPacket::Sealed(EncodedFrame::text("y").into()));
        assert_eq!(rig.received().await, ["publish"], "the late answer is not that of the next publish");
    });
}

#[test]
fn a_session_that_ends_during_a_publish_disconnects_its_sockets() {
    run(async {
        let rig = Rig::new(Limits::default()).await;
        let mut credit_window = CreditWindow::new(rig.outbox.clone());
        let now = std::time::Instant::now();
        let (slot, socket) = (rig.outbox.slot, socket(1).id);
        let result = publish(&mut credit_window, now);
        credit_window.submit_free(OrderedCommand::Disconnect { slot, socket, forever: false, rooms: None });
        credit_window.retire(now);
        assert_eq!(rig.received().await, ["publish", "disconnect"]);
        credit_window.on_answer(now, Ticket(0), unavailable());
        assert_eq!(result.await, Ok(Err(RequestError::Refused(PublishRefusal::Unavailable))));
        assert!(credit_window.is_done());
    });
}
