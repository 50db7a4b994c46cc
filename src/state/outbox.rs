//! The outbox of a session: packets that wait for its transport.
//!
//! The size of an outbox is limited. The caller decides what happens on overflow.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};
use smallvec::SmallVec;
use thiserror::Error;

use super::lazy_queue::LazyQueue;
use crate::protocol::encoded::{EncodedFrame, Message};

/// Memory of a queued packet in addition to its bytes, which outboxes share.
pub(crate) const PACKET_OVERHEAD_BYTES: usize = size_of::<EncodedFrame>();

/// The outbox has no room for a message. No packet of the message was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("outbox of {waiting} bytes has no room for {wanted} more (limit {limit})")]
pub(crate) struct OutboxFull {
    pub waiting: usize,
    pub wanted: usize,
    pub limit: usize,
}

/// Maximum number of queued control packets. The server itself sends only a few. A larger number is
/// caused by a peer that sends websocket pings and does not read the pongs.
const CONTROL_PACKETS_MAX: usize = 32;

/// The maximum number of control packets is queued, since the peer does not read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("peer does not read its control packets queued={CONTROL_PACKETS_MAX}")]
pub(crate) struct ControlFull;

#[derive(Debug)]
struct Partial {
    rest: Bytes,
    /// Length of the whole frame, which stays in memory until its last byte is sent.
    frame_bytes: usize,
}

/// Queued packets in the order of sending: a packet sent in part, control packets, events.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// The rest of a packet that was sent in part, or the first bytes of a connection. These bytes
    /// are sent before all other packets. Boxed, since most outboxes have none.
    partial: Option<Box<Partial>>,
    /// Control packets, such as pings, pongs and noops. They are sent before queued events.
    control: LazyQueue<EncodedFrame>,
    events: VecDeque<EncodedFrame>,
    event_bytes: usize,
}

impl Outbox {
    /// Queues all packets of a message or none. An outbox without queued events accepts a message
    /// of any size.
    pub(crate) fn push(&mut self, message: &Message, limit: usize) -> Result<(), OutboxFull> {
        let wanted = message.packets().map(cost).sum::<usize>();
        if self.event_bytes != 0 && self.event_bytes + wanted > limit {
            return Err(OutboxFull { waiting: self.event_bytes, wanted, limit });
        }
        self.events.extend(message.packets().cloned());
        self.event_bytes += wanted;
        Ok(())
    }

    /// Sets the bytes that a new connection sends before any packet.
    pub(crate) fn begin_with(&mut self, bytes: Bytes) {
        debug_assert!(self.partial.is_none());
        let frame_bytes = bytes.len();
        self.partial = (frame_bytes > 0).then(|| Box::new(Partial { rest: bytes, frame_bytes }));
    }

    /// Queues a packet ahead of all events.
    pub(crate) fn push_control(&mut self, packet: EncodedFrame) -> Result<(), ControlFull> {
        if self.control.len() >= CONTROL_PACKETS_MAX {
            return Err(ControlFull);
        }
        self.control.push_back(packet);
        Ok(())
    }

    /// Queues the transport's final packet after all others, regardless of the limit.
    pub(crate) fn push_final(&mut self, packet: EncodedFrame) {
        self.event_bytes += cost(&packet);
        self.events.push_back(packet);
    }

    /// Drops queued packets, except the rest of a packet that was sent in part. Returns the number
    /// of dropped events.
    pub(crate) fn clear(&mut self) -> usize {
        let dropped = self.events.len();
        *self = Self { partial: self.partial.take(), ..Self::default() };
        dropped
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.partial.is_none() && self.control.is_empty() && self.events.is_empty()
    }

    /// Returns whether a control packet is queued. Outboxes with control packets are flushed first.
    pub(crate) fn is_urgent(&self) -> bool {
        !self.control.is_empty()
    }

    /// Number of packets queued in full, and the bytes of their frames. A packet sent in part is
    /// not counted.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let control: usize = self.control.iter().map(|packet| packet.frame().len()).sum();
        let events = self.event_bytes - self.events.len() * PACKET_OVERHEAD_BYTES;
        (self.control.len() + self.events.len(), control + events)
    }

    /// Bytes of queued events, with overhead.
    pub(crate) fn event_bytes(&self) -> usize {
        self.event_bytes
    }

    /// Memory of queued events and of a packet sent in part, in bytes. Shared frames are counted in
    /// full.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.event_bytes + self.partial.as_ref().map_or(0, |partial| partial.frame_bytes)
    }

    pub(crate) fn unsent_bytes(&self) -> usize {
        self.waiting().1 + self.partial.as_ref().map_or(0, |partial| partial.rest.len())
    }

    /// Drops everything, including the rest of a packet sent in part. The connection cannot be used
    /// afterwards. Returns the number of dropped events.
    pub(crate) fn abandon(&mut self) -> usize {
        let dropped = self.events.len();
        *self = Self::default();
        dropped
    }

    /// Removes and returns the next packet. Must not be called while a packet is sent in part.
    pub(crate) fn pop(&mut self) -> Option<EncodedFrame> {
        let Some(packet) = self.control.pop_front() else { return self.pop_event() };
        Some(packet)
    }

    /// The packet that [`Outbox::pop`] would remove.
    pub(crate) fn peek(&self) -> Option<&EncodedFrame> {
        self.control.front().or_else(|| self.events.front())
    }

    /// Converts queued binary packets to base64 text. A packet sent in part stays unchanged.
    pub(crate) fn encode_base64(&mut self) {
        for packet in self.events.iter_mut().filter(|packet| packet.is_binary()) {
            let text = packet.as_base64();
            self.event_bytes += text.frame().len() - packet.frame().len();
            *packet = text;
        }
    }

    /// Returns slices of the next frames, at most `count`, for a vectored write.
    pub(crate) fn gather(&self, count: usize) -> SmallVec<[IoSlice<'_>; 8]> {
        let partial = self.partial.iter().map(|partial| &partial.rest[..]);
        let whole = self.control.iter().chain(self.events.iter()).map(|packet| &packet.frame()[..]);
        partial.chain(whole).take(count).map(IoSlice::new).collect()
    }

    /// Removes `written` bytes of the slices that [`Outbox::gather`] returned.
    pub(crate) fn consume(&mut self, mut written: usize) {
        if let Some(Partial { rest, .. }) = self.partial.as_deref_mut() {
            if written < rest.len() {
                rest.advance(written);
                return;
            }
            written -= rest.len();
            self.partial = None;
        }
        while written > 0 {
            let Some(packet) = self.pop() else { break };
            let mut rest = packet.frame().clone();
            let frame_bytes = rest.len();
            if written < frame_bytes {
                rest.advance(written);
                self.partial = Some(Box::new(Partial { rest, frame_bytes }));
                break;
            }
            written -= frame_bytes;
        }
    }

    fn pop_event(&mut self) -> Option<EncodedFrame> {
        let packet = self.events.pop_front()?;
        self.event_bytes -= cost(&packet);
        if self.events.is_empty() {
            // This frees the memory of the queue while the session is idle. A new allocation costs
            // little compared with a write.
            self.events = VecDeque::new();
        }
        Some(packet)
    }
}

fn cost(packet: &EncodedFrame) -> usize {
    packet.frame().len() + PACKET_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(body: &str) -> Message {
        EncodedFrame::text(body).into()
    }

    fn drained(outbox: &mut Outbox, step: usize) -> Vec<u8> {
        let mut wire = Vec::new();
        while !outbox.is_empty() {
            let slices = outbox.gather(4);
            let chunk: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).take(step).collect();
            wire.extend_from_slice(&chunk);
            drop(slices);
            outbox.consume(chunk.len());
        }
        wire
    }

    #[test]
    fn control_packets_precede_queued_events() {
        let mut outbox = Outbox::default();
        outbox.push(&text("42[1]"), 1000).unwrap();
        outbox.push_control(EncodedFrame::text("2")).unwrap();
        assert_eq!(outbox.pop().unwrap().body(), b"2");
        assert_eq!(outbox.pop().unwrap().body(), b"42[1]");
        assert!(outbox.is_empty());
    }

    #[test]
    fn the_first_bytes_of_a_connection_are_never_dropped() {
        for step in 1..=8 {
            let mut outbox = Outbox::default();
            outbox.push_control(EncodedFrame::text("0")).unwrap();
            outbox.begin_with(Bytes::from_static(b"101"));
            assert_eq!(drained(&mut outbox, step), b"101\x81\x010", "{step} bytes a write");
            outbox.begin_with(Bytes::from_static(b"101"));
            outbox.push(&text("x"), 1000).unwrap();
            outbox.consume(1);
            assert_eq!(outbox.clear(), 1);
            assert_eq!(drained(&mut outbox, step), b"01");
        }
    }

    #[test]
    fn a_packet_sent_in_part_is_finished_before_a_control_packet() {
        let mut outbox = Outbox::default();
        outbox.push(&text("abc"), 1000).unwrap();
        outbox.consume(3);
        outbox.push_control(EncodedFrame::text("2")).unwrap();
        assert_eq!(drained(&mut outbox, 100), b"bc\x81\x012");
    }

    #[test]
    fn any_write_size_yields_the_same_bytes() {
        for step in 1..12 {
            let mut outbox = Outbox::default();
            for body in ["one", "", "three", "4"] {
                outbox.push(&text(body), 1000).unwrap();
            }
            assert_eq!(drained(&mut outbox, step), b"\x81\x03one\x81\x00\x81\x05three\x81\x014", "step {step}");
            assert_eq!(outbox.event_bytes(), 0);
        }
    }

    #[test]
    fn a_full_outbox_queues_no_part_of_a_message() {
        let mut outbox = Outbox::default();
        outbox.push(&text("first, however large"), 10).unwrap();
        let waiting = outbox.event_bytes();
        assert!(matches!(outbox.push(&text("x"), 10), Err(OutboxFull { limit: 10, .. })));
        assert_eq!(outbox.event_bytes(), waiting);
    }

    #[test]
    fn a_cleared_outbox_finishes_a_packet_sent_in_part() {
        let mut outbox = Outbox::default();
        for body in ["abc", "def"] {
            outbox.push(&text(body), 1000).unwrap();
        }
        outbox.consume(3);
        outbox.push_control(EncodedFrame::text("2")).unwrap();
        assert_eq!(outbox.clear(), 1);
        assert_eq!(outbox.event_bytes(), 0);
        outbox.push_final(EncodedFrame::text("1"));
        assert_eq!(drained(&mut outbox, 100), b"bc\x81\x011");
    }

    #[test]
    fn a_packet_sent_in_part_is_counted_in_full() {
        let mut outbox = Outbox::default();
        for body in ["abc", "def"] {
            outbox.push(&text(body), 1000).unwrap();
        }
        outbox.consume(3);
        assert_eq!(outbox.memory_bytes(), 5 + 5 + PACKET_OVERHEAD_BYTES);
        assert_eq!(outbox.unsent_bytes(), 2 + 5);
        outbox.consume(2);
        assert_eq!(outbox.memory_bytes(), 5 + PACKET_OVERHEAD_BYTES);
        outbox.consume(1);
        assert_eq!(outbox.abandon(), 0);
        assert!(outbox.is_empty() && outbox.memory_bytes() == 0);
    }

    #[test]
    fn control_packets_are_bounded() {
        let mut outbox = Outbox::default();
        for _ in 0..CONTROL_PACKETS_MAX {
            outbox.push_control(EncodedFrame::text("2")).unwrap();
        }
        assert_eq!(outbox.push_control(EncodedFrame::text("2")), Err(ControlFull));
    }

    #[test]
    fn memory_of_a_burst_is_freed() {
        let mut outbox = Outbox::default();
        for _ in 0..1000 {
            outbox.push(&text("x"), usize::MAX).unwrap();
        }
        while outbox.pop().is_some() {}
        assert_eq!(outbox.events.capacity(), 0);
    }
}
