//! Whether an event wants an ack, read off its packet.

use crate::protocol::encoded::Message;
use crate::protocol::socketio::packet::Packet;

/// Whether a packet wants an ack: its id stands before the arguments.
pub(super) fn wants_ack(message: &Message) -> bool {
    let Some(head) = message.packets().next() else { return false };
    if head.is_binary() {
        return matches!(message.read_back(), Some(Packet::Event { ack: Some(_), .. }));
    }
    // `42/chat,7["e"]`, `451-/chat,7["e"]`: the arguments begin with the first bracket behind the namespace's comma.
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
