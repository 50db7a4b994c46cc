//! Close frames from clients (RFC 6455, 5.5.1 and 7.4; Autobahn cases 7.x) and the answers to them.

use crate::support::{Frame, Hub, Transport, Websocket, frame, report_channel, report_disconnects};

const CLOSE: u8 = 0x88;

fn payload(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason].concat()
}

/// A client whose close frame has `payload` gets the close code `expected`, or a close frame
/// without a code.
fn expect_answer(hub: &Hub, transport: Transport, payload: &[u8], expected: Option<u16>) {
    let mut websocket = hub.join(transport).into_websocket();
    websocket.write(&frame(CLOSE, payload));
    let (code, ended) = websocket.read_to_end();
    assert_eq!(code, expected, "{transport:?}: {payload:?}");
    assert!(matches!(ended, Frame::Fin | Frame::Reset), "{transport:?}: {payload:?}: {ended:?}");
}

fn on_every_websocket(cases: &[(Vec<u8>, Option<u16>)], reason: &str) {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(|builder| builder, |io| report_disconnects(io, &reporter));
    for transport in Transport::WEBSOCKETS {
        for (payload, expected) in cases {
            expect_answer(&hub, transport, payload, *expected);
            reports.expect(reason, (transport, payload));
        }
    }
    hub.expect_healthy();
}

#[test]
fn a_legal_close_frame_is_answered_with_its_code() {
    let codes = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];
    let mut cases: Vec<_> = codes.map(|code| (payload(code, b""), Some(code))).into();
    cases.push((payload(1000, "gr\u{fc}\u{df}e".as_bytes()), Some(1000)));
    cases.push((payload(1000, &[b'x'; 123]), Some(1000)));
    // A close frame without a code counts as a normal closure.
    cases.push((Vec::new(), Some(1000)));
    on_every_websocket(&cases, "transport close");
}

#[test]
fn a_close_payload_of_one_byte_is_a_protocol_error() {
    on_every_websocket(&[(vec![3], Some(1002)), (b"x".to_vec(), Some(1002))], "parse error");
}

#[test]
fn a_close_code_that_may_not_be_sent_is_a_protocol_error() {
    let codes = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535];
    on_every_websocket(&codes.map(|code| (payload(code, b""), Some(1002))), "parse error");
}

#[test]
fn a_close_reason_that_is_not_utf_8_is_invalid_data() {
    let cases = [&b"\xff"[..], b"ok \xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80 edited", b"cut \xc3"];
    on_every_websocket(&cases.map(|reason| (payload(1000, reason), Some(1007))), "parse error");
}

#[test]
fn frames_after_a_close_frame_are_not_handled() {
    let (reporter, reports) = report_channel();
    let hub = Hub::start(|builder| builder, |io| report_disconnects(io, &reporter));
    for transport in Transport::WEBSOCKETS {
        let mut websocket: Websocket = hub.join(transport).into_websocket();
        websocket.write(&[frame(CLOSE, &payload(1000, b"")), frame(CLOSE, b"x"), frame(0x81, b"41")].concat());
        assert_eq!(reports.next(), "transport close", "{transport:?}");
        assert_eq!(websocket.read_to_end().0, Some(1000), "{transport:?}");
    }
    assert_eq!(reports.rest(), [""; 0]);
    hub.expect_healthy();
}
