//! The limit on events per second, as clients meet it.

use std::num::NonZeroU32;

use stentor::vocabulary;

use crate::support::{Hub, Packet, on_every_transport};

/// One event a second, so two at once. What is sent at once is not spread by a slow machine.
fn hub() -> Hub {
    Hub::start(
        |builder| builder,
        |io| {
            for namespace in ["/", "/other"] {
                vocabulary::install(io.of(namespace), NonZeroU32::new(1));
            }
        },
    )
}

const REFUSAL: &str = r#"{"error":{"code":"rate_limited","message":"more than 1 events per second; slow down"}}"#;

fn echo(namespace: &str, id: u64) -> Packet {
    Packet::Text(format!(r#"42{namespace}{id}["echo",1]"#))
}

#[test]
fn events_over_the_limit_are_refused_in_their_ack_each_socket_for_itself() {
    let hub = hub();
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        client.connect("/other,");
        client.send_all(&[echo("", 1), echo("", 2), echo("", 3), echo("/other,", 4)]);
        client.expect("431[1]");
        client.expect("432[1]");
        client.expect(&format!("433[{REFUSAL}]"));
        client.expect("43/other,4[1]");

        let mut another = hub.join(transport);
        another.send_all(&[echo("", 5)]);
        another.expect("435[1]");
    });
}

#[test]
fn a_flood_without_acks_is_answered_by_one_error_a_second() {
    let hub = hub();
    on_every_transport(|transport| {
        let mut client = hub.join(transport);
        let mut flood = vec![Packet::Text(r#"42["nonsense"]"#.into()); 20];
        flood.push(echo("", 7));
        client.send_all(&flood);
        assert!(client.recv_text().contains("unknown_event"));
        assert!(client.recv_text().contains("unknown_event"));
        client.expect(&format!(r#"42["stentor:error",{REFUSAL}]"#));
        client.expect(&format!("437[{REFUSAL}]"));
    });
}
