//! The ack id of an encoded packet.

use crate::protocol::encoded::Message;
use crate::protocol::socketio::packet::Packet;

/// Returns whether a packet requests an ack: the ack id precedes the arguments.
pub(super) fn wants_ack(message: &Message) -> bool {
    let Some(head) = message.packets().next() else { return false };
    if head.is_binary() {
        return matches!(message.read_back(), Some(Packet::Event { ack: Some(_), .. }));
    }
    // In `42/chat,7["e"]` and `451-/chat,7["e"]`, the id follows the comma of the namespace;
    // without a namespace, it follows the packet type or the hyphen.
    let body = head.body();
    let path = body.iter().position(|byte| matches!(byte, b'/' | b'['));
    let end = match path {
        Some(at) if body[at] == b'/' => body[at..].iter().position(|byte| *byte == b',').map(|comma| at + comma + 1),
        _ => {
            body.iter().position(|byte| *byte == b'-').filter(|at| path.is_some_and(|path| *at < path)).map(|at| at + 1)
        }
    };
    body.get(end.unwrap_or(2)).is_some_and(u8::is_ascii_digit)
}
