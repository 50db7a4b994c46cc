//! The raw websocket, whose socket the session owns: a stream for reading, and a sink for the
//! flusher.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_codec::Framed;
use actix_http::body::BodySize;
use actix_http::h1::{Codec, Message};
use actix_http::header;
use actix_http::ws::handshake;
use actix_http::{Request, Response, StatusCode};
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use local_waker::LocalWaker;
use tokio::io::AsyncWriteExt;

use super::super::encryption::Encryption;
use super::super::network_stream::{DetachedStream, NetworkStream, PlainStream};
use super::super::{Admitted, Endpoint, HandshakeRequest, HttpRefusal};
use super::close::{SharedCloseInfo, close_frame};
use super::frame_reader::{FrameReader, MessageBounds};
use super::inbound::Inbound;
use super::negotiation::{subprotocol, wants_base64};
use crate::limits::Limits;
use crate::messages::session::SessionCommand;
use crate::messages::sink::{CloseReason, Connection, Drained, FrameSink, Handoff, Incoming};
use crate::session::InitialTransport;
use crate::state::outbox::Outbox;

/// Maximum number of frames in one vectored write.
const FRAMES_PER_WRITE: usize = 64;

/// Size of the read buffer, of which each thread has one.
const READ_BYTES: usize = 64 << 10;

/// Maximum number of reads before other tasks of the thread run.
const READS_PER_TURN: u8 = 16;

/// Answers every upgrade request of the server's own port. Paths other than `path` are answered
/// with 404.
pub(crate) async fn on_upgrade(
    endpoint: Endpoint,
    path: &str,
    request: Request,
    mut framed: Framed<NetworkStream, Codec>,
) -> io::Result<()> {
    let limits = &endpoint.services.core.limits;
    let requested = request.path();
    if requested.strip_suffix('/').unwrap_or(requested) != path {
        endpoint.record_not_found(request.head());
        return refuse(framed, StatusCode::NOT_FOUND, "Not found", limits).await;
    }
    let encrypted = framed.io_ref().is_encrypted();
    let (admitted, response) = match accept(&endpoint, &request, encrypted).await {
        Ok(accepted) => accepted,
        Err(refusal) => {
            endpoint.record_refusal(&refusal, request.head());
            return refuse(framed, refusal.upgrade_status(), refusal.message(), limits).await;
        }
    };
    let base64 = wants_base64(request.uri().query());
    Pin::new(&mut framed).write(Message::Item((response, BodySize::None)))?;
    match admitted {
        Admitted::Session(link) => {
            flush(&mut framed, limits).await?;
            // The session may be on another worker, to which the socket moves. If the session has
            // ended meanwhile, the socket is dropped.
            let handoff = RawHandoff::new(framed, AcceptedSocket::elsewhere, base64, &endpoint)?;
            let _ = link.post(SessionCommand::Websocket(Box::new(handoff)));
        }
        Admitted::PendingSession(pending) => {
            let handoff = RawHandoff::new(framed, |socket| Ok(AcceptedSocket::Here(socket)), base64, &endpoint)?;
            drop(endpoint.open(pending, InitialTransport::Websocket(Box::new(handoff))));
        }
    }
    Ok(())
}

/// Checks an upgrade request before the switch of protocols, so that the request can be refused
/// over HTTP. Returns the result of the admission and the response.
async fn accept(
    endpoint: &Endpoint,
    request: &Request,
    encrypted: bool,
) -> Result<(Admitted, Response<()>), HttpRefusal> {
    let admitted = endpoint.admit(HandshakeRequest { head: request.head(), upgrade: true, encrypted }).await?;
    let mut response = handshake(request.head()).map_err(|_| HttpRefusal::BadRequest)?;
    if let Some(protocol) = subprotocol(&request.head().headers) {
        response.insert_header((header::SEC_WEBSOCKET_PROTOCOL, protocol));
    }
    if let Admitted::PendingSession(pending) = &admitted
        && let Some(cookie) = endpoint.policy.get().cookie(pending)
    {
        response.insert_header((header::SET_COOKIE, cookie));
    }
    Ok((admitted, response.finish().drop_body()))
}

async fn flush(framed: &mut Framed<NetworkStream, Codec>, limits: &Limits) -> io::Result<()> {
    let flushed = std::future::poll_fn(|cx| Pin::new(&mut *framed).flush(cx));
    tokio::time::timeout(limits.http.upgrade_response_timeout, flushed).await?
}

/// Refuses an upgrade as engine.io does, for any path.
pub(crate) async fn refuse_upgrade(
    endpoint: &Endpoint,
    framed: Framed<NetworkStream, Codec>,
    status: StatusCode,
    message: &str,
) -> io::Result<()> {
    refuse(framed, status, message, &endpoint.services.core.limits).await
}

/// Refuses an upgrade as engine.io does. The response has no extra headers, and the message is its
/// body. Then the socket is closed.
async fn refuse(
    framed: Framed<NetworkStream, Codec>,
    status: StatusCode,
    message: &str,
    limits: &Limits,
) -> io::Result<()> {
    let mut stream = framed.into_parts().io;
    let reason = status.canonical_reason().unwrap_or("");
    let response = format!(
        "HTTP/1.1 {} {reason}\r\nConnection: close\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{message}",
        status.as_u16(),
        message.len()
    );
    let written = async {
        stream.write_all(response.as_bytes()).await?;
        stream.shutdown().await
    };
    tokio::time::timeout(limits.http.upgrade_response_timeout, written).await.unwrap_or(Ok(()))
}

/// A socket after the switch of protocols.
enum AcceptedSocket {
    /// The session is on the current thread, so the socket stays registered with the thread's
    /// reactor.
    Here(PlainStream),
    /// The session may be on any thread.
    Elsewhere(DetachedStream),
}

impl AcceptedSocket {
    fn elsewhere(socket: PlainStream) -> io::Result<Self> {
        Ok(Self::Elsewhere(socket.detach()?))
    }
}

/// A socket on its way to the worker of its session.
struct RawHandoff {
    socket: AcceptedSocket,
    encryption: Option<Box<Encryption>>,
    /// Response to the handshake, if it was not written yet.
    answer: Bytes,
    /// Bytes that the client sent after its handshake.
    read_already: BytesMut,
    /// True if the client requests binary packets as base64 text.
    base64: bool,
    bounds: Arc<MessageBounds>,
    send_buffer_bytes: usize,
}

impl RawHandoff {
    fn new(
        framed: Framed<NetworkStream, Codec>,
        accepted: impl FnOnce(PlainStream) -> io::Result<AcceptedSocket>,
        base64: bool,
        endpoint: &Endpoint,
    ) -> io::Result<Self> {
        let parts = framed.into_parts();
        let (socket, encryption) = parts.io.into_parts();
        Ok(Self {
            socket: accepted(socket)?,
            encryption,
            answer: Bytes::copy_from_slice(&parts.write_buf),
            // The bytes are copied to free the parser's buffer, which is larger than most sessions
            // need.
            read_already: BytesMut::from(&parts.read_buf[..]),
            base64,
            bounds: endpoint.policy.get().messages.clone(),
            send_buffer_bytes: endpoint.services.core.limits.transport.send_buffer_bytes,
        })
    }
}

impl Handoff for RawHandoff {
    fn attach(self: Box<Self>) -> io::Result<Connection> {
        let stream = match self.socket {
            AcceptedSocket::Here(stream) => stream,
            AcceptedSocket::Elsewhere(stream) => stream.attach()?,
        };
        // Half of the size is passed, since Linux doubles the size for its own bookkeeping.
        // TCP_NODELAY is already set by the listener.
        stream.socket().set_send_buffer_size(self.send_buffer_bytes / 2)?;
        let shared = Rc::new(RawSocket {
            stream,
            encryption: self.encryption,
            reader_waker: LocalWaker::new(),
            wants_write: Cell::new(false),
            paused: Cell::new(false),
            aborted: Cell::new(false),
            close_info: Cell::default(),
        });
        let frames = FrameReader::new(self.read_already, self.bounds);
        let inbound = Inbound::new(frames);
        let reader =
            RawReader { shared: shared.clone(), inbound, began: false, ended: false, yielded: false, reads: 0 };
        let (sink, incoming) = (Box::new(RawSink { shared, base64: self.base64 }), Box::pin(reader));
        Ok(Connection { sink, incoming, answer: self.answer })
    }
}

struct RawSocket {
    stream: PlainStream,
    /// Boxed, since most connections have none.
    encryption: Option<Box<Encryption>>,
    /// Wakes the session's task on request of the writing half.
    reader_waker: LocalWaker,
    /// True if the socket was not writable. The reading half then waits, on behalf of the sink,
    /// until the socket is writable.
    wants_write: Cell<bool>,
    paused: Cell<bool>,
    aborted: Cell<bool>,
    close_info: SharedCloseInfo,
}

impl RawSocket {
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.encryption {
            None => self.stream.try_read(buffer),
            Some(encryption) => encryption.try_read(&self.stream, buffer),
        }
    }

    /// Writes the packets of an outbox until it is empty.
    fn write_frames(&self, outbox: &mut Outbox) -> io::Result<()> {
        if let Some(encryption) = &self.encryption {
            return encryption.write_frames(&self.stream, outbox);
        }
        while !outbox.is_empty() {
            let written = match outbox.gather(FRAMES_PER_WRITE).as_slice() {
                // A single frame is the common case, and a plain write is cheaper than a vectored
                // write.
                [frame] => self.stream.try_write(frame),
                frames => self.stream.try_write_vectored(frames),
            };
            outbox.consume(written?);
        }
        Ok(())
    }
}

struct RawSink {
    shared: Rc<RawSocket>,
    base64: bool,
}

impl FrameSink for RawSink {
    fn drain(&mut self, outbox: &mut Outbox) -> Drained {
        if self.base64 {
            outbox.encode_base64();
        }
        match self.shared.write_frames(outbox) {
            Ok(()) => Drained::All,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.shared.wants_write.set(true);
                self.shared.reader_waker.wake();
                Drained::Blocked
            }
            Err(error) => Drained::Lost(error.to_string()),
        }
    }

    fn set_reading(&mut self, reading: bool) {
        self.shared.paused.set(!reading);
        self.shared.reader_waker.wake();
    }

    fn is_peer_gone(&self) -> bool {
        self.shared.stream.is_read_closed()
    }

    fn queue_close(&mut self, close_reason: CloseReason, outbox: &mut Outbox) {
        outbox.push_final(close_frame(self.shared.close_info.take(), close_reason));
        // Reading is resumed if it was paused, since the peer's close frame is awaited.
        self.set_reading(true);
    }

    fn finish(&mut self) -> bool {
        if let Some(encryption) = &self.shared.encryption {
            encryption.close(&self.shared.stream);
        }
        self.shared.stream.socket().shutdown(Shutdown::Write).is_ok()
    }

    fn abort(&mut self) {
        // A linger time of zero resets the connection. After a plain close, the FIN and the unsent
        // bytes would stay in the kernel while the peer is blocked.
        let _ = self.shared.stream.socket().set_linger(Some(Duration::ZERO));
        self.shared.aborted.set(true);
        self.shared.reader_waker.wake();
    }
}

struct RawReader {
    shared: Rc<RawSocket>,
    inbound: Inbound,
    /// True if the bytes that followed the handshake were decoded.
    began: bool,
    ended: bool,
    /// True if other tasks have run since the last slice of packets.
    yielded: bool,
    /// Number of reads since other tasks last ran.
    reads: u8,
}

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

impl RawReader {
    /// Reads once and decodes. Returns `None` if no bytes are available, and `Some(None)` if the
    /// bytes complete no packet.
    fn read(&mut self) -> Option<Option<Incoming>> {
        SCRATCH.with_borrow_mut(|scratch| match self.shared.try_read(scratch) {
            // The stream has ended without a close frame, for example because the client's process
            // was killed.
            Ok(0) => Some(self.last(Incoming::Closed)),
            Ok(bytes) => Some(self.inbound.on_bytes(&scratch[..bytes], &self.shared.close_info)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            // The bytes complete no record of TLS, or a signal came.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Some(None),
            Err(error) => Some(self.last(Incoming::Broken(error.to_string()))),
        })
    }

    fn last(&mut self, last: Incoming) -> Option<Incoming> {
        self.ended = true;
        Some(last)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        if !self.shared.wants_write.get() {
            return Poll::Pending;
        }
        loop {
            if self.shared.stream.poll_write_ready(cx).is_pending() {
                return Poll::Pending;
            }
            // Encrypted bytes are written here, since the outbox may be empty. The socket is also
            // ready after an error, which the next write returns.
            let flushed = self.shared.encryption.as_ref().map_or(Ok(()), |it| it.flush(&self.shared.stream));
            if !flushed.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                self.shared.wants_write.set(false);
                return Poll::Ready(Some(Incoming::Writable));
            }
        }
    }
}

impl Stream for RawReader {
    type Item = Incoming;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        let this = &mut *self;
        if this.ended || this.shared.aborted.get() {
            return Poll::Ready(None);
        }
        this.shared.reader_waker.register(cx.waker());
        if let Poll::Ready(writable) = this.poll_writable(cx) {
            return Poll::Ready(writable);
        }
        if this.shared.paused.get() {
            this.inbound.pause();
            return Poll::Pending;
        }
        if this.inbound.has_packets() && !std::mem::replace(&mut this.yielded, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.yielded = false;
        if let Some(queued) = this.inbound.next_queued() {
            return Poll::Ready(Some(queued));
        }
        if !std::mem::replace(&mut this.began, true)
            && let Some(incoming) = this.inbound.on_bytes(&[], &this.shared.close_info)
        {
            return Poll::Ready(Some(incoming));
        }
        while this.reads < READS_PER_TURN {
            this.reads += 1;
            match this.read() {
                Some(Some(incoming)) => return Poll::Ready(Some(incoming)),
                Some(None) => {}
                None => {
                    if this.shared.stream.poll_read_ready(cx).is_pending() {
                        this.reads = 0;
                        return this.inbound.poll_overdue(cx, &this.shared.close_info).map(Some);
                    }
                }
            }
        }
        this.reads = 0;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
