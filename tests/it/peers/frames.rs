//! Websocket frames that RFC 6455 forbids or that are too large: each closes its connection with
//! the matching close code.

use std::time::Duration;

use crate::support::{Frame, Hub, Reports, Transport, frame, report_channel, report_disconnects};

/// Limits messages to 1 000 bytes and 8 fragments.
fn hub() -> (Hub, Reports) {
    let (reporter, reports) = report_channel();
    let hub = Hub::limited(
        |limits| {
            limits.transport.payload_bytes_max = 1_000;
            limits.transport.fragments_max = 8;
        },
        |io| report_disconnects(io, &reporter),
    );
    (hub, reports)
}

/// Bytes of a client, the expected close frame, and the reason that the application receives.
fn expect_close(bytes: &[u8], code: u16, reason: &str) {
    let (hub, reports) = hub();
    for transport in Transport::WEBSOCKETS {
        let mut websocket = hub.join(transport).into_websocket();
        websocket.write(bytes);
        reports.expect(reason, transport);
        let (said, ended) = websocket.read_to_end();
        assert_eq!(said, Some(code), "{transport:?}");
        assert!(matches!(ended, Frame::Fin | Frame::Reset), "{transport:?}: {ended:?}");
    }
    hub.expect_healthy();
}

#[test]
fn reserved_bits_are_a_protocol_error() {
    for bits in [0x40, 0x20, 0x10, 0x70] {
        expect_close(&frame(0x81 | bits, b"3"), 1002, "parse error");
    }
}

#[test]
fn reserved_bits_sent_with_the_handshake_are_a_protocol_error() {
    let (hub, _reports) = hub();
    let mut http = hub.http();
    let request = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    http.write(&[request.as_bytes(), &frame(0xf1, b"40")].concat());
    assert_eq!(http.head().status, 101);
    let rest = http.rest();
    let close = [&b"\x88\x0d\x03\xea"[..], b"parse error"].concat();
    assert!(rest.windows(close.len()).any(|window| window == close), "{rest:?}");
    hub.expect_healthy();
}

#[test]
fn an_unmasked_frame_is_a_protocol_error() {
    expect_close(b"\x81\x013", 1002, "parse error");
    expect_close(b"\x89\x00", 1002, "parse error");
    expect_close(b"\x88\x00", 1002, "parse error");
}

#[test]
fn an_unknown_opcode_is_a_protocol_error() {
    for first in [0x83, 0x87, 0x8b, 0x8f] {
        expect_close(&frame(first, b"3"), 1002, "parse error");
    }
}

#[test]
fn a_fragmented_control_frame_is_a_protocol_error() {
    for first in [0x08, 0x09, 0x0a] {
        expect_close(&frame(first, b""), 1002, "parse error");
    }
}

#[test]
fn a_long_control_frame_is_a_protocol_error() {
    expect_close(&frame(0x89, &[b'x'; 126]), 1002, "parse error");
    // The header alone shows the error.
    expect_close(b"\x89\xff\x00\x00\x00\x00\x00\x00\x01\x00\0\0\0\0", 1002, "parse error");
}

#[test]
fn fragments_out_of_turn_are_a_protocol_error() {
    expect_close(&frame(0x80, b"3"), 1002, "parse error");
    expect_close(&frame(0x00, b"3"), 1002, "parse error");
    expect_close(&[frame(0x01, b"42"), frame(0x81, b"3")].concat(), 1002, "parse error");
    expect_close(&[frame(0x01, b"42"), frame(0x02, b"3")].concat(), 1002, "parse error");
}

#[test]
fn text_that_is_not_utf_8_is_invalid_data() {
    expect_close(&frame(0x81, b"42[\"\xff\"]"), 1007, "parse error");
    // The text is cut within a character and never finished.
    expect_close(&[frame(0x01, b"42[\"\xc3"), frame(0x80, b"\"]")].concat(), 1007, "parse error");
}

#[test]
fn a_text_frame_that_is_no_packet_is_a_protocol_error() {
    for payload in [&b""[..], b"x", b"9", b"{}"] {
        expect_close(&frame(0x81, payload), 1002, "parse error");
    }
}

#[test]
fn a_message_over_max_payload_is_too_large() {
    expect_close(&frame(0x81, &[b'4'; 1_001]), 1009, "transport error");
    expect_close(&frame(0x82, &[0; 1_001]), 1009, "transport error");
    expect_close(&frame(0x81, &[b'4'; 200_000]), 1009, "transport error");
}

#[test]
fn a_message_over_max_payload_is_refused_on_its_header_alone() {
    expect_close(b"\x81\xff\x00\x00\x00\x00\x3b\x9a\xca\x00\0\0\0\0", 1009, "transport error");
    expect_close(b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 1009, "transport error");
    expect_close(b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 1009, "transport error");
}

#[test]
fn fragments_over_max_payload_together_are_too_large() {
    expect_close(&[frame(0x01, &[b'4'; 600]), frame(0x80, &[b'4'; 600])].concat(), 1009, "transport error");
}

#[test]
fn a_message_of_too_many_fragments_is_too_large() {
    let tiny: Vec<u8> = (0..9).flat_map(|number| frame(if number == 0 { 0x01 } else { 0x00 }, b"4")).collect();
    expect_close(&tiny, 1009, "transport error");
    let empty: Vec<u8> = (0..9).flat_map(|number| frame(if number == 0 { 0x02 } else { 0x00 }, b"")).collect();
    expect_close(&empty, 1009, "transport error");
}

#[test]
fn a_message_of_exactly_the_limits_is_accepted() {
    let (hub, _reports) = hub();
    let mut client = hub.join(Transport::Websocket);
    let shell = r#"421["echo",""]"#.len();
    let text = "x".repeat(1_000 - shell);
    client.send(&format!(r#"421["echo","{text}"]"#));
    client.expect(&format!(r#"431["{text}"]"#));

    let message = br#"421["echo"]"#;
    for (number, byte) in message[..7].iter().enumerate() {
        client.websocket().write(&frame(if number == 0 { 0x01 } else { 0x00 }, &[*byte]));
    }
    client.websocket().write(&frame(0x80, &message[7..]));
    client.expect("431[]");
}

#[test]
fn frames_after_an_invalid_frame_are_not_handled() {
    let (hub, reports) = hub();
    let mut websocket = hub.join(Transport::Websocket).into_websocket();
    websocket.write(&[frame(0xc1, b"3"), frame(0x81, b"41"), frame(0x81, b"1")].concat());
    assert_eq!(reports.next(), "parse error");
    websocket.read_to_end();
    assert_eq!(reports.rest(), [""; 0]);
}

#[test]
fn frames_before_an_invalid_frame_in_one_write_are_handled() {
    let (hub, reports) = hub();
    let mut client = hub.join(Transport::Websocket);
    client.websocket().write(&[frame(0x81, br#"421["echo"]"#), frame(0x81, b"41"), frame(0xc1, b"3")].concat());
    assert_eq!(reports.next(), "client namespace disconnect");
    client.expect_end_after(|text| text == "431[]");
}

#[test]
fn an_incomplete_frame_ends_by_ping_timeout_for_the_pong_behind_it() {
    let (reporter, reports) = report_channel();
    let hub = Hub::limited(
        |limits| {
            limits.sessions.ping_interval = Duration::from_secs(1);
            limits.sessions.ping_timeout = Duration::from_secs(1);
        },
        |io| report_disconnects(io, &reporter),
    );
    let parts = [&b"\x81"[..], b"\x81\xfe\x01", b"\x82\xfe\x01\x00\0\0\0\0abc", &frame(0x01, b"42[\"a\"")];
    let unfinished = parts.map(|part| {
        let mut websocket = hub.join(Transport::Websocket).into_websocket();
        websocket.write(part);
        websocket
    });
    for _ in unfinished {
        assert_eq!(reports.next(), "ping timeout");
    }
    hub.expect_healthy();
}
