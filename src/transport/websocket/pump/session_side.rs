//! The session's side of a pump: a sink and a reader over two bounded channels.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use local_waker::LocalWaker;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc};

use super::super::close::{SharedCloseInfo, close_frame};
use super::super::frame_reader::{FrameReader, MessageBounds};
use super::super::inbound::Inbound;
use crate::limits::Limits;
use crate::messages::sink::{CloseReason, Connection, Drained, FrameSink, Handoff, Incoming};
use crate::protocol::encoded::EncodedFrame;
use crate::state::outbox::{Outbox, PACKET_OVERHEAD_BYTES};

/// Capacity of the channel to the session, in chunks. If the channel is full, the pump reads one
/// more chunk, and stops reading until that chunk is sent. actix-http reads chunks of at most 64
/// KiB.
const CHUNKS_WAITING: usize = 1;

/// Creates the channels between pump and session. Returns the pump's ends and the session's
/// handoff.
pub(super) fn channels(
    limits: &Limits,
    bounds: Arc<MessageBounds>,
    base64: bool,
) -> (Outgoing, PumpHandoff, mpsc::Sender<Bytes>) {
    let bytes_max = u32::try_from(limits.transport.pump_bytes_max).unwrap_or(u32::MAX).max(1);
    let room = Arc::new(Semaphore::new(bytes_max as usize));
    let (to_pump, packets) = mpsc::unbounded_channel();
    let (to_session, chunks) = mpsc::channel(CHUNKS_WAITING);
    let frames = FrameReader::new(BytesMut::new(), bounds);
    let reading = to_session.downgrade();
    let handoff = PumpHandoff { to_pump, room: room.clone(), bytes_max, reading, chunks, frames, base64 };
    (Outgoing { packets, room, has_yielded: false }, handoff, to_session)
}

/// A packet on its way to the pump, with its share of the byte limit. Dropping the packet releases
/// the share.
struct Packet {
    packet: EncodedFrame,
    _room: OwnedSemaphorePermit,
}

/// Stream of packets for the actor. Yields one packet each time that actix-http has room.
pub(super) struct Outgoing {
    packets: mpsc::UnboundedReceiver<Packet>,
    room: Arc<Semaphore>,
    has_yielded: bool,
}

impl Stream for Outgoing {
    type Item = EncodedFrame;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<EncodedFrame>> {
        // The session closes the semaphore to abort the connection. Then nothing more is written.
        if self.room.is_closed() {
            return Poll::Ready(None);
        }
        // After each packet, the stream is pending once. No wake-up is needed, since actix-http
        // polls again after each chunk of the body.
        if std::mem::take(&mut self.has_yielded) {
            return Poll::Pending;
        }
        let packet = ready!(self.packets.poll_recv(cx));
        self.has_yielded = packet.is_some();
        Poll::Ready(packet.map(|sent| sent.packet))
    }
}

/// The session's ends of both channels, handed over to the session's worker.
pub(super) struct PumpHandoff {
    to_pump: mpsc::UnboundedSender<Packet>,
    room: Arc<Semaphore>,
    bytes_max: u32,
    reading: mpsc::WeakSender<Bytes>,
    chunks: mpsc::Receiver<Bytes>,
    frames: FrameReader,
    /// True if the client requests binary packets as base64 text.
    base64: bool,
}

impl Handoff for PumpHandoff {
    fn attach(self: Box<Self>) -> io::Result<Connection> {
        let shared = Rc::new(Shared {
            room: self.room,
            reader_waker: LocalWaker::new(),
            wanted_bytes: Cell::new(None),
            paused: Cell::new(false),
            finished: Cell::new(false),
            close_info: Cell::default(),
        });
        let incoming = PumpReader {
            shared: shared.clone(),
            inbound: Inbound::new(self.frames),
            chunks: self.chunks,
            waiting: None,
            ended: false,
            yielded: false,
        };
        let sink = PumpSink {
            shared,
            to_pump: Some(self.to_pump),
            reading: self.reading,
            bytes_max: self.bytes_max,
            base64: self.base64,
            client_ended: false,
        };
        Ok(Connection { sink: Box::new(sink), incoming: Box::pin(incoming), answer: Bytes::new() })
    }
}

struct Shared {
    /// Byte limit of the packets on their way to the pump.
    room: Arc<Semaphore>,
    /// Wakes the session's task on request of the writing half.
    reader_waker: LocalWaker,
    /// Bytes of the limit that the blocked sink needs. The reading half waits for these bytes on
    /// behalf of the sink.
    wanted_bytes: Cell<Option<u32>>,
    paused: Cell<bool>,
    /// True once the final packet was sent. After that, only the end of the connection is reported
    /// to the session.
    finished: Cell<bool>,
    close_info: SharedCloseInfo,
}

struct PumpSink {
    shared: Rc<Shared>,
    /// `None` once the session has released the connection.
    to_pump: Option<mpsc::UnboundedSender<Packet>>,
    /// Sender of incoming bytes. Its strong count is 0 once the client has closed the connection.
    reading: mpsc::WeakSender<Bytes>,
    bytes_max: u32,
    base64: bool,
    /// True if the final packet answers the client's close frame or a protocol violation, so that
    /// no further input is awaited.
    client_ended: bool,
}

impl PumpSink {
    /// Bytes of the limit that a packet needs. A packet that is larger than the limit needs the
    /// whole limit, so it is sent alone.
    fn cost(&self, packet: &EncodedFrame) -> u32 {
        let bytes = packet.frame().len() + PACKET_OVERHEAD_BYTES;
        u32::try_from(bytes).map_or(self.bytes_max, |bytes| bytes.min(self.bytes_max))
    }
}

impl FrameSink for PumpSink {
    fn drain(&mut self, outbox: &mut Outbox) -> Drained {
        let lost = || Drained::Lost("the host application has ended the connection".into());
        let Some(to_pump) = &self.to_pump else { return lost() };
        if self.base64 {
            outbox.encode_base64();
        }
        while let Some(packet) = outbox.peek() {
            let cost = self.cost(packet);
            let room = match self.shared.room.clone().try_acquire_many_owned(cost) {
                Ok(room) => room,
                Err(TryAcquireError::Closed) => return lost(),
                Err(TryAcquireError::NoPermits) => {
                    // The reader waits for at least half of the limit, so that the session is not
                    // woken for every packet.
                    self.shared.wanted_bytes.set(Some(cost.max(self.bytes_max / 2)));
                    self.shared.reader_waker.wake();
                    return Drained::Blocked;
                }
            };
            let Some(packet) = outbox.pop() else { break };
            if to_pump.send(Packet { packet, _room: room }).is_err() {
                return lost();
            }
        }
        Drained::All
    }

    fn set_reading(&mut self, reading: bool) {
        self.shared.paused.set(!reading);
        self.shared.reader_waker.wake();
    }

    fn is_peer_gone(&self) -> bool {
        self.reading.strong_count() == 0 || self.to_pump.as_ref().is_none_or(mpsc::UnboundedSender::is_closed)
    }

    fn queue_close(&mut self, close_reason: CloseReason, outbox: &mut Outbox) {
        let close_info = self.shared.close_info.take();
        self.client_ended = close_info.is_some();
        outbox.push_final(close_frame(close_info, close_reason));
        // Reading is resumed if it was paused, since the peer's close frame is awaited.
        self.set_reading(true);
    }

    /// Lets the pump write the remaining packets. The response ends only after the client's close
    /// frame (see [`PumpBody`](super::PumpBody)). An earlier end would reset the connection while
    /// the client still sends, and the server's close frame would be lost.
    fn finish(&mut self) -> bool {
        let client_ended = self.client_ended || self.shared.close_info.take().is_some() || self.is_peer_gone();
        if client_ended {
            self.to_pump = None;
        }
        self.shared.finished.set(true);
        !client_ended
    }

    /// Ends the response, since the socket itself is not accessible here. The response ends when
    /// the host next polls the body, after a final packet that is already in the channel. If the
    /// connection is blocked, the kernel ends it after the timeout that `on_connect` has set.
    fn abort(&mut self) {
        if !self.shared.finished.get() {
            self.shared.room.close();
        }
        self.to_pump = None;
        self.shared.reader_waker.wake();
    }
}

type Waiting = Pin<Box<dyn Future<Output = ()>>>;

struct PumpReader {
    shared: Rc<Shared>,
    inbound: Inbound,
    chunks: mpsc::Receiver<Bytes>,
    /// Waits for a share of the byte limit on behalf of the sink.
    waiting: Option<Waiting>,
    ended: bool,
    /// True if other tasks have run since the last slice of packets.
    yielded: bool,
}

impl PumpReader {
    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        if let Some(wanted_bytes) = self.shared.wanted_bytes.take() {
            let room = self.shared.room.clone();
            // The permits are released immediately, since the sink acquires its own permits.
            self.waiting = Some(Box::pin(async move { drop(room.acquire_many_owned(wanted_bytes).await) }));
        }
        let Some(waiting) = &mut self.waiting else { return Poll::Pending };
        ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(Incoming::Writable)
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        let this = self;
        if this.ended || this.shared.room.is_closed() {
            return Poll::Ready(None);
        }
        this.shared.reader_waker.register(cx.waker());
        if let Poll::Ready(writable) = this.poll_writable(cx) {
            return Poll::Ready(Some(writable));
        }
        if !this.shared.paused.get() {
            if this.inbound.has_packets() && !std::mem::replace(&mut this.yielded, true) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            this.yielded = false;
            if let Some(queued) = this.inbound.next_queued() {
                return Poll::Ready(Some(queued));
            }
        }
        while !this.shared.paused.get() {
            let Poll::Ready(chunk) = this.chunks.poll_recv(cx) else {
                return this.inbound.poll_overdue(cx, &this.shared.close_info).map(Some);
            };
            let Some(chunk) = chunk else {
                this.ended = true;
                return Poll::Ready(Some(Incoming::Closed));
            };
            if let Some(incoming) = this.inbound.on_bytes(&chunk, &this.shared.close_info) {
                return Poll::Ready(Some(incoming));
            }
        }
        this.inbound.pause();
        Poll::Pending
    }
}

impl Stream for PumpReader {
    type Item = Incoming;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        let incoming = ready!(self.poll_incoming(cx));
        // If the final packet was sent, the client's last message is reported as the end of the
        // connection, since the host closes the connection after the response.
        let is_last = matches!(
            incoming,
            Some(Incoming::Leaving | Incoming::Undecodable(_) | Incoming::TooLarge(_) | Incoming::Refused(_))
        );
        Poll::Ready(if is_last && self.shared.finished.get() { Some(Incoming::Closed) } else { incoming })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Wake, Waker};

    use super::*;
    use crate::protocol::reason::DisconnectReason;

    /// Byte limit for two packets of a hundred bytes.
    const BYTES_MAX: usize = 2 * (102 + PACKET_OVERHEAD_BYTES);

    struct Ends {
        sink: Box<dyn FrameSink>,
        incoming: Pin<Box<dyn Stream<Item = Incoming>>>,
        pump: Outgoing,
        to_session: mpsc::Sender<Bytes>,
    }

    fn ends() -> Ends {
        let limits = Limits::with(|limits| limits.transport.pump_bytes_max = BYTES_MAX);
        let (pump, handoff, to_session) = channels(&limits, Arc::default(), false);
        let Connection { sink, incoming, .. } = Box::new(handoff).attach().unwrap();
        Ends { sink, incoming, pump, to_session }
    }

    fn outbox(packets: &[usize]) -> Outbox {
        let mut outbox = Outbox::default();
        for bytes in packets {
            outbox.push(&EncodedFrame::text(&"x".repeat(*bytes)).into(), usize::MAX).unwrap();
        }
        outbox
    }

    fn next<T>(stream: &mut (impl Stream<Item = T> + Unpin + ?Sized)) -> Poll<Option<T>> {
        Pin::new(stream).poll_next(&mut Context::from_waker(Waker::noop()))
    }

    /// Receives one packet, as the host does for its next chunk. The actor then polls again, and
    /// receives nothing.
    fn take_packet(pump: &mut Outgoing) -> usize {
        let Poll::Ready(Some(packet)) = next(pump) else { panic!("nothing to take") };
        assert!(next(pump).is_pending());
        packet.body().len()
    }

    /// A waker of the session's task that records the wake-up.
    #[derive(Default)]
    struct Task(AtomicBool);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_blocked_sink_wakes_the_session_before_and_after_the_wait() {
        let mut ends = ends();
        let task = Arc::new(Task::default());
        let waker = Waker::from(task.clone());
        let mut cx = Context::from_waker(&waker);
        assert!(ends.incoming.as_mut().poll_next(&mut cx).is_pending());
        assert_eq!(ends.sink.drain(&mut outbox(&[100; 3])), Drained::Blocked);
        assert!(task.0.swap(false, Ordering::Relaxed));

        assert!(ends.incoming.as_mut().poll_next(&mut cx).is_pending());
        take_packet(&mut ends.pump);
        assert!(task.0.swap(false, Ordering::Relaxed));
        assert!(matches!(ends.incoming.as_mut().poll_next(&mut cx), Poll::Ready(Some(Incoming::Writable))));
    }

    #[test]
    fn a_pump_that_is_not_polled_blocks_the_session_at_its_limit() {
        let mut ends = ends();
        let mut outbox = outbox(&[100; 5]);
        assert_eq!(ends.sink.drain(&mut outbox), Drained::Blocked);
        assert_eq!(ends.pump.packets.len(), 2);
        assert!(next(&mut ends.incoming).is_pending());

        assert_eq!(take_packet(&mut ends.pump), 100);
        assert!(matches!(next(&mut ends.incoming), Poll::Ready(Some(Incoming::Writable))));
        assert!(next(&mut ends.incoming).is_pending());
        assert_eq!(ends.sink.drain(&mut outbox), Drained::Blocked);
        for _ in 0..2 {
            assert_eq!(take_packet(&mut ends.pump), 100);
        }
        assert!(matches!(next(&mut ends.incoming), Poll::Ready(Some(Incoming::Writable))));
        assert_eq!(ends.sink.drain(&mut outbox), Drained::All);
    }

    #[test]
    fn a_packet_over_the_limit_is_sent_alone() {
        let mut ends = ends();
        let mut outbox = outbox(&[100, 10_000, 100]);
        assert_eq!(ends.sink.drain(&mut outbox), Drained::Blocked);
        assert_eq!(ends.pump.packets.len(), 1);
        for bytes in [100, 10_000] {
            assert_eq!(take_packet(&mut ends.pump), bytes);
            assert!(matches!(next(&mut ends.incoming), Poll::Ready(Some(Incoming::Writable))));
            ends.sink.drain(&mut outbox);
        }
        assert_eq!(take_packet(&mut ends.pump), 100);
    }

    #[test]
    fn finish_sends_queued_packets_and_abort_does_not() {
        for abort in [false, true] {
            let mut ends = ends();
            assert_eq!(ends.sink.drain(&mut outbox(&[1, 2])), Drained::All);
            if abort {
                ends.sink.abort();
            } else {
                assert!(ends.sink.finish());
                // The time limit for the client's close frame is over.
                ends.sink.abort();
                assert_eq!((take_packet(&mut ends.pump), take_packet(&mut ends.pump)), (1, 2));
            }
            assert!(matches!(next(&mut ends.pump), Poll::Ready(None)), "abort: {abort}");
            assert!(matches!(ends.sink.drain(&mut outbox(&[1])), Drained::Lost(_)));
        }
    }

    #[test]
    fn the_response_ends_after_the_close_frames_of_both_sides() {
        let close = Bytes::from_static(b"\x88\x80\0\0\0\0");
        let close_reason = CloseReason::Ended(DisconnectReason::TransportClose);
        for client_first in [false, true] {
            let mut ends = ends();
            let mut outbox = Outbox::default();
            if client_first {
                ends.to_session.try_send(close.clone()).unwrap();
                assert!(matches!(next(&mut ends.incoming), Poll::Ready(Some(Incoming::Leaving))));
            }
            ends.sink.queue_close(close_reason, &mut outbox);
            assert_eq!(ends.sink.drain(&mut outbox), Drained::All);
            assert_eq!(ends.sink.finish(), !client_first);
            take_packet(&mut ends.pump);
            if !client_first {
                assert!(next(&mut ends.pump).is_pending());
                ends.to_session.try_send(close.clone()).unwrap();
                assert!(matches!(next(&mut ends.incoming), Poll::Ready(Some(Incoming::Closed))));
                drop(ends.sink);
            }
            assert!(matches!(next(&mut ends.pump), Poll::Ready(None)), "client first: {client_first}");
        }
    }

    #[test]
    fn a_paused_session_blocks_the_pump_and_notices_its_end() {
        let mut ends = ends();
        ends.sink.set_reading(false);
        let ping = Bytes::from_static(b"\x89\x80\0\0\0\0");
        ends.to_session.try_send(ping.clone()).unwrap();
        assert!(ends.to_session.try_send(ping).is_err());
        assert!(next(&mut ends.incoming).is_pending());
        assert!(!ends.sink.is_peer_gone());
        drop(ends.to_session);
        assert!(ends.sink.is_peer_gone());

        ends.sink.set_reading(true);
        assert!(matches!(next(&mut ends.incoming), Poll::Ready(Some(Incoming::Control(_)))));
        assert!(matches!(next(&mut ends.incoming), Poll::Ready(Some(Incoming::Closed))));
        assert!(matches!(next(&mut ends.incoming), Poll::Ready(None)));
    }
}
