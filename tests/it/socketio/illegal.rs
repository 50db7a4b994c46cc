//! What a client may not say: each ends its session, with the right reason, and nobody else's.

use std::time::Duration;

use crate::support::{Ended, Hub, Packet, Told, Transport, ends, on_every_transport, report};

fn hub() -> (Hub, Told) {
    let (tell, told) = report();
    let hub = Hub::limited(
        |limits| limits.attachments_timeout = Duration::from_millis(200),
        |io| {
            ends(io, &tell);
            io.of("/other");
        },
    );
    (hub, told)
}

fn text(packet: &str) -> Packet {
    Packet::Text(packet.into())
}

fn binary() -> Packet {
    Packet::Binary(vec![1, 2, 3])
}

/// A joined client sends `packets`; its session must end, for `reason`.
fn ends_with(hub: &Hub, told: &Told, transport: Transport, packets: &[Packet], reason: &str) {
    let mut client = hub.join(transport);
    client.send_all(packets);
    told.expect(reason, packets);
    let ended = client.ends();
    assert!(matches!(ended, Ended::Told | Ended::Unknown | Ended::Closed(_)), "{packets:?}: {ended:?}");
}

#[test]
fn what_is_out_of_place_closes_the_connection() {
    let (hub, told) = hub();
    on_every_transport(|transport| {
        for packet in [
            // A second CONNECT to a namespace that is joined.
            "40",
            r#"40{"token":1}"#,
            "40/,",
            // CONNECT_ERROR is the server's to say.
            r#"44{"message":"no"}"#,
            r#"44/other,{"message":"no"}"#,
            // EVENT and ACK for what is not joined, whether it exists or not.
            r#"42/other,["hi"]"#,
            r#"42/nope,1["hi"]"#,
            "43/other,1[]",
        ] {
            ends_with(&hub, &told, transport, &[text(packet)], "forced server close");
        }
    });
    hub.is_unharmed();
}

#[test]
fn a_packet_before_connect_closes_the_connection() {
    let (hub, _told) = hub();
    on_every_transport(|transport| {
        for packet in [r#"42["hi"]"#, r#"421["echo"]"#, "431[]"] {
            let mut client = hub.open(transport);
            client.send(packet);
            let ended = client.ends();
            assert!(matches!(ended, Ended::Told | Ended::Unknown | Ended::Closed(_)), "{packet:?}: {ended:?}");
        }
    });
    hub.is_unharmed();
}

#[test]
fn what_is_no_packet_is_a_parse_error() {
    let (hub, told) = hub();
    on_every_transport(|transport| {
        for packet in [
            "4",
            "47",
            "4x",
            "4 2[\"a\"]",
            // Events: a name that is a string or a number, in an array.
            "42",
            "42{}",
            "42[]",
            "42[{}]",
            "42[[\"a\"]]",
            "42[null]",
            "42[true]",
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
            // Names that mean something else to every client.
            "42[\"connect\"]",
            "42[\"connect_error\"]",
            "42[\"disconnect\"]",
            "42[\"disconnecting\"]",
            "42[\"newListener\"]",
            "42[\"removeListener\"]",
            "42[\"\\u0063onnect\"]",
            // Acks.
            "43[]",
            "431",
            "431{}",
            "431\"a\"",
            "43-1[]",
            "4218446744073709551616[\"a\"]",
            "4299999999999999999999999999999999[\"a\"]",
            // CONNECT and DISCONNECT.
            "40/other,[]",
            "40/other,null",
            "40/other,true",
            "40/other,\"x\"",
            "41{}",
            // Attachments: 1 to 10, and a dash.
            "45[\"a\"]",
            "45-[\"a\"]",
            "450-[\"a\"]",
            "4511-[\"a\"]",
            "4599999999999999999999-[\"a\"]",
            "45-1-[\"a\"]",
            "451[\"a\"]",
            "461-[\"a\"]",
            // Placeholders that name none of them.
            r#"451-["a",{"_placeholder":true,"num":1}]"#,
            r#"451-["a",{"_placeholder":true,"num":-1}]"#,
            r#"451-["a",{"_placeholder":true,"num":0.5}]"#,
            r#"451-["a",{"_placeholder":true,"num":"0"}]"#,
            r#"451-["a",{"_placeholder":true,"num":"splice"}]"#,
            r#"451-["a",{"_placeholder":true}]"#,
        ] {
            // The attachment comes as well, for packets that are found out only once they are whole.
            let packets = if packet.starts_with("451-") { vec![text(packet), binary()] } else { vec![text(packet)] };
            ends_with(&hub, &told, transport, &packets, "parse error");
        }
    });
    hub.is_unharmed();
}

#[test]
fn binary_out_of_turn_is_a_parse_error() {
    let (hub, told) = hub();
    let awaiting_two = r#"452-["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;
    on_every_transport(|transport| {
        for packets in [
            vec![binary()],
            vec![text(r#"42["a"]"#), binary()],
            vec![text(awaiting_two), binary(), text(r#"42["between"]"#)],
            vec![text(awaiting_two), text(awaiting_two)],
            vec![text(awaiting_two), binary(), binary(), binary()],
        ] {
            ends_with(&hub, &told, transport, &packets, "parse error");
        }
    });
    hub.is_unharmed();
}

#[test]
fn a_binary_packet_that_is_never_finished_is_a_parse_error() {
    let (hub, told) = hub();
    on_every_transport(|transport| {
        let header = r#"452-["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;
        ends_with(&hub, &told, transport, &[text(header), binary()], "parse error");
    });
    hub.is_unharmed();
}

#[test]
fn packets_after_an_illegal_one_are_not_handled() {
    let (tell, told) = report();
    let hub = Hub::start(
        |builder| builder,
        |io| {
            ends(io, &tell);
            io.of("/").on("late", move |_, _: stentor::Event<()>| {
                tell.say("handled");
                async { Ok(()) }
            });
        },
    );
    on_every_transport(|transport| {
        let packets = [text("42{}"), text(r#"42["late"]"#), text("41"), text("40")];
        ends_with(&hub, &told, transport, &packets, "parse error");
        assert_eq!(told.rest(), [""; 0]);
    });
    hub.is_unharmed();
}

#[test]
fn engine_packets_without_meaning_from_a_client_are_ignored() {
    let (hub, _told) = hub();
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        for packet in ["6", "5", "3", "3x"] {
            client.send(packet);
        }
        client.echoes();
    });
}
