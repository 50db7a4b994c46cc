//! Detection of an ack id in an encoded packet.

use crate::protocol::encoded::Message;
use crate::protocol::socketio::packet::Packet;

/// Returns whether a packet requests an ack, which means that an ack id precedes the arguments.
pub(super) fn wants_ack(message: &Message) -> bool {
    let Some(head) = message.packets().next() else { return false };
    if head.is_binary() {
        return matches!(message.read_back(), Some(Packet::Event { ack: Some(_), .. }));
    }
    // If the packet has a namespace, the id follows its comma: `42/chat,7["e"]`,
    // `451-/chat,7["e"]`. Otherwise, the id follows the packet type or the hyphen: `427["e"]`,
    // `451-7["e"]`.
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
