//! The msgpack parser in literal bytes. The clients' bytes are those of socket.io-msgpack-parser
//! 3.0.2.

use serde_json::Value;
use stentor::{Args, Builder, Event, Parser, Recovery};

use crate::support::{
    Client, Ended, Hub, Packet, Reports, Transport, on_every_transport, report_channel, report_disconnects,
};

/// A hub that reports connects and the reasons of disconnects; clients request everything else by
/// events.
fn hub(build: impl FnOnce(Builder) -> Builder) -> (Hub, Reports) {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(
        |builder| build(builder.parser(Parser::Msgpack)),
        |io| {
            report_disconnects(io, &reporter);
            io.of("/")
                .on_connection({
                    let reporter = reporter.clone();
                    move |socket| {
                        reporter.report(socket.auth::<Value>().unwrap().to_string());
                        async { Ok(()) }
                    }
                })
                .on("what", {
                    let reporter = reporter.clone();
                    move |_, event: Event<Args>| {
                        reporter.report(format!("{} {:?}", event.data.json(), event.data.attachments()));
                        async { Ok(()) }
                    }
                })
                .on("ask", move |socket, _: Event<()>| {
                    let reporter = reporter.clone();
                    async move {
                        let answer: Args = socket.emit_with_ack("q", ()).await?;
                        reporter.report(answer.json());
                        Ok(())
                    }
                })
                .on("back", |socket, event: Event<Args>| async move {
                    socket.emit("here", event.data).await?;
                    Ok(())
                })
                .on("all", |socket, event: Event<Args>| async move {
                    socket.all().emit("all", event.data).await?;
                    Ok(())
                })
                .on("out", |socket, _: Event<()>| async move {
                    socket.disconnect(false);
                    Ok(())
                });
        },
    );
    (hub, reports)
}

fn send(client: &mut Client, packet: &[u8]) {
    client.send_all(&[Packet::Binary(packet.to_vec())]);
}

fn recv(client: &mut Client) -> Vec<u8> {
    match client.recv() {
        Packet::Binary(packet) => packet,
        Packet::Text(text) => panic!("expected binary, got {text:?}"),
    }
}

const CONNECT: &[u8] = b"\x83\xa4type\x00\xa4data\xd4\x00\x00\xa3nsp\xa1/";

/// A client connected to `/`; its connect is reported.
fn join(hub: &Hub, reports: &Reports, transport: Transport) -> Client {
    let mut client = hub.open(transport);
    send(&mut client, CONNECT);
    recv(&mut client);
    reports.expect("null", transport);
    client
}

/// Checks that the session is open and nothing else is pending: an echo with ack id 9 is the next
/// packet.
#[track_caller]
fn expect_echo(client: &mut Client) {
    send(client, b"\x84\xa4type\x02\xa4data\x92\xa4echo\x01\xa2id\x09\xa3nsp\xa1/");
    assert_eq!(recv(client), b"\x84\xa2id\x09\xa4type\x03\xa3nsp\xa1/\xa4data\x91\x01");
}

#[test]
fn connect_is_answered_by_a_map_with_the_sid() {
    let (hub, reports) = hub(|builder| builder);
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        send(&mut client, b"\x83\xa4type\x00\xa4data\x81\xa5token\xa2\xc3\xa9\xa3nsp\xa1/");
        let reply = recv(&mut client);
        let sid = reply.strip_prefix(b"\x83\xa4type\x00\xa3nsp\xa1/\xa4data\x81\xa3sid\xb4");
        assert_eq!(sid.map(<[u8]>::len), Some(20), "{reply:x?}");
        reports.expect(r#"{"token":"é"}"#, transport);
        expect_echo(&mut client);
        client.send("1");
        reports.expect("transport close", transport);
    });
}

#[test]
fn an_unknown_namespace_is_refused_by_a_map() {
    let (hub, reports) = hub(|builder| builder);
    on_every_transport(|transport| {
        let mut client = join(&hub, &reports, transport);
        send(&mut client, b"\x83\xa4type\x00\xa4data\xd4\x00\x00\xa3nsp\xa5/nope");
        let error = b"\x83\xa4type\x04\xa3nsp\xa5/nope\xa4data\x81\xa7message\xb1Invalid namespace";
        assert_eq!(recv(&mut client), error);
        expect_echo(&mut client);
        client.send("1");
        reports.expect("transport close", transport);
    });
}

#[test]
fn binary_data_is_part_of_the_packet() {
    let (hub, reports) = hub(|builder| builder);
    on_every_transport(|transport| {
        let mut client = join(&hub, &reports, transport);
        // ["back", {data: <01 02>, list: [<>, 1.5]}, <70 000 bytes, as an ArrayBuffer>]
        let large = vec![0xab; 70_000];
        let arguments = b"\x82\xa4data\xc4\x02\x01\x02\xa4list\x92\xc4\x00\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00";
        let packet = [
            b"\x83\xa4type\x02\xa4data\x93\xa4back",
            &arguments[..],
            b"\xc9\x00\x01\x11\x70\x00",
            &large,
            b"\xa3nsp\xa1/",
        ];
        send(&mut client, &packet.concat());
        let back =
            [b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x93\xa4here", &arguments[..], b"\xc6\x00\x01\x11\x70", &large];
        assert_eq!(recv(&mut client), back.concat());
        send(&mut client, b"\x83\xa4type\x02\xa4data\x93\xa4what\xc4\x02hi\xd4\x00\x00\xa3nsp\xa1/");
        reports.expect(r#"{"_placeholder":true,"num":0},null [b"hi"]"#, transport);
        client.send("1");
        reports.expect("transport close", transport);
    });
}

#[test]
fn more_than_ten_pieces_of_binary_data_are_accepted() {
    let (hub, reports) = hub(|builder| builder);
    on_every_transport(|transport| {
        let mut client = join(&hub, &reports, transport);
        let many = [&b"\xdc\x00\x32"[..], &b"\xc4\x01x".repeat(50)].concat();
        send(&mut client, &[b"\x83\xa4type\x02\xa4data\x92\xa4back", &many[..], b"\xa3nsp\xa1/"].concat());
        assert_eq!(recv(&mut client), [b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa4here", &many[..]].concat());
        client.send("1");
        reports.expect("transport close", transport);
    });
}

#[test]
fn a_client_answers_a_question() {
    let (hub, reports) = hub(|builder| builder);
    on_every_transport(|transport| {
        let mut client = join(&hub, &reports, transport);
        send(&mut client, b"\x83\xa4type\x02\xa4data\x91\xa3ask\xa3nsp\xa1/");
        let question = recv(&mut client);
        let id = question
            .strip_prefix(b"\x84\xa2id")
            .and_then(|rest| rest.strip_suffix(b"\xa4type\x02\xa3nsp\xa1/\xa4data\x91\xa1q"));
        let id = id.unwrap_or_else(|| panic!("no question with an id: {question:x?}"));
        send(&mut client, &[b"\x84\xa4type\x03\xa2id", id, b"\xa4data\x92\xcd\x01\x00\xc3\xa3nsp\xa1/"].concat());
        reports.expect("256,true", transport);
        client.send("1");
        reports.expect("transport close", transport);
    });
}

#[test]
fn a_broadcast_is_one_packet_for_all() {
    let (hub, reports) = hub(|builder| builder);
    let mut clients = Transport::ALL.map(|transport| join(&hub, &reports, transport));
    send(&mut clients[0], b"\x83\xa4type\x02\xa4data\x93\xa3all\xd0\x80\xa3\xe2\x82\xac\xa3nsp\xa1/");
    for client in &mut clients {
        assert_eq!(recv(client), b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x93\xa3all\xd0\x80\xa3\xe2\x82\xac");
    }
}

#[test]
fn with_recovery_events_have_their_offset_as_last_argument() {
    let (hub, reports) = hub(|builder| builder.recovery(Recovery::memory()));
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        send(&mut client, CONNECT);
        let reply = recv(&mut client);
        let ids = reply.strip_prefix(b"\x83\xa4type\x00\xa3nsp\xa1/\xa4data\x82\xa3sid\xb4").expect("a reply");
        assert_eq!(ids[20..].strip_prefix(b"\xa3pid\xb4").map(<[u8]>::len), Some(20), "{reply:x?}");
        reports.expect("null", transport);
        send(&mut client, b"\x83\xa4type\x02\xa4data\x92\xa3all\xc4\x01x\xa3nsp\xa1/");
        let event = recv(&mut client);
        let token = event.strip_prefix(b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x93\xa3all\xc4\x01x\xb5");
        let token = token.unwrap_or_else(|| panic!("no event with an offset: {event:x?}"));
        assert!(stentor::Offset::parse(std::str::from_utf8(token).unwrap()).is_ok(), "{token:?}");
        client.send("1");
        reports.expect("transport close", transport);
    });
}

#[test]
fn observers_see_events_without_the_offset() {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(
        |builder| builder.parser(Parser::Msgpack).recovery(Recovery::memory()),
        |io| {
            io.of("/")
                .on_any_outgoing(move |_, name, args| {
                    reporter.report(format!("{name} {} {:?}", args.json(), args.attachments()));
                })
                .on("back", |socket, event: Event<Args>| async move {
                    socket.emit("here", event.data).await?;
                    Ok(())
                });
        },
    );
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        send(&mut client, CONNECT);
        recv(&mut client);
        send(&mut client, b"\x83\xa4type\x02\xa4data\x93\xa4back\x01\xc4\x01x\xa3nsp\xa1/");
        reports.expect(r#"here 1,{"_placeholder":true,"num":0} [b"x"]"#, transport);
    });
}

#[test]
fn namespaces_are_left_by_maps() {
    let (hub, reports) = hub(|builder| builder);
    on_every_transport(|transport| {
        let mut client = join(&hub, &reports, transport);
        send(&mut client, b"\x82\xa4type\x01\xa3nsp\xa1/");
        reports.expect("client namespace disconnect", transport);
        send(&mut client, CONNECT);
        recv(&mut client);
        reports.expect("null", transport);
        send(&mut client, b"\x83\xa4type\x02\xa4data\x91\xa3out\xa3nsp\xa1/");
        assert_eq!(recv(&mut client), b"\x82\xa4type\x01\xa3nsp\xa1/");
        reports.expect("server namespace disconnect", transport);
    });
}

#[test]
fn an_invalid_msgpack_packet_is_a_parse_error() {
    let (hub, reports) = hub(|builder| builder);
    on_every_transport(|transport| {
        for packet in [
            &b""[..],
            b"\xc1",
            b"\x93\x02\xa1/\x90",
            b"\x83\xa4type\x09\xa4data\x91\xa1a\xa3nsp\xa1/",
            b"\x83\xa4type\x02\xa4data\xdd\xff\xff\xff\xff\xa1a\xa3nsp\xa1/",
            b"\x83\xa4type\x02\xa4data\x91\xa1a\xa3nsp\xa1/\x00",
            // JSON in a binary message.
            br#"2["a"]"#,
        ] {
            let mut client = join(&hub, &reports, transport);
            send(&mut client, packet);
            reports.expect("parse error", packet);
            ended(&mut client);
        }
    });
}

#[test]
fn an_unaccepted_msgpack_packet_is_dropped_or_refused_alone() {
    let (hub, reports) = hub(|builder| builder);
    let deep = [&b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1a"[..], &[0x91; 100_000], &[0xc0]].concat();
    on_every_transport(|transport| {
        let mut client = join(&hub, &reports, transport);
        for packet in [
            &deep[..],
            // No name, a reserved name, a namespace that is not connected, an ack without id, a
            // placeholder, CONNECT_ERROR.
            b"\x83\xa4type\x02\xa4data\x90\xa3nsp\xa1/",
            b"\x83\xa4type\x02\xa4data\x91\xc0\xa3nsp\xa1/",
            b"\x83\xa4type\x02\xa4data\x91\xa7connect\xa3nsp\xa1/",
            b"\x83\xa4type\x02\xa4data\x91\xa1a\xa3nsp\xa2/x",
            b"\x83\xa4type\x03\xa4data\x90\xa3nsp\xa1/",
            b"\x83\xa4type\x02\xa4data\x92\xa1a\x81\xac_placeholder\xc3\xa3nsp\xa1/",
            b"\x83\xa4type\x04\xa4data\x80\xa3nsp\xa1/",
        ] {
            send(&mut client, packet);
        }
        // Credentials that are a string, and a namespace without a slash.
        for (packet, namespace) in [
            (&b"\x83\xa4type\x00\xa4data\xa1x\xa3nsp\xa6/other"[..], &b"/other"[..]),
            (b"\x82\xa4type\x00\xa3nsp\xa1x", b"x"),
        ] {
            send(&mut client, packet);
            let reply = recv(&mut client);
            assert!(reply.windows(namespace.len()).any(|window| window == namespace), "{reply:x?}");
            assert!(
                reply.windows(9).any(|window| window == b"\xa7message\xa1" || window[..8] == b"\xa7message"[..]),
                "{reply:x?}"
            );
        }
        send(&mut client, b"\x82\xa4type\x01\xa3nsp\xa1/");
        reports.expect("client namespace disconnect", transport);
    });
}

#[test]
fn a_client_with_another_parser_gets_a_parse_error() {
    let (on_msgpack, told_msgpack) = hub(|builder| builder);
    let (reporter, told_json) = report_channel();
    let on_json = Hub::start(|builder| builder, |io| report_disconnects(io, &reporter));
    on_every_transport(|transport| {
        let mut json_client = on_msgpack.open(transport);
        json_client.send("40");
        ended(&mut json_client);
        let mut msgpack_client = on_json.open(transport);
        send(&mut msgpack_client, CONNECT);
        ended(&mut msgpack_client);

        let mut turncoat = join(&on_msgpack, &told_msgpack, transport);
        turncoat.send(r#"42["what"]"#);
        told_msgpack.expect("parse error", transport);
        ended(&mut turncoat);
        let mut turncoat = on_json.join(transport);
        send(&mut turncoat, b"\x83\xa4type\x02\xa4data\x91\xa1a\xa3nsp\xa1/");
        told_json.expect("parse error", transport);
        ended(&mut turncoat);
    });
    on_json.expect_healthy();
    on_msgpack.wait_for_sessions(0);
}

/// Checks that the session has ended and its client received the reason.
#[track_caller]
fn ended(client: &mut Client) {
    let ended = client.expect_end();
    assert!(matches!(ended, Ended::ClosePacket | Ended::UnknownSession | Ended::CloseFrame(_)), "{ended:?}");
}
