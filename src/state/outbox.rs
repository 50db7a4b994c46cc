//! One session's outbox: packets that wait for anyone who drains the session.
//!
//! Refuses to grow past its bound, and never drops on its own: the caller decides what a full outbox means.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};
use smallvec::SmallVec;
use thiserror::Error;

use super::lazy_queue::LazyQueue;
use crate::protocol::encoded::{EncodedFrame, Message};

/// What a waiting packet costs beside its bytes, which are shared.
pub(crate) const PACKET_OVERHEAD_BYTES: usize = size_of::<EncodedFrame>();

/// The outbox had no room; nothing of the message was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("outbox of {waiting} bytes has no room for {wanted} more (limit {limit})")]
pub(crate) struct OutboxFull {
    /// Bytes that wait.
    pub waiting: usize,
    /// Bytes of the refused message.
    pub wanted: usize,
    pub limit: usize,
}

/// Control packets that may wait. The hub's own are a handful; more come only from a peer that floods websocket pings
/// and does not read the answers.
const CONTROL_PACKETS_MAX: usize = 32;

/// A peer caused more control packets than it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{CONTROL_PACKETS_MAX} control packets wait already")]
pub(crate) struct ControlFull;

/// A packet that has left in part.
#[derive(Debug)]
struct Partial {
    rest: Bytes,
    /// Bytes of the whole packet, which stay in memory until the last of them has left.
    frame_bytes: usize,
}

/// Packets in the order in which they will leave: what is partly written, control packets, events.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// What is left of a packet that a socket took only in part, or of what its connection begins with; nothing may stand before it.
    /// Boxed, since it is rare.
    partial: Option<Box<Partial>>,
    /// Pings, pongs, probes, noops, close: they precede queued events (Engine.IO v4, heartbeats and "close").
    control: LazyQueue<EncodedFrame>,
    events: VecDeque<EncodedFrame>,
    event_bytes: usize,
}

impl Outbox {
    /// Queues a message, all of its packets or none. An empty outbox takes a message of any size.
    pub(crate) fn push(&mut self, message: &Message, limit: usize) -> Result<(), OutboxFull> {
        let wanted = message.packets().map(cost).sum::<usize>();
        if self.event_bytes != 0 && self.event_bytes + wanted > limit {
            return Err(OutboxFull { waiting: self.event_bytes, wanted, limit });
        }
        self.events.extend(message.packets().cloned());
        self.event_bytes += wanted;
        Ok(())
    }

    /// Bytes with which a connection that has had nothing yet begins.
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

    /// Queues the transport's final packet behind everything, whatever the bounds say.
    pub(crate) fn push_final(&mut self, packet: EncodedFrame) {
        self.event_bytes += cost(&packet);
        self.events.push_back(packet);
    }

    /// Drops what waits, except the rest of a packet that has left in part. Returns how many events that were.
    pub(crate) fn clear(&mut self) -> usize {
        let dropped = self.events.len();
        *self = Self { partial: self.partial.take(), ..Self::default() };
        dropped
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.partial.is_none() && self.control.is_empty() && self.events.is_empty()
    }

    /// Whether a control packet waits: such sockets are flushed first.
    pub(crate) fn is_urgent(&self) -> bool {
        !self.control.is_empty()
    }

    /// Packets that wait whole, and the bytes of their frames. One that was taken in part counts as taken.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let control: usize = self.control.iter().map(|packet| packet.frame().len()).sum();
        let events = self.event_bytes - self.events.len() * PACKET_OVERHEAD_BYTES;
        (self.control.len() + self.events.len(), control + events)
    }

    /// Bytes of waiting events, overhead included.
    pub(crate) fn event_bytes(&self) -> usize {
        self.event_bytes
    }

    /// Bytes of memory of waiting events and of a packet that has left in part. Frames that other outboxes share count whole.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.event_bytes + self.partial.as_ref().map_or(0, |partial| partial.frame_bytes)
    }

    /// Bytes still to leave.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.waiting().1 + self.partial.as_ref().map_or(0, |partial| partial.rest.len())
    }

    /// Drops everything, the rest of a packet that has left in part included: nothing can follow on this connection. Returns how many events
    /// that were.
    pub(crate) fn abandon(&mut self) -> usize {
        let dropped = self.events.len();
        *self = Self::default();
        dropped
    }

    /// Takes the next packet whole. Only for drainers that never take a packet in part.
    pub(crate) fn pop(&mut self) -> Option<EncodedFrame> {
        let Some(packet) = self.control.pop_front() else { return self.pop_event() };
        Some(packet)
    }

    /// The packet that [`Outbox::pop`] would take.
    pub(crate) fn peek(&self) -> Option<&EncodedFrame> {
        self.control.front().or_else(|| self.events.front())
    }

    /// Turns waiting binary packets into text, for a client that asked for base64. What has left in part stays as it is.
    pub(crate) fn encode_base64(&mut self) {
        for packet in self.events.iter_mut().filter(|packet| packet.is_binary()) {
            let text = packet.as_base64();
            self.event_bytes += text.frame().len() - packet.frame().len();
            *packet = text;
        }
    }

    /// Lays the next frames, `count` at most, side by side for one vectored write.
    pub(crate) fn gather(&self, count: usize) -> SmallVec<[IoSlice<'_>; 8]> {
        let partial = self.partial.iter().map(|partial| &partial.rest[..]);
        let whole = self.control.iter().chain(self.events.iter()).map(|packet| &packet.frame()[..]);
        partial.chain(whole).take(count).map(IoSlice::new).collect()
    }

    /// Forgets `written` bytes of what [`Outbox::gather`] laid out.
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
            // An idle session keeps no queue: one allocation a flush costs nothing beside the write.
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
    fn the_first_bytes_of_a_connection_go_first_and_are_never_dropped() {
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
    fn a_packet_partly_written_is_finished_before_a_control_packet() {
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
    fn a_full_outbox_takes_nothing_of_the_message() {
        let mut outbox = Outbox::default();
        outbox.push(&text("first, however large"), 10).unwrap();
        let waiting = outbox.event_bytes();
        assert!(matches!(outbox.push(&text("x"), 10), Err(OutboxFull { limit: 10, .. })));
        assert_eq!(outbox.event_bytes(), waiting);
    }

    #[test]
    fn a_cleared_outbox_finishes_what_has_left_in_part() {
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
    fn a_packet_in_part_counts_whole_until_it_has_left() {
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
    fn memory_of_a_burst_is_given_back() {
        let mut outbox = Outbox::default();
        for _ in 0..1000 {
            outbox.push(&text("x"), usize::MAX).unwrap();
        }
        while outbox.pop().is_some() {}
        assert_eq!(outbox.events.capacity(), 0);
    }
}
