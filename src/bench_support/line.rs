//! A client in this process, connected without a network socket, so that only the hub is measured.
//!
//! The client connects with the headers of a websocket request, and its session is an ordinary one.
//! Its connection accepts all packets immediately and writes none.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix::{Arbiter, ArbiterHandle};
use actix_http::RequestHead;
use bytes::Bytes;
use bytestring::ByteString;
use futures_core::Stream;
use local_waker::LocalWaker;

use crate::messages::sink::{CloseReason, Connection, Drained, FrameSink, Handoff, Incoming};
use crate::protocol::engineio::packet::EnginePacket;
use crate::server::Server;
use crate::session::InitialTransport;
use crate::state::outbox::Outbox;
use crate::transport::{Admitted, HandshakeRequest};

/// Handler of the packets that a client receives.
pub trait Client: Send + 'static {
    /// Handles a text packet, including its Engine.IO type digit. Packets pushed to `answers` are
    /// sent to the session in order.
    fn on_packet(&mut self, packet: &[u8], answers: &mut Vec<ByteString>);
}

/// Threads for the workers of a server. A single worker shares the hub's thread. If there are
/// several workers, each has its own thread.
pub fn threads(server: &Server, workers: usize) -> Vec<ArbiterHandle> {
    match workers {
        1 => vec![server.hub_thread().clone()],
        _ => (0..workers).map(|_| Arbiter::new().handle()).collect(),
    }
}

/// Connects a client on the current thread. Its session belongs to the worker of this thread.
/// `head` must be the head of a websocket request.
pub async fn connect(server: &Server, head: &RequestHead, client: impl Client) -> Result<(), String> {
    let endpoint = server.endpoint();
    match endpoint.admit(HandshakeRequest { head, upgrade: true, encrypted: false }).await {
        Ok(Admitted::PendingSession(pending)) => {
            drop(endpoint.open(pending, InitialTransport::Websocket(Box::new(PendingLine { client }))));
            Ok(())
        }
        Ok(Admitted::Session(_)) => Err("expected a head that opens a session, this one names a session".into()),
        Err(refusal) => Err(format!("refused: {refusal:?}")),
    }
}

/// Bytes of a connection in addition to its session. A real connection has a network socket
/// instead.
pub const fn line_bytes<C: Client>() -> usize {
    // The sum includes the two counters of the `Rc`, and the boxed sink and reader, which each
    // contain an `Rc`.
    size_of::<Line<C>>() + 2 * size_of::<usize>() + size_of::<Sink<C>>() + size_of::<Reader<C>>()
}

struct PendingLine<C> {
    client: C,
}

impl<C: Client> Handoff for PendingLine<C> {
    fn attach(self: Box<Self>) -> io::Result<Connection> {
        let line = Rc::new(Line {
            client: RefCell::new(self.client),
            answers: RefCell::default(),
            reader: LocalWaker::new(),
            aborted: Cell::new(false),
        });
        let (sink, incoming) = (Box::new(Sink(line.clone())), Box::pin(Reader(line)));
        Ok(Connection { sink, incoming, answer: Bytes::new() })
    }
}

/// State shared by the sink and the reader.
struct Line<C> {
    client: RefCell<C>,
    /// Packets of the client that the session has not read yet.
    answers: RefCell<Vec<ByteString>>,
    /// Waker of the session's task.
    reader: LocalWaker,
    aborted: Cell<bool>,
}

struct Sink<C>(Rc<Line<C>>);

impl<C: Client> FrameSink for Sink<C> {
    fn drain(&mut self, outbox: &mut Outbox) -> Drained {
        let mut answers = self.0.answers.borrow_mut();
        let before = answers.len();
        let mut client = self.0.client.borrow_mut();
        while let Some(packet) = outbox.pop() {
            client.on_packet(packet.body(), &mut answers);
        }
        if answers.len() > before {
            self.0.reader.wake();
        }
        Drained::All
    }

    fn queue_close(&mut self, _: CloseReason, _: &mut Outbox) {}

    fn finish(&mut self) -> bool {
        false
    }

    fn abort(&mut self) {
        self.0.aborted.set(true);
        self.0.reader.wake();
    }
}

struct Reader<C>(Rc<Line<C>>);

impl<C> Stream for Reader<C> {
    type Item = Incoming;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        let line = &self.0;
        if line.aborted.get() {
            return Poll::Ready(None);
        }
        let answers = line.answers.take();
        if answers.is_empty() {
            line.reader.register(cx.waker());
            return Poll::Pending;
        }
        let packets: Result<_, _> = answers.into_iter().map(EnginePacket::decode).collect();
        Poll::Ready(Some(packets.map_or_else(|error| Incoming::Undecodable(error.to_string()), Incoming::Packets)))
    }
}
