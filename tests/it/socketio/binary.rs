//! Attachments of events and acks, in both directions.

use stentor::{Args, Event};

use crate::support::{Client, Hub, Packet, Transport, Websocket, on_every_transport, report_channel};

/// A hub whose `back` emits its arguments.
fn hub() -> Hub {
    Hub::start(
        |builder| builder,
        |io| {
            io.of("/").on("back", |socket, event: Event<Args>| async move {
                socket.emit("here", event.data).await?;
                Ok(())
            });
        },
    )
}

fn send(client: &mut Client, header: &str, attachments: &[&[u8]]) {
    let attachments = attachments.iter().map(|bytes| Packet::Binary(bytes.to_vec()));
    let packets: Vec<_> = [Packet::Text(header.into())].into_iter().chain(attachments).collect();
    client.send_all(&packets);
}

#[test]
fn a_binary_event_is_emitted_back() {
    let hub = hub();
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        for bytes in [&b"\x01\x02\x03"[..], b"", b"\x04", &[0xff; 70_000]] {
            send(&mut client, r#"451-["back",{"_placeholder":true,"num":0}]"#, &[bytes]);
            client.expect(r#"451-["here",{"_placeholder":true,"num":0}]"#);
            client.expect_binary(bytes);
        }
        client.expect_echo();
    });
}

#[test]
fn a_binary_event_with_an_ack_id_is_answered_by_a_binary_ack() {
    let hub = hub();
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        send(&mut client, r#"451-12["echo","a",{"_placeholder":true,"num":0},"z"]"#, &[b"bytes"]);
        client.expect(r#"461-12["a",{"_placeholder":true,"num":0},"z"]"#);
        client.expect_binary(b"bytes");
    });
}

#[test]
fn ten_attachments_keep_their_order() {
    let hub = hub();
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        let holes: Vec<_> = (0..10).rev().map(|num| format!(r#"{{"_placeholder":true,"num":{num}}}"#)).collect();
        let attachments: Vec<_> = (0..10_u8).map(|num| vec![num; usize::from(num) * 10]).collect();
        let slices: Vec<&[u8]> = attachments.iter().map(Vec::as_slice).collect();
        send(&mut client, &format!(r#"4510-["back",{{"all":[{}]}}]"#, holes.join(",")), &slices);
        client.expect(&format!(r#"4510-["here",{{"all":[{}]}}]"#, holes.join(",")));
        for attachment in &slices {
            client.expect_binary(attachment);
        }
    });
}

#[test]
fn attachments_work_in_other_namespaces() {
    let hub = Hub::start(
        |builder| builder,
        |io| {
            io.of("/files").on("put", |_, event: Event<Args>| async move {
                event.ack.send(event.data)?;
                Ok(())
            });
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        client.connect("/files,");
        send(&mut client, r#"451-/files,3["put",{"_placeholder":true,"num":0}]"#, &[b"x"]);
        client.expect(r#"461-/files,3[{"_placeholder":true,"num":0}]"#);
        client.expect_binary(b"x");
    });
}

#[test]
fn an_ack_may_have_attachments() {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(
        |builder| builder,
        |io| {
            io.of("/").on("ask", move |socket, _: Event<()>| {
                let reporter = reporter.clone();
                async move {
                    let answer: Args = socket.emit_with_ack("file?", ()).await?;
                    reporter.report(format!("{:?} {:?}", answer.json(), answer.attachments()));
                    Ok(())
                }
            });
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send(r#"42["ask"]"#);
        let question = client.recv_text();
        let id = question.strip_prefix("42").and_then(|rest| rest.strip_suffix(r#"["file?"]"#)).unwrap().to_owned();
        send(&mut client, &format!(r#"461-{id}[{{"_placeholder":true,"num":0}}]"#), &[b"ab"]);
        assert_eq!(reports.next(), r#""{\"_placeholder\":true,\"num\":0}" [b"ab"]"#);
    });
}

#[test]
fn a_binary_packet_may_come_in_several_posts_or_writes() {
    let hub = hub();
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send(r#"452-["back",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#);
        client.wait_until_handled();
        client.send_all(&[Packet::Binary(b"one".into())]);
        client.wait_until_handled();
        client.send_all(&[Packet::Binary(b"two".into())]);
        client.expect(r#"452-["here",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#);
        client.expect_binary(b"one");
        client.expect_binary(b"two");
    });
}

#[test]
fn attachments_of_two_events_do_not_mix() {
    let hub = hub();
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        let header = |n: u32| Packet::Text(format!(r#"451-["back",{n},{{"_placeholder":true,"num":0}}]"#));
        let packets: Vec<_> = (0..50).flat_map(|n| [header(n), Packet::Binary(vec![n as u8])]).collect();
        client.send_all(&packets);
        for n in 0..50 {
            client.expect(&format!(r#"451-["here",{n},{{"_placeholder":true,"num":0}}]"#));
            client.expect_binary(&[n as u8]);
        }
    });
}

/// The stock client's option `forceBase64`: `b64=1` in the query, and `b…` in text frames.
#[test]
fn a_websocket_with_b64_uses_base64_in_both_directions() {
    let hub = hub();
    for address in [hub.address, hub.host.address] {
        for upgraded in [false, true] {
            let mut websocket = if upgraded {
                let client = Client::open(address, Transport::Polling);
                let mut candidate = Websocket::open(address, &format!("{}&b64=1", client.upgrade_target()));
                candidate.send("2probe");
                assert_eq!(candidate.text(), "3probe");
                candidate.send("5");
                candidate
            } else {
                let mut websocket = Websocket::open(address, "/socket.io/?EIO=4&transport=websocket&b64=1");
                assert!(websocket.text().starts_with('0'));
                websocket
            };
            websocket.send("40");
            assert!(websocket.text().starts_with("40{"));
            for _ in 0..3 {
                websocket.send(r#"451-7["echo",{"_placeholder":true,"num":0}]"#);
                websocket.send("bAQID/w==");
                assert_eq!(websocket.text(), r#"461-7[{"_placeholder":true,"num":0}]"#);
                assert_eq!(websocket.text(), "bAQID/w==");
                websocket.send(r#"42["back","text"]"#);
                assert_eq!(websocket.text(), r#"42["here","text"]"#);
            }
            websocket.send("1");
        }
    }
    hub.expect_healthy();
}

#[test]
fn base64_in_a_text_frame_is_binary_also_without_b64() {
    let hub = hub();
    for transport in Transport::WEBSOCKETS {
        let mut client = hub.join(transport);
        client.send(r#"452-7["echo",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#);
        client.send("bAQID");
        client.send_all(&[Packet::Binary(vec![4])]);
        client.expect(r#"462-7[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#);
        client.expect_binary(&[1, 2, 3]);
        client.expect_binary(&[4]);
    }
}

/// Accepted as in Node: without padding, in either alphabet.
#[test]
fn base64_without_padding_or_in_the_url_safe_alphabet_is_accepted() {
    let hub = hub();
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        for (text, bytes) in [("bAQIDBA", &[1, 2, 3, 4][..]), ("b__8", &[255, 255]), ("b//8=", &[255, 255]), ("b", &[])]
        {
            client.send_all(&[
                Packet::Text(r#"451-7["echo",{"_placeholder":true,"num":0}]"#.into()),
                Packet::Text(text.into()),
            ]);
            client.expect(r#"461-7[{"_placeholder":true,"num":0}]"#);
            client.expect_binary(bytes);
        }
    });
}
