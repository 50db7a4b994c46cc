//! The reading half of a connection: from its bytes to what the session receives, in order and in slices.

use std::task::{Context, Poll, ready};

use super::close::{CloseInfo, POLICY_VIOLATION, SharedCloseInfo, TRY_AGAIN_LATER};
use super::frames::{End, FrameReader};
use crate::messages::sink::Incoming;
use crate::protocol::engineio::packet::EnginePacket;

/// The reading half of one connection, once it has bytes.
pub(super) struct Inbound {
    frames: FrameReader,
    /// What comes after the packets already told. Boxed, since it is rare.
    queued: Option<Box<Queued>>,
    /// A close frame came, or something wrong: what follows is forgotten until the peer has closed its side.
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

    /// Whether packets are still to be told: the next slice, before which other work of the thread should have its turn.
    pub(super) fn has_packets(&self) -> bool {
        self.queued.as_ref().is_some_and(|queued| queued.packets.len() > 0)
    }

    /// What is still to be told of the bytes taken before. Ask until there is nothing, then bring the next.
    pub(super) fn queued(&mut self) -> Option<Incoming> {
        let queued = self.queued.as_mut()?;
        let slice: Vec<_> = queued.packets.by_ref().take(self.frames.bounds.packets_per_turn).collect();
        let last = if slice.is_empty() { queued.last.take() } else { None };
        if queued.packets.len() == 0 && queued.last.is_none() {
            self.queued = None;
        }
        if slice.is_empty() { last } else { Some(Incoming::Packets(slice)) }
    }

    /// The first thing to tell of a chunk of bytes. Where that is the end, the verdict says so.
    pub(super) fn take(&mut self, chunk: &[u8], close_info: &SharedCloseInfo) -> Option<Incoming> {
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
                End::Spent { detail } => (TRY_AGAIN_LATER, Some(detail.clone()), Incoming::Refused(detail)),
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
            return self.queued();
        }
        self.queued = last.map(|last| Box::new(Queued { packets: Vec::new().into_iter(), last: Some(last) }));
        Some(Incoming::Packets(decoded.packets))
    }

    /// Gives the end of a connection whose message has begun and takes too long. To be asked when nothing is there to be read.
    pub(super) fn poll_overdue(&mut self, cx: &mut Context<'_>, close_info: &SharedCloseInfo) -> Poll<Incoming> {
        let timeout = self.frames.bounds.message_timeout;
        let Some(pending_message) = self.frames.pending_message().filter(|_| !self.closed) else {
            return Poll::Pending;
        };
        let deadline = pending_message.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(deadline.as_mut().poll(cx));
        self.closed = true;
        self.frames.abandon();
        let detail = format!("message was not complete within {timeout:?}");
        close_info.set(Some(Box::new(CloseInfo { code: POLICY_VIOLATION, why: Some(detail.clone()) })));
        Poll::Ready(Incoming::Refused(detail))
    }

    /// The session does not read, so that it is not the client that takes long.
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
    use crate::transport::websocket::frames::MessageBounds;
    use crate::transport::websocket::frames::tests::frame;

    #[test]
    fn a_message_that_takes_too_long_ends_its_connection_a_late_one_not() {
        actix::System::new().block_on(async {
            let limits = Limits::with(|limits| limits.transport.message_timeout = Duration::from_millis(20));
            let bounds = Arc::new(MessageBounds::new(&limits, Arc::new(Budget::new(usize::MAX))));
            let (mut inbound, close_info) =
                (Inbound::new(FrameReader::new(BytesMut::new(), bounds)), SharedCloseInfo::default());
            let wire = frame(0x81, b"4abc");
            for _ in 0..2 {
                let mut cx = Context::from_waker(std::task::Waker::noop());
                assert!(inbound.poll_overdue(&mut cx, &close_info).is_pending(), "nothing has begun");
                assert!(inbound.take(&wire[..3], &close_info).is_none());
                assert!(inbound.poll_overdue(&mut cx, &close_info).is_pending());
                assert!(matches!(inbound.take(&wire[3..], &close_info), Some(Incoming::Packets(_))));
            }
            assert!(inbound.take(&wire[..3], &close_info).is_none());
            let end = std::future::poll_fn(|cx| inbound.poll_overdue(cx, &close_info)).await;
            assert!(matches!(end, Incoming::Refused(_)), "{end:?}");
            let close = close_frame(close_info.take(), CloseReason::Ended(DisconnectReason::TransportError));
            assert_eq!(close.body()[..2], POLICY_VIOLATION.to_be_bytes());
            assert!(inbound.take(&wire, &close_info).is_none(), "nothing more is taken");
        });
    }
}
