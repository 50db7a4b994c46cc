//! The attachments of sockets to subscribers of the queue: durable events for the client, and the
//! client's answers.

use std::collections::HashMap;
use std::time::Instant;

use serde_json::value::RawValue;

use super::Session;
use crate::api::error::RoomError;
use crate::api::error_answer::ErrorAnswer;
use crate::ids::{RoomName, SocketId};
use crate::messages::answer::answer;
use crate::messages::attachment::{AttachmentId, AttachmentUpdate, EventAnswer, SubscriberError, SubscriberReply};
use crate::messages::event::DirectPacket;
use crate::messages::hub::OrderedCommand;
use crate::messages::subscribers::Attachment;
use crate::protocol::socketio::packet::Args;
use crate::queue::record::SubscriberKey;
use crate::state::rooms::MembershipError;
use crate::worker::credit_window::PendingReply;

impl Session {
    /// Attaches a connected socket to a subscriber. A socket has at most one.
    pub(super) fn subscribe_as(&mut self, socket: SocketId, key: SubscriberKey, done: SubscriberReply<()>) {
        let Some(link) = self.core.subscribers.clone() else {
            return answer(done, Err(SubscriberError::Off));
        };
        let in_flight_max = self.core.limits.queue.in_flight_max;
        let Some(session_socket) = self.find_socket_mut(socket) else { return };
        let reference = session_socket.socket.reference().clone();
        let attachment = session_socket
            .attachment
            .get_or_insert_with(|| Box::new(Attachment::new(key.clone(), link, in_flight_max)));
        if attachment.key == key {
            attachment.attach(reference, done);
        } else {
            let name = attachment.key.name.to_string();
            answer(done, Err(SubscriberError::OtherSubscriber { name }));
        }
    }

    /// Handles an update of an attachment. An update of one that was replaced is ignored.
    pub(super) fn on_attachment(&mut self, socket: SocketId, id: AttachmentId, update: AttachmentUpdate) {
        let attachment = self.find_socket(socket).and_then(|session_socket| session_socket.attachment.as_ref());
        if attachment.is_none_or(|attachment| attachment.id != id) {
            return;
        }
        let now = Instant::now();
        match update {
            AttachmentUpdate::Packets(packets) => {
                for packet in packets {
                    self.credit_window.push(|| now, DirectPacket::Sealed(packet));
                }
            }
            AttachmentUpdate::Join(rooms) => {
                let (kept, bytes) = (rooms.clone(), rooms.len() * size_of::<RoomName>());
                self.credit_window.submit(now, bytes, PendingReply::Nobody, move |from| OrderedCommand::KeepDurable {
                    from,
                    socket,
                    rooms: kept,
                });
                for room in rooms {
                    let reply = PendingReply::Rejoin(socket, room.clone());
                    self.credit_window.submit(now, room.as_str().len(), reply, move |from| {
                        // Everything since the subscription began is pending.
                        OrderedCommand::JoinDurable { from, socket, room, after: 0 }
                    });
                }
            }
            AttachmentUpdate::JoinNew { room, after, done } => {
                self.credit_window.submit(now, room.as_str().len(), PendingReply::Join(done), move |from| {
                    OrderedCommand::JoinDurable { from, socket, room, after }
                });
            }
            AttachmentUpdate::Leave(room) => {
                self.credit_window.submit(now, room.as_str().len(), PendingReply::Nobody, move |from| {
                    OrderedCommand::LeaveDurable { from, socket, room }
                });
            }
            AttachmentUpdate::Ended(packet) => {
                if let Some(session_socket) = self.find_socket_mut(socket) {
                    session_socket.attachment = None;
                }
                if let Some(packet) = packet {
                    self.credit_window.push(|| now, DirectPacket::Sealed(packet));
                    self.disconnect(socket, false, now);
                }
            }
        }
    }

    /// Reports a room of a subscription that the hub has refused when the socket was attached. The
    /// client is not charged, since it did not ask for the join.
    pub(super) fn on_rejoin_refused(
        &mut self,
        socket: SocketId,
        room: &RoomName,
        refusal: MembershipError,
        now: Instant,
    ) {
        let (code, error) = match refusal {
            MembershipError::NotConnected => return,
            MembershipError::TooManyRooms => ("too_many_rooms", RoomError::TooManyRooms),
            MembershipError::BudgetSpent => ("overloaded", RoomError::Overloaded),
            MembershipError::ForeignRoom => ("bad_room", RoomError::ForeignRoom),
        };
        self.log_refused_join(refusal, now);
        let Some(session_socket) = self.find_socket(socket) else { return };
        let message = format!("subscription of room {room:?} has its durable events only: {error}");
        let (info, refused) = (session_socket.socket.info(), ErrorAnswer::new(code, message));
        if let Ok(draft) = self.core.encoder.event(&info.namespace, "stentor:error", &refused, info.is_recoverable()) {
            self.credit_window.push(|| now, DirectPacket::Unnumbered { draft, volatile: false });
        }
    }

    /// Passes the client's answer to a durable event on.
    pub(super) fn on_event_answered(&self, socket: SocketId, number: u64, args: &Args) {
        let metrics = self.outbox.worker.metrics();
        let attachment = self.find_socket(socket).and_then(|session_socket| session_socket.attachment.as_ref());
        match attachment {
            None => metrics.answers_unknown.add(1),
            Some(attachment) => {
                if !attachment.answered(number, event_answer(args)) {
                    metrics.answers_dropped.add(1);
                }
            }
        }
    }
}

/// Longest reason that is kept of a client that gives an event up, in bytes. The store cuts it to
/// less.
const REASON_BYTES_MAX: usize = 4_096;

/// Parses the answer to an event. Anything but a refusal is an acknowledgement, since handlers of
/// some clients return any value.
fn event_answer(args: &Args) -> EventAnswer {
    if args.get(0).is_none_or(|answer| !answer.starts_with('{')) {
        return EventAnswer::Ack;
    }
    let args = args.clone().well_formed();
    let Ok(answer) = serde_json::from_str::<HashMap<String, &RawValue>>(args.get(0).unwrap_or_default()) else {
        return EventAnswer::Ack;
    };
    let is_set = |name: &str| answer.get(name).is_some_and(|value| value.get() == "true");
    if is_set("term") {
        let reason = answer.get("reason").and_then(|reason| serde_json::from_str::<String>(reason.get()).ok());
        let mut reason = reason.unwrap_or_default();
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        EventAnswer::Term(reason)
    } else if is_set("nak") {
        // A delay that makes no sense is treated as none. Large ones are bounded by the delivery.
        let delay = answer.get("delay").and_then(|delay| delay.get().parse::<f64>().ok());
        EventAnswer::Nak(delay.filter(|delay| *delay >= 0.0).map(|delay| delay as u64))
    } else {
        EventAnswer::Ack
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_an_ack_unless_it_is_a_refusal() {
        let parse = |json: &str| event_answer(&Args::parse(json).unwrap());
        for json in
            ["[]", "[null]", "[1]", "[\"nak\"]", "[{}]", "[{\"nak\":false}]", "[{\"nak\":1}]", "[[{\"nak\":true}]]"]
        {
            assert_eq!(parse(json), EventAnswer::Ack, "{json}");
        }
        for (delay, expected) in [
            ("5", Some(5)),
            ("1.9", Some(1)),
            ("1e12", Some(1_000_000_000_000)),
            ("1e300", Some(u64::MAX)),
            ("-1", None),
            ("\"NaN\"", None),
            ("null", None),
            ("[5]", None),
        ] {
            assert_eq!(parse(&format!("[{{\"nak\":true,\"delay\":{delay}}}]")), EventAnswer::Nak(expected), "{delay}");
        }
        assert_eq!(parse("[{\"nak\":true}]"), EventAnswer::Nak(None));
        assert_eq!(parse("[{\"term\":true,\"reason\":\"x\"},1]"), EventAnswer::Term("x".into()));
        assert_eq!(parse("[{\"term\":true,\"reason\":7}]"), EventAnswer::Term(String::new()));
        assert_eq!(parse("[{\"nak\":true,\"delay\":1e999}]"), EventAnswer::Nak(Some(u64::MAX)));
        assert_eq!(parse("[{\"term\":true,\"reason\":\"\\ud800\"}]"), EventAnswer::Term("\u{fffd}".into()));
    }
}
