//! Invalid packets of clients and their effect on packet, namespace or connection. Each row of
//! `docs/errors.md` has a test here.

use std::time::Duration;

use crate::support::{Ended, Hub, Packet, Reports, Transport, on_every_transport, report_channel, report_disconnects};

fn hub() -> (Hub, Reports) {
    let (reporter, reports) = report_channel();
    let hub = Hub::limited(
        |limits| limits.transport.attachments_timeout = Duration::from_millis(200),
        |io| {
            report_disconnects(io, &reporter);
            io.of("/other");
        },
    );
    (hub, reports)
}

fn text(packet: &str) -> Packet {
    Packet::Text(packet.into())
}

fn binary() -> Packet {
    Packet::Binary(vec![1, 2, 3])
}

/// Sends `packets` as a connected client; the session must end with `reason`.
fn expect_end(hub: &Hub, reports: &Reports, transport: Transport, packets: &[Packet], reason: &str) {
    let mut client = hub.join(transport);
    client.send_all(packets);
    reports.expect(reason, packets);
    let ended = client.expect_end();
    assert!(
        matches!(ended, Ended::ClosePacket | Ended::UnknownSession | Ended::CloseFrame(_)),
        "{packets:?}: {ended:?}"
    );
}

fn binaries(count: usize) -> Vec<Packet> {
    vec![binary(); count]
}

/// Sends each of these packets as a connected client; none is answered, and the session stays open.
fn expect_dropped(hub: &Hub, cases: &[Vec<Packet>]) {
    on_every_transport(|transport| {
        for packets in cases {
            let mut client = hub.join(transport);
            client.send_all(packets);
            client.expect_echo();
            client.send("1");
        }
    });
    hub.expect_healthy();
}

#[test]
fn a_packet_for_a_namespace_that_is_not_connected_is_dropped() {
    let (hub, _reports) = hub();
    // The namespace may or may not exist; the last packets have attachments.
    let cases = [r#"42/other,["hi"]"#, r#"42/nope,1["hi"]"#, "43/other,1[]", "41/other,", "41/nope,"];
    let mut cases: Vec<_> = cases.map(|packet| vec![text(packet)]).into();
    for header in
        [r#"451-/other,["hi",{"_placeholder":true,"num":0}]"#, r#"461-/other,1[{"_placeholder":true,"num":0}]"#]
    {
        cases.push(vec![text(header), binary()]);
    }
    expect_dropped(&hub, &cases);
}

#[test]
fn a_packet_before_connect_is_dropped() {
    let (hub, _reports) = hub();
    on_every_transport(|transport| {
        let mut client = hub.open(transport);
        for packet in [r#"42["hi"]"#, r#"421["echo"]"#, "431[]", "41"] {
            client.send(packet);
        }
        client.connect("");
        client.expect_echo();
        client.send("1");
    });
    hub.expect_healthy();
}

#[test]
fn a_packet_that_crosses_a_disconnect_of_its_namespace_is_dropped() {
    let (hub, reports) = hub();
    hub.io.of("/other").on("leave", |socket, _: stentor::Event<()>| async move {
        socket.disconnect(false);
        Ok(())
    });
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.connect("/other,");
        client.send(r#"42/other,["leave"]"#);
        client.expect("41/other,");
        for late in [r#"42/other,["late"]"#, r#"42/other,5["late"]"#, "43/other,7[]", "41/other,"] {
            client.send(late);
        }
        client.expect_echo();
        client.connect("/other,");
        client.send("1");
        reports.expect("transport close", transport);
    });
    hub.expect_healthy();
}

#[test]
fn a_packet_for_a_refused_namespace_is_dropped() {
    let (hub, _reports) = hub();
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send_all(&[text("40/nope,"), text(r#"42/nope,1["early"]"#)]);
        client.expect(r#"44/nope,{"message":"Invalid namespace"}"#);
        client.send(r#"42/nope,["late"]"#);
        client.expect_echo();
        client.send("1");
    });
    hub.expect_healthy();
}

#[test]
fn a_connect_error_from_a_client_is_dropped() {
    let (hub, _reports) = hub();
    expect_dropped(
        &hub,
        &["44", r#"44{"message":"no"}"#, r#"44/other,{"message":"no"}"#, r#"44"no""#].map(|packet| vec![text(packet)]),
    );
}

#[test]
fn an_event_with_an_invalid_name_is_dropped() {
    let (hub, _reports) = hub();
    let reserved = ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];
    let mut cases: Vec<_> = reserved.iter().map(|name| vec![text(&format!("421[\"{name}\",1]"))]).collect();
    let nameless =
        ["42", "42[]", "42[{}]", "42[[\"a\"]]", "42[null]", "42[true]", "42[\"\\u0063onnect\"]", "42[1e999]"];
    cases.extend(nameless.map(|packet| vec![text(packet)]));
    cases.push(vec![text(r#"452-["connect",{"_placeholder":true,"num":0}]"#), binary(), binary()]);
    expect_dropped(&hub, &cases);
}

#[test]
fn an_invalid_ack_id_is_dropped_with_its_packet() {
    let (hub, _reports) = hub();
    let cases = ["43[]", "43999[]", "4218446744073709551616[\"echo\"]", "4399999999999999999999999999999999[\"a\"]"];
    let mut cases: Vec<_> = cases.map(|packet| vec![text(packet)]).into();
    cases.push(vec![text("461-[\"a\"]"), binary()]);
    expect_dropped(&hub, &cases);
}

#[test]
fn json_that_nests_too_deep_is_dropped_with_its_packet() {
    let (hub, _reports) = hub();
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    expect_dropped(
        &hub,
        &[
            vec![text(&format!("421[\"echo\",{deep}]"))],
            vec![text(&format!("437{deep}"))],
            vec![text(&format!("451-[\"echo\",{{\"_placeholder\":true,\"num\":0}},{deep}]")), binary()],
        ],
    );
}

#[test]
fn too_many_attachments_are_dropped_with_their_packet() {
    let (hub, _reports) = hub();
    let header = r#"4511-["echo",{"_placeholder":true,"num":10}]"#;
    let packets = [vec![text(header)], binaries(11)].concat();
    expect_dropped(&hub, &[packets, [vec![text("46300-1[]")], binaries(300)].concat()]);
}

#[test]
fn placeholders_without_their_attachment_are_dropped_with_their_packet() {
    let (hub, _reports) = hub();
    let cases = [
        r#"451-["a",{"_placeholder":true,"num":1}]"#,
        r#"451-["a",{"_placeholder":true,"num":-1}]"#,
        r#"451-["a",{"_placeholder":true,"num":0.5}]"#,
        r#"451-["a",{"_placeholder":true,"num":"0"}]"#,
        r#"451-["a",{"_placeholder":true,"num":"splice"}]"#,
        r#"451-["a",{"_placeholder":true}]"#,
        r#"461-1[{"_placeholder":true,"num":1}]"#,
    ];
    expect_dropped(&hub, &cases.map(|header| vec![text(header), binary()]));
}

#[test]
fn an_invalid_connect_refuses_only_its_namespace() {
    let (hub, reports) = hub();
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(500), "]".repeat(500));
    let long = format!("/{}", "a".repeat(300));
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        for (namespace, auth, message) in [
            ("/nope", "", "Invalid namespace"),
            (&*long, "", "Invalid namespace"),
            (&long, "{}", "Invalid namespace"),
            // python-socketio sends this for `auth="token"`.
            ("/other", "\"token\"", "auth must be an object or absent"),
            ("/other", "[]", "auth must be an object or absent"),
            ("/other", "null", "auth must be an object or absent"),
            ("/other", "true", "auth must be an object or absent"),
            ("/other", &deep, "data nests deeper than limit of 127"),
        ] {
            client.send(&format!("40{namespace},{auth}"));
            client.expect(&format!(r#"44{namespace},{{"message":"{message}"}}"#));
        }
        client.connect("/other,");
        client.expect_echo();
        client.send("1");
        reports.expect("transport close", transport);
    });
    hub.expect_healthy();
}

#[test]
fn a_disconnect_with_data_leaves_its_namespace() {
    let (hub, reports) = hub();
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.send("41{}");
        reports.expect("client namespace disconnect", transport);
        client.connect("");
        client.expect_echo();
        client.send("1");
        reports.expect("transport close", transport);
    });
}

#[test]
fn an_invalid_packet_is_a_parse_error() {
    let (hub, reports) = hub();
    on_every_transport(|transport| {
        for packet in [
            "4",
            "47",
            "4x",
            "4 2[\"a\"]",
            // Events: an array whose first element is a string or a number.
            "42{}",
            "42\"a\"",
            "42null",
            "42[\"a\"",
            "42[\"a\"]]",
            "42[\"a\",]",
            "42[\"a\"]x",
            "42['a']",
            "42[\"\\x\"]",
            "42[\"a\",01]",
            "42[\"a\",NaN]",
            // Acks.
            "431{}",
            "431\"a\"",
            "43-1[]",
            // CONNECT.
            "40{",
            "40/other,{]",
            // The number of attachments and a dash.
            "45[\"a\"]",
            "45-[\"a\"]",
            "450-[\"a\"]",
            "4599999999999999999999-[\"a\"]",
            "45-1-[\"a\"]",
            "451[\"a\"]",
        ] {
            expect_end(&hub, &reports, transport, &[text(packet)], "parse error");
        }
    });
    hub.expect_healthy();
}

#[test]
fn binary_out_of_turn_is_a_parse_error() {
    let (hub, reports) = hub();
    let awaiting_two = r#"452-["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;
    on_every_transport(|transport| {
        for packets in [
            vec![binary()],
            vec![text(r#"42["a"]"#), binary()],
            vec![text(awaiting_two), binary(), text(r#"42["between"]"#)],
            vec![text(awaiting_two), text(awaiting_two)],
            vec![text(awaiting_two), binary(), binary(), binary()],
        ] {
            expect_end(&hub, &reports, transport, &packets, "parse error");
        }
    });
    hub.expect_healthy();
}

#[test]
fn an_unfinished_binary_packet_is_a_parse_error() {
    let (hub, reports) = hub();
    on_every_transport(|transport| {
        let header = r#"452-["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;
        expect_end(&hub, &reports, transport, &[text(header), binary()], "parse error");
    });
    hub.expect_healthy();
}

#[test]
fn packets_after_an_invalid_one_are_not_handled() {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(
        |builder| builder,
        |io| {
            report_disconnects(io, &reporter);
            io.of("/").on("late", move |_, _: stentor::Event<()>| {
                reporter.report("handled");
                async { Ok(()) }
            });
        },
    );
    on_every_transport(|transport| {
        let packets = [text("42{}"), text(r#"42["late"]"#), text("41"), text("40")];
        expect_end(&hub, &reports, transport, &packets, "parse error");
        assert_eq!(reports.rest(), [""; 0]);
    });
    hub.expect_healthy();
}

#[test]
fn meaningless_engine_packets_of_a_client_are_ignored() {
    let (hub, _reports) = hub();
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        for packet in ["6", "5", "3", "3x"] {
            client.send(packet);
        }
        client.expect_echo();
    });
}
