//! The reading half of a websocket. Converts the received bytes into messages for the session, and
//! limits the number of packets per turn.

use std::task::{Context, Poll, ready};

use super::close::{CloseInfo, POLICY_VIOLATION, SharedCloseInfo, TRY_AGAIN_LATER};
use super::frame_reader::{End, FrameReader};
use crate::messages::sink::Incoming;
use crate::protocol::engineio::packet::EnginePacket;

pub(super) struct Inbound {
    frames: FrameReader,
    /// Decoded messages that the session has not received yet. Boxed, since they are rare.
    queued: Option<Box<Queued>>,
    /// True once a close frame or invalid data was received, or a message was refused. Further
    /// bytes are discarded until the peer closes its side.
    closed: bool,
}

struct Queued {
    packets: std::vec::IntoIter<EnginePacket>,
    last: Option<Incoming>,
}

impl Inbound {
    pub(super) fn new(frames: FrameReader) -> Self {
        Self { frames, queued: None, closed: false }
    }

    /// Returns whether decoded packets are queued. If so, the caller yields to other tasks before
    /// it requests the next message.
    pub(super) fn has_packets(&self) -> bool {
        self.queued.as_ref().is_some_and(|queued| queued.packets.len() > 0)
    }

    /// Returns the next queued message. The next chunk may be decoded only when no message is
    /// queued.
    pub(super) fn next_queued(&mut self) -> Option<Incoming> {
        let queued = self.queued.as_mut()?;
        let slice: Vec<_> = queued.packets.by_ref().take(self.frames.bounds.packets_per_turn).collect();
        let last = if slice.is_empty() { queued.last.take() } else { None };
        if queued.packets.len() == 0 && queued.last.is_none() {
            self.queued = None;
        }
        if slice.is_empty() { last } else { Some(Incoming::Packets(slice)) }
    }

    /// Decodes a chunk and returns the first message. If the chunk ends the connection, sets
    /// `close_info`.
    pub(super) fn on_bytes(&mut self, chunk: &[u8], close_info: &SharedCloseInfo) -> Option<Incoming> {
        if self.closed {
            return None;
        }
        let decoded = self.frames.read(chunk);
        let end = decoded.end.map(|end| {
            self.closed = true;
            let (code, why, incoming) = match end {
                End::Closed { code } => (code, None, Incoming::Leaving),
                End::Undecodable { code, detail } => (code, None, Incoming::Undecodable(detail)),
                End::TooLarge { code, detail } => (code, Some(detail.clone()), Incoming::TooLarge(detail)),
                End::Overloaded { detail } => (TRY_AGAIN_LATER, Some(detail.clone()), Incoming::Refused(detail)),
            };
            close_info.set(Some(Box::new(CloseInfo { code, why })));
            incoming
        });
        let last = end.or_else(|| decoded.pong.map(Incoming::Control));
        if decoded.packets.is_empty() {
            return last;
        }
        if decoded.packets.len() > self.frames.bounds.packets_per_turn {
            self.queued = Some(Box::new(Queued { packets: decoded.packets.into_iter(), last }));
            return self.next_queued();
        }
        self.queued = last.map(|last| Box::new(Queued { packets: Vec::new().into_iter(), last: Some(last) }));
        Some(Incoming::Packets(decoded.packets))
    }

    /// Ends the connection if an incomplete message exceeds its time limit. Called when no bytes
    /// can be read.
    pub(super) fn poll_overdue(&mut self, cx: &mut Context<'_>, close_info: &SharedCloseInfo) -> Poll<Incoming> {
        let timeout = self.frames.bounds.message_timeout;
        let Some(pending_message) = self.frames.pending_message().filter(|_| !self.closed) else {
            return Poll::Pending;
        };
        let deadline = pending_message.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(deadline.as_mut().poll(cx));
        self.closed = true;
        self.frames.discard_incomplete();
        let detail = format!("message was not complete within {timeout:?}");
        close_info.set(Some(Box::new(CloseInfo { code: POLICY_VIOLATION, why: Some(detail.clone()) })));
        Poll::Ready(Incoming::Refused(detail))
    }

    /// Stops the time limit of an incomplete message while the session has paused reading.
    pub(super) fn pause(&mut self) {
        if let Some(pending_message) = &mut self.frames.pending_message {
            pending_message.deadline = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::BytesMut;

    use super::*;
    use crate::limits::Limits;
    use crate::messages::sink::CloseReason;
    use crate::protocol::reason::DisconnectReason;
    use crate::state::budget::Budget;
    use crate::transport::websocket::close::close_frame;
    use crate::transport::websocket::frame_reader::MessageBounds;
    use crate::transport::websocket::frame_reader::tests::frame;

    #[test]
    fn only_an_incomplete_message_over_its_time_limit_ends_the_connection() {
        actix::System::new().block_on(async {
            let limits = Limits::with(|limits| limits.transport.message_timeout = Duration::from_millis(20));
            let bounds = Arc::new(MessageBounds::new(&limits, Arc::new(Budget::new(usize::MAX))));
            let (mut inbound, close_info) =
                (Inbound::new(FrameReader::new(BytesMut::new(), bounds)), SharedCloseInfo::default());
            let wire = frame(0x81, b"4abc");
            for _ in 0..2 {
                let mut cx = Context::from_waker(std::task::Waker::noop());
                assert!(inbound.poll_overdue(&mut cx, &close_info).is_pending(), "no message has begun");
                assert!(inbound.on_bytes(&wire[..3], &close_info).is_none());
                assert!(inbound.poll_overdue(&mut cx, &close_info).is_pending());
                assert!(matches!(inbound.on_bytes(&wire[3..], &close_info), Some(Incoming::Packets(_))));
            }
            assert!(inbound.on_bytes(&wire[..3], &close_info).is_none());
            let end = std::future::poll_fn(|cx| inbound.poll_overdue(cx, &close_info)).await;
            assert!(matches!(end, Incoming::Refused(_)), "{end:?}");
            let close = close_frame(close_info.take(), CloseReason::Ended(DisconnectReason::TransportError));
            assert_eq!(close.body()[..2], POLICY_VIOLATION.to_be_bytes());
            assert!(inbound.on_bytes(&wire, &close_info).is_none(), "bytes were accepted after the end");
        });
    }
}
